"""The benchmark's figures as tables, as a picture and as the few lines that matter most."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lckd.contenders import OURS, PAPER
from lckd.evaluation import figure_of, table_row

OURS_COLOUR, OTHERS_COLOUR, MEMORY_COLOUR = "#1b7f79", "#c08552", "0.45"

AXES: Final = {
    "sequences": "sequences",
    "million voxels": "million voxels of the brain",
    "studies": "studies in a run",
    "studies at once": "studies in a pass of the network",
}
"""What grows, by the name of its curve; the command's but for the last."""


def summary(result: Mapping[str, Any]) -> list[str]:
    """The lines that matter most."""
    lines = []
    for size, measured in result.get("network", {}).get("sizes", {}).items():
        lines += [f"{size}: {name}: {ratio:g}" for name, ratio in measured["ratios"].items()]
        ours = measured["contenders"][OURS]
        lines.append(f"{size}: ours: {ours['best_s']:.3g} s, {ours['share_of_peak']:.0%} of the measured peak")
    for name, figures in result.get("command", {}).items():
        command = "lckd --help" if name == "--help" else f"lckd segment, {name}"
        lines.append(f"{command}: {figures['seconds']['median']:.3g} s, {figures['peak_mb'] / 1000:.2f} GB")
    if batch := result.get("batch"):
        lines.append(f"batch: {batch['studies_per_hour']} studies an hour")
    for name, figures in result.get("server", {}).get("studies", {}).items():
        name = name.replace("_", " ")
        lines.append(f"server, {name}: first {figures['first_s']:.3g} s, kept {figures['again']['median']:.3g} s")
    return lines


def markdown(result: Mapping[str, Any]) -> str:
    """All figures as Markdown tables."""
    return "\n".join([*_head(result), *_network(result), *_command(result), *_server(result), *_growth(result)]) + "\n"


def _head(result: Mapping[str, Any]) -> Iterator[str]:
    machine, settings = result["machine"], result["settings"]
    yield "# Benchmark"
    yield ""
    flags = ", ".join(machine["flags"]) or "no vector instructions"
    yield (
        f"{_place(machine)} ({machine['cores']} cores, {flags}, {machine['memory_gb']} GB, load before "
        f"{machine['load_before']}); torch {machine['torch']}, lckd {machine['lckd']}, weights "
        f"{machine['weights'][:12]}, {machine['date']}."
    )
    yield f"Medians of {settings['runs']} runs that take turns; smallest and largest in brackets."


def _network(result: Mapping[str, Any]) -> Iterator[str]:
    network = result.get("network", {})
    for size, measured in network.get("sizes", {}).items():
        yield from ("", f"## Networks on an image of {size}", "")
        peaks = (f"{precision} {max(figures.values()):.0f}" for precision, figures in measured["peaks_gflop_s"].items())
        yield (
            f"The machine's peak in the same run, GFLOP/s: {', '.join(peaks)} (the faster of a matrix product and a "
            "3x3x3 convolution). First pass and peak memory are those of a fresh process, libraries included."
        )
        yield ""
        head = ["", "million parameters", "GMAC", "precision", "seconds", "first pass, s", "GFLOP/s"]
        yield table_row([*head, "share of peak", "peak memory, GB", "time / ours"])
        yield table_row(["---"] * 10)
        ours = measured["contenders"][OURS]["best_s"]
        for name, row in measured["contenders"].items():
            cells = [name, f"{row['parameters'] / 1e6:.2f}", f"{row['gmac']:.1f}", row["precision"]]
            cells += [_range(row["seconds"][row["precision"]]), f"{row['cold_s']:.2f}", f"{row['gflop_s']:.0f}"]
            cells += [f"{row['share_of_peak']:.0%}", f"{row['peak_mb'] / 1000:.2f}", f"{row['best_s'] / ours:.2f}"]
            yield table_row(cells)
        yield ""
        yield from (f"- {name}: {ratio:g}" for name, ratio in measured["ratios"].items())
        yield from ("", _peers(measured["contenders"][PAPER]))
    if study := network.get("paper_study"):
        yield (
            f"Its authors do not crop a study to the brain, but cut all of {_by(study['field'])} into "
            f"{study['windows']} windows: {study['seconds']:.1f} s."
        )


def _peers(paper: Mapping[str, Any]) -> str:
    done, all_of_them = paper["passes_run"], paper["passes"]
    how = "all of them run" if done == all_of_them else f"{done} run and the image extrapolated; memory is one window's"
    return (
        "Ours has the shipped weights, the others random ones, on which time does not depend. The paper's network "
        f"takes the image in {all_of_them} of its authors' windows, {how}."
    )


def _command(result: Mapping[str, Any]) -> Iterator[str]:
    settings = result["settings"]
    if command := result.get("command"):
        yield from ("", "## `lckd segment`, one study, a fresh process", "")
        yield f"A simulated study of {_by(settings['field'])} with a brain of {_by(settings['brain'])}."
        yield ""
        yield from (table_row(["", "seconds", "peak memory, GB", "its own steps, last run"]), table_row(["---"] * 4))
        for name, row in command.items():
            steps = ", ".join(f"{step} {seconds:.2f}" for step, seconds in row.get("steps_of_last_s", {}).items())
            yield table_row([name, _range(row["seconds"]), f"{row['peak_mb'] / 1000:.2f}", steps])
    if batch := result.get("batch"):
        yield from ("", "## A batch of studies with four sequences", "")
        yield (
            f"{batch['studies']} studies in {batch['seconds']:.1f} s, from read to written: "
            f"**{batch['studies_per_hour']} an hour**, with {batch['peak_mb'] / 1000:.2f} GB."
        )


def _server(result: Mapping[str, Any]) -> Iterator[str]:
    server = result.get("server")
    if server is None:
        return
    yield from ("", "## Label server, round trips of a stock client", "")
    if "skipped" in server:
        yield f"Not measured: {server['skipped']}."
        return
    yield f"It answers {server['start_s']:.1f} s after its start."
    yield ""
    head = ["", "first request, s", "the same study again, s", "a click, s"]
    yield from (table_row(head), table_row(["---"] * len(head)))
    for name, row in server["studies"].items():
        cells = [f"{row['first_s']:.2f}", _range(row["again"]), _range(row["click"])]
        yield table_row([name.replace("_", " "), *cells])


def _growth(result: Mapping[str, Any]) -> Iterator[str]:
    if growth := result.get("growth"):
        yield from ("", "## Growth of `lckd segment`, and of the network alone on several studies at once", "")
        yield from (table_row(["", "", "seconds", "peak memory, GB", "studies an hour"]), table_row(["---"] * 5))
        for curve, points in growth.items():
            for point in points:
                cells = [AXES[curve], f"{point['at']:g}", _range(point["seconds"]), f"{point['peak_mb'] / 1000:.2f}"]
                hourly = point.get("studies_per_hour")
                yield table_row([*cells, "" if hourly is None else f"{hourly:,}"])


def _place(machine: Mapping[str, Any]) -> str:
    threads = machine["threads"]
    return machine["gpu"] or f"{threads} thread{'s' * (threads > 1)} of {machine['cpu']}"


def _by(size: Sequence[int]) -> str:
    return "x".join(map(str, size))


def _range(spread: Mapping[str, float]) -> str:
    return f"{spread['median']:.3g} ({spread['min']:.3g} to {spread['max']:.3g})"


def draw(path: Path, result: Mapping[str, Any]) -> None:
    """Write a PNG: seconds of each network on each size, and the curves of growth."""
    sizes, growth = result.get("network", {}).get("sizes", {}), result.get("growth", {})
    rows = len(sizes) + bool(growth)
    figure = figure_of((11, 3.2 * rows + 0.6))
    panels = list(figure.subfigures(rows, 1, squeeze=False)[:, 0])
    for (size, measured), panel in zip(sizes.items(), panels, strict=False):
        _draw_networks(panel.subplots(), size, measured["contenders"])
    if growth:
        _draw_growth(panels[-1].subplots(1, len(growth)), growth)
    machine = result["machine"]
    figure.suptitle(f"{_place(machine)}, torch {machine['torch']}", fontsize=9, color=MEMORY_COLOUR)
    figure.savefig(path, format="png", dpi=130)


def _draw_networks(axes: Any, size: str, contenders: Mapping[str, Mapping[str, Any]]) -> None:
    """Bars of seconds; a thin line from the fastest to the slowest run, a ring at a fresh process's first pass."""
    names, rows = list(contenders), list(contenders.values())
    ours = contenders[OURS]["best_s"]
    colours = [OURS_COLOUR if name.startswith("ours") else OTHERS_COLOUR for name in names]
    places = range(len(names))
    spreads = [row["seconds"][row["precision"]] for row in rows]
    axes.barh(places, [row["best_s"] for row in rows], color=colours, height=0.62)
    axes.hlines(places, [s["min"] for s in spreads], [s["max"] for s in spreads], color="black", linewidth=1)
    cold = [row["cold_s"] for row in rows]
    axes.scatter(cold, places, s=28, facecolors="none", edgecolors="0.3", label="first pass of a fresh process")
    for place, (row, spread) in enumerate(zip(rows, spreads, strict=True)):
        text = f"{row['best_s']:.3g} s, {row['precision']}, {row['share_of_peak']:.0%} of the peak"
        text += "" if row is contenders[OURS] else f", {row['best_s'] / ours:.2g} times ours"
        axes.annotate(
            text,
            (max(spread["max"], row["cold_s"]), place),
            (8, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set(xscale="log", xlabel="seconds (logarithmic)", title=f"Forward pass on {size} voxels")
    # From a fifth of the fastest, so that every bar has a length; half an axis more for the words.
    low, high = min(s["min"] for s in spreads) / 5, max(*cold, *(s["max"] for s in spreads))
    axes.set_xlim(low, high * (high / low) ** 0.5)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter("{x:g}")
    axes.legend(loc="upper right", fontsize=7, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_growth(panels: Sequence[Any], growth: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """A panel per curve: seconds on the left, memory on the right, all from zero."""
    for number, (axes, (curve, points)) in enumerate(zip(panels, growth.items(), strict=True)):
        at, memory = [point["at"] for point in points], [point["peak_mb"] / 1000 for point in points]
        low, middle, high = ([point["seconds"][key] for point in points] for key in ("min", "median", "max"))
        axes.fill_between(at, low, high, color=OURS_COLOUR, alpha=0.2)
        axes.plot(at, middle, "o-", color=OURS_COLOUR)
        axes.set(xlabel=AXES[curve], xlim=(0, 1.25 * max(at)), ylim=(0, 1.1 * max(high)))
        for point in points:
            if hourly := point.get("studies_per_hour"):
                axes.annotate(
                    f"{hourly:,}/h",
                    (point["at"], point["seconds"]["median"]),
                    (5, -12),
                    fontsize=7,
                    textcoords="offset points",
                )
        if all(isinstance(place, int) for place in at):
            axes.set_xticks(at)
        right = axes.twinx()
        right.plot(at, memory, "s--", color=MEMORY_COLOUR, markersize=4)
        right.set_ylim(0, 1.3 * max(memory))
        axes.tick_params(axis="y", colors=OURS_COLOUR)
        right.tick_params(axis="y", colors=MEMORY_COLOUR)
        if number == 0:
            axes.set_ylabel("seconds", color=OURS_COLOUR)
        if number == len(growth) - 1:
            right.set_ylabel("peak memory, GB", color=MEMORY_COLOUR)
        for side in (axes, right):
            side.spines["top"].set_visible(False)
