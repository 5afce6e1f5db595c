"""A user who sees the truth and marks the worst mistake, to train and to measure refinement with."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from lckd.marks import BACKGROUND, Marks, label_marks, region_marks
from lckd.sequences import LABELS, REGIONS

Mask = NDArray[np.bool_]
_CONNECTED = ndimage.generate_binary_structure(3, 3)


@dataclass
class SimulatedUser:
    """Clicks in the middle of the largest mistake; in training beside the middle, and with strokes, too.

    Attributes:
        rng: of everything random; None clicks at the middle, always.
        stroke_share: share of the marks that are strokes.
        stroke_voxels: how long a stroke is at most.
    """

    rng: Generator | None = None
    stroke_share: float = 0.0
    stroke_voxels: int = 40

    def region_mark(self, region: str, predicted: Mask, truth: Mask) -> Marks | None:
        """A mark for a region from the masks ``(3, X, Y, Z)`` of all; None where it has no mistake."""
        index = REGIONS.index(region)
        place = self._mistake(predicted[index] & ~truth[index], truth[index] & ~predicted[index])
        if place is None:
            return None
        missed, voxels = place
        return region_marks(region, bool(missed), voxels)

    def label_mark(self, predicted: NDArray[np.uint8], truth: NDArray[np.uint8]) -> Marks | None:
        """A mark of the right label from label maps ``(X, Y, Z)``; None where they agree."""
        wrong = predicted != truth
        place = self._mistake(*(wrong & (truth == value) for value in (0, *LABELS.values())))
        if place is None:
            return None
        return label_marks((BACKGROUND, *LABELS)[place[0]], place[1])

    def _mistake(self, *kinds: Mask) -> tuple[int, NDArray[np.int64]] | None:
        """The index of the kind with the largest connected mistake, and marked voxels of it ``(N, 3)``."""
        found = [(*_largest(kind), index) for index, kind in enumerate(kinds) if kind.any()]
        if not found:
            return None
        _, component, offset, index = max(found, key=lambda part: part[0])
        depth = ndimage.distance_transform_edt(np.pad(component, 1))[1:-1, 1:-1, 1:-1]
        middle = np.argwhere(depth >= (depth.max() if self.rng is None else 0.6 * depth.max()))
        start = middle[0 if self.rng is None else self.rng.integers(len(middle))]
        voxels = start[None]
        if self.rng is not None and self.rng.random() < self.stroke_share:
            voxels = self._stroke(component, start, self.rng)
        return index, voxels + offset

    def _stroke(self, component: Mask, start: NDArray[np.int64], rng: Generator) -> NDArray[np.int64]:
        """A walk within the mistake, in an axial slice, that likes to go straight on."""
        path, direction = [start], rng.normal(size=2)
        for _ in range(int(rng.integers(5, self.stroke_voxels + 1))):
            direction = direction / np.linalg.norm(direction) + 0.5 * rng.normal(size=2)
            step = np.rint(path[-1] + [*(direction / np.linalg.norm(direction)), 0]).astype(np.int64)
            if (step < 0).any() or (step >= component.shape).any() or not component[tuple(step)]:
                direction = rng.normal(size=2)
                continue
            path.append(step)
        return np.unique(path, axis=0)


def _largest(mask: Mask) -> tuple[int, Mask, NDArray[np.int64]]:
    """Size, mask and offset of the largest connected component."""
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    components, count = ndimage.label(mask[box], _CONNECTED)
    sizes = np.bincount(components.ravel(), minlength=count + 1)
    sizes[0] = 0
    inner = ndimage.find_objects(components)[int(sizes.argmax()) - 1]
    offset = np.array([outer.start + side.start for outer, side in zip(box, inner, strict=True)])
    return int(sizes.max()), components[inner] == sizes.argmax(), offset
