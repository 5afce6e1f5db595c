"""inference.yaml and evaluate.yaml, as ``python -m monai.bundle run`` starts them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from lckd.inferer import StudyInferer
from lckd.segmentation import Segmenter
from lckd.simulation import write_study

ROOT = Path(__file__).resolve().parents[2]


def run(*words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "monai.bundle", "run", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def test_inference_goes_on_after_a_bad_study_and_says_so_at_the_end(small_study, tmp_path):
    write_study(small_study, tmp_path / "in" / "a", sequences=("t1ce",))
    (tmp_path / "in" / "bad").mkdir()
    (tmp_path / "in" / "bad" / "x_t1.nii.gz").write_bytes(b"no image")
    write_study(small_study, tmp_path / "in" / "c", sequences=("flair", "t1"))
    options = ["--dataset_dir", str(tmp_path / "in"), "--output_dir", str(tmp_path / "out"), "--labels", "brats"]
    done = run("inference", "--config_file", "bundle/configs/inference.yaml", *options)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "1 of 3 studies failed: bad" in done.stderr
    for study, used in {"a": ["t1ce"], "c": ["flair", "t1"]}.items():
        assert json.loads((tmp_path / "out" / study / "report.json").read_text())["sequences"]["used"] == used
        values = np.unique(np.asarray(nib.load(tmp_path / "out" / study / "segmentation.nii.gz").dataobj))
        assert set(values) <= {0, 1, 2, 4}


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("dataset_dir", "nowhere", "nowhere does not exist"),
        ("weights", "nowhere.pt", "weights nowhere.pt are missing"),
        ("device", "tpu", "unknown device 'tpu'"),
        ("sequences", "dwi", "unknown sequence 'dwi'"),
    ],
)
def test_a_mistake_ends_in_a_sentence(small_study, tmp_path, option, value, sentence):
    options = {"dataset_dir": str(write_study(small_study, tmp_path / "s")), "output_dir": str(tmp_path), option: value}
    words = [word for name, given in options.items() for word in (f"--{name}", given)]
    done = run("inference", "--config_file", "bundle/configs/inference.yaml", *words)
    assert done.returncode == 2
    assert f"lckd: {sentence}" in done.stderr or sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_inference_and_command_give_the_same(small_study, tmp_path):
    write_study(small_study, tmp_path / "s")
    options = ["--dataset_dir", str(tmp_path / "s"), "--output_dir", str(tmp_path / "out"), "--sequences", "flair+t2"]
    done = run("inference", "--config_file", "bundle/configs/inference.yaml", *options)
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-m", "lckd", "segment", str(tmp_path / "s"), "--output", str(tmp_path / "cli")]
    subprocess.run([*command, "--sequences", "flair+t2"], check=True, capture_output=True, timeout=300)
    one, other = (nib.load(tmp_path / place / "s" / "segmentation.nii.gz").get_fdata() for place in ("out", "cli"))
    assert (one == other).mean() > 0.9999


def test_evaluation_as_an_overlay_of_training(dataset_dir, tmp_path):
    files = "['bundle/configs/train.yaml','bundle/configs/evaluate.yaml']"
    options = ["--dataset_dir", str(dataset_dir), "--output_dir", str(tmp_path), "--split", "val"]
    done = run("evaluating", "--config_file", files, *options)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(json.loads((tmp_path / "evaluation.json").read_text())["table"]["subsets"]) == 15


@pytest.mark.slow
def test_a_real_study_is_segmented(glioma_test_split, tmp_path):
    from lckd.datalist import find_studies
    from lckd.loading import LoadStudy
    from lckd.transforms import regions_of

    item = next(item for item in find_studies(glioma_test_split) if item["study"] == "BraTS2021_00006")
    result = Segmenter(inferer=StudyInferer(), loading=LoadStudy())(item)
    truth = regions_of(LoadStudy()(item)["label"].as_tensor())[1]
    found = regions_of(result.label_map[None])[1]
    assert 2 * torch.sum(found & truth) / (found.sum() + truth.sum()) > 0.85
