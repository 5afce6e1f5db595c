"""Probabilities to a label map: thresholds, small components, and how little enhancing tumour is believed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from lckd.marks import NO_MARKS, Marks
from lckd.sequences import REGIONS
from lckd.transforms import box_of, label_map_of


@dataclass(frozen=True)
class Postprocessing:
    """Rules that were chosen on validation studies (``benchmarks/postprocessing.py``).

    Attributes:
        threshold: per region; a voxel of a higher probability is in it.
        smallest_lesion_ml: connected parts of the whole tumour below this volume are removed.
        smallest_enhancing_ml: an enhancing tumour below this volume in all is called necrotic core, as BraTS
            participants do with 0.5 mL (Isensee et al. 2018).
    """

    threshold: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(REGIONS, 0.5))
    smallest_lesion_ml: float = 0.5
    smallest_enhancing_ml: float = 0.5

    def __call__(self, probabilities: Tensor, voxel_ml: float, marks: Marks = NO_MARKS) -> Tensor:
        """Label map ``(1, X, Y, Z)`` uint8 of probabilities ``(3, X, Y, Z)`` in the order of ``REGIONS``.

        What a user marked is as it was marked, and no rule removes it.
        """
        thresholds = torch.tensor([self.threshold[region] for region in REGIONS], device=probabilities.device)
        regions = probabilities > thresholds[:, None, None, None]
        marked = torch.from_numpy(marks.voxels.T)
        for index in range(len(REGIONS)):
            for claim in (1, -1):
                regions[index][tuple(marked[:, torch.from_numpy(marks.claims[:, index] == claim)])] = claim > 0
        enhancing, whole, core = (regions[REGIONS.index(name)] for name in ("et", "wt", "tc"))
        # An enhancing voxel is core all the same, so that nothing but its name is lost.
        core |= enhancing
        small = int(enhancing.count_nonzero()) * voxel_ml < self.smallest_enhancing_ml
        if small and not (marks.claims[:, REGIONS.index("et")] > 0).any():
            enhancing[:] = False
        whole |= core
        if self.smallest_lesion_ml > 0:
            wanted = marks.voxels[marks.claims[:, REGIONS.index("wt")] > 0]
            large = _large_components(whole.numpy(), self.smallest_lesion_ml / voxel_ml, wanted)
            regions &= torch.from_numpy(large)
        return label_map_of(regions)


NO_POSTPROCESSING = Postprocessing(smallest_lesion_ml=0, smallest_enhancing_ml=0)
"""Thresholds of a half and nothing else."""


def _large_components(mask: NDArray[np.bool_], voxels: float, wanted: NDArray[np.int64]) -> NDArray[np.bool_]:
    """``mask`` without the connected components that have fewer ``voxels`` and none of those ``wanted``."""
    box = box_of(mask)
    components, count = ndimage.label(mask[box])
    kept = np.bincount(components.ravel(), minlength=count + 1) >= voxels
    kept[components[tuple(wanted.T - [[side.start] for side in box])]] = True
    kept[0] = False
    large = np.zeros_like(mask)
    large[box] = kept[components]
    return large
