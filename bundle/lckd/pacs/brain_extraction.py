"""Find the brain: a user's mask, an already stripped image, HD-BET where it is at hand, or the built-in method."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lckd.errors import StudyError
from lckd.images import Image, looks_skull_stripped, read_label_map
from lckd.pacs.brain_surface import fit_brain
from lckd.pacs.hd_bet import brain_by_hd_bet, hd_bet_command
from lckd.pacs.registration import Grid, head_mask, resample
from lckd.sequences import REFERENCE_ORDER, SEQUENCE_NAMES

BRAIN_ML: Final = (800.0, 2000.0)
"""Volumes that a whole brain with its ventricles and sulci can have."""

MIN_CONTRAST: Final = 0.1
"""Least mean fall of brightness at the brain's surface; heads have 0.15 to 0.5."""


@dataclass(frozen=True)
class BrainMask:
    """Where the brain is.

    Attributes:
        mask: `(X, Y, Z)` on the reference image's grid.
        affine: of that grid, `(4, 4)`.
        method: ``given``, ``stripped``, ``hd-bet`` or ``built-in``.
        volume_ml: of the mask.
        warnings: what the user should know.
    """

    mask: NDArray[np.bool_]
    affine: NDArray[np.float64]
    method: str
    volume_ml: float
    warnings: tuple[str, ...] = ()


def extract_brain(
    images: Mapping[str, Image], reference: str, mask: Path | None = None, hd_bet: bool = True, device: str = "cpu"
) -> BrainMask:
    """The brain on the grid of the reference sequence.

    Args:
        images: co-registered sequences; all lie in one world, on any grids.
        reference: the sequence whose grid is used.
        mask: file of a user's mask, on any grid of that world.
        hd_bet: use HD-BET if it and its weights are installed; nothing is ever downloaded. Where it fails, the
            built-in method is used and a warning says why.
        device: that HD-BET computes on.

    Raises:
        StudyError: the user's mask cannot be read or shows no brain.
    """
    grid = Grid.of(images[reference])
    if mask is not None:
        return _checked(_given(mask, grid), grid, "given")
    stripped = [name for name in (reference, *REFERENCE_ORDER) if name in images and _is_stripped(images[name])]
    if stripped:
        return _from_stripped(images, stripped, grid)
    if hd_bet and (command := hd_bet_command()):
        try:
            return _checked(brain_by_hd_bet(images[reference], command, device), grid, "hd-bet")
        except StudyError as error:
            return _by_surface(images, reference, grid, (f"{error}; the built-in brain extraction was used",))
    return _by_surface(images, reference, grid)


def _given(file: Path, grid: Grid) -> NDArray[np.bool_]:
    labels, affine = read_label_map(file)
    mask = resample(Image((labels > 0).astype(np.float32), affine), None, grid, "nearest").array > 0
    if not mask.any():
        raise StudyError(
            f"brain mask {file} has no voxel inside the reference series; give a mask in that series' coordinates"
        )
    return mask


def _from_stripped(images: Mapping[str, Image], stripped: list[str], grid: Grid) -> BrainMask:
    """What the first of the ``stripped`` sequences shows; said where others still have their skull."""
    shown = Image(head_mask(images[stripped[0]]).astype(np.float32), images[stripped[0]].affine)
    others = ", ".join(SEQUENCE_NAMES[name] for name in images if name not in stripped)
    source = SEQUENCE_NAMES[stripped[0]]
    warnings = (f"{others} has its skull and takes the brain of {source}, which is stripped",) if others else ()
    return _checked(resample(shown, None, grid).array > 0.5, grid, "stripped", warnings)


def _by_surface(images: Mapping[str, Image], reference: str, grid: Grid, warnings: tuple[str, ...] = ()) -> BrainMask:
    ordered = [images[reference], *(image for name, image in images.items() if name != reference)]
    found = fit_brain(ordered, grid, dark_csf=set(images) != {"t2"})
    if found.contrast < MIN_CONTRAST:
        doubt = f"brain extraction is doubtful: the brain's edge is hardly seen (contrast {found.contrast:.2f})"
        warnings = (*warnings, doubt)
    return _checked(found.mask, grid, "built-in", warnings)


def _is_stripped(image: Image) -> bool:
    return looks_skull_stripped(image.array, image.affine)


def _checked(mask: NDArray[np.bool_], grid: Grid, method: str, warnings: tuple[str, ...] = ()) -> BrainMask:
    """With a warning if no brain has this volume."""
    volume_ml = float(mask.sum() * abs(np.linalg.det(grid.affine[:3, :3])) / 1000)
    low, high = BRAIN_ML
    if not low <= volume_ml <= high:
        doubt = (
            f"brain extraction is doubtful: it found {volume_ml:,.0f} mL, and brains have {low:,.0f} to "
            f"{high:,.0f} mL; look at the mask, or give one"
        )
        warnings = (*warnings, doubt)
    return BrainMask(mask, grid.affine, method, volume_ml, warnings)
