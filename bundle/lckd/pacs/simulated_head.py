"""A simulated brain inside a head: skull, marrow, scalp, muscle, eyes and air around it, as a scanner shows them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from lckd.simulation import PROTOCOLS, TISSUES, Protocol, SimulatedStudy, Tissue, tissue_signal

MARGIN_MM: Final = (32.0, 32.0, 40.0)
"""Of the head around the brain's field of view."""

AROUND: Final = {
    "csf": TISSUES["csf"],
    "dura": Tissue(900, 50, 0.70, 0.30, 0.1, 0.0),
    "bone": Tissue(500, 1, 0.10, 0.00, 0.1, 0.0),
    "marrow": Tissue(300, 65, 0.75, 0.02, 0.1, 0.0),
    "fat": Tissue(260, 75, 0.95, 0.00, 0.1, 0.0),
    "muscle": Tissue(900, 40, 0.80, 0.08, 0.1, 0.0),
    "skin": Tissue(700, 40, 0.75, 0.10, 0.1, 0.0),
    "vitreous": Tissue(3500, 1000, 1.00, 0.00, 0.05, 0.0),
    "air": Tissue(1000, 1, 0.0, 0.0, 0.0, 0.0),
}
"""Tissues outside the brain at 1.5 T; fat as fast spin echoes show it."""


@dataclass(frozen=True)
class SimulatedHead:
    """A study with its skull.

    Attributes:
        images: per sequence float32 `(X, Y, Z)`.
        brain: the true mask `(X, Y, Z)`.
        affine: `(4, 4)` voxel to RAS world in mm.
    """

    images: dict[str, NDArray[np.float32]]
    brain: NDArray[np.bool_]
    affine: NDArray[np.float64]


def simulate_head(study: SimulatedStudy, seed: int = 0) -> SimulatedHead:
    """Put a head around a study's brain; the brain's own voxels stay as they are.

    Args:
        study: of `simulate_study`, whose spacing is the true size.
        seed: of the head's anatomy and noise.
    """
    rng = np.random.default_rng(seed)
    spacing = np.linalg.norm(study.affine[:3, :3], axis=0)
    margin = [round(m / s) for m, s in zip(MARGIN_MM, spacing, strict=True)]
    pad = [(m, m) for m in margin]
    brain = np.pad(study.images["t1"] > 0, pad)
    affine = study.affine.copy()
    affine[:3, 3] -= study.affine[:3, :3] @ margin
    tissues = _tissues(brain, affine, spacing, rng)
    bias = np.exp(rng.uniform(0.05, 0.2) * _field(brain.shape, 50 / spacing, rng))
    images = {
        name: _scanned(np.pad(image, pad), brain, tissues, PROTOCOLS[name], 0.5 / spacing, rng) * bias
        for name, image in study.images.items()
    }
    return SimulatedHead(images, brain, affine)


def _tissues(brain: NDArray, affine: NDArray, spacing: NDArray, rng: Generator) -> dict[str, NDArray[np.bool_]]:
    """Mask per tissue of ``AROUND``; they cover what is not brain."""
    index = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in brain.shape), indexing="ij", sparse=True)
    x, y, z = (i * s + o for i, s, o in zip(index, spacing, affine[:3, 3], strict=True))
    outside = ndimage.distance_transform_edt(~brain, sampling=spacing).astype(np.float32)

    def thickness(low: float, high: float) -> NDArray:
        middle = rng.uniform(low, high)
        return np.maximum(middle + 0.25 * (high - low) * _field(brain.shape, 12 / spacing, rng), 0.3 * low)

    widths = {
        "csf": thickness(0.5, 3.0),
        "dura": thickness(0.5, 1.2),
        "inner table": thickness(1.5, 3.0),
        "marrow": thickness(1.0, 5.0),
        "outer table": thickness(1.5, 2.5),
        "fat": thickness(2.0, 7.0),
        "skin": thickness(1.5, 2.5),
    }
    edges = dict(zip(widths, np.cumsum(list(widths.values()), axis=0), strict=True))
    floor = (z < -25) & (y < 40) | (z < -40)  # below the skull's base
    head = (outside < edges["skin"]) & ~floor | _within((x, y, z), (0, 52, -58), (58, 44, 62))
    head |= (z < -25) & ((x / 62) ** 2 + ((y + 22) / 70) ** 2 < 1) | brain
    depth = ndimage.distance_transform_edt(head, sampling=spacing)
    patches = _field(brain.shape, 5 / spacing, rng)
    deep = {"muscle": patches > -0.4, "fat": patches < -0.4, "bone": patches < -1.0}
    masks = [("air", np.ones(brain.shape, bool)), ("skin", head), ("fat", depth > 2)]
    masks += [(name, (depth > 6) & mask) for name, mask in deep.items()]
    masks += [("muscle", (np.abs(x) > 48) & (z < 8) & (depth > 4))]
    masks += [("bone", outside < edges["outer table"]), ("marrow", outside < edges["marrow"])]
    masks += [("bone", outside < edges["inner table"])]
    mirrored = (np.abs(x), y, z)
    masks += [
        ("fat", _within(mirrored, (29, 50, -45), (17, 25, 16))),
        ("muscle", _within(mirrored, (29, 46, -45), (3, 22, 3))),
    ]
    masks += [("vitreous", _within(mirrored, (30, 66, -46), (12, 12, 12)))]
    masks += [("air", _within((x, y, z), (0, 58, -58), (11, 28, 22)) | _within((x, y, z), (0, 28, -48), (12, 11, 8)))]
    masks += [("air", _within(mirrored, (56, -38, -44), (7, 10, 12)))]  # mastoid cells
    canal = np.hypot(x, y + 25)
    masks += [
        ("bone", (canal < 17) & (z < -60)),
        ("csf", (canal < 10) & (z < -55)),
        ("muscle", (canal < 6) & (z < -60)),
    ]
    masks += [("dura", outside < edges["dura"]), ("csf", outside < edges["csf"])]
    numbers = {name: number for number, name in enumerate(AROUND)}
    tissue = np.zeros(brain.shape, np.int8)
    for name, mask in masks:  # later ones lie in front
        tissue[np.broadcast_to(mask, brain.shape)] = numbers[name]
    return {name: (tissue == number) & ~brain for name, number in numbers.items()}


def _scanned(
    image: NDArray,
    brain: NDArray,
    tissues: Mapping[str, NDArray],
    protocol: Protocol,
    sigma: NDArray,
    rng: Generator,
) -> NDArray[np.float32]:
    """The head around a scanned brain, on the brain's intensity scale."""
    scale = float(np.median(image[brain])) / (
        0.5 * (tissue_signal(TISSUES["grey"], protocol) + tissue_signal(TISSUES["white"], protocol))
    )
    around = np.zeros(brain.shape, np.float32)
    for name, mask in tissues.items():
        factor = float(np.exp(0.2 * rng.standard_normal()))
        around += np.float32(scale * factor * tissue_signal(AROUND[name], protocol)) * mask
    around *= 1 + 0.08 * _field(brain.shape, sigma * 4, rng)
    blurred = ndimage.gaussian_filter(np.where(brain, image, around), sigma)
    level = rng.uniform(0.015, 0.04) * image[brain].mean()
    real, imaginary = level * rng.standard_normal((2, *brain.shape), dtype=np.float32)
    return np.where(brain, image, np.hypot(blurred + real, imaginary)).astype(np.float32)


def _within(points: tuple[NDArray, ...], centre: tuple[float, ...], semi_mm: tuple[float, ...]) -> NDArray[np.bool_]:
    x, y, z = (((p - c) / s) ** 2 for p, c, s in zip(points, centre, semi_mm, strict=True))
    return x + y + z < 1


def _field(shape: tuple[int, ...], sigma: NDArray, rng: Generator) -> NDArray[np.float32]:
    """Smooth Gaussian random field of mean 0 and deviation 1."""
    steps = np.maximum(1, (np.asarray(sigma) / 2).astype(int))
    nodes = rng.standard_normal(np.array(shape) // steps + 2, dtype=np.float32)
    nodes = ndimage.gaussian_filter(nodes, np.asarray(sigma) / steps, mode="wrap", truncate=3)
    nodes = ndimage.zoom((nodes - nodes.mean()) / nodes.std(), steps, order=1)
    return nodes[tuple(slice(n) for n in shape)]
