"""How fast the label server starts on thousands of studies, and answers Next Sample.

python benchmarks/datastore.py --studies 5000
"""

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.utils.app import app_instance

from lckd.errors import sentences
from lckd.images import write_image
from lckd.sequences import SUBSETS

APP = Path(__file__).resolve().parents[1] / "monailabel_app"


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=20, help="of each strategy's Next Sample")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        studies = Path(folder) / "studies"
        make_studies(studies, options.studies)
        settings.MONAI_LABEL_APP_DIR, settings.MONAI_LABEL_STUDIES = str(APP), str(studies)
        start = time.perf_counter()
        app = app_instance()
        print(f"{options.studies} studies, first start: {time.perf_counter() - start:.2f} s")
        print(f"info: {1000 * seconds(app.info, options.repeats):.0f} ms")
        datastore = app.datastore()
        for number, study in enumerate(datastore.list_images()):
            if number % 2:
                score = 0.5 + number / (4 * options.studies)
                estimated = dict.fromkeys(("et", "wt", "tc"), score)
                datastore.update_image_info(study, {"estimated_dice": estimated, "score": score})
        for strategy in app.info()["strategies"]:
            asked = [{"strategy": strategy, "client_id": f"{strategy}{number}"} for number in range(options.repeats)]
            times = [seconds(partial(next_sample, app, request), 1) for request in asked]
            print(f"next sample, {strategy}: median {1000 * median(times):.0f} ms, worst {1000 * max(times):.0f} ms")
        print(f"scan for new studies: {seconds(datastore.refresh, 3):.2f} s, every 30 s in the background")


def next_sample(app: MONAILabelApp, request: dict[str, str]) -> dict[str, Any]:
    """What the server does at Next Sample."""
    return app.datastore().get_image_info(app.next_sample(request)["id"])


def make_studies(folder: Path, count: int) -> None:
    """``count`` study folders that share one tiny image; every subset of sequences occurs."""
    folder.mkdir(parents=True)
    image = folder.parent / "image.nii.gz"
    write_image(image, np.arange(8, dtype=np.int16).reshape(2, 2, 2), np.eye(4))
    for number in range(count):
        study = folder / f"study{number:05d}"
        study.mkdir()
        for sequence in SUBSETS[number % len(SUBSETS)]:
            os.link(image, study / f"{study.name}_{sequence}.nii.gz")


def seconds(call: Callable[[], Any], repeats: int) -> float:
    """Median seconds of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return median(times)


if __name__ == "__main__":
    with sentences():
        main()
