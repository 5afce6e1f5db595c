"""Corrects logits around a user's marks, from what the decoder left: the network itself is not run again."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from lckd.blocks import activate, depth_to_space, space_to_depth
from lckd.gaussian_process import SURE, reach_of, regress
from lckd.marks import Marks
from lckd.network import LCKDNet
from lckd.sequences import REGIONS, SEQUENCES

WINDOW = 40
"""Voxels of the network's grid, of 1 mm, to either side of a mark along each axis: beyond them nothing changes."""

DECAYS = (4.0, 16.0)
"""Voxels over which a mark's channels fall to 1/e: one says where the mark is, the other how far it may reach."""

LEARNED_WITHOUT_T1CE = ("wt",)
"""Regions of a study without T1ce to which the network adds: it learned to change too little where nothing is seen."""

SMALLEST_TUMOUR = 100
"""Voxels of half resolution in which a variance can be measured."""


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

    @cached_property
    def variance(self) -> float:
        """Of the features within the whole tumour that the logits show; of all where there is next to none."""
        tumour = self.logits[REGIONS.index("wt"), ::2, ::2, ::2] > 0
        within = self.features[:, tumour] if tumour.sum() >= SMALLEST_TUMOUR else self.features.flatten(1)
        return max(float(within.float().var(1).mean()), 1e-6)

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
    """A small U-Net without norms at half resolution: logits, marks and what regression makes of them to a change.

    It does not see the features themselves: of the studies that it learns from the network knows them by heart.

    Args:
        widths: channels per scale, finest (half resolution) first.
        blocks: residual blocks per scale on the way down.
    """

    divisor = 8
    """Sides of its windows are multiples of it."""

    def __init__(self, widths: Sequence[int] = (32, 48, 64), blocks: Sequence[int] = (0, 1, 2)) -> None:
        super().__init__()
        inputs = len(REGIONS) * (8 + 2 * len(DECAYS) + 2)
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
        _zero(self.head)  # a refinement starts as what regression alone gives

    def forward(self, logits: Tensor, marks: Tensor, regressed: Tensor) -> Tensor:
        """What to add to the logits besides what was regressed.

        Args:
            logits: ``(B, 3, 2d, 2h, 2w)``.
            marks: ``(B, M, d, h, w)`` of ``channels_of``.
            regressed: ``(B, 6, d, h, w)`` of ``gaussian_process.regress``.

        Returns:
            ``(B, 3, 2d, 2h, 2w)``.
        """
        shown = [space_to_depth(logits.clamp(-SURE, SURE)) / 4, marks, regressed / SURE]
        current = self.stem(torch.cat(shown, 1))
        kept: list[Tensor] = []
        for scale, stage in enumerate(self.stages):
            current = stage(current)
            if scale < len(self.downs):
                kept.append(current)
                current = self.downs[scale](activate(current))
        for scale in reversed(range(len(kept))):
            current = self.merged[scale](kept[scale] + self.ups[scale](activate(current)))
        return depth_to_space(self.head(activate(current)))


MANY = 256
"""Marks from which on ``near`` filters the whole grid instead of filling every mark's window."""


def box_around(voxels: np.ndarray, size: Sequence[int], divisor: int = RefinementNet.divisor) -> tuple[slice, ...]:
    """The part of a grid of ``size``, multiples of ``divisor``, that holds every mark's window."""
    low = np.maximum(voxels.min(0) - WINDOW, 0) // divisor * divisor
    high = np.minimum(-(-(voxels.max(0) + WINDOW + 1) // divisor) * divisor, size)
    return tuple(slice(int(start), int(stop)) for start, stop in zip(low, high, strict=True))


def distances_to(marks: Marks, box: tuple[slice, ...]) -> Tensor:
    """Voxels to the nearest mark, infinite where there is none, at half the resolution of ``box``, which holds them.

    Returns:
        ``(6, d, h, w)``, per region inside and outside.
    """
    shape = [(side.stop - side.start) // 2 for side in box]
    places = (marks.voxels - [side.start for side in box]) // 2
    claims = ((region, claim) for region in range(len(REGIONS)) for claim in (1, -1))
    return torch.stack([_distance(places[marks.claims[:, region] == claim], shape) for region, claim in claims])


def channels_of(distances: Tensor) -> Tensor:
    """``distances_to`` marks as the network takes them: ``(M, d, h, w)``, for each as many as ``DECAYS``."""
    return torch.stack([torch.exp(-distances / decay) for decay in DECAYS], 1).flatten(0, 1)


def near(voxels: np.ndarray, shape: Sequence[int], reach: Sequence[int]) -> Tensor:
    """Boolean ``shape``: which voxels lie within ``reach`` of one of ``voxels`` ``(N, 3)``, of it, along every axis."""
    mask = torch.zeros(*shape, dtype=torch.bool)
    if len(voxels) > MANY:
        mask[tuple(voxels.T)] = True
        filled = mask.numpy().view(np.uint8)
        for axis, far in enumerate(reach):
            filled = ndimage.maximum_filter1d(filled, 2 * int(far) + 1, axis, mode="constant")
        return torch.from_numpy(filled).bool()
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
    change = change_of_logits(network, decoded, marks, box)
    logits[(slice(None), *box)] += change * in_windows(marks, box).to(change.device)
    return logits


def in_windows(marks: Marks, box: tuple[slice, ...]) -> Tensor:
    """Which voxels of ``box`` lie in the window of a mark: boolean ``(D, H, W)``."""
    start = np.array([side.start for side in box])
    return near(marks.voxels - start, [side.stop - side.start for side in box], (WINDOW,) * 3)


def change_of_logits(network: nn.Module, decoded: Decoded, marks: Marks, box: tuple[slice, ...]) -> Tensor:
    """What marks add to the logits within ``box``, which holds them: ``(3, ...)`` in float32.

    However sure the network was, there it is no surer than a mark: what is regressed is regressed from there.
    """
    half = tuple(slice(side.start // 2, side.stop // 2) for side in box)
    features = decoded.features[(slice(None), *half)]
    logits = decoded.logits[(slice(None), *box)][None].float()
    prior = F.avg_pool3d(logits, 2)[0]
    regressed = regress(features, decoded.variance, prior, marks, box, reach_of(marks, decoded.t1ce))
    seen = logits, channels_of(distances_to(marks, box))[None], regressed.flatten(0, 1)[None]
    learned = network(*(tensor.to(features) for tensor in seen))[0].float()
    for index, region in enumerate(REGIONS):
        if not decoded.t1ce and region not in LEARNED_WITHOUT_T1CE:
            learned[index] = 0
    surer = F.softshrink(logits[0], SURE)  # by how much a logit is beyond a mark's
    return learned - surer + F.interpolate(regressed.sum(0)[None], scale_factor=2, mode="trilinear")[0]


def _zero(convolution: nn.Conv3d) -> None:
    for parameter in convolution.parameters():
        nn.init.zeros_(parameter)


def _distance(places: np.ndarray, shape: Sequence[int]) -> Tensor:
    if not len(places):
        return torch.full(tuple(shape), torch.inf)
    free = np.ones(shape, bool)
    free[tuple(places.T)] = False
    return torch.from_numpy(ndimage.distance_transform_edt(free, sampling=2.0).astype(np.float32))
