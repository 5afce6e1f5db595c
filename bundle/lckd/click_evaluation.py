"""What clicks bring: Dice after each of a simulated user's clicks, and how long one takes."""

import csv
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.metrics import compute_dice
from torch import Tensor
from tqdm import tqdm

from lckd.errors import StudyError
from lckd.evaluation import figure_of, not_evaluated, table_row, write_folder
from lckd.files import write_atomically, write_json
from lckd.interaction import Refiner
from lckd.loading import LoadStudy
from lckd.marks import NO_MARKS, Marks
from lckd.segmentation import PreparedStudy, Segmenter
from lckd.sequences import REGION_NAMES, REGIONS, parse_subset, subset_name
from lckd.simulated_user import SimulatedUser
from lckd.transforms import regions_of

SUBSETS = tuple(parse_subset(name) for name in ("flair", "t1", "flair+t2", "flair+t1+t1ce+t2"))
CLICKS = 10
SHOWN = (0, 1, 2, 3, 5, 10)
REACHED = (0.85, 0.9)

Correct = Callable[[Marks], Tensor]
"""Label map ``(X, Y, Z)`` after marks."""


def session(
    correct: Correct, first: Tensor, truth: Tensor, region: str, clicks: int, user: SimulatedUser | None = None
) -> Iterator[tuple[float, float]]:
    """Dice of a region and seconds, before the first click and after each.

    Args:
        correct: what answers a click.
        first: label map ``(X, Y, Z)`` without marks.
        truth: label map ``(X, Y, Z)``.
        region: that is clicked for, one session each.
        clicks: at most; where nothing is wrong any more, the rest stays as it is.
        user: who clicks; None for one with a steady hand.
    """
    target, user, marks = regions_of(truth[None]), user or SimulatedUser(), NO_MARKS
    label_map, index, seconds = first, REGIONS.index(region), 0.0
    for count in range(clicks + 1):
        predicted = regions_of(label_map[None])
        dice = float(compute_dice(predicted[None, [index]], target[None, [index]], ignore_empty=False))
        yield dice, seconds
        mark = user.region_mark(region, predicted.numpy(), target.numpy()) if count < clicks else None
        seconds = 0.0
        if mark is not None:
            marks = marks + mark
            start = time.perf_counter()
            label_map = correct(marks)
            seconds = time.perf_counter() - start


class ClickEvaluation:
    """Clicks on labelled studies, for every region by itself, and writes tables and a plot.

    Args:
        segmenter: with weights.
        refiner: likewise.
        output_dir: for ``clicks.json``, ``.csv``, ``.md`` and ``.png``.
        subsets: to evaluate.
        clicks: per region.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        refiner: Refiner,
        output_dir: str | Path,
        subsets: Sequence[tuple[str, ...]] = SUBSETS,
        clicks: int = CLICKS,
    ) -> None:
        self.segmenter, self.refiner, self.output_dir = segmenter, refiner, Path(output_dir)
        self.subsets, self.clicks = subsets, clicks

    def run(self, items: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """Evaluate, write, and return what ``clicks.json`` holds.

        Raises:
            StudyError: no study has labels and a subset that is evaluated, or one failed; tables of the others are
                written before that is told.
        """
        items = list(items)
        pairs = [(item, subset) for item in items if "label" in item for subset in self.subsets if _has(item, subset)]
        failures = {item["study"]: item["error"] for item in items if "error" in item}
        records: list[dict[str, Any]] = []
        for item, subset in tqdm(pairs, unit="subset"):
            if item["study"] in failures:
                continue
            try:
                records += self._records(item, subset)
            except StudyError as error:
                failures[item["study"]] = str(error)
        for study, failure in failures.items():
            tqdm.write(f"{study}: FAILED: {failure}", file=sys.stderr)
        if not records:
            nothing = "no study has a label map and one of the subsets that are evaluated"
            raise StudyError(not_evaluated(failures, len(items)) if failures else nothing)
        weights = {"network": self.segmenter.weights["sha256"], "refinement": self.refiner.sha256}
        result = {"weights": weights, "records": records}
        with write_folder(self.output_dir) as folder:
            write_json(folder / "clicks.json", result)
            write_atomically(folder / "clicks.csv", lambda path: _write_csv(path, records))
            text = markdown(records)
            write_atomically(folder / "clicks.md", lambda path: path.write_text(text, encoding="utf-8"))
            write_atomically(folder / "clicks.png", lambda path: draw(path, records))
        if failures:
            raise StudyError(not_evaluated(failures, len(items)))
        return result

    def _records(self, item: Mapping[str, Any], subset: tuple[str, ...]) -> list[dict[str, Any]]:
        named = {"study": item["study"], "subset": subset_name(subset)}
        return [
            named
            | {"method": method, "region": region, "clicks": count}
            | {"dice": round(dice, 4), "seconds": round(seconds, 4)}
            for method, region, values in self.sessions(item, subset)
            for count, (dice, seconds) in enumerate(values)
        ]

    def sessions(
        self, item: Mapping[str, Any], subset: tuple[str, ...]
    ) -> Iterator[tuple[str, str, list[tuple[float, float]]]]:
        """Method, region, and Dice and seconds of its session, of one study and subset."""
        prepared, truth = self.prepared(item, subset)
        assert prepared.label_map is not None
        for region in REGIONS:
            for name, (correct, clicks) in self.methods(prepared, region).items():
                yield name, region, list(session(correct, prepared.label_map, truth, region, clicks))

    def prepared(self, item: Mapping[str, Any], subset: tuple[str, ...]) -> tuple[PreparedStudy, Tensor]:
        """A segmented study, and its truth ``(X, Y, Z)`` on the grid of its label map."""
        loading = LoadStudy(subset)
        truth = loading(dict(item))["label"].as_tensor()[0]
        prepared = self.segmenter.prepare({key: value for key, value in item.items() if key != "label"}, loading)
        self.segmenter.segment(prepared)
        return prepared, truth

    def methods(self, prepared: PreparedStudy, region: str) -> dict[str, tuple[Correct, int]]:
        """What answers the clicks, and how many are made; a benchmark adds others beside refinement."""
        return {"refinement": (lambda marks: self.refiner.label_map(self.segmenter, prepared, marks)[0], self.clicks)}


def mean_dice(records: Sequence[Mapping[str, Any]], **chosen: Any) -> dict[int, float]:
    """Mean Dice per number of clicks of the records with these values."""
    rows = [row for row in records if all(row[key] == value for key, value in chosen.items())]
    counts = sorted({row["clicks"] for row in rows})
    return {count: float(np.mean([row["dice"] for row in rows if row["clicks"] == count])) for count in counts}


def markdown(records: Sequence[Mapping[str, Any]]) -> str:
    """Mean Dice in % per method, subset and region after some clicks, and the clicks that a Dice takes."""
    most = max(row["clicks"] for row in records)
    shown = [count for count in SHOWN if count <= most]
    head = ["sequences", "method", "region", *(str(count) for count in shown), *(f"to {goal}" for goal in REACHED)]
    lines = [table_row(head), table_row(["---"] * len(head))]
    for subset in dict.fromkeys(row["subset"] for row in records):
        for method in dict.fromkeys(row["method"] for row in records):
            for region in REGIONS:
                chosen = {"subset": subset, "method": method, "region": region}
                means = mean_dice(records, **chosen)
                cells = [f"{100 * means[count]:.1f}" if count in means else "" for count in shown]
                cells += [_clicks_to(goal, max(means), records, **chosen) for goal in REACHED]
                lines.append(table_row([subset.replace("+", " + "), method, region.upper(), *cells]))
    for method in dict.fromkeys(row["method"] for row in records):
        seconds = [row["seconds"] for row in records if row["method"] == method and row["seconds"] > 0]
        if seconds:
            lines += ["", f"{method}: {np.median(seconds):.2f} s a click (median), {max(seconds):.2f} s at most."]
    lines += ["", "Dice in %; the last columns: the median number of clicks to a Dice, and how many studies reach it."]
    return "\n".join(lines) + "\n"


def draw(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Dice against clicks, a panel per region, a line per subset and method."""
    figure = figure_of((10.5, 4.4))
    methods = list(dict.fromkeys(row["method"] for row in records))
    for number, region in enumerate(REGIONS):
        axes = figure.add_subplot(1, len(REGIONS), number + 1)
        for color, subset in enumerate(dict.fromkeys(row["subset"] for row in records)):
            for method, style in zip(methods, ("-", "--", ":", "-."), strict=False):
                means = mean_dice(records, subset=subset, method=method, region=region)
                label = subset.replace("+", " + ") + (f", {method}" if len(methods) > 1 else "")
                axes.plot(list(means), list(means.values()), style, color=f"C{color}", label=label)
        axes.set(title=REGION_NAMES[region], xlabel="clicks", ylim=(0, 1), ylabel="" if number else "mean Dice")
        axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=7)
    figure.savefig(path, format="png", dpi=130)


def _has(item: Mapping[str, Any], subset: tuple[str, ...]) -> bool:
    return all(sequence in item or sequence in item.get("channels", ()) for sequence in subset)


def _clicks_to(goal: float, most: int, records: Sequence[Mapping[str, Any]], **chosen: Any) -> str:
    rows = [row for row in records if all(row[key] == value for key, value in chosen.items())]
    studies = sorted({row["study"] for row in rows})
    needed = [
        min((row["clicks"] for row in rows if row["study"] == study and row["dice"] >= goal), default=most + 1)
        for study in studies
    ]
    median = float(np.median(needed))
    reached = sum(count <= most for count in needed)
    return f"{f'> {most}' if median > most else f'{median:g}'} ({reached} of {len(studies)})"


def _write_csv(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)
