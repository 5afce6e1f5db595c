"""Read and write one image file, and say in a sentence what is wrong with it."""

import gzip
import re
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from lckd.errors import StudyError, reason
from lckd.files import write_atomically

NIFTI = (".nii", ".nii.gz")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
EXTENSIONS = NIFTI + ITK

SPACING_MM = (0.1, 15.0)
"""Accepted voxel sizes; outside them a header is wrong rather than the scan unusual."""

MOST_VOXELS = 1_500_000_000

HEAD_ML = 2300.0
"""More tissue than any brain has: the image shows the skull too."""

HEAD_ML_PER_MM = 18.0
"""The same for a stack of few slices: in 38 studies no slab of the brain of 70 mm has more than 17.6."""


@dataclass(frozen=True)
class Image:
    """An image file's content.

    Attributes:
        array: float32 ``(X, Y, Z)``, or ``(C, X, Y, Z)`` of a 4-D file.
        affine: ``(4, 4)`` voxel to world in mm, RAS.
        warnings: what the user should know.
    """

    array: NDArray[np.float32]
    affine: NDArray[np.float64]
    warnings: tuple[str, ...] = ()


def extension_of(path: Path) -> str | None:
    """The accepted extension that ``path`` ends in, or None."""
    return next(
        (ending for ending in sorted(EXTENSIONS, key=len, reverse=True) if path.name.lower().endswith(ending)), None
    )


def read_image(path: str | Path) -> Image:
    """Read an image and check that it can be a scan.

    Args:
        path: ``.nii``, ``.nii.gz``, ``.nrrd``, ``.mha`` or ``.mhd``; 3-D, or 4-D with the channels last.

    Raises:
        StudyError: the file is missing, empty, truncated, no image, of another dimension, constant, or
            has NaN, an affine without inverse or an absurd spacing.
    """
    file = Path(path)
    array, affine, warnings = _read(file)
    for channel in array if array.ndim == 4 else array[None]:
        _check_values(str(file), channel)
    return Image(array, affine, warnings)


def read_channels(path: str | Path, names: Sequence[str], used: Collection[str]) -> dict[str, Image]:
    """Read the channels of a 4-D image that are in ``used``; what the others hold is not looked at.

    Args:
        path: as in ``read_image``; a 3-D image has one channel.
        names: of all channels, in order.
        used: names of those to return.

    Raises:
        StudyError: as in ``read_image``, or there are more or fewer channels than names.
    """
    file = Path(path)
    array, affine, warnings = _read(file)
    channels = array if array.ndim == 4 else array[None]
    if len(channels) != len(names):
        raise StudyError(
            f"{file} has {len(channels)} channels but {len(names)} names ({', '.join(names)}); name each channel"
        )
    chosen = {name: channel for name, channel in zip(names, channels, strict=True) if name in used}
    for name, channel in chosen.items():
        _check_values(f"channel {name} of {file}", channel)
    return {name: Image(channel, affine, warnings) for name, channel in chosen.items()}


def read_label_map(path: str | Path) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Label map ``(X, Y, Z)`` and affine of a file of whole numbers from 0 to 255; it may be empty of labels.

    Raises:
        StudyError: the file cannot be read or holds something else.
    """
    file = Path(path)
    array, affine, _ = _read(file)
    if (
        array.ndim != 3
        or not np.isfinite(array).all()
        or (array != np.round(array)).any()
        or array.min() < 0
        or array.max() > 255
    ):
        raise StudyError(f"label map {file} must be 3-D and hold whole numbers from 0 to 255; give the segmentation")
    return array.astype(np.uint8), affine


def write_image(path: str | Path, array: NDArray, affine: NDArray) -> None:
    """Write ``(X, Y, Z)`` as NIfTI in the array's own type, atomically; ``affine`` says where voxels lie (RAS, mm).

    Raises:
        OSError: no permission, or the disk is full; nothing is left behind.
    """
    image = nib.Nifti1Image(array, np.asarray(affine, dtype=np.float64))
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1, strip_shears=True)
    image.header.set_xyzt_units("mm")
    write_atomically(Path(path), image.to_filename)


def looks_skull_stripped(array: NDArray, affine: NDArray) -> bool:
    """Whether an image ``(X, Y, Z)`` shows a brain alone.

    Stripping leaves an exactly constant background and at most a brain's volume in front of it; a whole
    head has air that is noise, or more tissue than any brain.
    """
    values, counts = np.unique(array[:: max(1, array.shape[0] // 64)], return_counts=True)
    background = values[counts.argmax()]
    foreground_ml = float((array != background).mean()) * array.size * abs(np.linalg.det(affine[:3, :3])) / 1000
    thickness_mm = float((np.linalg.norm(affine[:3, :3], axis=0) * array.shape).min())
    return bool(foreground_ml < min(HEAD_ML, HEAD_ML_PER_MM * thickness_mm))


def _read(file: Path) -> tuple[NDArray[np.float32], NDArray[np.float64], tuple[str, ...]]:
    """Array, affine and warnings of any accepted file; its values are still unchecked."""
    ending = extension_of(file)
    if ending is None:
        raise StudyError(f"{file} has an unknown extension; accepted are {', '.join(EXTENSIONS)}")
    _check_opens(file)
    array, affine, warnings = (_read_nifti if ending in NIFTI else _read_itk)(file)
    _check_affine(file, affine)
    array = np.moveaxis(array, -1, 0) if array.ndim == 4 else array
    return (array[0] if array.ndim == 4 and len(array) == 1 else array), affine, warnings


def _read_nifti(file: Path) -> tuple[NDArray[np.float32], NDArray[np.float64], tuple[str, ...]]:
    try:
        version = nib.Nifti2Image if nib.Nifti2Image.path_maybe_image(file)[0] else nib.Nifti1Image
        image = version.from_filename(file)
        _check_shape(file, image.shape, image.get_data_dtype())
        if file.name.lower().endswith(".gz"):  # whole, so that the checksum at its end is compared
            image = version.from_bytes(gzip.decompress(file.read_bytes()))
        with np.errstate(over="ignore"):  # becomes infinite, which is refused
            array = np.asarray(image.dataobj, dtype=np.float32)
    except (
        nib.filebasedimages.ImageFileError,
        nib.spatialimages.HeaderDataError,
        EOFError,
        OverflowError,
        ValueError,
        zlib.error,
    ) as error:
        raise StudyError(f"{file} is truncated or no NIfTI image ({reason(error)}); export it again") from error
    except OSError as error:
        raise StudyError(f"{file} cannot be read ({reason(error)}); export it again") from error
    placed = image.header["sform_code"] > 0 or image.header["qform_code"] > 0
    warnings = (
        ()
        if placed
        else (f"{file.name} does not say where it lies (sform and qform codes are 0); orientation is assumed",)
    )
    return array, np.asarray(image.affine, dtype=np.float64), warnings


def _read_itk(file: Path) -> tuple[NDArray[np.float32], NDArray[np.float64], tuple[str, ...]]:
    import SimpleITK as sitk  # slow to import, and most files are NIfTI

    sitk.ProcessObject_GlobalWarningDisplayOff()
    if extension_of(file) in (".mha", ".mhd"):
        _check_dimensions(file)
    try:
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(file))
        reader.ReadImageInformation()
        _check_shape(
            file,
            reader.GetSize(),
            np.dtype("complex64" if "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()) else "float32"),
        )
        if reader.GetNumberOfComponents() > 1:
            raise StudyError(f"{file} has {reader.GetNumberOfComponents()} values per voxel; accepted is one")
        image = reader.Execute()
    except RuntimeError as error:
        raise StudyError(f"{file} is truncated or no image ({reason(error)}); export it again") from error
    array = sitk.GetArrayFromImage(image).astype(np.float32).transpose()  # ITK's arrays are (z, y, x)
    axes = image.GetDimension()
    affine = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(axes, axes)[:3, :3]
    affine[:3, :3] = direction * np.array(image.GetSpacing()[:3])
    affine[:3, 3] = image.GetOrigin()[:3]
    return array, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, ()  # LPS to RAS


def _check_opens(file: Path) -> None:
    try:
        if not file.is_file():
            raise StudyError(f"{file} does not exist or is no file; check the path")
        with file.open("rb") as stream:
            empty = not stream.read(1)
    except OSError as error:
        raise StudyError(f"{file} cannot be opened ({error.strerror}); check the path and its permissions") from error
    if empty:
        raise StudyError(f"{file} is empty (0 bytes); export it again")


def _check_dimensions(file: Path) -> None:
    """Before ITK reads a MetaImage: beyond 10 dimensions it writes past its arrays and takes the process along."""
    with file.open("rb") as stream:
        named = re.search(rb"NDims\s*=\s*(\d+)", stream.read(4096))
    if named and int(named[1]) not in (3, 4):
        raise StudyError(f"{file} has {int(named[1])} dimensions; accepted are 3, or 4 with named channels")


def _check_shape(file: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if dtype.names or dtype.kind not in "iuf":
        raise StudyError(f"{file} has voxels of type {dtype}; accepted are whole and floating-point numbers")
    if len(shape) not in (3, 4) or min(shape[:3]) < 2:
        raise StudyError(f"{file} has the shape {tuple(shape)}; accepted is a 3-D image, or 4-D with named channels")
    if np.prod(shape, dtype=np.float64) > MOST_VOXELS:
        raise StudyError(f"{file} has the shape {tuple(shape)}, over {MOST_VOXELS:,} voxels; crop or resample it")


def _check_affine(file: Path, affine: NDArray) -> None:
    matrix = affine[:3, :3]
    spacing = np.linalg.norm(matrix, axis=0)
    if not np.isfinite(affine).all() or abs(np.linalg.det(matrix)) < 1e-6 * max(float(np.prod(spacing)), 1e-12):
        raise StudyError(f"{file} has an affine without an inverse {matrix.round(3).tolist()}; repair its header")
    if spacing.min() < SPACING_MM[0] or spacing.max() > SPACING_MM[1]:
        sizes = " x ".join(f"{side:.4g}" for side in spacing)
        raise StudyError(
            f"{file} has voxels of {sizes} mm; accepted are {SPACING_MM[0]} to {SPACING_MM[1]} mm; repair its header"
        )


def _check_values(where: str, array: NDArray) -> None:
    if not np.isfinite(array).all():
        raise StudyError(f"{where} holds NaN or infinite voxels; accepted are numbers; export it again")
    if array.min() == array.max():
        raise StudyError(f"{where} is constant ({array.flat[0]:g} everywhere); leave a missing sequence out instead")
