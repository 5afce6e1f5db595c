"""A stack of DICOM slices to an image on a regular grid, and where its slices lie."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import get_decoder, iter_pixels
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from scipy import ndimage

from lckd.errors import StudyError, reason
from lckd.images import MOST_VOXELS, SPACING_MM, Image
from lckd.pacs.study import ORIENTATION_TOLERANCE, POSITION_TOLERANCE_MM, Instance, Stack, number, numbers, text

MIN_SLICES: Final = 10
"""Fewer slices are a localizer or the rest of an interrupted series."""

REGULAR: Final = 0.05
"""Slices this near to a regular place, in spacings, are taken as they are; others are resampled with a warning."""

LONGEST_GAP: Final = 3.5
"""Longest gap, in spacings, that is filled by interpolation: up to two missing slices and some inaccuracy."""

MOST_FILLED: Final = 0.1
"""Largest fraction of slices that may be filled by interpolation."""

DRIFT_MM: Final = 0.5
"""Shift of the slices within their plane, over the whole stack, below which a tilt is rounding."""

LARGEST_TILT_DEGREES: Final = 30.0
CROOKED_MM: Final = 1.0
"""Largest distance of a slice from the straight line of a tilted stack."""

_READERS: Final = 4

RAS_TO_LPS: Final = np.diag([-1.0, -1.0, 1.0])
"""Its own inverse: DICOM's patient axes point to the left and posterior, ours to the right and anterior."""


@dataclass(frozen=True)
class Planes:
    """Where the slices of a stack lie, in RAS mm, in order along the normal.

    Attributes:
        shape: columns and rows.
        axes: ``(3, 3)`` with the directions in which column, row and slice grow as its columns; orthonormal.
        pixel_mm: distance of neighbouring columns, and of rows.
        origins: ``(N, 3)`` centre of each slice's first voxel.
    """

    shape: tuple[int, int]
    axes: NDArray[np.float64]
    pixel_mm: tuple[float, float]
    origins: NDArray[np.float64]

    @property
    def heights_mm(self) -> NDArray[np.float64]:
        """Place of each slice along the normal, from the first."""
        return (self.origins - self.origins[0]) @ self.axes[:, 2]

    @property
    def drifts_mm(self) -> NDArray[np.float64]:
        """Shift ``(N, 2)`` of each slice against the first, along columns and rows."""
        return (self.origins - self.origins[0]) @ self.axes[:, :2]

    def affine(self, index: int, spacing_mm: float = 1.0) -> NDArray[np.float64]:
        """Voxel (column, row, slice) to RAS, with slice ``index`` at 0."""
        affine = np.eye(4)
        affine[:3, :3] = self.axes * (*self.pixel_mm, spacing_mm)
        affine[:3, 3] = self.origins[index]
        return affine


def read_stack(stack: Stack) -> Image:
    """The volume of a stack: float32 ``(columns, rows, slices)`` and its affine, with warnings.

    Raises:
        StudyError: its headers contradict each other, its slices do not make up a volume, or a file cannot be decoded.
    """
    planes = planes_of(stack)
    if len(planes.origins) < MIN_SLICES:
        raise StudyError(f"{_name(stack)} has {len(planes.origins)} slices; accepted are {MIN_SLICES} or more")
    grid = _regular_grid(stack, planes)
    array, notes = _read_pixels(stack, planes)
    image = grid.resample(array)
    if not np.isfinite(image).all():
        raise StudyError(f"{_name(stack)} holds NaN or infinite voxels; check RescaleSlope, or export it again")
    if image.min() == image.max():
        raise StudyError(f"{_name(stack)} is constant ({image.flat[0]:g} everywhere); leave it out")
    return Image(image, grid.affine, (*grid.warnings, *notes))


def planes_of(stack: Stack) -> Planes:
    """Where the slices of a stack lie; its headers are checked, its pixels are not read.

    Raises:
        StudyError: an attribute is missing, out of range, or differs between slices.
    """
    slices = stack.slices
    rows, columns = (int(_common(stack, slices, keyword, 1, 0)[0]) for keyword in ("Rows", "Columns"))
    if min(rows, columns) < 2 or rows * columns * len(slices) > MOST_VOXELS:
        raise StudyError(
            f"{_name(stack)} has {columns} columns, {rows} rows and {len(slices)} slices; "
            f"accepted are two or more, and up to {MOST_VOXELS:,} voxels"
        )
    spacing = _common(stack, slices, "PixelSpacing", 2, 1e-3)
    if min(spacing) < SPACING_MM[0] or max(spacing) > SPACING_MM[1]:
        raise StudyError(
            f"{_name(stack)} has PixelSpacing {spacing[0]:g} x {spacing[1]:g} mm; "
            f"accepted are {SPACING_MM[0]} to {SPACING_MM[1]} mm; repair its headers"
        )
    cosines = _common(stack, slices, "ImageOrientationPatient", 6, ORIENTATION_TOLERANCE)
    positions = [_attribute(stack, header, "ImagePositionPatient", 3) for header in slices]
    return Planes(
        (columns, rows),
        RAS_TO_LPS @ _orthonormal(stack, cosines),
        (spacing[1], spacing[0]),
        np.array(positions) @ RAS_TO_LPS,
    )


def _common(stack: Stack, slices: tuple[Dataset, ...], keyword: str, count: int, tolerance: float) -> tuple[float, ...]:
    """An attribute that all slices share."""
    first = _attribute(stack, slices[0], keyword, count)
    for header in slices[1:]:
        other = _attribute(stack, header, keyword, count)
        if np.abs(np.subtract(other, first)).max() > tolerance:
            raise StudyError(
                f"{_name(stack)} mixes {keyword} {_listed(first)} and {_listed(other)}; "
                "accepted is one value in all slices; export the series again"
            )
    return first


def _attribute(stack: Stack, header: Dataset, keyword: str, count: int) -> tuple[float, ...]:
    found = numbers(header, keyword, count)
    if not found:
        raise StudyError(
            f"{_name(stack)}: {keyword} of instance {text(header, 'SOPInstanceUID')} is "
            f"{text(header, keyword) or 'missing'}; needed are {count} numbers; export the series again"
        )
    return found


def _orthonormal(stack: Stack, cosines: tuple[float, ...]) -> NDArray[np.float64]:
    """Directions in LPS as columns: exactly perpendicular, as those of a decimal header are not."""
    row, column = np.reshape(cosines, (2, 3))
    if abs(np.linalg.norm(row) - 1) > 0.01 or abs(np.linalg.norm(column) - 1) > 0.01 or abs(row @ column) > 0.01:
        raise StudyError(
            f"{_name(stack)} has ImageOrientationPatient {_listed(cosines)}; "
            "accepted are two perpendicular unit vectors; repair its headers"
        )
    left, _, right = np.linalg.svd(np.stack([row, column, np.cross(row, column)], axis=1))
    return left @ right


# --- a regular grid ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Grid:
    """A regular grid over a stack, and how its slices get there.

    Attributes:
        affine: of the grid.
        warnings: how it differs from the slices.
        places: height of each grid slice in slice indices ``(Z,)``; None where grid slices are slices.
        shifts: of each slice within its plane in voxels ``(N, 2)``; None where there is none.
    """

    affine: NDArray[np.float64]
    warnings: tuple[str, ...]
    places: NDArray[np.float64] | None
    shifts: NDArray[np.float64] | None

    def resample(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """The slices ``(X, Y, N)`` on this grid, linearly interpolated."""
        if self.shifts is not None:
            room = np.ceil(self.shifts.max(0)).astype(int)
            array = np.pad(array, [(0, room[0]), (0, room[1]), (0, 0)])
            for index, shift in enumerate(self.shifts):
                array[:, :, index] = ndimage.shift(array[:, :, index], shift, order=1)
        if self.places is not None:
            below = np.minimum(self.places.astype(int), array.shape[2] - 2)
            weight = (self.places - below).astype(np.float32)
            array = array[:, :, below] * (1 - weight) + array[:, :, below + 1] * weight
        return array


def _regular_grid(stack: Stack, planes: Planes) -> _Grid:
    spacing_mm, places, uneven = _evenly_spaced(stack, planes.heights_mm)
    drift_mm, shifts, tilt = _untilted(stack, planes)
    affine = planes.affine(0, spacing_mm)
    affine[:3, 3] += planes.axes[:, :2] @ drift_mm
    return _Grid(affine, (*tilt, *uneven), places, shifts)


def _untilted(stack: Stack, planes: Planes) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, tuple[str, ...]]:
    """Shift in mm of the grid's first voxel, shifts of the slices on that grid in voxels, and a warning."""
    heights, drifts = planes.heights_mm, planes.drifts_mm
    line = np.polynomial.Polynomial.fit
    straight = np.stack([line(heights, drift, 1)(heights) for drift in drifts.T], axis=1)
    crooked_mm = float(np.linalg.norm(drifts - straight, axis=1).max())
    if crooked_mm > CROOKED_MM:
        raise StudyError(
            f"{_name(stack)} has slices that lie {crooked_mm:.1f} mm beside their stack (ImagePositionPatient); "
            f"accepted are {CROOKED_MM:g} mm; export the series again"
        )
    length_mm = float(np.linalg.norm(straight[-1] - straight[0]))
    if length_mm <= DRIFT_MM:
        return drifts.mean(0), None, ()
    degrees = float(np.degrees(np.arctan2(length_mm, heights[-1])))
    if degrees > LARGEST_TILT_DEGREES:
        raise StudyError(
            f"{_name(stack)} has slices tilted by {degrees:.1f} degrees against their stack (ImagePositionPatient); "
            f"accepted are {LARGEST_TILT_DEGREES:g}; export a series without gantry tilt"
        )
    first_mm = drifts.min(0)
    warning = f"{_name(stack)} is tilted by {degrees:.1f} degrees and was resampled onto a rectangular grid"
    return first_mm, (drifts - first_mm) / planes.pixel_mm, (warning,)


def _evenly_spaced(
    stack: Stack, heights_mm: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64] | None, tuple[str, ...]]:
    """Spacing in mm, place of each grid slice in slice indices (None: as they are), and a warning."""
    gaps = np.diff(heights_mm)
    if gaps.min() < POSITION_TOLERANCE_MM:
        raise StudyError(
            f"{_name(stack)} has slices {gaps.min():.3f} mm apart (ImagePositionPatient); accepted is one slice "
            "per position, in order; export the series again"
        )
    usual_mm, widest = float(np.median(gaps)), int(gaps.argmax())
    found = f"{_name(stack)} has slices {gaps.min():.2f} to {gaps.max():.2f} mm apart where {usual_mm:.2f} is usual"
    refusal = (
        f"{found} (widest between slices {widest + 1} and {widest + 2}), so some are missing; "
        f"accepted are two in a row and {MOST_FILLED:.0%} in all; export the whole series again"
    )
    if gaps[widest] > LONGEST_GAP * usual_mm:
        raise StudyError(refusal)
    steps = max(1, round(heights_mm[-1] / usual_mm))
    spacing_mm = float(heights_mm[-1]) / steps
    if not SPACING_MM[0] <= spacing_mm <= SPACING_MM[1]:
        raise StudyError(
            f"{_name(stack)} has slices {spacing_mm:.4g} mm apart (ImagePositionPatient); "
            f"accepted are {SPACING_MM[0]} to {SPACING_MM[1]} mm"
        )
    regular = np.arange(steps + 1) * spacing_mm
    if len(regular) == len(heights_mm) and np.abs(heights_mm - regular).max() <= REGULAR * spacing_mm:
        return spacing_mm, None, ()
    nearest_mm = np.abs(regular[:, None] - heights_mm).min(1)
    filled = int((nearest_mm > 0.55 * spacing_mm).sum())
    if filled > MOST_FILLED * len(regular):
        raise StudyError(refusal)
    warning = f"{found}; it was resampled to {spacing_mm:.2f} mm, and {filled} missing slices were interpolated"
    return spacing_mm, np.interp(regular, heights_mm, np.arange(len(heights_mm))), (warning,)


# --- pixels -----------------------------------------------------------------------------------------------------------


def _read_pixels(stack: Stack, planes: Planes) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Voxels ``(columns, rows, slices)`` as the headers scale them, and notes."""
    for syntax in {instance.transfer_syntax for instance in stack.instances}:
        _check_decoder(stack, syntax)
    slices = stack.slices
    inverted = [_is_inverted(stack, header) for header in slices]
    array = np.empty((*planes.shape, len(slices)), np.float32)
    for index, (header, stored) in enumerate(zip(slices, _stored_slices(stack), strict=True)):
        if stored.shape != planes.shape[::-1]:
            raise StudyError(
                f"{_name(stack)}: instance {text(header, 'SOPInstanceUID')} has pixels of shape {stored.shape}; "
                f"Rows and Columns say {planes.shape[::-1]}; export the series again"
            )
        array[:, :, index] = _scaled(stored, header, inverted[index]).T
    note = f"{_name(stack)} shows air bright (MONOCHROME1); its values were turned round"
    return array, (note,) if any(inverted) else ()


def _check_decoder(stack: Stack, syntax: str) -> None:
    try:
        available = not syntax or get_decoder(UID(syntax)).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise StudyError(
            f"{_name(stack)} is encoded as {UID(syntax).name} ({syntax}), which no installed decoder reads; "
            "install them with pip install 'lckd[pacs]', or export without compression"
        )


def _is_inverted(stack: Stack, header: Dataset) -> bool:
    samples, kind = number(header, "SamplesPerPixel") or 1, text(header, "PhotometricInterpretation") or "MONOCHROME2"
    if samples != 1 or kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise StudyError(
            f"{_name(stack)} holds {kind} with {samples:g} values per pixel; accepted is MONOCHROME2 or MONOCHROME1 "
            "with one; give the original series"
        )
    return kind == "MONOCHROME1"


def _scaled(stored: NDArray, header: Dataset, inverted: bool) -> NDArray[np.float32]:
    values = stored.astype(np.float32)
    if inverted:
        bits = min(number(header, "BitsStored") or 16, 32)
        values = (-1.0 if number(header, "PixelRepresentation") == 1 else 2.0**bits - 1) - values
    slope, intercept = number(header, "RescaleSlope"), number(header, "RescaleIntercept")
    return values * np.float32(1.0 if slope is None else slope) + np.float32(intercept or 0.0)


def _stored_slices(stack: Stack) -> Iterator[NDArray]:
    """Stored values ``(rows, columns)`` in order along the normal."""
    if stack.frames is not None:
        yield from _decoded(stack, stack.instances[0], stack.frames)
        return
    with ThreadPoolExecutor(_READERS) as readers:
        yield from readers.map(lambda instance: _decoded(stack, instance, (0,))[0], stack.instances)


def _decoded(stack: Stack, instance: Instance, frames: tuple[int, ...]) -> list[NDArray]:
    named = f"{_name(stack)}: instance {instance.sop_uid}"  # a file's name may be a patient's
    try:
        dataset = dcmread(instance.path, force=True)
        _name_syntax(dataset)
        return list(iter_pixels(dataset, indices=frames))
    except OSError as error:
        raise StudyError(f"{named} cannot be read ({error.strerror or type(error).__name__})") from error
    except Exception as error:  # pydicom and the decoders behind it raise many types
        raise StudyError(f"{named}: its pixels cannot be decoded ({reason(error)}); export the series again") from error


def _name_syntax(dataset: Dataset) -> None:
    """A file without meta information is as it was sent over the network; pydicom found out how while reading."""
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, _ = dataset.original_encoding
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian


def _name(stack: Stack) -> str:
    """A series for a sentence: it has no patient's name in it."""
    described = f" ({stack.description})" if stack.description else ""
    return f"series {stack.series_uid}{described}" + (f", stack {stack.number}" if stack.number > 1 else "")


def _listed(values: Iterable[float]) -> str:
    return "\\".join(f"{value:.6g}" for value in values)
