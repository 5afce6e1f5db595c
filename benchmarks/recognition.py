"""How often the sequence of a volume is recognized by its voxels, and the numbers that do it.

python benchmarks/recognition.py DATA/train --check DATA/val    # accuracy
python benchmarks/recognition.py DATA/train --write             # make recognition.json in monailabel_app/lib
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from lckd.datalist import find_studies
from lckd.errors import sentences
from lckd.files import write_json
from lckd.images import Image, read_image
from lckd.sequences import SEQUENCES
from lckd.simulation import simulate_study

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "monailabel_app"))  # as MONAI Label does

from lib.recognition import DISCRIMINANT, features_of

SIMULATED = 12
"""Simulated studies among the training ones: other scanners than theirs."""

SHRINKAGE = 0.1
"""Of the covariance towards a multiple of the identity; there are about as many features as volumes."""


def main() -> None:
    """Print the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, help="to learn from")
    parser.add_argument("--check", type=Path, help="other studies")
    parser.add_argument("--write", action="store_true", help="keep what was learnt")
    options = parser.parse_args()
    features, sequences, studies = read(options.studies)
    simulated, its_sequences, _ = simulate(range(SIMULATED))
    guesses = np.empty_like(sequences)
    for study in np.unique(studies):
        left = studies != study
        model = fit(np.concatenate([features[left], simulated]), np.concatenate([sequences[left], its_sequences]))
        guesses[~left] = guess(model, features[~left])
    report("each study by the others", sequences, guesses)
    model = fit(np.concatenate([features, simulated]), np.concatenate([sequences, its_sequences]))
    others, truth, _ = simulate(range(SIMULATED, 2 * SIMULATED))
    report("other simulated studies", truth, guess(model, others))
    if options.check:
        others, truth, _ = read(options.check)
        report(str(options.check), truth, guess(model, others))
    if options.write:
        weights, bias = model
        rounded = {name: weights[row].round(4).tolist() for row, name in enumerate(SEQUENCES)}
        write_json(DISCRIMINANT, {"weights": rounded, "bias": dict(zip(SEQUENCES, bias.round(4), strict=True))})


def read(folder: Path) -> tuple[NDArray, NDArray, NDArray]:
    """Features ``(N, F)``, sequences and study ids of all volumes of a folder's studies."""
    rows = [
        (features_of(read_image(item[name])), name, item["study"])
        for item in tqdm(find_studies(folder), unit="study")
        for name in SEQUENCES
        if name in item
    ]
    return tuple(map(np.array, zip(*rows, strict=True)))


def simulate(seeds: range) -> tuple[NDArray, NDArray, NDArray]:
    """The same of simulated studies."""
    rows = []
    for seed in seeds:
        study = simulate_study(shape=(72, 88, 72), spacing_mm=(2, 2, 2), seed=seed)
        rows += [(features_of(Image(np.round(a), study.affine)), name, str(seed)) for name, a in study.images.items()]
    return tuple(map(np.array, zip(*rows, strict=True)))


def fit(features: NDArray, sequences: NDArray) -> tuple[NDArray, NDArray]:
    """Weights ``(4, F)`` and biases ``(4,)`` of the linear discriminant with a shrunken covariance."""
    means = np.stack([features[sequences == name].mean(0) for name in SEQUENCES])
    centred = np.concatenate([features[sequences == name] - means[row] for row, name in enumerate(SEQUENCES)])
    covariance = centred.T @ centred / len(centred)
    target = np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    weights = means @ np.linalg.inv((1 - SHRINKAGE) * covariance + SHRINKAGE * target)
    return weights, -0.5 * (weights * means).sum(1)


def guess(model: tuple[NDArray, NDArray], features: NDArray) -> NDArray:
    """Sequences of volumes."""
    weights, bias = model
    return np.array(SEQUENCES)[(features @ weights.T + bias).argmax(1)]


def report(title: str, truth: NDArray, guesses: NDArray) -> None:
    """One line."""
    each = ", ".join(f"{name} {np.mean(guesses[truth == name] == name):.0%}" for name in SEQUENCES)
    print(f"{title}: {np.sum(guesses == truth)} of {len(truth)} volumes ({np.mean(guesses == truth):.1%}); {each}")


if __name__ == "__main__":
    with sentences():
        main()
