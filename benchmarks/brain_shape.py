"""Make ``lckd/pacs/brain_shape.npz``: the mean simulated brain and how simulated brains differ from it.

lckd simulate BRAINS --count 8 --seed 3000 --tumour_ml 0 --sequences t1
lckd simulate BRAINS --count 8 --seed 3100 --tumour_ml 0 --sequences t1
python benchmarks/brain_shape.py BRAINS bundle/lckd/pacs/brain_shape.npz

No patient's image is in it: these commands give the shipped file byte for byte. Only the outline of the brains is used.
Each brain counts with its mirror image. The simulator's frontal lobes all hang about 10 mm lower than those of adults
do, into the orbits, where all is as bright as brain; so their floor is lifted, by another amount in each brain, and its
height becomes something that varies. The file holds the mean signed distance on a coarse grid, points on its surface
with normals, and principal components of the brains' distances from these points, each times its standard deviation.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from tqdm import tqdm

from lckd.datalist import find_studies
from lckd.errors import sentences
from lckd.images import Image, read_image
from lckd.pacs.registration import Grid, resample
from lckd.sequences import SEQUENCES

SPACING_MM = 4.0
FIELD_MM = (180.0, 220.0, 180.0)
FURTHEST_MM = 31.0
LIFTS_MM = (0.0, 16.0)
"""Of the frontal lobes' floor."""
POINTS, MODES = 1600, 10


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    studies = list(find_studies(options.studies))
    brains = [lifted(brain_of(item), rng.uniform(*LIFTS_MM)) for item in tqdm(studies, unit="study")]
    centre = np.mean([centre_mm(brain) for brain in brains], axis=0)
    affine = np.diag([SPACING_MM] * 3 + [1.0])
    affine[:3, 3] = -np.array(FIELD_MM) / 2
    grid = Grid(tuple(int(length / SPACING_MM) + 1 for length in FIELD_MM), affine)
    distances = np.array([signed_distance(brain, centre, grid) for brain in brains])
    distances = np.concatenate([distances, distances[:, ::-1]])
    mean = ndimage.gaussian_filter(distances.mean(axis=0), 0.6)
    points, normals = surface_of(mean, affine)
    index = ((points - affine[:3, 3]) / SPACING_MM).T
    offsets = -np.array([ndimage.map_coordinates(distance, index, order=1) for distance in distances]).clip(-15, 15)
    _, values, components = np.linalg.svd(offsets - offsets.mean(axis=0), full_matrices=False)
    deviations = values[:MODES] / np.sqrt(len(offsets))
    print(f"{MODES} modes explain {np.sum(values[:MODES] ** 2) / np.sum(values**2):.0%} of the variance")
    np.savez_compressed(
        options.output,
        distance_quarter_mm=np.round(4 * mean.clip(-FURTHEST_MM, FURTHEST_MM)).astype(np.int8),
        affine=affine,
        points=points.astype(np.float16),
        normals=normals.astype(np.float16),
        modes=(components[:MODES] * deviations[:, None]).T.astype(np.float16),
    )


def brain_of(item: dict) -> Image:
    """The brain's mask, filled, with a margin."""
    images = [read_image(item[name]) for name in SEQUENCES if name in item]
    mask = ndimage.binary_fill_holes(np.any([image.array > 0 for image in images], axis=0))
    affine = images[0].affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.full(3, 20.0)
    return Image(np.pad(mask, 20).astype(np.float32), affine)


def lifted(brain: Image, lift_mm: float) -> Image:
    """The brain with the floor of its frontal lobes ``lift_mm`` higher; the temporal poles beside it stay."""
    shape, spacing, origin = brain.array.shape, np.diag(brain.affine), brain.affine[:3, 3]
    x, y, z = np.ogrid[tuple(slice(n) for n in shape)]
    x, y, z = x * spacing[0] + origin[0], y * spacing[1] + origin[1], z * spacing[2] + origin[2]
    begins = 5 + 33 * smooth_step(np.abs(x) / 25)  # before the temporal poles in the middle, beyond them at the sides
    share = smooth_step((y - begins) / 12) * smooth_step((15 - z) / 45)
    index = np.indices(shape, np.float32)
    index[2] -= lift_mm * share / spacing[2]
    return Image(ndimage.map_coordinates(brain.array, index, order=1, mode="nearest") > 0.5, brain.affine)


def smooth_step(value: NDArray) -> NDArray[np.float64]:
    """From 0 at 0 to 1 at 1, without edges."""
    value = np.clip(value, 0, 1)
    return value * value * (3 - 2 * value)


def centre_mm(brain: Image) -> NDArray[np.float64]:
    """Centroid in the world."""
    return np.argwhere(brain.array > 0).mean(axis=0) @ brain.affine[:3, :3].T + brain.affine[:3, 3]


def signed_distance(brain: Image, centre: NDArray, grid: Grid) -> NDArray[np.float32]:
    """Distance in mm from the brain's surface, negative inside, on ``grid`` about ``centre``."""
    inside = brain.array > 0
    distance = ndimage.distance_transform_edt(~inside) - ndimage.distance_transform_edt(inside)
    affine = brain.affine.copy()
    affine[:3, 3] -= centre
    return resample(Image(distance.astype(np.float32), affine), None, grid, outside=40.0).array


def surface_of(distance: NDArray, affine: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points `(N, 3)` in mm spread over the surface, and outward normals."""
    edge = np.abs(distance) < 0.55 * SPACING_MM
    slopes = np.stack(np.gradient(distance, SPACING_MM), axis=-1)[edge]
    normals = slopes / np.linalg.norm(slopes, axis=1, keepdims=True)
    points = np.argwhere(edge) * SPACING_MM + affine[:3, 3] - normals * distance[edge][:, None]
    chosen = np.random.default_rng(0).permutation(len(points))[:POINTS]
    return points[chosen], normals[chosen]


if __name__ == "__main__":
    with sentences():
        main()
