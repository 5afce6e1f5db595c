"""What marks say of their surroundings: Gaussian process regression of the logits that a study lacks there.

The network's logits are the prior mean. Its covariance says which voxels are wrong together: near ones, whatever they
look like, and alike ones further away. A mark is an observation, and all of them are heard at once, so that a mark
inside and one outside share the voxels between them (Rasmussen and Williams 2006, equations 2.22 to 2.25).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from lckd.marks import Marks
from lckd.sequences import REGIONS

SURE = 8.0
"""Logit at a mark; the prior's are clipped to it."""

NEAR = 0.5
"""Share of the covariance that falls with the distance alone; the other share falls with other features as well."""

REACH = {"et": 4.5, "wt": 7.5, "tc": 6.0}
REACH_WITHOUT_T1CE = {"et": 12.0, "wt": 7.5, "tc": 13.0}
"""Voxels over which the first share falls to 1/e, squared exponentially. What no image shows, a user has to say."""

REACH_AT_FIRST = {"et": 10.0}
"""The most of it while no mark is inside the region: else the first one outside takes all of the region away."""

LIKENESS_REACH = 60.0
"""Voxels over which the second share falls to 1/e, exponentially."""

SHARPNESS = 0.4
"""How fast the second share falls with the squared difference of features, in units of their variance in a tumour."""

DOUBT = 3.0
"""Logits over which the prior's doubt falls to 1/e: the network errs more where it is not sure."""

NOISE = 0.1
"""Variance of an observation, in units of the prior's variance."""

MOST = 32
"""Observations; of more marks, as strokes have, those that are farthest from each other."""


def reach_of(marks: Marks, t1ce: bool) -> dict[str, float]:
    """Voxels that marks reach by their distance alone, per region, in a study with or without T1ce."""
    reach = dict(REACH if t1ce else REACH_WITHOUT_T1CE)
    for region, at_first in REACH_AT_FIRST.items():
        if not (marks.claims[:, REGIONS.index(region)] > 0).any():
            reach[region] = min(reach[region], at_first)
    return reach


def regress(
    features: Tensor, variance: float, logits: Tensor, marks: Marks, box: tuple[slice, ...], reach: Mapping[str, float]
) -> Tensor:
    """The posterior mean without the prior's, at half resolution.

    Args:
        features: ``(C, d, h, w)`` within ``box``, at half resolution.
        variance: of the features within a tumour.
        logits: ``(3, d, h, w)`` likewise.
        marks: voxel indices of the whole grid.
        box: the part of the grid that holds the marks, at full resolution.
        reach: of ``reach_of``.

    Returns:
        ``(2, 3, d, h, w)``: logits that nearness to the marks adds, and logits that likeness to them adds.
    """
    marks = _farthest(marks, MOST)
    places = torch.from_numpy(marks.voxels - [side.start for side in box]) // 2
    claims = torch.from_numpy(marks.claims)
    prior = logits.clamp(-SURE, SURE)
    doubt = (1 + torch.exp(-prior.abs() / DOUBT)) / 1.5
    there = (slice(None), *places.T)
    observed = features[there].T  # (N, C)
    lacking = claims * SURE - prior[there].T.cpu().double()  # (N, 3); not every device knows double precision
    doubted = doubt[there].T.cpu().double()
    distance = torch.cdist(places.double(), places.double()) * 2
    difference = torch.cdist(observed.cpu().double(), observed.cpu().double()).square() / features.shape[0]
    strengths = torch.zeros_like(lacking)
    for index, region in enumerate(REGIONS):
        said = claims[:, index].nonzero()[:, 0]
        covariance = _nearness(distance, reach[region]) + _likeness(difference, distance, variance)
        covariance = covariance * torch.outer(doubted[:, index], doubted[:, index])
        observations = covariance[said][:, said] + NOISE * torch.eye(len(said), dtype=torch.float64)
        strengths[said, index] = torch.linalg.solve(observations, lacking[said, index]) * doubted[said, index]
    result = torch.zeros(2, len(REGIONS), *features.shape[1:], device=features.device)
    for place, own, strength in zip(places.tolist(), observed, strengths.tolist(), strict=True):
        distance = _distance(place, features)
        likeness = _likeness((features - own[:, None, None, None]).square_().mean(0).float(), distance, variance)
        for index, region in enumerate(REGIONS):
            if strength[index]:
                result[0, index].add_(_nearness(distance, reach[region]), alpha=strength[index])
                result[1, index].add_(likeness, alpha=strength[index])
    return result * doubt


def _nearness(distance: Tensor, reach: float) -> Tensor:
    return NEAR * torch.exp(-((distance / reach) ** 2))


def _likeness(difference: Tensor, distance: Tensor, variance: float) -> Tensor:
    return (1 - NEAR) * torch.exp(-difference * (SHARPNESS / variance) - distance / LIKENESS_REACH)


def _distance(place: Sequence[int], features: Tensor) -> Tensor:
    """Voxels of full resolution from a place to every other of ``features`` ``(C, d, h, w)``: ``(d, h, w)``."""
    x, y, z = (
        (2.0 * (torch.arange(side, device=features.device) - index)).square()
        for side, index in zip(features.shape[1:], place, strict=True)
    )
    return (x[:, None, None] + y[:, None] + z).sqrt()


def _farthest(marks: Marks, most: int) -> Marks:
    """At most so many marks, each the farthest from those before it; what others contradict is far from them."""
    if len(marks) <= most:
        return marks
    points = np.concatenate([marks.voxels, marks.voxels.max() * marks.claims], 1)
    chosen = [0]
    away = np.full(len(points), np.inf)
    while len(chosen) < most:
        away = np.minimum(away, np.linalg.norm(points - points[chosen[-1]], axis=1))
        chosen.append(int(away.argmax()))
    return Marks(marks.voxels[chosen], marks.claims[chosen])
