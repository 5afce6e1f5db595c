"""Co-register two sequences of one patient rigidly, and say whether the result may be used.

Mutual information after Mattes et al. 2003 (IEEE TMI 22:120), as SimpleITK has it: it needs no likeness of the two
contrasts. Several starts are followed at coarse resolution and the best of them at finer ones. Every step runs on one
thread and with fixed seeds, so that a study gives the same transforms on every machine.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from lckd.images import Image, looks_skull_stripped

LPS: Final = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From RAS to ITK's world and back."""

STARTS_MM: Final = 8.0
"""Resolution at which the starts are compared."""

LEVELS_MM: Final = (4.0, 2.0, 1.0)
"""Resolutions at which the best of them are refined."""

FOLLOWED: Final = 3
"""Starts that are followed beyond the coarsest resolution."""

TILTS_DEGREES: Final = (-20.0, 20.0)
"""Rotations about each axis that are tried as starts besides none."""

BINS: Final = 32
SAMPLES: Final = 40_000
SEED: Final = 17

RIM_MM: Final = 6.0
"""Width of air around the head that is compared too: where the head ends says much."""

EDGE_MM: Final = 3.0
"""Width of a stripped brain's edge that is not compared with a head: there, voxels mix with what was cut away."""

BRIGHTEST: Final = 0.998
"""Quantile of an image above which brightness is not told apart."""

MIN_OVERLAP: Final = 0.7
"""Least fraction of the smaller head that lies within the other after registration."""

MIN_INFORMATION: Final = 0.3
"""Least mutual information in nats; aligned sequences of one head had 0.5 to 0.95, heads of two patients 0.2."""

MIN_INFORMATION_INSIDE: Final = 0.12
"""The same where only the inside of a stripped brain is compared; there, aligned sequences had 0.17 to 0.56."""

MAX_ROTATION_DEGREES: Final = 45.0
"""A head in a scanner does not turn further between two sequences."""


@dataclass(frozen=True)
class Grid:
    """Where an image's voxels lie: ``shape`` `(X, Y, Z)` and ``affine`` `(4, 4)`, voxel to RAS world in mm."""

    shape: tuple[int, ...]
    affine: NDArray[np.float64]

    @classmethod
    def of(cls, image: Image) -> "Grid":
        """The grid of ``image``."""
        return cls(image.array.shape, image.affine)


@dataclass(frozen=True)
class Registration:
    """How a moving image lies relative to a fixed one.

    Attributes:
        transform: `(4, 4)` from the moving image's RAS world to the fixed image's, in mm; ``transform @ affine`` is
            the moving image's affine in the fixed image's world.
        metric_before: mutual information in nats as the scanner placed the images.
        metric_after: the same under ``transform``.
        overlap: fraction of the smaller head that lies within the other.
        seconds: that the registration took.
        accepted: whether the transform may be used.
        reason: one sentence that says why, or why not.
    """

    transform: NDArray[np.float64]
    metric_before: float
    metric_after: float
    overlap: float
    seconds: float
    accepted: bool
    reason: str

    @property
    def rotation_degrees(self) -> float:
        """Angle of the rotation."""
        return float(np.degrees(Rotation.from_matrix(self.transform[:3, :3]).magnitude()))

    def shift_mm(self, image: Image) -> float:
        """Mean distance in mm that the head in the moving ``image`` is moved."""
        points = _world_points(head_mask(image), image.affine)
        return float(np.linalg.norm(_moved(self.transform, points) - points, axis=1).mean())


def register(moving: Image, fixed: Image) -> Registration:
    """Rigid transform that lays ``moving`` over ``fixed``.

    Grids, spacings and fields of view may differ, and either image may show the skull or a brain alone.
    """
    started = time.perf_counter()
    # a brain alone lies within a head, but most of a head lies outside a brain: samples are drawn from the brain
    swapped = looks_skull_stripped(moving.array, moving.affine) and not looks_skull_stripped(fixed.array, fixed.affine)
    pair = _Pair(moving, fixed) if swapped else _Pair(fixed, moving)
    before, after, transform = pair.solve()
    to_other = LPS @ _matrix(transform) @ LPS
    world: NDArray[np.float64] = np.asarray(to_other if swapped else np.linalg.inv(to_other), dtype=np.float64)
    overlap = pair.overlap(transform)
    accepted, reason = _judged(world, before, after, overlap, pair.least_information)
    return Registration(world, before, after, overlap, time.perf_counter() - started, accepted, reason)


def resample(
    moving: Image, registration: Registration | None, grid: Grid, interpolation: str = "linear", outside: float = 0.0
) -> Image:
    """``moving`` on another grid of the fixed image's world.

    Args:
        moving: 3-D image.
        registration: of ``moving`` to the image in whose world ``grid`` lies; None if they share one.
        grid: where the voxels of the result lie.
        interpolation: ``linear``, or ``nearest`` for masks and label maps.
        outside: value where ``moving`` has no voxel.

    Raises:
        ValueError: the registration was not accepted.
    """
    if registration is not None and not registration.accepted:
        raise ValueError(f"a registration that was not accepted cannot be used: {registration.reason}")
    to_moving = _as_sitk(np.eye(4) if registration is None else np.linalg.inv(registration.transform))
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize([int(n) for n in grid.shape])
    spacing, origin, direction = _geometry(grid.affine)
    resampler.SetOutputSpacing(spacing)
    resampler.SetOutputOrigin(origin)
    resampler.SetOutputDirection(direction)
    resampler.SetInterpolator({"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor}[interpolation])
    resampler.SetDefaultPixelValue(outside)
    resampler.SetTransform(to_moving)
    resampled = resampler.Execute(to_sitk(moving.array, moving.affine))
    return Image(from_sitk(resampled), np.asarray(grid.affine, dtype=np.float64), moving.warnings)


def head_mask(image: Image) -> NDArray[np.bool_]:
    """Where ``image`` shows the head, air in it included, or the brain if it was stripped; all of it without air."""
    if looks_skull_stripped(image.array, image.affine):
        values, counts = np.unique(image.array, return_counts=True)
        return ndimage.binary_fill_holes(image.array != values[counts.argmax()])
    whole = to_sitk(image.array, image.affine)
    tissue = sitk.TriangleThreshold(_shrunk(whole, 3.0), 0, 1)
    tissue = sitk.BinaryMorphologicalOpening(tissue, _radius(tissue, 3.0))
    tissue = sitk.RelabelComponent(sitk.ConnectedComponent(tissue)) == 1
    tissue = sitk.BinaryMorphologicalClosing(tissue, _radius(tissue, 9.0))  # the skull, where the scalp hardly shows
    mask = from_sitk(tissue)
    if not mask.any():
        return np.ones(image.array.shape, dtype=bool)
    for axis in range(3):  # an opening to one side, such as a nostril or the last slice, leaves no hole in the others
        for slab in np.moveaxis(mask, axis, 0):
            slab |= ndimage.binary_fill_holes(slab)
    filled = sitk.GetImageFromArray(mask.T)
    filled.CopyInformation(tissue)
    return from_sitk(sitk.Resample(filled, whole, sitk.Transform(), sitk.sitkNearestNeighbor, 0)) > 0


def to_sitk(array: NDArray, affine: NDArray) -> sitk.Image:
    """An array `(X, Y, Z)` and its RAS affine as an ITK image; axes need not be orthogonal nor right-handed."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(np.asarray(array).T))
    spacing, origin, direction = _geometry(affine)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    return image


def from_sitk(image: sitk.Image) -> NDArray:
    """Voxels `(X, Y, Z)` of an ITK image."""
    return sitk.GetArrayFromImage(image).T


def _as_sitk(transform: NDArray) -> sitk.AffineTransform:
    """An affine `(4, 4)` between RAS worlds as ITK's transform between LPS worlds."""
    matrix = LPS @ transform @ LPS
    return sitk.AffineTransform(matrix[:3, :3].ravel().tolist(), matrix[:3, 3].tolist())


def _geometry(affine: NDArray) -> tuple[list[float], list[float], list[float]]:
    """Spacing, origin and direction in ITK's world."""
    world = LPS @ affine
    spacing = np.linalg.norm(world[:3, :3], axis=0)
    return spacing.tolist(), world[:3, 3].tolist(), (world[:3, :3] / spacing).ravel().tolist()


# --- images at a resolution -------------------------------------------------------------------------------------------


def _shrunk(image: sitk.Image, spacing_mm: float) -> sitk.Image:
    """``image`` low-passed and sampled at about ``spacing_mm`` along the axes that are finer than that."""
    spacing = np.array(image.GetSpacing())
    sigma = np.sqrt(np.maximum(spacing_mm**2 - spacing**2, 0)) * 0.4
    for axis in np.flatnonzero(sigma > 0.1 * spacing):
        smooth = sitk.RecursiveGaussianImageFilter()
        smooth.SetSigma(float(sigma[axis]))
        smooth.SetDirection(int(axis))
        image = smooth.Execute(image)
    steps = np.minimum(np.maximum(1, np.floor(spacing_mm / spacing + 0.01)), image.GetSize())
    return sitk.Shrink(image, [int(step) for step in steps])


def _radius(image: sitk.Image, radius_mm: float) -> list[int]:
    return [round(radius_mm / side) for side in image.GetSpacing()]


def _world_points(mask: NDArray[np.bool_], affine: NDArray, most: int = 5000) -> NDArray[np.float64]:
    """World coordinates `(N, 3)` of evenly chosen voxels of ``mask``."""
    voxels = np.argwhere(mask)
    voxels = voxels[:: max(1, len(voxels) // most)]
    return _moved(affine, voxels)


def _moved(transform: NDArray, points: NDArray) -> NDArray[np.float64]:
    return points @ transform[:3, :3].T + transform[:3, 3]


def _matrix(transform: sitk.Transform) -> NDArray[np.float64]:
    """A linear ITK transform as `(4, 4)`."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    columns = [np.array(transform.TransformPoint(axis)) - origin for axis in np.eye(3).tolist()]
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = np.array(columns).T, origin
    return matrix


# --- search -----------------------------------------------------------------------------------------------------------


class _Pair:
    """Search for the transform from the world of ``base`` to the one of ``other``, in ITK's coordinates."""

    def __init__(self, base: Image, other: Image) -> None:
        both = (base, other)
        self._images = [to_sitk(image.array, image.affine) for image in both]
        self._masks = [to_sitk(head_mask(image).astype(np.uint8), image.affine) for image in both]
        self._centres = [_centroid(mask) for mask in self._masks]
        stripped = [looks_skull_stripped(image.array, image.affine) for image in both]
        inside = stripped[0] and not stripped[1]
        self._compared = _grown(self._masks[0], -EDGE_MM if inside else RIM_MM)
        self.least_information = MIN_INFORMATION_INSIDE if inside else MIN_INFORMATION

    def solve(self) -> tuple[float, float, sitk.Transform]:
        """Mutual information in nats before and after, and the transform."""
        level = self._level(STARTS_MM)
        found = sorted((level.refined(start) for start in self._starts()), key=lambda one: one.information)
        followed = found[-FOLLOWED:]
        for spacing_mm in LEVELS_MM:
            level = self._level(spacing_mm)
            followed = [max((level.refined(one.transform) for one in followed), key=lambda one: one.information)]
        identity = self._start()
        before, after = level.information(identity), level.information(followed[0].transform)
        return (before, after, followed[0].transform) if after > before else (before, before, identity)

    def overlap(self, transform: sitk.Transform) -> float:
        """Fraction of the smaller head that lies within the other."""
        base, other = self._masks
        moved = from_sitk(sitk.Resample(other, base, transform, sitk.sitkNearestNeighbor, 0))
        common = (moved & from_sitk(base)).sum() * np.prod(base.GetSpacing())
        return float(common / min(from_sitk(mask).sum() * np.prod(mask.GetSpacing()) for mask in self._masks))

    def _level(self, spacing_mm: float) -> "_Level":
        base, other = self._images
        return _Level(base, other, self._compared, spacing_mm)

    def _starts(self) -> Iterator[sitk.Euler3DTransform]:
        """As the scanner placed them; centres of the fields of view, and of the heads, on each other; these turned."""
        heads = self._centres[1] - self._centres[0]
        yield self._start()
        yield self._start(_middle(self._images[1]) - _middle(self._images[0]))
        yield self._start(heads)
        for axis in np.eye(3):
            for tilt in TILTS_DEGREES:
                yield self._start(heads, tilt * axis)

    def _start(self, shift: ArrayLike = (0, 0, 0), turn_degrees: ArrayLike = (0, 0, 0)) -> sitk.Euler3DTransform:
        turn, along = np.radians(turn_degrees).tolist(), np.asarray(shift, dtype=float).tolist()
        return sitk.Euler3DTransform(self._centres[0].tolist(), *turn, along)


class _Found(NamedTuple):
    """A transform and its mutual information in nats."""

    transform: sitk.Euler3DTransform
    information: float


class _Level:
    """The search at one resolution."""

    def __init__(self, base: sitk.Image, other: sitk.Image, mask: sitk.Image, spacing_mm: float) -> None:
        self._base, self._other = (_clipped(_shrunk(image, spacing_mm)) for image in (base, other))
        small = sitk.Resample(mask, self._base, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
        share = min(1.0, SAMPLES / self._base.GetNumberOfPixels())
        method = sitk.ImageRegistrationMethod()
        method.SetNumberOfThreads(1)
        method.SetNumberOfWorkUnits(1)
        method.SetMetricAsMattesMutualInformation(BINS)
        method.SetMetricFixedMask(small)
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(share, SEED)
        method.SetInterpolator(sitk.sitkLinear)
        # differences at the samples instead of gradients of whole images, which would be computed for every start
        method.MetricUseFixedImageGradientFilterOff()
        method.MetricUseMovingImageGradientFilterOff()
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetOptimizerAsRegularStepGradientDescent(spacing_mm / 2, spacing_mm / 200, 80, 0.6)
        self._method = method

    def refined(self, start: sitk.Euler3DTransform) -> "_Found":
        """The nearest optimum, or ``start`` where the images do not even touch."""
        transform = sitk.Euler3DTransform(start)
        self._method.SetInitialTransform(transform, inPlace=True)
        try:
            self._method.Execute(self._base, self._other)
        except RuntimeError:
            return _Found(start, 0.0)
        return _Found(transform, -float(self._method.GetMetricValue()))

    def information(self, transform: sitk.Euler3DTransform) -> float:
        """Mutual information in nats; 0 where the images do not touch."""
        self._method.SetInitialTransform(sitk.Euler3DTransform(transform), inPlace=True)
        try:
            return -float(self._method.MetricEvaluate(self._base, self._other))
        except RuntimeError:
            return 0.0


def _judged(world: NDArray, before: float, after: float, overlap: float, least: float) -> tuple[bool, str]:
    """Whether a registration may be used, and why."""
    degrees = float(np.degrees(Rotation.from_matrix(world[:3, :3]).magnitude()))
    if after < least:
        return False, f"the images tell too little of each other ({after:.2f} nats, accepted from {least:g})"
    if overlap < MIN_OVERLAP:
        return False, f"only {overlap:.0%} of the smaller head lies within the other (accepted from {MIN_OVERLAP:.0%})"
    if degrees > MAX_ROTATION_DEGREES:
        return False, f"the head would turn by {degrees:.0f} degrees (accepted up to {MAX_ROTATION_DEGREES:g})"
    if after <= before:
        return True, "the images already lie on each other: no transform was better than none"
    return True, f"mutual information rose from {before:.2f} to {after:.2f}, overlap {overlap:.0%}"


def _middle(image: sitk.Image) -> NDArray[np.float64]:
    return np.array(image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()]))


def _centroid(mask: sitk.Image) -> NDArray[np.float64]:
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(mask)
    return np.array(shape.GetCentroid(1))


def _grown(mask: sitk.Image, by_mm: float) -> sitk.Image:
    return sitk.Cast(
        sitk.SignedMaurerDistanceMap(mask, squaredDistance=False, useImageSpacing=True) < by_mm, sitk.sitkUInt8
    )


def _clipped(image: sitk.Image) -> sitk.Image:
    """Without the brightest outliers, which would leave the histogram of all others a few bins."""
    array = sitk.GetArrayViewFromImage(image)
    return sitk.Clamp(image, sitk.sitkFloat32, float(array.min()), float(np.quantile(array, BRIGHTEST)))
