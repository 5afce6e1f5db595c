"""How exact co-registration is: mean displacement over the brain after a known motion, and the seconds it takes.

python benchmarks/registration.py                                  # simulated heads and stripped brains
python benchmarks/registration.py --labelled DATA/test             # real, co-registered studies: a known motion
python benchmarks/registration.py --unregistered DATA/raw_head     # real heads, no truth: A to B to C against A to C
"""

import argparse
import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from lckd.datalist import find_studies
from lckd.errors import sentences
from lckd.images import Image, looks_skull_stripped, read_image
from lckd.pacs.registration import Grid, Registration, head_mask, register, resample
from lckd.pacs.simulated_head import simulate_head
from lckd.sequences import SEQUENCES, sequence_of
from lckd.simulation import simulate_study

MOTION_DEGREES, MOTION_MM = 15.0, 20.0
SLICE_MM = (1, 3, 5)
"""Slice thicknesses of the moved image."""


def main() -> None:
    """Print a row per kind of image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labelled", type=Path, help="folder of co-registered studies")
    parser.add_argument("--unregistered", type=Path, help="folder of folders of sequences with skull")
    parser.add_argument("--pairs", type=int, default=24, help="per kind of image")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    if options.unregistered:
        consistency(options.unregistered)
    elif options.labelled:
        studies = [
            {name: read_image(item[name]) for name in SEQUENCES if name in item}
            for item in find_studies(options.labelled)
        ]
        recovery({"real, stripped": studies}, options.pairs, rng)
    else:
        recovery(simulated_studies(max(2, options.pairs // 6)), options.pairs, rng)


def simulated_studies(count: int) -> dict[str, list[dict[str, Image]]]:
    """Simulated studies at 1.5 mm: heads, and brains alone."""
    kinds = defaultdict(list)
    for seed in tqdm(range(count), desc="simulate"):
        study = simulate_study((96, 117, 96), (1.5, 1.5, 1.5), seed=seed)
        head = simulate_head(study, seed=seed)
        kinds["simulated, head"].append({name: Image(a, head.affine) for name, a in head.images.items()})
        kinds["simulated, stripped"].append({name: Image(a, study.affine) for name, a in study.images.items()})
    return kinds


def recovery(kinds: Mapping[str, list[dict[str, Image]]], pairs: int, rng: Generator) -> None:
    """Move one sequence of a study by a known motion and register it to another of the same study."""
    for kind, studies in kinds.items():
        errors, seconds, refused = [], [], 0
        for number in tqdm(range(pairs), desc=kind):
            study = studies[number % len(studies)]
            fixed_name, moving_name = rng.permutation(list(study))[:2]
            fixed, motion = study[fixed_name], drawn_motion(study[fixed_name], rng)
            moving = scanned_anew(study[moving_name], motion, SLICE_MM[number % len(SLICE_MM)], rng)
            found = register(moving, fixed)
            seconds.append(found.seconds)
            errors.append(displacement_mm(found.transform @ motion, fixed))
            refused += not found.accepted
            if errors[-1] > 1.5 or not found.accepted:
                tqdm.write(f"{moving_name} to {fixed_name}, {moving.array.shape}: {errors[-1]:.2f} mm; {found.reason}")
        print_row(kind, errors, seconds, refused)


def consistency(folder: Path) -> None:
    """Register all pairs of each study's sequences, and compare detours over a third with the direct way."""
    for study in sorted(path for path in folder.iterdir() if path.is_dir()):
        images = {
            name: read_image(file)
            for file in sorted(study.glob("*.nii.gz"))
            if (name := sequence_of(file.name.split(".")[0].rsplit("_", 1)[-1]))
        }
        found = {(a, b): register(images[a], images[b]) for a, b in tqdm(list(itertools.permutations(images, 2)))}
        for (a, b), registration in found.items():
            print(f"{a} to {b}: {registration.reason}")
        errors = [
            displacement_mm(np.linalg.inv(direct.transform) @ detour, images[a])
            for a, detour, direct in _detours(found)
        ]
        refused = sum(not registration.accepted for registration in found.values())
        print_row(study.name, errors, [registration.seconds for registration in found.values()], refused)


def _detours(found: Mapping[tuple[str, str], Registration]) -> Iterator[tuple[str, NDArray, Registration]]:
    """Start, transform there and back or over a third sequence, and the direct registration."""
    for (a, b), (c, d) in itertools.permutations(found, 2):
        if b == c and d == a and a < b:
            yield a, found[b, a].transform @ found[a, b].transform, Registration(np.eye(4), 0, 0, 1, 0, True, "")
        if b == c and (a, d) in found:
            yield a, found[b, d].transform @ found[a, b].transform, found[a, d]


def drawn_motion(image: Image, rng: Generator) -> NDArray[np.float64]:
    """A motion `(4, 4)` about the head's centre, uniform in angle and length up to the bars' limits."""
    axis, direction = rng.standard_normal((2, 3))
    turn = Rotation.from_rotvec(axis / np.linalg.norm(axis) * np.radians(rng.uniform(0, MOTION_DEGREES)))
    centre = brain_points(image).mean(axis=0)
    motion = np.eye(4)
    motion[:3, :3] = turn.as_matrix()
    motion[:3, 3] = centre - motion[:3, :3] @ centre
    motion[:3, 3] += direction / np.linalg.norm(direction) * rng.uniform(0, MOTION_MM)
    return motion


def scanned_anew(image: Image, motion: NDArray, slice_mm: int, rng: Generator) -> Image:
    """The moved head in slices of another grid."""
    moved = Image(image.array, motion @ image.affine)
    corners = np.array(list(itertools.product(*[(0, n - 1) for n in image.array.shape])))
    world = corners @ moved.affine[:3, :3].T + moved.affine[:3, 3]
    affine = np.eye(4)
    affine[:3, 3] = world.min(axis=0) + rng.uniform(0, 1, 3)
    shape = [int(n) for n in np.ceil(np.ptp(world, axis=0))]
    shape[2] += -shape[2] % slice_mm
    array = resample(moved, None, Grid(tuple(shape), affine)).array
    thick = ndimage.uniform_filter1d(array, slice_mm, axis=2)[:, :, slice_mm // 2 :: slice_mm]
    affine = affine @ np.diag([1.0, 1.0, slice_mm, 1.0])
    affine[2, 3] += slice_mm // 2
    return Image(thick if not looks_skull_stripped(image.array, image.affine) else thick * (thick > 1e-3), affine)


def brain_points(image: Image) -> NDArray[np.float64]:
    """World coordinates `(N, 3)` of some voxels of the head's upper part, where the brain is."""
    voxels = np.argwhere(head_mask(image))[::997]
    world = voxels @ image.affine[:3, :3].T + image.affine[:3, 3]
    return world[world[:, 2] > world[:, 2].max() - 140]


def displacement_mm(transform: NDArray, image: Image) -> float:
    """Mean distance over the brain that a transform, which should be none, moves."""
    points = brain_points(image)
    return float(np.linalg.norm(points @ transform[:3, :3].T + transform[:3, 3] - points, axis=1).mean())


def print_row(kind: str, errors: list[float], seconds: list[float], refused: int) -> None:
    """Print the figures of one kind."""
    if not errors:
        return
    median, most = np.percentile(errors, (50, 95))
    print(
        f"{kind}: {len(errors)} errors, median {median:.2f} mm, 95th percentile {most:.2f} mm, largest "
        f"{max(errors):.2f} mm; {np.median(seconds):.1f} s a pair, slowest {max(seconds):.1f} s; {refused} refused",
        flush=True,
    )


if __name__ == "__main__":
    with sentences():
        main()
