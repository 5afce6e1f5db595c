"""Scores of predictions, and the tables of the 15 subsets made of them."""

import csv
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from monai.metrics import compute_dice, compute_hausdorff_distance
from monai.transforms.utils import generate_spatial_bounding_box
from numpy.typing import NDArray
from torch import Tensor

from lckd.errors import StudyError
from lckd.files import write_atomically, write_json
from lckd.sequences import REGIONS, SEQUENCE_NAMES, SEQUENCES, SUBSETS, subset_name

RESAMPLES = 2000


class Score(TypedDict):
    """Scores of one region: Dice, 95th percentile Hausdorff distance in mm, whether it was found, and is in neither."""

    dice: float
    hd95_mm: float
    found: bool
    both_empty: bool


def score(prediction: Tensor, target: Tensor, spacing_mm: Sequence[float]) -> dict[str, Score]:
    """Scores per region of boolean ``(3, X, Y, Z)`` in the order of ``REGIONS``.

    Where both are empty, Dice is 1 and HD95 0; where one is, Dice is 0 and HD95 the diagonal of the
    image (BraTS uses 373.13 mm, that of its 240x240x155 mm).
    """
    diagonal_mm = float(np.linalg.norm(np.multiply(prediction.shape[1:], spacing_mm)))
    scores: dict[str, Score] = {}
    for index, region in enumerate(REGIONS):
        ours, truth = prediction[index].bool(), target[index].bool()
        empty = not bool(ours.any()), not bool(truth.any())
        if any(empty):
            both = all(empty)
            hd95_mm = 0.0 if both else diagonal_mm
            scores[region] = Score(dice=float(both), hd95_mm=hd95_mm, found=not empty[0], both_empty=both)
            continue
        # Distances need the two surfaces only; the box around both is a fraction of the image.
        start, end = generate_spatial_bounding_box((ours | truth)[None].numpy(), margin=1, allow_smaller=True)
        box = tuple(slice(low, high) for low, high in zip(start, end, strict=True))
        pair = ours[box][None, None], truth[box][None, None]
        distance = compute_hausdorff_distance(
            *pair, percentile=95, spacing=[float(side) for side in spacing_mm], include_background=True
        )
        dice = compute_dice(*pair, include_background=True)
        scores[region] = Score(dice=float(dice), hd95_mm=float(distance), found=True, both_empty=False)
    return scores


def summarize(records: Sequence[dict[str, Any]], seed: int = 0) -> dict[str, Any]:
    """Means of records ``{study, subset, region, dice, hd95_mm, both_empty}`` with 95 % bootstrap intervals.

    Studies are resampled. Under ``mean`` each study's subsets are averaged first, as papers do.

    Returns:
        ``{"subsets": {"flair+t2": {"et": {...}}}, "mean": {"et": {...}}}``; per cell ``dice``,
        ``dice_interval``, ``hd95_mm``, ``hd95_interval``, ``studies`` and ``both_empty``.
    """
    generator = np.random.default_rng(seed)
    present = {record["subset"] for record in records}
    subsets = [name for name in map(subset_name, SUBSETS) if name in present]

    def cell(region: str, names: Sequence[str]) -> dict[str, Any]:
        rows = [r for r in records if r["region"] == region and r["subset"] in names]
        studies = sorted({r["study"] for r in rows})
        result: dict[str, Any] = {}
        for key, interval in (("dice", "dice_interval"), ("hd95_mm", "hd95_interval")):
            means = np.array([np.mean([r[key] for r in rows if r["study"] == study]) for study in studies])
            result[key], result[interval] = round(float(means.mean()), 4), _bootstrap(means, generator)
        return result | {"studies": len(studies), "both_empty": sum(r["both_empty"] for r in rows)}

    return {
        "subsets": {name: {region: cell(region, [name]) for region in REGIONS} for name in subsets},
        "mean": {region: cell(region, subsets) for region in REGIONS},
    }


def write_tables(
    table: dict[str, Any], records: Sequence[dict[str, Any]], folder: str | Path, weights_sha256: str
) -> None:
    """Write ``evaluation.json``, ``.csv`` (a row per record), ``.md`` and ``.png`` (heat map) into ``folder``.

    Raises:
        StudyError: the folder cannot be written, or matplotlib is not installed.
    """
    title = f"{len({record['study'] for record in records})} studies, weights {weights_sha256[:12]}"
    content = {"title": title, "weights": weights_sha256, "table": table, "records": list(records)}
    with write_folder(folder) as place:
        write_json(place / "evaluation.json", content)
        write_atomically(place / "evaluation.csv", lambda path: _write_csv(path, records))
        text = markdown(table, title)
        write_atomically(place / "evaluation.md", lambda path: path.write_text(text, encoding="utf-8"))
        write_atomically(place / "evaluation.png", lambda path: draw_heat_map(path, table, title))


@contextmanager
def write_folder(folder: str | Path) -> Iterator[Path]:
    """Make a folder for results; what fails while writing into it is told as a ``StudyError``."""
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        yield place
    except OSError as error:
        raise StudyError(f"{place} cannot be written ({error.strerror or error}); choose another --output") from error


def markdown(table: dict[str, Any], title: str) -> str:
    """The table as Markdown: which sequences are available, Dice in % with its interval, HD95 in mm."""
    head = [
        *(SEQUENCE_NAMES[s] for s in SEQUENCES),
        *(f"{r.upper()} Dice %" for r in REGIONS),
        *(f"{r.upper()} HD95" for r in REGIONS),
    ]
    lines = [
        f"{title}; in brackets 95 % bootstrap intervals over the studies.",
        "",
        table_row(head),
        table_row([":-:"] * len(head)),
    ]
    for subset, scores in table["subsets"].items():
        lines.append(table_row([*("●" if s in subset.split("+") else "○" for s in SEQUENCES), *_cells(scores)]))
    lines.append(table_row(["**mean**", "", "", "", *_cells(table["mean"])]))
    empty = max(scores[region]["both_empty"] for scores in table["subsets"].values() for region in REGIONS)
    if empty:
        lines += [
            "",
            f"A region absent from both truth and prediction counts as Dice 1 (at most {empty} of a row's studies).",
        ]
    return "\n".join(lines) + "\n"


def _cells(row: dict[str, Any]) -> list[str]:
    dice = [
        f"{100 * row[r]['dice']:.1f} [{100 * row[r]['dice_interval'][0]:.0f}, {100 * row[r]['dice_interval'][1]:.0f}]"
        for r in REGIONS
    ]
    return [*dice, *(f"{row[r]['hd95_mm']:.1f}" for r in REGIONS)]


def not_evaluated(failures: Collection[str], studies: int) -> str:
    """The sentence that ends an evaluation of so many ``studies`` if some of them failed; their names."""
    return f"{len(failures)} of {studies} studies were not evaluated: {', '.join(failures)}"


def table_row(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def _bootstrap(values: NDArray[np.float64], generator: np.random.Generator) -> list[float]:
    means = generator.choice(values, (RESAMPLES, len(values))).mean(axis=1)
    return [round(float(bound), 4) for bound in np.percentile(means, (2.5, 97.5))]


def _write_csv(path: Path, records: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        columns = ["study", "subset", "region", *Score.__annotations__]
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(records)


def figure_of(size: tuple[float, float]) -> Any:
    """An empty matplotlib figure of ``size`` in inches.

    Raises:
        StudyError: matplotlib, an extra that nothing but pictures of tables needs, is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise StudyError("matplotlib draws the tables and is not installed; pip install 'lckd[evaluate]'") from error
    return Figure(figsize=size, layout="constrained")


def draw_heat_map(path: Path, table: dict[str, Any], title: str) -> None:
    """Write a PNG of the Dice of every subset and region."""
    figure = figure_of((6.4, 8.2))
    rows = {**table["subsets"], "mean": table["mean"]}
    values = np.array([[100 * row[region]["dice"] for region in REGIONS] for row in rows.values()])
    axes = figure.add_subplot()
    shown = axes.imshow(values, cmap="viridis", vmin=0, vmax=100, aspect="auto")
    axes.set_xticks(range(len(REGIONS)), [region.upper() for region in REGIONS])
    axes.set_yticks(range(len(rows)), [name.replace("+", " + ") for name in rows])
    axes.axhline(len(rows) - 1.5, color="white", linewidth=3)
    axes.xaxis.tick_top()
    axes.set_title(title, fontsize=10)
    for (y, x), value in np.ndenumerate(values):
        axes.text(x, y, f"{value:.1f}", ha="center", va="center", color="black" if value > 60 else "white")
    figure.colorbar(shown, ax=axes, label="Dice in %", shrink=0.6)
    figure.savefig(path, format="png", dpi=130)
