"""Which postprocessing helps: mean Dice of the 15 subsets on validation studies under one rule at a time.

python benchmarks/postprocessing.py DATA/val --weights RUN/best.pt
"""

import argparse
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from monai.metrics import compute_dice
from tqdm import tqdm

from lckd.datalist import find_studies
from lckd.errors import sentences
from lckd.evaluation import table_row
from lckd.postprocessing import NO_POSTPROCESSING, Postprocessing
from lckd.report import voxel_ml_of
from lckd.segmentation import Segmenter
from lckd.sequences import REGIONS
from lckd.subset_evaluation import SubsetEvaluation
from lckd.transforms import regions_of

RULES: dict[str, Postprocessing] = {
    "none": NO_POSTPROCESSING,
    **{
        f"{region.upper()} threshold {value}": replace(
            NO_POSTPROCESSING, threshold={**NO_POSTPROCESSING.threshold, region: value}
        )
        for region in REGIONS
        for value in (0.3, 0.4, 0.6, 0.7)
    },
    **{
        f"lesions of at least {ml} mL": replace(NO_POSTPROCESSING, smallest_lesion_ml=ml)
        for ml in (0.1, 0.5, 1.0, 2.0, 5.0)
    },
    **{
        f"ET of at least {ml} mL": replace(NO_POSTPROCESSING, smallest_enhancing_ml=ml)
        for ml in (0.1, 0.25, 0.5, 1.0, 2.0)
    },
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, help="labelled studies; never those of a test split")
    parser.add_argument("--weights", type=Path, help="other weights than the shipped ones")
    options = parser.parse_args()
    segmenter = Segmenter(weights=options.weights)
    evaluation = SubsetEvaluation(segmenter, output_dir=".")
    dice: dict[str, list[list[float]]] = defaultdict(list)
    for item in tqdm(find_studies(options.studies), unit="study"):
        loaded = segmenter.loading(dict(item))
        target = regions_of(loaded["label"].as_tensor()).bool()[None]
        voxel_ml = voxel_ml_of(loaded["image"].affine.numpy())
        for _, probabilities in evaluation.probabilities(loaded):
            for name, rule in RULES.items():
                prediction = regions_of(rule(probabilities, voxel_ml))[None]
                dice[name].append(compute_dice(prediction, target, ignore_empty=False)[0].tolist())
    print(table_row(["rule", *(region.upper() for region in REGIONS), "mean"]))
    print(table_row(["---"] * (2 + len(REGIONS))))
    for name, rows in dice.items():
        means = 100 * np.mean(rows, axis=0)
        print(table_row([name, *(f"{value:.2f}" for value in means), f"{means.mean():.2f}"]))


if __name__ == "__main__":
    with sentences():
        main()
