"""Time of one forward pass: ours for 1 to 4 sequences beside the SegResNet of MONAI's brats_mri_segmentation.

Run alone on a quiet machine: python benchmarks/network.py [--size 144 176 144] [--threads 2] [--runs 5]
The networks take turns, so that a drift of the machine's speed hits all alike; medians and ratios are printed.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from monai.networks.nets import SegResNet
from torch.utils.flop_counter import FlopCounterMode

from lckd.network import LCKDNet

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def contenders(size: list[int]) -> dict[str, Callable[[], torch.Tensor]]:
    """Name of each contender and a call of its forward pass on an image of ``size`` voxels."""
    # The configuration of brats_mri_segmentation in MONAI's model zoo.
    peer = SegResNet(
        blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1), init_filters=16, in_channels=4, out_channels=3, dropout_prob=0.2
    ).eval()
    ours = LCKDNet().eval()
    image = torch.randn(1, 4, *size)
    calls: dict[str, Callable[[], torch.Tensor]] = {"SegResNet, 4 sequences": lambda: peer(image)}
    for count in (4, 3, 2, 1):
        availability = torch.arange(4)[None] < count
        calls[f"ours, {count} sequences"] = lambda availability=availability: ours(image, availability)  # type: ignore[misc]
    return calls


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs=3, default=[144, 176, 144])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", help="also write the figures here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    calls = contenders(options.size)
    figures: dict[str, dict[str, float]] = {name: {} for name in calls}
    with torch.inference_mode():
        for name, call in calls.items():
            with FlopCounterMode(display=False) as counter:
                call()
            figures[name]["gmac"] = round(counter.get_total_flops() / 2e9, 1)
        for precision, dtype in PRECISIONS.items():
            seconds: dict[str, list[float]] = {name: [] for name in calls}
            for run in range(options.runs + 1):
                for name, call in calls.items():
                    start = time.perf_counter()
                    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                        call()
                    if run:  # the first is a warm-up
                        seconds[name].append(time.perf_counter() - start)
            for name, values in seconds.items():
                figures[name][f"{precision}_s"] = round(statistics.median(values), 3)
    peer = figures["SegResNet, 4 sequences"]
    best = min(peer[f"{precision}_s"] for precision in PRECISIONS)
    print(f"{options.size} voxels, {options.threads} threads, median of {options.runs} runs")
    for name, row in figures.items():
        row["share_of_peer"] = round(min(row[f"{precision}_s"] for precision in PRECISIONS) / best, 2)
        print(f"{name:24s} " + "  ".join(f"{key} {value}" for key, value in row.items()))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:  # noqa: PTH123 - a path of the user's
            json.dump({"size": options.size, "threads": options.threads, "figures": figures}, file, indent=2)


if __name__ == "__main__":
    main()
