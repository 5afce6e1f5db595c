"""How large a tumour is: the largest diameter of each region."""

import contextlib
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from lckd.sequences import REGION_LABELS, REGIONS

MOST_POINTS: Final = 4000


def diameters_mm(label_map: NDArray[np.uint8], affine: NDArray) -> dict[str, dict[str, float]]:
    """Largest distance between two voxels' centres per region, in mm; 0 where it has fewer than two voxels.

    Args:
        label_map: ``(X, Y, Z)`` of our label values; slices lie along the last axis.
        affine: ``(4, 4)`` voxel to world in mm.

    Returns:
        Per region ``in_space`` and ``in_slice``.
    """
    result = {}
    for region in REGIONS:
        voxels = np.argwhere(np.isin(label_map, REGION_LABELS[region]))
        slices = [voxels[voxels[:, 2] == index] for index in np.unique(voxels[:, 2])]
        result[region] = {
            "in_space": round(_diameter(voxels, affine), 1),
            "in_slice": round(max((_diameter(part, affine) for part in slices), default=0.0), 1),
        }
    return result


def _diameter(voxels: NDArray, affine: NDArray) -> float:
    points = voxels @ affine[:3, :3].T
    if len(points) < 2:
        return 0.0
    # only corners of the hull can be furthest apart, and a region may have 100,000 voxels
    return float(pdist(points[_corners(voxels)]).max())


def _corners(voxels: NDArray) -> NDArray[np.int_]:
    """Indices of the voxels at the corners of the hull, which may be flat; thinned if there are very many."""
    chosen = np.arange(len(voxels))
    wide = np.ptp(voxels, axis=0) > 0
    if wide.sum() > 1 and len(voxels) > 10:
        with contextlib.suppress(QhullError):  # on a line or plane that is oblique to the grid
            chosen = ConvexHull(voxels[:, wide]).vertices
    return chosen[:: max(1, len(chosen) // MOST_POINTS)]
