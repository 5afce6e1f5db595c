"""Dice of the built-in brain extraction in simulated heads, for each sequence alone and for all together.

python benchmarks/brain_extraction.py             # a row per subset; `--heads 4` for a quick look
"""

import argparse
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from lckd.errors import sentences
from lckd.images import Image
from lckd.pacs.brain_extraction import extract_brain
from lckd.pacs.simulated_head import SimulatedHead, simulate_head
from lckd.sequences import SEQUENCES, reference_sequence, subset_name
from lckd.simulation import simulate_study

SHAPE, SPACING_MM = (96, 117, 96), (1.5, 1.5, 1.5)


def main() -> None:
    """Print a row per subset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=int, default=24)
    found = defaultdict(list)
    for seed in tqdm(range(parser.parse_args().heads), unit="head"):
        head, tumour = simulated(seed)
        for subset in [*((name,) for name in SEQUENCES), SEQUENCES]:
            images = {name: Image(head.images[name], head.affine) for name in subset}
            mask = extract_brain(images, reference_sequence(subset), hd_bet=False).mask
            dice = 2 * (mask & head.brain).sum() / (mask.sum() + head.brain.sum())
            found[subset_name(subset)].append((dice, mask.sum() / head.brain.sum(), mask[tumour].mean()))
    for subset, figures in found.items():
        dice, volume, kept = np.array(figures).T
        print(
            f"{subset}: Dice {dice.mean():.3f}, least {dice.min():.3f}; volume {volume.mean():.2f} of the truth, "
            f"{volume.min():.2f} to {volume.max():.2f}; tumour inside {kept.mean():.1%}, least {kept.min():.1%}"
        )
    alone = np.array([figures for name, figures in found.items() if name in SEQUENCES])[..., 0]
    print(f"one sequence alone: Dice {alone.mean():.3f}; {(alone >= 0.95).mean():.0%} of {alone.size} at least 0.95")


def simulated(seed: int) -> tuple[SimulatedHead, NDArray[np.bool_]]:
    """A head and its tumour's mask."""
    study = simulate_study(SHAPE, SPACING_MM, seed=seed)
    head = simulate_head(study, seed=seed)
    margin = [(n - m) // 2 for n, m in zip(head.brain.shape, study.label_map.shape, strict=True)]
    return head, np.pad(study.label_map > 0, [(m, m) for m in margin])


if __name__ == "__main__":
    with sentences():
        main()
