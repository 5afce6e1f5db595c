"""What clicks can do at best: corrections by someone who knows the truth.

python benchmarks/click_limits.py DATA/test

Spheres: each is the one of any centre and radius that raises the Dice most, painted or erased. Features: the linear
combination of the decoder's features that tells a region from the rest of the whole tumour best (Fisher 1936), fitted
to every voxel of the study's own truth, at its best threshold. Both on voxels of 2 mm, with the shipped weights.
"""

from pathlib import Path

import fire
import numpy as np
from monai.transforms import Compose
from numpy.typing import NDArray
from scipy.signal import fftconvolve
from tqdm import tqdm

from lckd.click_evaluation import SUBSETS
from lckd.datalist import find_studies
from lckd.errors import sentences
from lckd.evaluation import table_row
from lckd.inferer import availability_of, pad
from lckd.loading import LoadStudy
from lckd.network import LCKDNet
from lckd.refinement_training import decode_study, trained_network
from lckd.sequences import REGIONS, subset_name
from lckd.transforms import label_map_of, preprocessing, regions_of

SPHERES = 5
SHOWN = (0, 1, 2, 3, 5)
VOXEL_MM = 2
RADII_MM = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 17, 20, 25, 30)

Mask = NDArray[np.bool_]


def best_spheres(mask: Mask, truth: Mask, spheres: int = SPHERES) -> list[float]:
    """Dice before and after each sphere, greedily; 1 where both are empty."""
    mask, dice = mask.copy(), [_dice((mask & truth).sum(), mask.sum(), truth.sum())]
    balls = {radius: _ball(radius / VOXEL_MM) for radius in RADII_MM}
    for _ in range(spheres):
        best: tuple[float, bool, float, tuple[int, ...]] | None = None
        for radius, ball in balls.items():
            for painted in (True, False):
                # Voxels that a sphere at each place would change, within the truth and in all.
                right, changed = (_counts(part & (mask ^ painted), ball) for part in (truth, np.ones_like(truth)))
                sign = 1 if painted else -1
                after = _dice((mask & truth).sum() + sign * right, mask.sum() + sign * changed, truth.sum())
                place = np.unravel_index(after.argmax(), after.shape)
                if best is None or after[place] > best[0]:
                    best = float(after[place]), painted, radius, place
        assert best is not None
        if best[0] > dice[-1]:
            offsets = np.moveaxis(np.indices(mask.shape), 0, -1) - best[3]
            mask[(offsets**2).sum(-1) <= (best[2] / VOXEL_MM) ** 2] = best[1]
        dice.append(max(dice[-1], best[0]))
    return dice


def best_combination(features: NDArray, inside: Mask, truth: Mask) -> float:
    """Dice of the best threshold of Fisher's discriminant of ``features`` ``(C, x, y, z)`` within ``inside``."""
    samples, is_region = features[:, inside].T.astype(np.float64), truth[inside]
    if not is_region.any() or is_region.all():
        return 1.0
    groups = samples[is_region], samples[~is_region]
    scatter = sum(np.cov(group.T, bias=True) for group in groups) + 1e-6 * np.eye(samples.shape[1])
    direction = np.linalg.solve(scatter, groups[0].mean(0) - groups[1].mean(0))
    found = is_region[np.argsort(-samples @ direction)].cumsum()
    return float(_dice(found, np.arange(1, len(found) + 1), is_region.sum()).max())


def _dice(both: NDArray, predicted: NDArray, truth: NDArray) -> NDArray:
    return (2 * both + 1e-3) / (predicted + truth + 1e-3)


def _ball(radius: float) -> NDArray:
    side = np.arange(-int(radius), int(radius) + 1)
    return (sum(axis**2 for axis in np.meshgrid(side, side, side)) <= radius**2).astype(np.float32)


def _counts(mask: Mask, ball: NDArray) -> NDArray:
    """Voxels of the mask in a ball around each voxel."""
    return fftconvolve(mask.astype(np.float32), ball, mode="same").round()


def main(studies: str) -> None:
    """Print mean Dice in % of the studies that have all four sequences and a label map.

    Args:
        studies: folder of study folders.
    """
    network = trained_network(LCKDNet())
    divisor = network.encoder.divisor
    half = (..., *[slice(None, None, VOXEL_MM)] * 3)
    items = [item for item in find_studies(Path(studies)) if "label" in item]
    lines = [table_row(["sequences", "region", *(f"{count} spheres" for count in SHOWN), "features"])]
    lines.append(table_row(["---"] * (len(SHOWN) + 3)))
    for subset in SUBSETS:
        load = Compose([LoadStudy(subset), preprocessing(label=True)])
        dice: dict[str, list[list[float]]] = {region: [] for region in REGIONS}
        for item in tqdm(items, desc=subset_name(subset), unit="study"):
            study = load(dict(item))
            image, label = (pad(study[key].as_tensor()[None], divisor)[0] for key in ("image", "label"))
            decoded = decode_study(network, image, availability_of(subset), amp=True)
            truth, predicted = (
                regions_of(labels)[half].numpy() for labels in (label[0], label_map_of(decoded.logits > 0))
            )
            features, whole = decoded.features.float().numpy(), truth[REGIONS.index("wt")]
            for region, mask, wanted in zip(REGIONS, predicted, truth, strict=True):
                known = np.nan if region == "wt" else best_combination(features, whole, wanted)
                dice[region].append([*best_spheres(mask, wanted), known])
        for region, rows in dice.items():
            *painted, known = 100 * np.mean(rows, 0)
            cells = [f"{painted[count]:.1f}" for count in SHOWN] + ["" if np.isnan(known) else f"{known:.1f}"]
            lines.append(table_row([subset_name(subset).replace("+", " + "), region.upper(), *cells]))
    print("\n".join(lines))


if __name__ == "__main__":
    with sentences():
        fire.Fire(main)
