"""How far to trust probabilities: temperatures, reliability, and the Dice that they let expect.

Everything is computed from histograms of logits, of all voxels and of those in the region, so that an
evaluation need not keep a single image.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import lsq_linear, minimize_scalar
from scipy.special import expit
from torch import Tensor

from lckd.sequences import LABELS, REGION_LABELS, REGIONS

LIMIT, BINS = 10.0, 80
"""Logits beyond the limit count as at it; bins are a quarter wide and none crosses zero, the threshold."""

CENTRES = (np.arange(BINS) + 0.5) * (2 * LIMIT / BINS) - LIMIT
RELIABILITY_BINS = 20
SMOOTHING_VOXELS = 100
"""Of the estimated Dice: where nothing is found and next to nothing probable, empty is probably right."""

OFFSET_PENALTY = 2.0
"""Studies without an offset that each subset's line counts besides its own; chosen on the validation studies."""

Line = tuple[float, float]
"""Intercept and slope from ``soft_dice`` to the Dice that was found."""

Histogram = Mapping[str, Any]
"""``voxels`` and ``positive``: per bin how many voxels there are, and how many of them the truth has in the region."""


def logit_histogram(probabilities: Tensor, target: Tensor) -> dict[str, list[int]]:
    """Histogram of a region's probabilities ``(N,)`` and boolean truth ``(N,)``."""
    logits = torch.logit(probabilities.float(), eps=1e-6)
    index = ((logits + LIMIT) * (BINS / (2 * LIMIT))).long().clamp(0, BINS - 1)
    return {
        "voxels": torch.bincount(index, minlength=BINS).tolist(),
        "positive": torch.bincount(index[target], minlength=BINS).tolist(),
    }


def pooled(histograms: Iterable[Histogram]) -> dict[str, NDArray[np.float64]]:
    """Sum of histograms."""
    every = list(histograms)
    return {key: np.sum([h[key] for h in every], axis=0, dtype=np.float64) for key in ("voxels", "positive")}


def fit_temperature(histograms: Iterable[Histogram]) -> float:
    """Temperature by which logits are divided for the smallest negative log-likelihood (Guo et al. 2017)."""
    total = pooled(histograms)
    positive, negative = total["positive"], total["voxels"] - total["positive"]

    def loss(log_temperature: float) -> float:
        logits = CENTRES / np.exp(log_temperature)
        return float((positive * np.logaddexp(0, -logits) + negative * np.logaddexp(0, logits)).sum())

    return round(float(np.exp(minimize_scalar(loss, bounds=(-2, 2), method="bounded").x)), 3)


def reliability(histogram: Histogram, temperature: float = 1.0) -> dict[str, Any]:
    """Expected calibration error, and the bins of a reliability diagram.

    Returns:
        ``ece``: mean over the voxels of the distance between probability and frequency in 20 equal bins
        (Naeini et al. 2015); ``probability``, ``frequency`` and ``voxels`` of the bins that are not empty.
    """
    voxels, positive = (np.asarray(histogram[key], np.float64) for key in ("voxels", "positive"))
    probabilities = expit(CENTRES / temperature)
    place = np.minimum((probabilities * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
    counts, sums, hits = (
        np.bincount(place, values, RELIABILITY_BINS) for values in (voxels, voxels * probabilities, positive)
    )
    filled = counts > 0
    return {
        "ece": float(np.abs(sums - hits).sum() / max(counts.sum(), 1)),
        "probability": (sums[filled] / counts[filled]).tolist(),
        "frequency": (hits[filled] / counts[filled]).tolist(),
        "voxels": counts[filled].tolist(),
    }


def soft_dice(probabilities: NDArray, voxels: NDArray | None = None) -> float:
    """Dice to expect of the thresholded prediction if voxels are in the region with these probabilities.

    Twice the expected intersection over the sum of both expected sizes; ``voxels`` counts each probability, once if
    not given.
    """
    counted = probabilities if voxels is None else probabilities * voxels
    found = probabilities > 0.5
    both = 2 * float(counted[found].sum(dtype=np.float64)) + SMOOTHING_VOXELS
    predicted = float(np.count_nonzero(found) if voxels is None else voxels[found].sum(dtype=np.float64))
    return both / (predicted + float(counted.sum(dtype=np.float64)) + SMOOTHING_VOXELS)


def soft_dice_of(histogram: Histogram, temperature: float) -> float:
    """``soft_dice`` of a histogram, its logits divided by ``temperature``."""
    return soft_dice(expit(CENTRES / temperature), np.asarray(histogram["voxels"], np.float64))


@dataclass(frozen=True)
class Calibration:
    """What validation studies taught about the probabilities of some weights.

    Attributes:
        temperature: per subset and region; logits are divided by it, which moves no boundary. What a network cannot
            see in a subset it is far too sure of, and in another one not.
        dice_line: per subset and region.
    """

    temperature: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    dice_line: Mapping[str, Mapping[str, Line]] = field(default_factory=dict)

    @classmethod
    def fitted(cls, records: Sequence[Mapping[str, Any]]) -> "Calibration":
        """Fit to an evaluation's records ``{subset, region, dice, found, histogram}`` of validation studies."""
        temperature = {
            subset: {region: fit_temperature(_histograms(records, region, subset)) for region in REGIONS}
            for subset in dict.fromkeys(record["subset"] for record in records)
        }
        lines: dict[str, dict[str, Line]] = {subset: {} for subset in temperature}
        for region in REGIONS:
            rows = [record for record in records if record["region"] == region and record["found"]]
            estimates = [soft_dice_of(row["histogram"], temperature[row["subset"]][region]) for row in rows]
            fitted = _fit_lines(list(lines), [row["subset"] for row in rows], estimates, [row["dice"] for row in rows])
            for subset, line in fitted.items():
                lines[subset][region] = line
        return cls(temperature, lines)

    @classmethod
    def of(cls, facts: Mapping[str, Any] | None) -> "Calibration":
        """That of ``metadata.json``'s ``calibration``; without one, temperatures of 1 and no estimates."""
        if not facts:
            return cls()
        lines = {
            subset: {region: (line[0], line[1]) for region, line in regions.items()}
            for subset, regions in facts["dice_line"].items()
        }
        return cls(facts["temperature"], lines)

    def apply_(self, probabilities: Tensor, subset: str) -> Tensor:
        """Calibrate probabilities ``(3, X, Y, Z)`` of ET, WT and TC in place; zero, outside the brain, stays zero.

        On a whole image, memory for every step would cost more than the arithmetic.
        """
        for region, channel in zip(REGIONS, probabilities, strict=True):
            outside = channel == 0
            channel.logit_(eps=1e-6).div_(self.of_subset(subset)[region]).sigmoid_().masked_fill_(outside, 0)
        return probabilities

    def of_subset(self, subset: str) -> Mapping[str, float]:
        """Temperature per region of a subset, e.g. ``flair+t2``; 1 where it was not fitted."""
        return self.temperature.get(subset, dict.fromkeys(REGIONS, 1.0))

    def estimated_dice(self, probabilities: Tensor, label_map: Tensor, subset: str) -> dict[str, float | None] | None:
        """Dice to expect of this very study per region; None for a subset that no validation study had.

        A region that was not found has no estimate, but None: its Dice is 1 or 0, and which of the two is what a
        network that finds nothing cannot tell.

        Args:
            probabilities: calibrated, ``(3, X, Y, Z)``.
            label_map: ``(X, Y, Z)``, what was found.
            subset: e.g. ``flair+t2``.
        """
        lines = self.dice_line.get(subset)
        if lines is None:
            return None
        labels = {value for value in LABELS.values() if bool((label_map == value).any())}
        found = [region for region in lines if labels.intersection(REGION_LABELS[region])]
        return {
            # Voxels of probability zero, all those outside the brain, would add nothing.
            region: self.on_line(subset, region, soft_dice(channel[channel > 0])) if region in found else None
            for region, channel in zip(REGIONS, probabilities.numpy(), strict=True)
        }

    def on_line(self, subset: str, region: str, estimate: float) -> float:
        """A region's ``soft_dice`` to the Dice that goes with it in a subset, between 0 and 1."""
        intercept, slope = self.dice_line[subset][region]
        return round(float(np.clip(intercept + slope * estimate, 0, 1)), 3)

    def assessed(self, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """How well it holds on other studies: ``ece`` per subset and pooled, and the error of the estimates.

        Returns:
            ``{"ece": {"all": {"et": 0.01}}, "ece_uncalibrated": ..., "dice_estimate": {"et": {"correlation":
            0.8, "mean_error": 0.1}}}``; the correlation is Pearson's over studies and subsets.
        """
        result: dict[str, Any] = {"ece": {}, "ece_uncalibrated": {}, "dice_estimate": {}}
        for subset in ("all", *dict.fromkeys(record["subset"] for record in records)):
            for key in ("ece", "ece_uncalibrated"):
                result[key][subset] = {}
            for region in REGIONS:
                ours = self.calibrated(records, region, subset)
                result["ece"][subset][region] = round(reliability(ours)["ece"], 5)
                total = pooled(_histograms(records, region, subset))
                result["ece_uncalibrated"][subset][region] = round(reliability(total)["ece"], 5)
        for region in REGIONS:
            estimated = {subset for subset, lines in self.dice_line.items() if region in lines}
            rows = [r for r in records if r["region"] == region and r["found"] and r["subset"] in estimated]
            soft = [soft_dice_of(row["histogram"], self.of_subset(row["subset"])[region]) for row in rows]
            estimates = [self.on_line(row["subset"], region, value) for row, value in zip(rows, soft, strict=True)]
            found = [row["dice"] for row in rows]
            result["dice_estimate"][region] = {
                "correlation": round(float(np.corrcoef(estimates, found)[0, 1]), 3),
                "mean_error": round(float(np.abs(np.subtract(estimates, found)).mean()), 3),
            }
        return result

    def calibrated(self, records: Sequence[Mapping[str, Any]], region: str, subset: str) -> Histogram:
        """The sum of a region's histograms in a subset, or in ``all``, each after its own temperature."""
        rows = [r for r in records if r["region"] == region and subset in ("all", r["subset"])]
        moved = (_divided(row["histogram"], self.of_subset(row["subset"])[region]) for row in rows)
        return pooled(moved)

    def facts(self) -> dict[str, Any]:
        """For ``metadata.json``; ``of`` reads it."""
        return {"temperature": dict(self.temperature), "dice_line": dict(self.dice_line)}


def _fit_lines(
    names: Sequence[str], subsets: Sequence[str], estimates: Sequence[float], dice: Sequence[float]
) -> dict[str, Line]:
    """A line per subset by least squares: one slope for all, never negative, and offsets drawn towards zero.

    Where probabilities say nothing of how good a study's segmentation is, the subset still does.

    Args:
        names: of all subsets; one without an estimate gets the line of all, and without any there are none.
        subsets: of each estimate.
        estimates: of ``soft_dice``.
        dice: that goes with each.
    """
    if not estimates:
        return {}
    x, mean = np.asarray(estimates), float(np.mean(estimates))
    offsets = np.array([[subset == name for name in names] for subset in subsets], float)
    penalty = np.sqrt(OFFSET_PENALTY) * np.eye(len(names))
    system = np.block([[np.ones((len(x), 1)), (x - mean)[:, None], offsets], [np.zeros((len(names), 2)), penalty]])
    least = np.full(system.shape[1], -np.inf)
    least[1] = 0
    level, slope, *offset = lsq_linear(system, [*dice, *np.zeros(len(names))], (least, np.inf)).x.tolist()
    return {
        name: (round(level + own - slope * mean, 4), round(slope, 4)) for name, own in zip(names, offset, strict=True)
    }


def _divided(histogram: Histogram, temperature: float) -> Histogram:
    """A histogram of the logits divided by ``temperature``."""
    places = np.clip((CENTRES / temperature + LIMIT) * (BINS / (2 * LIMIT)), 0, BINS - 1).astype(int)
    return {key: np.bincount(places, np.asarray(histogram[key], np.float64), BINS) for key in ("voxels", "positive")}


def _histograms(records: Sequence[Mapping[str, Any]], region: str, subset: str) -> Iterable[Histogram]:
    return (r["histogram"] for r in records if r["region"] == region and subset in ("all", r["subset"]))
