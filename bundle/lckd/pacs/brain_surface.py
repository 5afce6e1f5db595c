"""The built-in brain extraction: a mean brain is fitted to the head's edges, then its surface follows them freely.

No download, no trained network. The shape model (`brain_shape.npz`, made by `benchmarks/brain_shape.py`) is the mean
outline of simulated brains and the main ways in which they differ (after Cootes et al. 1995, Comput Vis Image Underst
61:38, and Iglesias et al. 2011, IEEE TMI 30:1617). Along the surface's normals every sequence falls from brain to the
dark of the skull (after Smith 2002, Hum Brain Mapp 17:143); that fall moves the pose, then the shape, then the surface.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from lckd.images import Image
from lckd.pacs.registration import Grid, head_mask, resample

OFFSETS_MM: Final = np.arange(-20.0, 21.0)
"""Where the surface may move along its normals."""

WORKING_MM: Final = 2.0
PITCHES_DEGREES: Final = (-15.0, 0.0, 15.0)
HEIGHTS_MM: Final = (-12.0, 0.0, 12.0)
"""Starts: how far the head nods, and how far the brain's top lies from where the head's top suggests it."""

FIRST_STEPS, FURTHER_STEPS = 4, 8
FOLLOWED: Final = 2

DARK: Final = 0.35
"""Share of the brain's brightness below which a voxel is bone, air, or CSF in T1 and FLAIR."""

FAT: Final = 2.0
"""Brightness of fat as a multiple of the brain's in T1; what is brighter counts as this."""

REGAINED: Final = 0.3
"""By how much brightness may rise outwards, as a share of the brain's, within the brain: sulci, texture, tumours."""

SCALP_MM: Final = 10.0
"""Scalp and skull together; brain seldom lies nearer to the air."""

SCALE_SPREAD: Final = 0.08
"""Standard deviation of the logarithm of brain sizes."""

DARK_CSF_MM: Final = 1.5
"""Width of the CSF around the brain, which counts as brain but is as dark as bone except in T2."""


@dataclass(frozen=True)
class BrainSurface:
    """A fitted brain.

    Attributes:
        mask: `(X, Y, Z)` on the grid that was asked for.
        contrast: mean fall of brightness at the surface, from 0 (no edge) to 1.
    """

    mask: NDArray[np.bool_]
    contrast: float


def fit_brain(images: Sequence[Image], grid: Grid, dark_csf: bool) -> BrainSurface:
    """The brain in heads that lie in one world.

    Args:
        images: one or more sequences with skull; where the head begins is taken from the first.
        grid: of the result.
        dark_csf: whether CSF is dark in them, as it is except in T2.
    """
    head = head_mask(images[0])
    views = [_View.of(image, *_depth(head, images[0].affine)) for image in images]
    poses = [_fitted(pose, views, FIRST_STEPS, rigid=True) for pose in _starts(head, images[0].affine)]
    best = sorted(poses, key=lambda pose: pose.score, reverse=True)[:FOLLOWED]
    pose = max((_fitted(pose, views, FURTHER_STEPS) for pose in best), key=lambda pose: pose.score)
    edges = _energy(*pose.surface(), views)
    offsets, _ = _settled(edges, spread_mm=14.0, stiffness=(0.0, 0.003, 0.006, 0.01, 0.01, 0.01))
    outward = offsets + (DARK_CSF_MM if dark_csf else 0.0)
    return BrainSurface(_filled(pose, outward, images[0], grid), pose.contrast)


# --- shape and pose ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shape:
    """Mean brain in its own RAS frame in mm.

    ``distance`` is signed and negative inside; ``points`` and ``normals`` are `(N, 3)`; ``modes`` `(N, M)` move the
    points along the normals by one standard deviation. ``near`` and ``wide`` are neighbours `(N, K)` and their weights.
    """

    distance: NDArray[np.float32]
    affine: NDArray[np.float64]
    points: NDArray[np.float64]
    normals: NDArray[np.float64]
    modes: NDArray[np.float64]
    near: tuple[NDArray, NDArray]
    wide: tuple[NDArray, NDArray]

    def smooth(self, values: NDArray) -> NDArray:
        """Mean of ``values`` `(N, ...)` over the neighbours of each point."""
        index, weight = self.near
        return np.einsum("nk,nk...->n...", weight, values[index])


@functools.cache
def _shape() -> _Shape:
    with resources.files(__package__).joinpath("brain_shape.npz").open("rb") as stream, np.load(stream) as stored:
        points = stored["points"].astype(np.float64)
        return _Shape(
            distance=stored["distance_quarter_mm"].astype(np.float32) / 4,
            affine=stored["affine"],
            points=points,
            normals=stored["normals"].astype(np.float64),
            modes=stored["modes"].astype(np.float64),
            near=_neighbours(points, count=16, sigma_mm=6.0),
            wide=_neighbours(points, count=100, sigma_mm=25.0),
        )


def _neighbours(points: NDArray, count: int, sigma_mm: float) -> tuple[NDArray, NDArray]:
    distance, index = cKDTree(points).query(points, k=count)
    weight = np.exp(-0.5 * (distance / sigma_mm) ** 2)
    return index, weight / weight.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class _Pose:
    """Where the shape lies: a similarity `(4, 4)` to the RAS world, and the modes' weights."""

    affine: NDArray[np.float64]
    weights: NDArray[np.float64]
    contrast: float = 0.0

    @property
    def scale(self) -> float:
        return float(np.cbrt(np.linalg.det(self.affine[:3, :3])))

    @property
    def score(self) -> float:
        """The edges' contrast, less what an unusual shape costs."""
        return self.contrast - 0.01 * float((self.weights**2).mean())

    def surface(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Points and normals in the world."""
        shape = _shape()
        points = shape.points + shape.normals * (shape.modes @ self.weights)[:, None]
        return _moved(self.affine, points), shape.normals @ self.affine[:3, :3].T / self.scale


def _starts(head: NDArray[np.bool_], affine: NDArray) -> Iterator[_Pose]:
    """The mean brain some way below the top of the head, nodding more or less."""
    shape = _shape()
    voxels = np.argwhere(head)
    points = _moved(affine, voxels[:: max(1, len(voxels) // 40_000)])
    top = np.percentile(points[:, 2], 99.9)
    calvaria = points[(points[:, 2] < top - 35) & (points[:, 2] > top - 75)]
    middle = np.percentile(calvaria if len(calvaria) else points, (1, 99), axis=0).mean(axis=0)
    for pitch in PITCHES_DEGREES:
        turn = Rotation.from_euler("x", pitch, degrees=True).as_matrix()
        placed = shape.points @ turn.T
        for height in HEIGHTS_MM:
            affine = np.eye(4)
            affine[:3, :3] = turn
            affine[:2, 3] = (middle - (placed.max(axis=0) + placed.min(axis=0)) / 2)[:2]
            affine[2, 3] = top - 12 + height - placed[:, 2].max()
            yield _Pose(affine, np.zeros(shape.modes.shape[1]))


def _fitted(pose: _Pose, views: Iterable["_View"], steps: int, rigid: bool = False) -> _Pose:
    """The pose after ``steps`` in which the surface moves to the edges; the shape varies only if not ``rigid``."""
    shape = _shape()
    bottom = shape.points[:, 2] < shape.points[:, 2].min() + 8  # the brainstem is cut anywhere: no edge there
    for _ in range(steps):
        points, normals = pose.surface()
        offsets, energy = _settled(_energy(points, normals, views), spread_mm=10.0, stiffness=(0.0, 0.003, 0.006))
        at = np.abs(OFFSETS_MM - offsets[:, None]).argmin(axis=1)
        contrast = np.clip(-energy[np.arange(len(at)), at], 0.02, 1) * np.where(bottom, 0.05, 1)
        pose = _stepped(pose, points, normals, offsets, contrast, rigid)
    return pose


def _stepped(pose: _Pose, points: NDArray, normals: NDArray, offsets: NDArray, trust: NDArray, rigid: bool) -> _Pose:
    """Least squares for the motion along the normals; size and shape are held by what is usual among brains."""
    centre = points.mean(axis=0)
    arms = points - centre
    size = (arms * normals).sum(axis=1, keepdims=True)
    columns = np.concatenate([normals, np.cross(arms, normals), size, _shape().modes * pose.scale], axis=1)
    held = np.zeros(columns.shape[1])
    held[6], held[7:] = 15 / SCALE_SPREAD**2, 1e6 if rigid else 3.0
    usual = np.concatenate([np.zeros(6), [-np.log(pose.scale)], -pose.weights])
    weighted = columns * trust[:, None]
    found = np.linalg.solve(weighted.T @ columns + np.diag(held), weighted.T @ offsets + held * usual)
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_rotvec(found[3:6]).as_matrix() * np.exp(found[6])
    motion[:3, 3] = centre + found[:3] - motion[:3, :3] @ centre
    return replace(pose, affine=motion @ pose.affine, weights=pose.weights + found[7:], contrast=float(trust.mean()))


# --- edges ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _View:
    """What the surface looks at: an image's brightness and the depth below the skin, with affines from the world."""

    brightness: NDArray[np.float32]
    to_voxel: NDArray
    depth_mm: NDArray[np.float64]
    to_depth: NDArray

    @classmethod
    def of(cls, image: Image, depth_mm: NDArray, to_depth: NDArray) -> "_View":
        spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
        brightness = ndimage.gaussian_filter(image.array, np.clip(0.7 / spacing, 0, 1))
        return cls(brightness, np.linalg.inv(image.affine), depth_mm, to_depth)

    def energy(self, points: NDArray, normals: NDArray) -> NDArray[np.float64]:
        """Cost `(N, O)` of a surface at each offset: low where brain ends, high beyond bone and fat, near skin."""
        shape = _shape()
        along = points[:, None] + normals[:, None] * OFFSETS_MM[:, None]
        values = _sampled(self.brightness, self.to_voxel, along, cval=np.nan)
        seen = np.isfinite(values)
        share = np.where(seen, values, 0) / _brain_brightness(values)[:, None]
        index, weight = shape.near
        weight = weight[:, :, None] * seen[index]
        known = weight.sum(axis=1)
        share = (weight * np.clip(share, 0, FAT)[index]).sum(axis=1) / np.maximum(known, 1e-6)
        share = np.where(known > 0.3, share, 0.6)
        regained = _regained(share)
        share = np.minimum(share, 1)
        fall = np.where(known > 0.3, _fall(share), 0)
        crossed = np.cumsum(np.clip(DARK - share, 0, None) / DARK, axis=1)
        depth = _sampled(self.depth_mm, self.to_depth, along, mode="nearest")
        return 0.5 * regained - fall + 0.15 * crossed + 0.03 * np.clip(SCALP_MM - depth, 0, None) ** 2


def _depth(head: NDArray[np.bool_], affine: NDArray) -> tuple[NDArray[np.float64], NDArray]:
    """Depth below the skin in mm on a coarse grid, and the affine from the world to its voxels."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    steps = np.maximum(1, np.floor(3 / spacing + 0.01)).astype(int)
    coarse = np.eye(4)
    coarse[:3, :3], coarse[:3, 3] = np.diag(steps), -6.0 * steps
    # where the field of view ends, the head goes on
    padded = np.pad(head[:: steps[0], :: steps[1], :: steps[2]], 6, mode="edge")
    depth_mm = ndimage.distance_transform_edt(padded, sampling=spacing * steps)
    return depth_mm, np.linalg.inv(affine @ coarse)


def _brain_brightness(values: NDArray) -> NDArray[np.float64]:
    """Brightness `(N,)` of the brain below each point, smoothed widely, from profiles `(N, O)`."""
    deep = np.ma.masked_invalid(values[:, (OFFSETS_MM >= -18) & (OFFSETS_MM <= -6)])
    whole = max(float(np.ma.median(deep)) if deep.count() else 0.0, 1e-6)
    local = np.clip(np.ma.median(deep, axis=1).filled(whole), 0.6 * whole, 1.5 * whole)
    index, weight = _shape().wide
    return (weight * local[index]).sum(axis=1)


def _fall(share: NDArray) -> NDArray[np.float64]:
    """Brightness within 3 mm inside less the one within 4 mm outside of each offset, from profiles `(N, O)`."""
    padded = np.pad(share, ((0, 0), (3, 4)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 8, axis=1)
    inside, outside = windows[..., :4].mean(axis=-1), windows[..., 4:]
    return inside - (outside[..., 0] + outside[..., 1] + outside.min(axis=-1)) / 3


def _regained(share: NDArray) -> NDArray[np.float64]:
    """How far brightness has risen again after its darkest, from profiles `(N, O)`: beyond bone come marrow and scalp.

    In thick slices bone is grey instead of black, and above the orbits there is hardly any; then this alone tells that
    the fall at the far side of the fat is not the brain's.
    """
    darkest = np.minimum.accumulate(np.minimum(share, 1), axis=1)
    return np.clip(np.maximum.accumulate(share - darkest, axis=1) - REGAINED, 0, None)


def _energy(points: NDArray, normals: NDArray, views: Iterable[_View]) -> NDArray[np.float64]:
    return np.mean([view.energy(points, normals) for view in views], axis=0)


def _settled(
    energy: NDArray, spread_mm: float, stiffness: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Offset `(N,)` per point, of low energy and like its neighbours', and the energy with the pull to no offset."""
    shape = _shape()
    energy = energy + 0.5 * (OFFSETS_MM / spread_mm) ** 2
    offsets = np.zeros(len(energy))
    for stiff in stiffness:
        pull = stiff * (OFFSETS_MM - shape.smooth(offsets)[:, None]) ** 2
        offsets = OFFSETS_MM[(energy + pull).argmin(axis=1)]
    return shape.smooth(offsets), energy


# --- mask -------------------------------------------------------------------------------------------------------------


def _filled(pose: _Pose, outward: NDArray, image: Image, grid: Grid) -> NDArray[np.bool_]:
    """The inside of the surface moved ``outward`` by `(N,)` mm, on ``grid``."""
    shape, working = _shape(), _isotropic(image)
    far = float(shape.distance.max())
    mean = Image(shape.distance, pose.affine @ shape.affine)
    distance = resample(mean, None, working, outside=far).array * pose.scale
    edge = outward + (shape.modes @ pose.weights) * pose.scale
    mask = distance < 0
    near = np.abs(distance) < far * min(1.0, pose.scale) - 1
    away, index = cKDTree(_moved(pose.affine, shape.points)).query(_moved(working.affine, np.argwhere(near)), k=8)
    weight = 1 / (away + 2) ** 2
    mask[near] = distance[near] < (weight * edge[index]).sum(axis=1) / weight.sum(axis=1)
    mask = _largest(ndimage.binary_opening(mask, iterations=2))
    whole = Image(ndimage.binary_fill_holes(mask).astype(np.float32), working.affine)
    return resample(whole, None, grid).array > 0.5


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels, count = ndimage.label(mask)
    return labels == 1 + np.argmax(ndimage.sum_labels(mask, labels, range(1, count + 1))) if count else mask


def _isotropic(image: Image) -> Grid:
    """The image's field of view in cubes."""
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    affine = image.affine @ np.diag([*(WORKING_MM / spacing), 1.0])
    corner = image.affine @ [-0.5, -0.5, -0.5, 1.0]
    affine[:3, 3] = corner[:3] + 0.5 * affine[:3, :3].sum(axis=1)
    return Grid(tuple(int(n) for n in np.ceil(image.array.shape * spacing / WORKING_MM)), affine)


def _sampled(
    array: NDArray, to_index: NDArray, points: NDArray, mode: str = "constant", cval: float = 0.0
) -> NDArray[np.float64]:
    index = _moved(to_index, points.reshape(-1, 3)).T
    return ndimage.map_coordinates(array, index, np.float64, order=1, mode=mode, cval=cval).reshape(points.shape[:-1])


def _moved(affine: NDArray, points: NDArray) -> NDArray[np.float64]:
    return points @ affine[:3, :3].T + affine[:3, 3]
