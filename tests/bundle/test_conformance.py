"""What MONAI's model zoo demands of a bundle, checked without a network."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from monai.bundle import ckpt_export, create_workflow, onnx_export, verify_metadata, verify_net_in_out

from lckd.network import LCKDNet
from lckd.simulation import write_study
from lckd.weights import load_weights

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "bundle"
METADATA = str(BUNDLE / "configs" / "metadata.json")
INFERENCE = str(BUNDLE / "configs" / "inference.yaml")
TRAIN = str(BUNDLE / "configs" / "train.yaml")
MODEL = str(BUNDLE / "models" / "model.pt")


@pytest.mark.parametrize(
    "file",
    [
        "LICENSE",
        "configs/metadata.json",
        "configs/inference.yaml",
        "configs/train.yaml",
        "models/model.pt",
        "docs/README.md",
        "docs/data_license.txt",
    ],
)
def test_the_zoos_files_are_there(file):
    assert (BUNDLE / file).is_file()


def test_the_metadata_fits_the_schema():
    verify_metadata(meta_file=METADATA, filepath=str(ROOT / "tests" / "metadata_schema.json"))


def test_the_version_stands_in_the_changelog_and_in_the_package():
    from lckd import __version__

    facts = json.loads(Path(METADATA).read_text())
    assert facts["version"] in facts["changelog"]
    assert facts["version"] == __version__


def test_the_network_takes_and_gives_what_the_metadata_says():
    verify_net_in_out("network_def", meta_file=METADATA, config_file=INFERENCE, n=2, device="cpu")


def test_the_weights_export_to_torchscript(tmp_path):
    ckpt_export(
        "network_def", filepath=str(tmp_path / "model.ts"), ckpt_file=MODEL, meta_file=METADATA, config_file=INFERENCE
    )
    network = LCKDNet().eval()
    load_weights(network)
    image, availability = torch.randn(1, 4, 32, 32, 32), torch.tensor([[True, False, True, False]])
    with torch.no_grad():
        exported = torch.jit.load(tmp_path / "model.ts")(image, availability)
        torch.testing.assert_close(exported, network(image, availability), rtol=1e-2, atol=1e-2)


@pytest.mark.slow
def test_the_weights_export_to_onnx_with_any_subset(tmp_path):
    onnx_export(
        "network_def",
        filepath=str(tmp_path / "model.onnx"),
        ckpt_file=MODEL,
        meta_file=METADATA,
        config_file=INFERENCE,
        input_shape=[1, 4, 32, 32, 32],
        use_trace=True,
        # torch.export cannot follow a number of sequences that depends on the data; the tracing exporter can.
        converter_kwargs={"dynamo": False},
    )
    network = LCKDNet().eval()
    load_weights(network)
    image = torch.randn(1, 4, 32, 32, 32)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    for missing in ((), (2,), (0, 1, 3)):
        given = image.clone()
        given[:, list(missing)] = 0
        with torch.no_grad():
            expected = network(given).numpy()
        (exported,) = session.run(None, {session.get_inputs()[0].name: given.numpy()})
        np.testing.assert_allclose(exported, expected, rtol=1e-2, atol=2e-2)


def test_the_inference_workflow_has_all_properties(small_study, tmp_path):
    write_study(small_study, tmp_path / "study")
    workflow = create_workflow(
        config_file=INFERENCE,
        workflow_type="infer",
        bundle_root=str(BUNDLE),
        dataset_dir=str(tmp_path / "study"),
        output_dir=str(tmp_path / "out"),
    )
    assert workflow.check_properties() == []


def test_the_training_workflow_has_all_properties(dataset_dir, tmp_path):
    workflow = create_workflow(
        config_file=TRAIN,
        workflow_type="train",
        bundle_root=str(BUNDLE),
        dataset_dir=str(dataset_dir),
        output_dir=str(tmp_path),
    )
    assert workflow.check_properties() == []


@pytest.mark.slow
def test_a_copy_of_the_bundle_alone_runs_inference(small_study, tmp_path):
    shutil.copytree(
        BUNDLE, tmp_path / "elsewhere" / "bundle", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    write_study(small_study, tmp_path / "study", sequences=("flair", "t2"))
    command = [
        sys.executable,
        "-m",
        "monai.bundle",
        "run",
        "inference",
        "--config_file",
        "bundle/configs/inference.yaml",
    ]
    command += ["--dataset_dir", str(tmp_path / "study"), "--output_dir", str(tmp_path / "out")]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "elsewhere" / "bundle")}
    done = subprocess.run(
        command, cwd=tmp_path / "elsewhere", env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (report,) = (tmp_path / "out").glob("*/report.json")
    assert json.loads(report.read_text())["sequences"]["used"] == ["flair", "t2"]
