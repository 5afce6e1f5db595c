"""Simulated glioma studies: folded anatomy, a tumour, and the four sequences from tissue relaxation times.

A study is made in a head frame: a reference head fills the field of view, all lengths below are in its millimetres,
and the spacing only enters the affine and the volumes. A coarse grid thus gives a small, coherent study at once.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.random import Generator
from scipy import ndimage

from lckd.errors import StudyError
from lckd.images import write_image
from lckd.sequences import LABELS, SEQUENCES, parse_subset

HEAD_MM: Final = (144.0, 176.0, 144.0)
"""Extent of the reference head's field of view (left to right, posterior to anterior, inferior to superior)."""

MIN_VOXELS: Final = 16
"""Smallest number of voxels along an axis that still shows ventricles and a tumour."""

DRAWN_TUMOUR_ML: Final = (20.0, 180.0)
"""Whole tumours that are drawn, in the head frame; up to twice the largest can be asked for."""

MIN_TUMOUR_VOXELS: Final = 20
"""Smallest tumour that can show all three label values."""

RELAXIVITY_L_PER_MMOL_S: Final = 4.5
"""T1 relaxivity of a gadolinium chelate in plasma at 1.5 T (Rohrer et al. 2005, Invest Radiol 40:715)."""


@dataclass(frozen=True)
class Tissue:
    """What a tissue gives to the signal equation.

    Attributes:
        t1_ms: longitudinal relaxation time.
        t2_ms: transverse relaxation time.
        proton_density: relative to water.
        uptake_mmol_l: concentration of contrast agent some minutes after injection.
        texture: relative standard deviation of the relaxation times within the tissue.
        spread: relative standard deviation of the relaxation times between patients.
    """

    t1_ms: float
    t2_ms: float
    proton_density: float
    uptake_mmol_l: float
    texture: float
    spread: float


TISSUES: Final = {
    "csf": Tissue(4300, 2000, 1.00, 0.00, 0.05, 0.0),
    "grey": Tissue(1197, 89, 0.86, 0.02, 0.08, 0.0),
    "white": Tissue(646, 71, 0.77, 0.01, 0.08, 0.0),
    "vessel": Tissue(1440, 60, 0.95, 2.00, 0.10, 0.0),
    "oedema": Tissue(1250, 148, 0.90, 0.01, 0.22, 0.10),
    "enhancing tumour": Tissue(1250, 120, 0.90, 0.40, 0.28, 0.10),
    "necrotic core": Tissue(1800, 170, 0.95, 0.02, 0.40, 0.12),
}
"""Tissues at 1.5 T.

T1 of grey and white matter: Wright et al. 2008 (MAGMA 21:121); of CSF: Rooney et al. 2007 (Magn Reson Med 57:308).
T2 of grey and white matter: midway between Kwan, Evans and Pike 1999 (BrainWeb, IEEE TMI 18:1085), who also give the
proton densities, and Stanisz et al. 2005 (Magn Reson Med 54:507); of CSF about 2 s. A vessel's short T2 stands for its
flow void. Oedema and tumour: inside the wide published ranges, chosen such that each label's z-scores in the four
sequences match annotated gliomas.
"""


@dataclass(frozen=True)
class Protocol:
    """Timing of a spin echo (``ti_ms`` None) or inversion recovery sequence, and whether contrast agent was given."""

    tr_ms: float
    te_ms: float
    ti_ms: float | None = None
    enhanced: bool = False


PROTOCOLS: Final = {
    "flair": Protocol(9000, 125, ti_ms=2400),
    "t1": Protocol(600, 12),
    "t1ce": Protocol(600, 12, enhanced=True),
    "t2": Protocol(4500, 100),
}


@dataclass(frozen=True)
class SimulatedStudy:
    """A skull-stripped study with its truth.

    Attributes:
        images: per sequence of ``SEQUENCES`` a float32 image `(X, Y, Z)`, 0 outside the brain and positive inside.
        label_map: uint8 `(X, Y, Z)` with the values of ``LABELS``.
        affine: voxel index to RAS world in mm, `(4, 4)`; x to the right, y anterior, z superior.
    """

    images: dict[str, np.ndarray]
    label_map: np.ndarray
    affine: np.ndarray


def simulate_study(
    shape: tuple[int, int, int] = (144, 176, 144),
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    seed: int = 0,
    tumour_volume_ml: float | None = None,
) -> SimulatedStudy:
    """A study of a glioma; the same arguments give the same voxels.

    Args:
        shape: voxels along x, y, z; the brain fills this field of view whatever its size.
        spacing_mm: voxel size along x, y, z.
        seed: of anatomy, tumour and acquisition together.
        tumour_volume_ml: approximate volume of the whole tumour, 0 for a healthy brain; drawn between 20 and 180 ml
            of a full-size head if None.

    Raises:
        StudyError: an axis has too few voxels, a spacing is not positive, or the tumour does not fit the brain.
    """
    _check_grid(shape, spacing_mm)
    rng = np.random.default_rng(seed)
    head = _Head.covering(shape)
    healthy = tumour_volume_ml == 0
    plan = _plan_tumour(None if healthy else _in_head_ml(tumour_volume_ml, shape, spacing_mm), rng)
    if healthy:
        plan = replace(plan, mass_effect=0.0)
    anatomy = _anatomy(head, plan, rng)
    label_map = np.zeros(head.shape, np.uint8) if healthy else _grow_tumour(head, anatomy, plan, rng)
    fractions = _tissue_fractions(head, anatomy, label_map, rng)
    images = _acquire(head, fractions, anatomy.brain, rng)
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = -0.5 * (np.array(shape) - 1) * spacing_mm
    return SimulatedStudy(images=images, label_map=label_map, affine=affine)


def write_study(
    study: SimulatedStudy,
    folder: str | Path,
    study_id: str | None = None,
    sequences: tuple[str, ...] = SEQUENCES,
    label: bool = True,
) -> Path:
    """Write ``<id>_<sequence>.nii.gz`` (int16) and ``<id>_seg.nii.gz`` (uint8) into ``folder``, and return it.

    Args:
        study: what to write.
        folder: made if missing.
        study_id: the folder's name if None.
        sequences: the subset to write.
        label: write the label map too.

    Raises:
        StudyError: a sequence is unknown or none is given.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.round(study.images[name]).astype(np.int16) for name in parse_subset(sequences)}
    if label:
        arrays["seg"] = study.label_map
    for name, array in arrays.items():
        write_image(folder / f"{study_id or folder.resolve().name}_{name}.nii.gz", array, study.affine)
    return folder


def tissue_signal(tissue: Tissue, protocol: Protocol, uptake: np.ndarray | float = 1.0) -> np.ndarray:
    """Signal of the spin echo equation, with the inversion recovery's factor where the protocol inverts.

    ``PD |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2)``; contrast agent adds ``r1 C`` to ``1/T1``.
    """
    agent_mmol_l = tissue.uptake_mmol_l * np.asarray(uptake if protocol.enhanced else 0.0)
    rate = 1 / tissue.t1_ms + RELAXIVITY_L_PER_MMOL_S * agent_mmol_l / 1000
    recovered = np.exp(-protocol.tr_ms * rate)
    inverted = 1 - recovered if protocol.ti_ms is None else 1 - 2 * np.exp(-protocol.ti_ms * rate) + recovered
    return tissue.proton_density * np.abs(inverted) * np.exp(-protocol.te_ms / tissue.t2_ms)


# --- frame and fields -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Head:
    """Grid in the head frame: ``points`` hold x, y, z in mm, broadcastable to `(X, Y, Z)`; ``voxel_mm`` per axis."""

    shape: tuple[int, int, int]
    voxel_mm: np.ndarray
    points: tuple[np.ndarray, ...]

    @classmethod
    def covering(cls, shape: tuple[int, int, int]) -> "_Head":
        voxel_mm = np.array(HEAD_MM) / shape
        axes = [((np.arange(n) - (n - 1) / 2) * mm).astype(np.float32) for n, mm in zip(shape, voxel_mm, strict=True)]
        return cls(shape, voxel_mm, tuple(np.meshgrid(*axes, indexing="ij", sparse=True)))

    @property
    def resolution_mm(self) -> float:
        return float(np.prod(self.voxel_mm) ** (1 / 3))

    def blur(self, image: np.ndarray, sigma_mm: float) -> np.ndarray:
        return ndimage.gaussian_filter(image, sigma_mm / self.voxel_mm, mode="nearest", truncate=3)

    def field(self, rng: Generator, sigma_mm: float) -> np.ndarray:
        """Gaussian random field `(X, Y, Z)` of mean 0, deviation 1 and smoothness ``sigma_mm``."""
        sigma = sigma_mm / self.voxel_mm
        # a smooth field needs few nodes: filter on a coarse grid, then interpolate
        steps = np.maximum(1, (sigma / 2).astype(int))
        nodes = rng.standard_normal(np.array(self.shape) // steps + 2, dtype=np.float32)
        nodes = ndimage.gaussian_filter(nodes, sigma / steps, mode="wrap", truncate=3)
        nodes = (nodes - nodes.mean()) / nodes.std()
        if np.any(steps > 1):
            nodes = ndimage.zoom(nodes, steps, order=1)
        return nodes[tuple(slice(n) for n in self.shape)]


def _check_grid(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> None:
    if len(shape) != 3 or min(shape) < MIN_VOXELS:
        raise StudyError(f"shape {tuple(shape)} cannot hold a head; give three axes of at least {MIN_VOXELS} voxels")
    if len(spacing_mm) != 3 or min(spacing_mm) <= 0:
        raise StudyError(f"spacing {tuple(spacing_mm)} mm is not a voxel size; give three positive numbers")


def _in_head_ml(
    volume_ml: float | None, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> float | None:
    """The volume in the head frame; a tumour must have some voxels and leave some brain."""
    if volume_ml is None:
        return None
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    scale = float(np.prod(HEAD_MM) / np.prod(np.multiply(shape, spacing_mm)))
    smallest, largest = MIN_TUMOUR_VOXELS * voxel_ml, 2 * DRAWN_TUMOUR_ML[1] / scale
    if not smallest <= volume_ml <= largest:
        raise StudyError(
            f"tumour volume {volume_ml:g} ml does not fit this head; give {smallest:.2g} to {largest:.0f} ml"
        )
    return volume_ml * scale


# --- anatomy ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Anatomy:
    """Healthy tissue: fractions `(X, Y, Z)` in [0, 1], the brain mask, and the depth below the cerebrum's hull in mm.

    ``across`` is the signed distance from the falx, pushed aside by the tumour; ``vessel`` overlays the other tissues.
    """

    brain: np.ndarray
    csf: np.ndarray
    grey: np.ndarray
    white: np.ndarray
    vessel: np.ndarray
    cerebrum_depth: np.ndarray
    across: np.ndarray


_VENTRICLE_PATH: Final = (
    ((5.0, 31.0, 9.0), 3.5),
    ((6.0, 14.0, 15.0), 5.0),
    ((9.0, -10.0, 19.0), 4.5),
    ((18.0, -31.0, 11.0), 6.0),
    ((20.0, -52.0, 2.0), 2.0),
)
_TEMPORAL_HORN_PATH: Final = (((18.0, -31.0, 11.0), 5.0), ((31.0, -18.0, -12.0), 2.2), ((30.0, 6.0, -22.0), 1.8))
"""Right lateral ventricle: points x, y, z in mm and radii in mm."""

_DEEP_GREY: Final = (
    ((11.0, -8.0, 5.0), (8.0, 14.0, 8.5)),  # thalamus
    ((13.0, 24.0, 8.0), (5.5, 9.0, 9.0)),  # head of the caudate
    ((26.0, 7.0, 2.0), (5.5, 16.0, 9.0)),  # lentiform nucleus
)
"""Right deep nuclei: centre x, y, z and semi-axes, in mm."""


def _anatomy(head: _Head, plan: "_TumourPlan", rng: Generator) -> _Anatomy:
    size = rng.uniform(0.92, 1.0, 3).tolist()
    x, y, z = (p / s + 2.0 * head.field(rng, 25) for p, s in zip(head.points, size, strict=True))
    cerebrum, cerebellum, stem = _hulls(x, y, z)
    inner, near = _displaced((x, y, z), plan)
    across = inner[0] + 1.0 * head.field(rng, 20)

    gap = rng.uniform(0.25, 0.7) * np.exp(0.3 * head.field(rng, 12)) * (1 - 0.8 * near)
    rim = rng.uniform(0.0, 1.2)
    fissure = _fissure(across, inner)
    gyri = _gyri(head, inner, np.minimum(cerebrum, 2 + 2.2 * fissure), rng)
    folds = np.minimum.reduce([gyri, fissure, _sylvian(inner)])
    folia = _folia(cerebellum, y, z)
    h = head.resolution_mm
    tissue = np.maximum.reduce(
        [_ribbon(cerebrum - rim, folds, gap, h), _ribbon(cerebellum, folia, 0.4, h), _inside(stem, h)]
    )
    white = np.maximum.reduce(
        [_ribbon(cerebrum - rim, folds, gap + 2.8, h), _ribbon(cerebellum, folia, 2.0, h), 0.8 * _inside(stem, h)]
    )
    white = white * (1 - 0.75 * _deep_grey(inner, h))
    ventricles = _inside(_ventricle_depth(inner, rng.uniform(-1.0, 2.5)), h)
    hull = _smooth_max([cerebrum, cerebellum, stem], 6.0)
    brain = hull > 0
    tissue, white = tissue * (1 - ventricles) * brain, white * (1 - ventricles) * brain
    vessel = _vessels(head, hull, folds, across, ventricles, rng) * brain
    return _Anatomy(brain, brain - tissue, tissue - white, white, vessel, cerebrum, across)


def _hulls(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, ...]:
    """Depth in mm below the surfaces of cerebrum, cerebellum and brainstem; negative outside."""
    side = np.abs(x)
    tapered = x * (1 + 0.0016 * y)  # the forehead is narrower than the occiput
    dome = _ellipsoid((tapered, y, z + 2), (66.0, 83.0, np.where(z > -2, 70.0, 33.0)), power=2.3)
    temporal = _ellipsoid((side - 42, y - 10, z + 24), (23.0, 38.0, 23.0))
    hemisphere = _ellipsoid((side - 23, y + 46, z + 41), (31.0, 32.0, 26.0), power=2.3)
    stem = _capsule((x, y, z), ((0, -12, -5), 13.0), ((0, -24, -78), 11.0))
    pons = _ellipsoid((x, y + 12, z + 36), (17.0, 14.0, 13.0))
    return _smooth_max([dome, temporal], 4.0), hemisphere, _smooth_max([stem, pons], 3.0)


def _displaced(points: tuple[np.ndarray, ...], plan: "_TumourPlan") -> tuple[list[np.ndarray], np.ndarray]:
    """Points before the tumour pushed tissue outwards, and nearness to the tumour in [0, 1]."""
    offsets = [p - c for p, c in zip(points, plan.centre_mm, strict=True)]
    near = np.exp(-sum(o * o for o in offsets) / (2 * plan.reach_mm**2))
    return [p - plan.mass_effect * near * o for p, o in zip(points, offsets, strict=True)], near


def _gyri(head: _Head, points: list[np.ndarray], depth: np.ndarray, rng: Generator) -> np.ndarray:
    """Distance in mm to sulci: zero sets of a band-limited field, drawn along the radius, down to a varying depth."""
    pattern = head.field(rng, 4.0)
    pattern = pattern - head.blur(pattern, 5.0)
    radius = np.sqrt(sum(p * p for p in points))
    stretch = 1 + 0.6 * np.clip(depth, 0, None) / np.maximum(radius, 5)
    index = [p * stretch / mm + (n - 1) / 2 for p, mm, n in zip(points, head.voxel_mm, head.shape, strict=True)]
    pattern = ndimage.map_coordinates(pattern, index, order=1, mode="nearest")
    floor = np.clip(16 + 5 * head.field(rng, 6), 5, 30)
    return np.hypot(_distance_to_zero(head, pattern), np.maximum(depth - floor, 0))


def _fissure(across: np.ndarray, points: list[np.ndarray]) -> np.ndarray:
    """Distance to the interhemispheric fissure, which ends at the corpus callosum and what lies below it."""
    callosum = _ellipsoid((np.zeros(1), points[1] + 4, points[2] - 2), (1.0, 42.0, 26.0))
    return np.hypot(across, np.maximum(callosum, 0))


def _sylvian(points: list[np.ndarray]) -> np.ndarray:
    """Distance to the lateral fissures, which rise backwards and end at the insula."""
    x, y, z = points
    return np.sqrt((0.93 * (z + 7 + 0.4 * y)) ** 2 + np.maximum(41 - np.abs(x), 0) ** 2 + _beyond(y + 5, 33) ** 2)


def _folia(depth: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Distance to the cerebellum's fine fissures, which fan out from its white matter."""
    angle, radius = np.arctan2(z + 41, -22 - y), np.hypot(z + 41, -22 - y)
    width = 4.5 / 24
    return np.hypot(np.abs((angle / width) % 1 - 0.5) * width * radius, np.maximum(depth - 12, 0))


def _ventricle_depth(points: list[np.ndarray], wider_mm: float) -> np.ndarray:
    x, y, z = points
    mirrored = (np.abs(x), y, z)
    tubes = [
        _capsule(mirrored, (start, r0 + wider_mm), (end, r1 + wider_mm / 2))
        for path in (_VENTRICLE_PATH, _TEMPORAL_HORN_PATH)
        for (start, r0), (end, r1) in itertools.pairwise(path)
    ]
    third = _ellipsoid((x, y + 3, z + 1), (1.8 + wider_mm / 2, 14.0, 9.0))
    fourth = _ellipsoid((x, y + 30, z + 42), (5.0, 4.0, 8.0))
    # the septum keeps the two sides apart
    return np.maximum.reduce([np.minimum(np.maximum.reduce(tubes), np.abs(x) - 0.7), third, fourth])


def _deep_grey(points: list[np.ndarray], voxel_mm: float) -> np.ndarray:
    x, y, z = points
    nuclei = [_ellipsoid((np.abs(x) - cx, y - cy, z - cz), semi) for (cx, cy, cz), semi in _DEEP_GREY]
    return _inside(np.maximum.reduce(nuclei), voxel_mm)


def _vessels(
    head: _Head, depth: np.ndarray, folds: np.ndarray, across: np.ndarray, ventricles: np.ndarray, rng: Generator
) -> np.ndarray:
    """Fraction of what enhances without a tumour: sinus, surface veins, patches of dura, choroid plexus."""
    y, z = head.points[1:]
    sinus = np.minimum(3.0 - np.abs(across), np.where(z > 0, 5 - depth, -9))
    veins = 1.0 - np.hypot(_distance_to_zero(head, head.field(rng, 5)), folds)
    veins = np.where((depth > 0) & (depth < 18), veins, -9)
    dura = np.minimum(1.5 - depth, 3 * (head.field(rng, 6) - 1.0))
    plexus = 0.6 - _distance_to_zero(head, head.field(rng, 4))
    plexus = np.where((ventricles > 0.5) & (y < 5) & (y > -38), plexus, -9)
    return 0.9 * _inside(np.maximum.reduce([sinus, veins, dura, plexus]), head.resolution_mm)


def _distance_to_zero(head: _Head, field: np.ndarray) -> np.ndarray:
    """First-order distance in mm to the surfaces where a field is 0."""
    slope = np.sqrt(sum(g * g for g in np.gradient(field, *head.voxel_mm)))
    return np.abs(field) / np.maximum(slope, 0.5 * slope.mean())


def _ellipsoid(offsets: tuple[np.ndarray, ...], semi_mm: tuple, power: float = 2.0) -> np.ndarray:
    """First-order depth in mm below the surface of an axis-aligned (super)ellipsoid."""
    scaled = [np.abs(o / s) ** power for o, s in zip(offsets, semi_mm, strict=True)]
    radius = np.maximum(sum(scaled), 1e-6) ** (1 / power)
    # gradient of the radius along an axis: radius^(1 - power) |o / s|^power / |o|
    steps = [q / np.maximum(np.abs(o), 1e-3) for q, o in zip(scaled, offsets, strict=True)]
    slope = radius ** (1 - power) * np.sqrt(sum(s * s for s in steps))
    return (1 - radius) / np.maximum(slope, 1e-3)


def _capsule(points: tuple, start: tuple, end: tuple) -> np.ndarray:
    """Depth in mm below the surface of a tube between two (point, radius) ends."""
    (a, radius_a), (b, radius_b) = start, end
    axis = np.subtract(b, a)
    along = sum((p - c) * d for p, c, d in zip(points, a, axis, strict=True)) / (axis @ axis)
    along = np.clip(along, 0, 1)
    distance = np.sqrt(sum((p - c - along * d) ** 2 for p, c, d in zip(points, a, axis, strict=True)))
    return radius_a + along * (radius_b - radius_a) - distance


def _smooth_max(depths: list[np.ndarray], blend_mm: float) -> np.ndarray:
    top = np.maximum.reduce(depths)
    return top + blend_mm * np.log(sum(np.exp((d - top) / blend_mm) for d in depths))


def _beyond(distance: np.ndarray, limit: float) -> np.ndarray:
    return np.maximum(np.abs(distance) - limit, 0)


def _inside(depth: np.ndarray, voxel_mm: float) -> np.ndarray:
    """Fraction of a voxel that lies inside a surface at depth 0."""
    return np.clip(depth / voxel_mm + 0.5, 0, 1)


def _ribbon(depth: np.ndarray, folds: np.ndarray, width: np.ndarray | float, voxel_mm: float) -> np.ndarray:
    """Fraction of a voxel deeper than ``width`` below the hull and on both sides of the folds' sheets."""
    half = voxel_mm / 2
    covered = (np.clip(folds + half, -width, width) - np.clip(folds - half, -width, width)) / voxel_mm
    return np.minimum(_inside(depth - width, voxel_mm), 1 - covered)


# --- tumour -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _TumourPlan:
    """Where the tumour sits and what it is made of, in the head frame."""

    centre_mm: tuple[float, ...]
    volume_ml: float
    core_fraction: float
    necrotic_fraction: float
    raggedness: float
    mass_effect: float

    @property
    def core_radius_mm(self) -> float:
        return (3000 * self.volume_ml * self.core_fraction / (4 * np.pi)) ** (1 / 3)

    @property
    def reach_mm(self) -> float:
        """Distance over which the mass effect fades."""
        return 12 + self.core_radius_mm


def _plan_tumour(volume_ml: float | None, rng: Generator) -> _TumourPlan:
    side = rng.choice([-1.0, 1.0])
    centre = rng.uniform((20, -48, -18), (46, 50, 42))
    while np.sum((centre / (60, 74, 60)) ** 2) > 0.8:
        centre = rng.uniform((20, -48, -18), (46, 50, 42))
    drawn_ml = np.exp(rng.uniform(*np.log(DRAWN_TUMOUR_ML)))
    solid = rng.random() < 0.3
    return _TumourPlan(
        centre_mm=tuple((centre * (side, 1, 1)).tolist()),
        volume_ml=float(drawn_ml if volume_ml is None else volume_ml),
        core_fraction=rng.uniform(0.15, 0.55),
        necrotic_fraction=rng.uniform(0.1, 0.3) if solid else rng.uniform(0.35, 0.8),
        raggedness=rng.uniform(0.2, 0.8),
        mass_effect=rng.uniform(0.0, 0.35),
    )


def _grow_tumour(head: _Head, anatomy: _Anatomy, plan: _TumourPlan, rng: Generator) -> np.ndarray:
    """Label map uint8 `(X, Y, Z)`: a bumpy core, necrotic where deep, in oedema that follows white matter.

    Each part takes the best voxels by a score, so that volumes are as planned whatever the shape.
    """
    side = np.sign(plan.centre_mm[0])
    tissue = (anatomy.grey + anatomy.white > 0.5) & (anatomy.cerebrum_depth > 1)
    ipsilateral = tissue & (side * anatomy.across > 1)
    voxels = plan.volume_ml * 1000 / np.prod(head.voxel_mm)
    core_voxels = max(4, round(voxels * plan.core_fraction))
    radius = plan.core_radius_mm

    bumps = 0.17 * head.field(rng, 0.4 * radius + 1) + 0.04 * head.field(rng, 2.5)
    core = _best(radius * bumps - _distance_to(head, plan.centre_mm, rng), ipsilateral, core_voxels)

    # where the noise wins over the depth, the rim breaks
    depth = ndimage.distance_transform_edt(core, head.voxel_mm)
    ragged = plan.raggedness * (head.field(rng, 0.35 * radius + 1) + 0.3 * head.field(rng, 1.5))
    rim_mm = radius * (1 - plan.necrotic_fraction ** (1 / 3))
    necrotic_voxels = min(max(2, round(core_voxels * plan.necrotic_fraction)), core_voxels - 2)
    necrotic = _best(depth + rim_mm * ragged, core, necrotic_voxels)

    distance = ndimage.distance_transform_edt(~core, head.voxel_mm)
    crossing = 15 * (side * anatomy.across < 1)
    fingers = 5 * head.field(rng, 6)
    spread = _best(
        fingers - distance - crossing - 14 * head.blur(anatomy.grey, 1.5),
        tissue & ~core,
        max(4, round(voxels) - core_voxels),
    )
    spread = ndimage.binary_propagation(core, mask=spread | core)

    label_map = np.zeros(head.shape, np.uint8)
    label_map[spread] = LABELS["oedema"]
    label_map[core] = LABELS["enhancing tumour"]
    label_map[necrotic] = LABELS["necrotic core"]
    return label_map


def _distance_to(head: _Head, centre_mm: tuple[float, ...], rng: Generator) -> np.ndarray:
    """Distance in mm from the centre, measured along randomly stretched and turned axes."""
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    stretch = np.exp(rng.uniform(-0.25, 0.25, 3))
    offsets = [p - c for p, c in zip(head.points, centre_mm, strict=True)]
    rows = (turn * stretch).T.tolist()
    return np.sqrt(sum(sum(w * o for w, o in zip(row, offsets, strict=True)) ** 2 for row in rows))


def _best(score: np.ndarray, allowed: np.ndarray, count: int) -> np.ndarray:
    """Mask of the ``count`` allowed voxels of highest score (all of them if fewer)."""
    candidates = np.flatnonzero(allowed)
    order = np.argsort(-score.ravel()[candidates], kind="stable")
    mask = np.zeros(score.size, bool)
    mask[candidates[order[:count]]] = True
    return mask.reshape(score.shape)


def _tissue_fractions(head: _Head, anatomy: _Anatomy, label_map: np.ndarray, rng: Generator) -> dict[str, np.ndarray]:
    """Fractions `(X, Y, Z)` of every tissue; they sum to 1 in the brain and to 0 outside."""
    core = (label_map == LABELS["necrotic core"]) | (label_map == LABELS["enhancing tumour"])
    lesion = {name: head.blur((label_map == value).astype(np.float32), 0.6) for name, value in LABELS.items()}
    # infiltration thins out away from the core
    distance = ndimage.distance_transform_edt(~core, head.voxel_mm).astype(np.float32)
    lesion["oedema"] *= np.clip(0.5 + 0.4 * np.exp(-distance / 15) + 0.12 * head.field(rng, 5), 0.2, 1)
    lesion = {name: fraction * (1 - anatomy.vessel) * anatomy.brain for name, fraction in lesion.items()}
    healthy = 1 - anatomy.vessel - sum(lesion.values())
    fractions = {name: getattr(anatomy, name) * healthy for name in ("csf", "grey", "white")}
    return fractions | {"vessel": anatomy.vessel} | lesion


# --- signal -----------------------------------------------------------------------------------------------------------


def _relaxed(tissue: Tissue, factor: float) -> Tissue:
    return replace(tissue, t1_ms=tissue.t1_ms * factor, t2_ms=tissue.t2_ms * factor)


def _ideal_image(
    fractions: Mapping[str, np.ndarray],
    tissues: Mapping[str, Tissue],
    protocol: Protocol,
    water: np.ndarray,
    uptake: np.ndarray,
) -> np.ndarray:
    """Noiseless image `(X, Y, Z)`: the tissues' signals by their fractions, varied by local water and uptake."""
    image = np.zeros(water.shape, np.float32)
    for name, fraction in fractions.items():
        tissue = tissues[name]
        signal = tissue_signal(tissue, protocol, uptake if name == "enhancing tumour" else 1.0)
        # texture to first order: longer relaxation times where there is more water
        slope = tissue_signal(_relaxed(tissue, 1 + tissue.texture), protocol) - tissue_signal(tissue, protocol)
        image += fraction * (signal + np.float32(slope) * water)
    return image


# --- acquisition ------------------------------------------------------------------------------------------------------


def _acquire(
    head: _Head, fractions: Mapping[str, np.ndarray], brain: np.ndarray, rng: Generator
) -> dict[str, np.ndarray]:
    """Images as a scanner gives them, per sequence, on the intensity scale of its own."""
    tissues = {name: _relaxed(t, float(np.exp(t.spread * rng.standard_normal()))) for name, t in TISSUES.items()}
    water = 0.7 * head.field(rng, 1.0) + 0.7 * head.field(rng, 4.0)
    uptake = np.clip(1 + 0.4 * head.field(rng, 3.0), 0.2, None)
    return {
        name: _scan(head, _ideal_image(fractions, tissues, _jittered(PROTOCOLS[name], rng), water, uptake), brain, rng)
        for name in SEQUENCES
    }


def _jittered(protocol: Protocol, rng: Generator) -> Protocol:
    """The protocol as one of many sites sets it."""
    tr, te, ti = np.exp((0.08, 0.08, 0.05) * rng.standard_normal(3)).tolist()
    ti_ms = None if protocol.ti_ms is None else protocol.ti_ms * ti
    return Protocol(protocol.tr_ms * tr, protocol.te_ms * te, ti_ms, protocol.enhanced)


def _scan(head: _Head, image: np.ndarray, brain: np.ndarray, rng: Generator) -> np.ndarray:
    """Blur, coil bias, slices, Rician noise, background and scale; positive in the brain, 0 outside."""
    image = head.blur(image, rng.uniform(0.3, 0.7)) * np.exp(0.06 * head.field(rng, 35))
    slice_mm = rng.choice([1.0, 3.0, 5.0], p=[0.4, 0.3, 0.3])
    step = max(1, round(slice_mm / head.voxel_mm[2]))
    slices = ndimage.uniform_filter1d(image, step, axis=2)[:, :, ::step]
    level = rng.uniform(0.015, 0.04) * image[brain].mean()
    real, imaginary = level * rng.standard_normal((2, *slices.shape), dtype=np.float32)
    slices = np.hypot(slices + real, imaginary)
    heights = np.arange(0, image.shape[2]) / step
    image = _interpolated(slices, heights)
    scale = np.exp(rng.uniform(np.log(200), np.log(1200))) / image[brain].mean()
    return np.where(brain, np.maximum(image * scale, 1), 0).astype(np.float32)


def _interpolated(slices: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Slices `(X, Y, S)` at fractional slice indices, linearly; the last slice continues."""
    below = np.minimum(heights.astype(int), slices.shape[2] - 1)
    above = np.minimum(below + 1, slices.shape[2] - 1)
    weight = (heights - below).clip(0, 1).astype(np.float32)
    return slices[:, :, below] * (1 - weight) + slices[:, :, above] * weight
