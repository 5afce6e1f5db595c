"""Corrects logits around a user's marks, from what the decoder left: the network itself is not run again."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from lckd.blocks import activate, depth_to_space, space_to_depth
from lckd.marks import Marks
from lckd.network import LCKDNet
from lckd.sequences import REGIONS, SEQUENCES

WINDOW = 40
"""Voxels of the network's grid, of 1 mm, to either side of a mark along each axis: beyond them nothing changes."""

DECAYS = (4.0, 16.0)
"""Voxels over which a mark's channels fall to 1/e: one says where the mark is, the other how far it may reach."""

LARGEST_LOGIT = 8.0

SHARPNESS, REACH, MOST_LIKENESSES = 0.1, 60.0, 32
"""Of the likeness to a mark: how fast it falls with other features, and with the distance in voxels; marks compared.

The first goes with the shipped network: its features' variance within a tumour is 3.7, that of 0.5.0's was 5.5.
"""

OUTSIDE_LIKENESS_AT_FIRST = {"wt": 0.5}
"""How much the likeness to marks outside a region counts while there is none inside, if not in full."""

BELIEF = 10.0
"""Logits that a mark adds to its own place whatever the features are."""

BELIEF_REACH = {"et": 6.0, "wt": 10.0, "tc": 8.0}
BELIEF_REACH_WITHOUT_T1CE = {"et": 16.0, "wt": 10.0, "tc": 17.0}
"""Voxels over which that falls to 1/e; chosen on the validation studies. What no image shows, a user has to say."""

OUTSIDE_REACH_AT_FIRST = {"et": 10.0}
"""The most that marks outside a region reach while there is none inside: else the first takes all of it away."""


@dataclass(frozen=True)
class Decoded:
    """What the decoder leaves of one study for a subset; to be kept, and refined any number of times.

    Attributes:
        features: ``(C, d, h, w)`` of the finest level, at half resolution.
        logits: ``(3, D, H, W)`` on the network's grid, padding included.
        t1ce: whether T1ce was among the sequences.
    """

    features: Tensor
    logits: Tensor
    t1ce: bool

    def to(self, device: torch.device) -> "Decoded":
        """The same on a device."""
        return replace(self, features=self.features.to(device), logits=self.logits.to(device))


def decode(network: LCKDNet, features: list[Tensor], availability: Tensor) -> Decoded:
    """The last step of a network, for one study, with what refinement needs.

    Args:
        network: in evaluation mode.
        features: of ``LCKDNet.encode``, of one study.
        availability: ``(1, 4)`` boolean.
    """
    decoder: Any = network.decoder
    finest = decoder.walk(features, availability)[0]
    return Decoded(finest[0], decoder.logits(finest)[0], bool(availability[0, SEQUENCES.index("t1ce")]))


class RefinementBlock(nn.Module):
    """Residual block of two 3x3x3 convolutions without a norm, whose statistics would depend on the window."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv3d(channels, channels, 3, padding=1) for _ in range(2))
        _zero(self.conv2)  # starts as the identity, which stands in for the norm (Zhang et al. 2019)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, C, D, H, W)`` to the same shape."""
        return features + self.conv2(activate(self.conv1(activate(features))))


class RefinementNet(nn.Module):
    """A small U-Net without norms at half resolution: decoder features, logits and marks to a change of the logits.

    Args:
        features: channels of the decoder's finest level.
        widths: channels per scale, finest (half resolution) first.
        blocks: residual blocks per scale on the way down.
    """

    divisor = 8
    """Sides of its windows are multiples of it."""

    def __init__(
        self, features: int = 24, widths: Sequence[int] = (32, 48, 64), blocks: Sequence[int] = (0, 1, 2)
    ) -> None:
        super().__init__()
        inputs = features + len(REGIONS) * (8 + 2 * len(DECAYS) + 2)
        self.stem = nn.Conv3d(inputs, widths[0], 1)
        self.downs = nn.ModuleList(nn.Conv3d(fine, coarse, 2, stride=2) for fine, coarse in itertools.pairwise(widths))
        self.stages = nn.ModuleList(
            nn.Sequential(*(RefinementBlock(width) for _ in range(count)))
            for width, count in zip(widths, blocks, strict=True)
        )
        self.ups = nn.ModuleList(
            nn.ConvTranspose3d(coarse, fine, 2, stride=2) for fine, coarse in itertools.pairwise(widths)
        )
        self.merged = nn.ModuleList(RefinementBlock(width) for width in widths[:-1])
        self.head = nn.Conv3d(widths[0], 8 * len(REGIONS), 1)
        _zero(self.head)  # a refinement starts as what the likeness alone gives
        self.gain = nn.Parameter(torch.full((len(REGIONS),), LARGEST_LOGIT))

    def forward(self, features: Tensor, logits: Tensor, marks: Tensor, likeness: Tensor) -> Tensor:
        """Change of the logits.

        Args:
            features: ``(B, C, d, h, w)`` of ``Decoded``, at half resolution.
            logits: ``(B, 3, 2d, 2h, 2w)``.
            marks: ``(B, M, d, h, w)`` of ``channels_of``.
            likeness: ``(B, 6, d, h, w)`` of ``likeness_to``.

        Returns:
            ``(B, 3, 2d, 2h, 2w)``.
        """
        folded = space_to_depth(logits.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)) / 4
        current = self.stem(torch.cat([features, folded, marks, likeness], 1))
        kept: list[Tensor] = []
        for scale, stage in enumerate(self.stages):
            current = stage(current)
            if scale < len(self.downs):
                kept.append(current)
                current = self.downs[scale](activate(current))
        for scale in reversed(range(len(kept))):
            current = self.merged[scale](kept[scale] + self.ups[scale](activate(current)))
        inside, outside = likeness.unflatten(1, (len(REGIONS), 2)).unbind(2)
        alike = self.gain[:, None, None, None] * (inside - outside)
        return depth_to_space(self.head(activate(current))) + F.interpolate(alike, scale_factor=2, mode="trilinear")


def box_around(voxels: np.ndarray, size: Sequence[int], divisor: int = RefinementNet.divisor) -> tuple[slice, ...]:
    """The part of a grid of ``size``, multiples of ``divisor``, that holds every mark's window."""
    low = np.maximum(voxels.min(0) - WINDOW, 0) // divisor * divisor
    high = np.minimum(-(-(voxels.max(0) + WINDOW + 1) // divisor) * divisor, size)
    return tuple(slice(int(start), int(stop)) for start, stop in zip(low, high, strict=True))


def distances_to(marks: Marks, box: tuple[slice, ...]) -> Tensor:
    """Voxels to the nearest mark within ``box``, infinite where there is none, at half its resolution.

    Returns:
        ``(6, d, h, w)``, per region inside and outside.
    """
    start = np.array([side.start for side in box])
    shape = [(side.stop - side.start) // 2 for side in box]
    places = (marks.voxels - start) // 2
    within = ((places >= 0) & (places < shape)).all(1)
    claims = ((region, claim) for region in range(len(REGIONS)) for claim in (1, -1))
    return torch.stack(
        [_distance(places[within & (marks.claims[:, region] == claim)], shape) for region, claim in claims]
    )


def channels_of(distances: Tensor) -> Tensor:
    """``distances_to`` marks as the network takes them: ``(M, d, h, w)``, for each as many as ``DECAYS``."""
    return torch.stack([torch.exp(-distances / decay) for decay in DECAYS], 1).flatten(0, 1)


def belief_in(distances: Tensor, t1ce: bool) -> Tensor:
    """Logits ``(3, D, H, W)`` that marks add to their surroundings.

    Someone who clicks means more than a voxel: without it, where features do not tell a region from another, clicks
    changed less than a painted sphere does.

    Args:
        distances: of ``distances_to`` the marks.
        t1ce: whether the study has T1ce, without which enhancing tumour and core are hardly seen.
    """
    reaches = BELIEF_REACH if t1ce else BELIEF_REACH_WITHOUT_T1CE
    away = distances.unflatten(0, (len(REGIONS), 2))
    reach = torch.tensor([[reaches[region]] * 2 for region in REGIONS])
    for region, at_first in OUTSIDE_REACH_AT_FIRST.items():
        if not away[REGIONS.index(region), 0].isfinite().any():
            reach[REGIONS.index(region), 1] = min(reaches[region], at_first)
    inside, outside = torch.exp(-((away / reach[:, :, None, None, None]) ** 2)).unbind(1)
    return F.interpolate(BELIEF * (inside - outside)[None], scale_factor=2, mode="trilinear")[0]


def likeness_to(features: Tensor, marks: Marks, box: tuple[slice, ...]) -> Tensor:
    """How alike and near each place is to the marks within ``box``: ``(6, d, h, w)``, per region inside and outside.

    One where a mark is, or ``OUTSIDE_LIKENESS_AT_FIRST``; falls with the distance, and with the mean squared difference
    of the features there.

    Args:
        features: ``(C, d, h, w)`` within ``box``.
        marks: voxel indices of the whole grid, of full resolution.
        box: of full resolution.
    """
    shape = features.shape[1:]
    result = features.new_zeros(2 * len(REGIONS), *shape)
    start = np.array([side.start for side in box])
    axes = [torch.arange(side, device=features.device) for side in shape]
    places, claims = (marks.voxels - start) // 2, marks.claims
    within = ((places >= 0) & (places < np.array(shape))).all(1)
    every = max(1, int(within.sum()) // MOST_LIKENESSES)  # neighbours in a stroke are alike
    for place, claim in zip(places[within][::every], claims[within][::every], strict=True):
        x, y, z = (int(index) for index in place)
        difference = (features - features[:, x, y, z, None, None, None]).square_().mean(0)
        away = [(axis - index).float().square() * 4 for axis, index in zip(axes, (x, y, z), strict=True)]
        distance = (away[0][:, None, None] + away[1][:, None] + away[2]).sqrt()
        alike = torch.exp(-difference.float() * SHARPNESS - distance / REACH).to(result)
        for region, said in enumerate(claim):
            if said:
                row = 2 * region + int(said < 0)
                result[row] = torch.maximum(result[row], alike)
    for name, share in OUTSIDE_LIKENESS_AT_FIRST.items():
        if not (claims[within, REGIONS.index(name)] > 0).any():
            result[2 * REGIONS.index(name) + 1] *= share
    return result


def near(voxels: np.ndarray, shape: Sequence[int], reach: Sequence[int]) -> Tensor:
    """Boolean ``shape``: which voxels lie within ``reach`` of one of ``voxels`` ``(N, 3)`` along every axis."""
    mask = torch.zeros(*shape, dtype=torch.bool)
    for voxel in voxels:
        window = zip(voxel, reach, strict=True)
        mask[tuple(slice(max(int(place) - far, 0), max(int(place) + far + 1, 0)) for place, far in window)] = True
    return mask


def refine(network: RefinementNet, decoded: Decoded, marks: Marks) -> Tensor:
    """Logits ``(3, D, H, W)`` in float32 after ``marks``; those further than the window from every mark as they were.

    Args:
        network: in evaluation mode, on the device of ``decoded``.
        decoded: of the study.
        marks: voxel indices of the grid of ``decoded.logits``.
    """
    logits = decoded.logits.float().clone()
    if not len(marks):
        return logits
    box = box_around(marks.voxels, logits.shape[1:])
    change = change_of_logits(network, decoded, logits, marks, box)
    logits[(slice(None), *box)] += change * in_windows(marks, box).to(change.device)
    return logits


def in_windows(marks: Marks, box: tuple[slice, ...]) -> Tensor:
    """Which voxels of ``box`` lie in the window of a mark: boolean ``(D, H, W)``."""
    start = np.array([side.start for side in box])
    return near(marks.voxels - start, [side.stop - side.start for side in box], (WINDOW,) * 3)


def change_of_logits(
    network: nn.Module, decoded: Decoded, logits: Tensor, marks: Marks, box: tuple[slice, ...]
) -> Tensor:
    """What the network adds to ``logits`` ``(3, D, H, W)`` within ``box``: ``(3, ...)``."""
    half = tuple(slice(side.start // 2, side.stop // 2) for side in box)
    features = decoded.features[(slice(None), *half)][None]
    distances = distances_to(marks, box)
    likeness = likeness_to(features[0], marks, box)[None]
    near = logits[(slice(None), *box)][None].to(features)
    change = network(features, near, channels_of(distances).to(features)[None], likeness)[0]
    return change.float() + belief_in(distances, decoded.t1ce).to(change.device)


def _zero(convolution: nn.Conv3d) -> None:
    for parameter in convolution.parameters():
        nn.init.zeros_(parameter)


def _distance(places: np.ndarray, shape: Sequence[int]) -> Tensor:
    if not len(places):
        return torch.full(tuple(shape), torch.inf)
    free = np.ones(shape, bool)
    free[tuple(places.T)] = False
    return torch.from_numpy(ndimage.distance_transform_edt(free, sampling=2.0).astype(np.float32))
