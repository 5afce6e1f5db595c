"""What distillation, election and data bring: trainings of one budget, Dice of the 15 subsets on validation and test.

    python benchmarks/ablation.py DATA --output RUNS                 # all, one after the other
    python benchmarks/ablation.py DATA --output RUNS --only lckd-m   # one; several processes may share the work
    python benchmarks/ablation.py DATA --output RUNS --only ''       # the table of what is finished
    python benchmarks/ablation.py DATA --output CURVE --overlay configs/train/coarse.yaml \
      --only 'per region,20 studies,10 studies' --set 'election#mode="per_region"' iterations=2500    # a learning curve

What is finished is not repeated, and a training that was stopped goes on. No variant sees the test split before the
end of its training, and the last averaged weights are taken, so that nothing is selected.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigParser

from lckd.errors import sentences
from lckd.files import write_json
from lckd.sequences import REGIONS
from lckd.training import TRAIN, run_training
from lckd.weights import load_weights

SMALL_BUDGET = Path(__file__).resolve().parents[1] / "configs" / "train" / "ablation.yaml"
STUDIES = "$told(find_split, @dataset_dir, 'train')[:{}]"
VARIANTS: dict[str, dict[str, Any]] = {
    "no distillation": {"election#mode": "none"},
    "distillation without election": {"election#mode": "all"},
    "lckd-s": {"election#mode": "single"},
    "lckd-m": {"election#mode": "multi"},
    "per region": {"election#mode": "per_region"},
    "flair alone": {"sequences": "flair"},
    "t1ce alone": {"sequences": "t1ce"},
    "all four alone": {"subsets#full_iterations": 10**9},
    "20 studies": {"train#dataset#data": STUDIES.format(20)},
    "10 studies": {"train#dataset#data": STUDIES.format(10)},
}
"""Each against lckd-m; the last two are points of its learning curve."""

SHOWN = ("flair", "t1ce", "flair+t1+t1ce+t2")


def dice_of(data: Path, run: Path, overlay: Path, settings: dict[str, Any], split: str) -> dict[str, dict[str, float]]:
    """Mean Dice per subset and region of the averaged weights at the end of a training."""
    parser = ConfigParser()
    parser.read_config([str(TRAIN), str(overlay)])
    parser.update({key.replace("#", "::"): value for key, value in settings.items()} | {"dataset_dir": str(data)})
    parser["validate::dataset::data"] = f"$told(find_split, @dataset_dir, '{split}')"
    parser["validate::evaluator::network"], parser["validate::handlers"] = "@network", []
    load_weights(parser.get_parsed_content("network"), run / "last.pt")
    evaluator = parser.get_parsed_content("validate#evaluator")
    evaluator.run()
    return evaluator.state.subset_dice


def markdown(results: dict[str, dict[str, Any]]) -> str:
    """Mean of the 15 subsets and three of them, ET / WT / TC in %, on both splits."""
    lines = [f"| | split | mean of 15 | {' | '.join(name.replace('+', ' + ') for name in SHOWN)} |"]
    lines.append("|---|---|" + "---|" * (1 + len(SHOWN)))
    for name, splits in results.items():
        for split, dice in splits.items():
            means = {region: [row[region] for row in dice.values()] for region in REGIONS}
            # NaN, a subset that the variant cannot have, goes through the mean and is shown as a dash.
            cells = [[float(np.mean(means[region])) for region in REGIONS]]
            cells += [[dice[subset][region] for region in REGIONS] for subset in SHOWN]
            texts = ["-" if np.isnan(cell).any() else " / ".join(f"{100 * v:.1f}" for v in cell) for cell in cells]
            lines.append(f"| {name} | {split} | {' | '.join(texts)} |")
    return "\n".join(lines)


def main() -> None:
    """Train what is asked for and print the table of what is finished."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with train/, val/ and test/")
    parser.add_argument("--output", type=Path, required=True, help="folder for the trainings")
    parser.add_argument("--only", help=f"variants joined by commas, of: {', '.join(VARIANTS)}")
    parser.add_argument("--overlay", type=Path, default=SMALL_BUDGET, help="the budget: a config over train.yaml")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="other values of the config's keys")
    options = parser.parse_args()
    common = {key: json.loads(value) for key, _, value in (pair.partition("=") for pair in options.set)}
    chosen = list(VARIANTS) if options.only is None else [name for name in options.only.split(",") if name]
    for name in chosen:
        run, settings = options.output / name.replace(" ", "_"), VARIANTS[name] | common
        if not (run / "dice.json").exists():
            run_training(options.data, run, [options.overlay], settings)
            dice = {split: dice_of(options.data, run, options.overlay, settings, split) for split in ("val", "test")}
            write_json(run / "dice.json", dice)
    finished = {name: options.output / name.replace(" ", "_") / "dice.json" for name in VARIANTS}
    print(markdown({name: json.loads(file.read_text()) for name, file in finished.items() if file.exists()}))


if __name__ == "__main__":
    with sentences():
        main()
