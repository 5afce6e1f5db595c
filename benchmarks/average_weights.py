"""The mean of several checkpoints' averaged weights, as a checkpoint for lckd evaluate and lckd publish.

python benchmarks/average_weights.py RUN/best.pt RUN/last.pt mean.pt
Checkpoints must come from one training, or from trainings that began with the same weights (Wortsman et al. 2022).
Election and provenance are those of the first.
"""

import argparse
from pathlib import Path

import torch

from lckd.errors import sentences
from lckd.weights import AVERAGED


def main() -> None:
    """Read, average and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    states = [torch.load(path, map_location="cpu", weights_only=True) for path in options.checkpoints]
    mean = {name: sum(state[AVERAGED][name].float() for state in states) / len(states) for name in states[0][AVERAGED]}
    torch.save({**{key: states[0][key] for key in ("election", "provenance")}, AVERAGED: mean}, options.output)


if __name__ == "__main__":
    with sentences():
        main()
