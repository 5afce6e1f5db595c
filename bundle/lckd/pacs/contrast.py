"""Whether a T1 shows contrast agent, by its pixels: beside a T1 without it, vessels and tumour are brighter."""

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SMOOTHED_MM: Final = 3.0
"""Deviation of the filter that makes two acquisitions equally sharp."""

RIM_MM: Final = 4.0
"""Depth below the brain's surface that is not compared: there, images differ by what little they are apart."""

TAIL_PERCENT: Final = 0.5
LEAST_VOXELS: Final = 500

ENHANCED: Final = 1.0
NOT_ENHANCED: Final = 0.6
"""Enhancement from which contrast is seen, and up to which it is not.

Seven of eight T1ce of gliomas have 1.9 to 4.4 beside their T1, the eighth, which does not enhance, 0.0; a T1 beside
itself after noise, blur, a shift, coil bias or another contrast curve has -0.6 to 0.3.
"""

Verdict = Literal["confirmed", "contradicted", "unclear"]


def enhancement(t1ce: NDArray, t1: NDArray, brain: NDArray[np.bool_], affine: NDArray) -> float | None:
    """How much more of ``t1ce`` is far brighter than in ``t1`` than is far darker, in interquartile ranges.

    Args:
        t1ce: ``(X, Y, Z)``; on the same grid as ``t1`` and ``brain``.
        t1: of the same head.
        brain: mask.
        affine: ``(4, 4)`` of the grid.

    Returns:
        About 0 where both show the same, above ``ENHANCED`` with contrast, negative if the two were exchanged; None
        where too little can be compared.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    known = brain & (t1ce != 0) & (t1 != 0)
    inner = ndimage.distance_transform_edt(known, sampling=spacing) > RIM_MM
    if inner.sum() < LEAST_VOXELS:
        return None
    first, second = (_standardized(image, known, inner, spacing) for image in (t1ce, t1))
    difference = first - second
    low, middle, high = np.percentile(difference, (TAIL_PERCENT, 50, 100 - TAIL_PERCENT))
    return float((high - middle) - (middle - low))


def verdict(score: float | None) -> Verdict:
    """What an ``enhancement`` says about a T1ce."""
    if score is None or NOT_ENHANCED < score < ENHANCED:
        return "unclear"
    return "confirmed" if score >= ENHANCED else "contradicted"


def _standardized(
    image: NDArray, known: NDArray[np.bool_], inner: NDArray[np.bool_], spacing: NDArray
) -> NDArray[np.float64]:
    """Values in ``inner``, smoothed within ``known``, with median 0 and interquartile range 1."""
    sigma = SMOOTHED_MM / spacing
    weight = ndimage.gaussian_filter(known.astype(np.float32), sigma)
    smooth = ndimage.gaussian_filter(np.where(known, image, 0).astype(np.float32), sigma)
    values = smooth[inner].astype(np.float64) / weight[inner]
    low, middle, high = np.percentile(values, (25, 50, 75))
    return (values - middle) / max(high - low, 1e-9)
