"""What a report says: volumes, expected Dice, and how the result came about."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lckd import __version__
from lckd.sequences import (
    LABELS,
    REGION_LABELS,
    REGION_NAMES,
    REGIONS,
    SEQUENCE_NAMES,
    SEQUENCES,
    parse_subset,
    subset_name,
)

DISCLAIMER = "Research use only; not for clinical decisions."


def voxel_ml_of(affine: NDArray) -> float:
    """Volume in mL of a voxel of an image with ``affine`` ``(4, 4)`` in mm."""
    return abs(float(np.linalg.det(affine[:3, :3]))) / 1000


def volumes_ml(label_map: NDArray[np.uint8], affine: NDArray) -> dict[str, dict[str, float]]:
    """Volumes in mL of a label map ``(X, Y, Z)``: per label under ``labels``, per region under ``regions``."""
    voxel_ml = voxel_ml_of(affine)
    # np.bincount would take eight times the label map's memory.
    counts = {value: int(np.count_nonzero(label_map == value)) for value in LABELS.values()}
    return {
        "labels": {name: round(counts[value] * voxel_ml, 3) for name, value in LABELS.items()},
        "regions": {r: round(sum(counts[value] for value in REGION_LABELS[r]) * voxel_ml, 3) for r in REGIONS},
    }


def expected_dice(evaluation: Mapping[str, Any] | None, subset: Sequence[str]) -> dict[str, Any] | None:
    """Mean Dice that the evaluation found for exactly this subset, per region; None where it was not evaluated.

    Args:
        evaluation: the table of ``lckd.evaluation.summarize``.
        subset: sequences used.
    """
    row = (evaluation or {}).get("subsets", {}).get(subset_name(parse_subset(list(subset))))
    if row is None:
        return None
    return {region: {"dice": row[region]["dice"], "interval_95": row[region]["dice_interval"]} for region in REGIONS}


def missing_sequences(evaluation: Mapping[str, Any] | None, subset: Sequence[str]) -> dict[str, Any] | None:
    """What each missing sequence would bring, by the evaluation's averages, and the one that would bring most.

    Args:
        evaluation: the table of ``lckd.evaluation.summarize``.
        subset: sequences used.

    Returns:
        ``expected_dice``: per missing sequence and region the mean Dice with it; ``most_helpful``: the
        sequence; ``advice``: a sentence. None where the subset, or what it lacks, was not evaluated.
    """
    now = expected_dice(evaluation, subset)
    better = {
        sequence: expected_dice(evaluation, (*subset, sequence)) for sequence in SEQUENCES if sequence not in subset
    }
    if now is None or not better or None in better.values():
        return None
    dice = {name: {region: row[region]["dice"] for region in REGIONS} for name, row in better.items() if row}
    gains = {(name, region): dice[name][region] - now[region]["dice"] for name in dice for region in REGIONS}
    most_helpful = max(dice, key=lambda name: sum(gains[name, region] for region in REGIONS))
    region = max(REGIONS, key=lambda region: gains[most_helpful, region])
    before, after = now[region]["dice"], dice[most_helpful][region]
    return {
        "expected_dice": dice,
        "most_helpful": most_helpful,
        "advice": f"{SEQUENCE_NAMES[most_helpful]} would help most: {REGION_NAMES[region]} has an expected Dice of "
        f"{before:.2f} without it and {after:.2f} with it"
        if after > before
        else "no missing sequence is expected to help",
    }


def study_report(
    *,
    study: str,
    weights: Mapping[str, str],
    used: Sequence[str],
    reference: str,
    label_map: NDArray[np.uint8],
    affine: NDArray,
    expected: Mapping[str, Any] | None,
    estimated: Mapping[str, float | None] | None,
    missing: Mapping[str, Any] | None,
    device: str,
    precision: str,
    timings_s: Mapping[str, float],
    warnings: Sequence[str],
) -> dict[str, Any]:
    """The content of ``report.json``.

    Args:
        study: id.
        weights: ``file`` and ``sha256``.
        used: sequences that were available and used.
        reference: sequence whose grid the outputs have.
        label_map: ``(X, Y, Z)`` of our label values.
        affine: ``(4, 4)`` voxel to world in mm.
        expected: of ``expected_dice``, the subset's average.
        estimated: Dice per region that this study's probabilities let expect; None for one that was not found.
        missing: of ``missing_sequences``.
        device: that computed.
        precision: of the convolutions.
        timings_s: seconds per step.
        warnings: sentences for the user.
    """
    return {
        "study": study,
        "sequences": {
            "used": list(used),
            "missing": [sequence for sequence in SEQUENCES if sequence not in used],
            "reference": reference,
        },
        "volumes_ml": volumes_ml(label_map, affine),
        "expected_dice": expected,
        "estimated_dice": estimated,
        "missing_sequences": missing,
        "warnings": list(warnings),
        "labels": {str(value): name for name, value in LABELS.items()},
        "device": device,
        "precision": precision,
        "timings_s": dict(timings_s),
        "weights": dict(weights),
        "software": {"name": "lckd", "version": __version__},
        "disclaimer": DISCLAIMER,
    }


def summary_line(report: Mapping[str, Any]) -> str:
    """One line for a terminal: the study, its sequences, its volumes and what to expect of them."""
    expected, estimated = report["expected_dice"], report["estimated_dice"] or {}
    parts = []
    for region in REGIONS:
        trust = f"expected Dice {expected[region]['dice']:.2f}" if expected else ""
        trust += f", here {estimated[region]:.2f}" if estimated.get(region) is not None else ""
        trust = f" ({trust})" if trust else ""
        parts.append(f"{region.upper()} {report['volumes_ml']['regions'][region]:.1f} mL{trust}")
    return f"{report['study']} [{subset_name(tuple(report['sequences']['used']))}]: {', '.join(parts)}"
