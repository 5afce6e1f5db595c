"""What a user says about single voxels: marks, clicks and scribbles alike."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from nibabel.affines import apply_affine
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lckd.errors import StudyError
from lckd.sequences import LABELS, REGION_LABELS, REGIONS
from lckd.transforms import label_map_of, regions_of

BACKGROUND = "background"

OUTER = ("wt", "tc", "et")
"""Regions from the outermost to the innermost."""


@dataclass(frozen=True)
class Marks:
    """Voxels that a user marked, and what is claimed of each.

    Attributes:
        voxels: ``(N, 3)`` integer indices.
        claims: ``(N, 3)`` per region of ``REGIONS`` 1 (inside), -1 (outside) or 0 (nothing said); regions are nested,
            and so are the claims.
    """

    voxels: NDArray[np.int64]
    claims: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.voxels)

    def __add__(self, other: "Marks") -> "Marks":
        return Marks(np.concatenate([self.voxels, other.voxels]), np.concatenate([self.claims, other.claims]))

    def moved(self, affine: NDArray, target: NDArray) -> "Marks":
        """The marks on another grid: voxel indices of ``affine``'s grid to the nearest of ``target``'s."""
        moved = apply_affine(np.linalg.inv(target) @ affine, self.voxels) if len(self) else self.voxels
        return Marks(np.rint(moved).astype(np.int64), self.claims)

    def onto(self, affine: NDArray, target: NDArray, shape: Sequence[int]) -> "Marks":
        """The marks on another grid of ``shape``: each voxel once, and without what contradicts itself in one.

        The grid's last voxels may end within a marked one: a mark up to a voxel beyond its border counts as on it.
        """
        moved = self.moved(affine, target)
        voxels = moved.voxels.clip(0, np.asarray(shape) - 1)
        beside = (np.abs(moved.voxels - voxels) <= 1).all(1)
        voxels, inside, outside = Marks(voxels[beside], self.claims[beside])._by_voxel()
        claims = inside.astype(np.int8) - outside
        return Marks(voxels[claims.any(1)], claims[claims.any(1)])

    def within(self, shape: Sequence[int]) -> "Marks":
        """Those that lie within a grid of ``shape``."""
        seen = ((self.voxels >= 0) & (self.voxels < np.asarray(shape))).all(1)
        return Marks(self.voxels[seen], self.claims[seen])

    def drawn_on(self, label_map: Tensor) -> Tensor:
        """A label map ``(X, Y, Z)`` in which every marked voxel is as it was claimed; the marks have been checked."""
        places = tuple(torch.from_numpy(self.voxels.T))
        regions = regions_of(label_map[places][None, :, None, None])[..., 0, 0]  # (3, N)
        claims = torch.from_numpy(self.claims.T)
        regions = (regions | (claims > 0)) & (claims >= 0)
        drawn = label_map.clone()
        drawn[places] = label_map_of(regions[:, :, None, None])[0, :, 0, 0]
        return drawn

    def checked(self, shape: Sequence[int]) -> "Marks":
        """The marks, each voxel once.

        Raises:
            StudyError: a mark lies outside ``shape``, or two marks of one voxel contradict each other.
        """
        outside = ((self.voxels < 0) | (self.voxels >= np.asarray(shape))).any(1)
        if outside.any():
            raise StudyError(
                f"the mark at {_told(self.voxels[outside][0])} lies outside the image of {_told(shape)} voxels; "
                "remove it"
            )
        voxels, inside, outside_claims = self._by_voxel()
        both = (inside & outside_claims).any(1)
        if both.any():
            raise StudyError(f"two marks at {_told(voxels[both][0])} contradict each other; remove one of them")
        return Marks(voxels, inside.astype(np.int8) - outside_claims)

    def _by_voxel(self) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Each voxel once, and what is said to be inside and to be outside there: ``(N, 3)`` each."""
        voxels, index = np.unique(self.voxels, axis=0, return_inverse=True)
        inside, outside = (np.zeros((len(voxels), len(REGIONS)), bool) for _ in range(2))
        np.logical_or.at(inside, index.ravel(), self.claims > 0)
        np.logical_or.at(outside, index.ravel(), self.claims < 0)
        return voxels, inside, outside


NO_MARKS = Marks(np.zeros((0, 3), np.int64), np.zeros((0, len(REGIONS)), np.int8))


def region_marks(region: str, inside: bool, voxels: ArrayLike) -> Marks:
    """Marks ``(N, 3)`` that lie inside a region, or outside of it."""
    return _claimed(voxels, {region: inside})


def label_marks(label: str, voxels: ArrayLike) -> Marks:
    """Marks ``(N, 3)`` of a label of ``LABELS``, or of ``background``."""
    value = 0 if label == BACKGROUND else LABELS[label]
    return _claimed(voxels, {region: value in REGION_LABELS[region] for region in REGIONS})


def total(parts: Iterable[Marks]) -> Marks:
    """All marks as one."""
    return sum(parts, NO_MARKS)


def _claimed(voxels: ArrayLike, said: Mapping[str, bool]) -> Marks:
    array = np.asarray(voxels, np.int64).reshape(-1, 3)
    claim = np.zeros(len(REGIONS), np.int8)
    for region, inside in said.items():
        # Inside a region is inside all around it; outside of it is outside all within it.
        place = OUTER.index(region)
        for implied in OUTER[: place + 1] if inside else OUTER[place:]:
            claim[REGIONS.index(implied)] = 1 if inside else -1
    return Marks(array, np.tile(claim, (len(array), 1)))


def _told(numbers: Iterable[int]) -> str:
    return " ".join(str(int(number)) for number in numbers)
