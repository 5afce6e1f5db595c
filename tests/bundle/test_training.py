"""The training config on simulated studies and a tiny network, as monai.bundle runs it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow

from lckd.weights import load_weights

ROOT = Path(__file__).resolve().parents[2]
TRAIN = str(ROOT / "bundle" / "configs" / "train.yaml")
NETWORK = {
    "_target_": "lckd.network.LCKDNet",
    "encoder": {"_target_": "lckd.encoder.Encoder", "widths": [4, 6], "blocks": [0, 1]},
    "decoder": {"_target_": "lckd.decoder.Decoder", "widths": [4, 6], "blocks": [1, 1]},
}
TINY = {
    "bundle_root": str(ROOT / "bundle"),
    "device": "cpu",
    "network_def": NETWORK,
    "patch_size": [16, 16, 16],
    "iterations": 4,
    "iterations_per_epoch": 2,
    "warmup_iterations": 1,
    "val_interval": 1,
    "workers": 0,
    "precision": "fp32",
}


def workflow(dataset_dir: Path, output_dir: Path, **overrides) -> ConfigWorkflow:
    settings = TINY | {"dataset_dir": str(dataset_dir), "output_dir": str(output_dir)} | overrides
    settings = json.loads(json.dumps(settings))  # a parser writes into what it is given
    files = settings.pop("config_file", TRAIN)
    made = ConfigWorkflow(files, workflow_type="train", run_id="training", logging_file=False, **settings)
    made.initialize()
    return made


def train(dataset_dir: Path, output_dir: Path, stop_after: int | None = None, **overrides) -> ConfigWorkflow:
    made = workflow(dataset_dir, output_dir, **overrides)
    if stop_after is not None:
        made.trainer.add_event_handler(Events.EPOCH_COMPLETED(once=stop_after), lambda engine: engine.terminate())
    made.run()
    return made


def checkpoint(output_dir: Path) -> dict:
    return torch.load(output_dir / "last.pt", weights_only=True)


def test_a_training_leaves_a_checkpoint_the_best_weights_and_its_election(dataset_dir, tmp_path):
    made = train(dataset_dir, tmp_path)
    saved = checkpoint(tmp_path)
    assert set(saved["election"]["winners"]) == {"et", "wt", "tc"}
    assert set(saved["election"]["table"]) == {"flair", "t1", "t1ce", "t2"}
    assert saved["trainer"]["iteration"] == 4
    assert load_weights(made.network_def, tmp_path / "best.pt")
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_a_network_that_imitates_another_does_not_look_at_the_labels(dataset_dir, tmp_path):
    wide = {"network_def#encoder#squeezed": 0, "network_def#decoder#squeezed": 0}
    train(dataset_dir, tmp_path / "wide", **wide)
    studies = tmp_path / "unlabelled"
    shutil.copytree(dataset_dir, studies)
    for file in studies.glob("train/*/*_seg.nii.gz"):
        label_map = nibabel.load(file)
        nibabel.save(nibabel.Nifti1Image(np.zeros(label_map.shape, np.uint8), label_map.affine), file)
    overrides = {
        "config_file": [TRAIN, str(ROOT / "configs" / "train" / "squeezed.yaml")],
        "imitated_def": NETWORK,
        "imitated_def#encoder#squeezed": 0,
        "imitated_def#decoder#squeezed": 0,
        "imitated_weights": str(tmp_path / "wide" / "best.pt"),
        "healthy_prob": 0.0,
        "distillation_weight": 0.0,
    }
    for folder in (dataset_dir, studies):
        train(folder, tmp_path / folder.name, **overrides)
    labelled, unlabelled = (checkpoint(tmp_path / folder.name)["network"] for folder in (dataset_dir, studies))
    assert labelled["decoder.levels.1.stage.0.conv1.weight"].shape[:2] == (3, 4)
    for name, value in labelled.items():
        assert torch.equal(value, unlabelled[name]), name


COMMITTEE = {
    "config_file": [TRAIN, str(ROOT / "configs" / "train" / "committee.yaml")],
    "network_def": {"_target_": "lckd.committee.Committee", "members": [NETWORK, NETWORK]},
    "train#step#members": 2,
    "transplant_prob": 0.0,
    "batch_size": 1,
}


def test_a_committees_outsider_learns_nothing_from_a_study_and_the_others_do(dataset_dir, tmp_path):
    made = workflow(dataset_dir, tmp_path, **COMMITTEE, iterations=1, iterations_per_epoch=1, warmup_iterations=0)
    before = [
        {name: value.clone() for name, value in member.state_dict().items()} for member in made.network_def.networks
    ]
    made.run()
    outsider = int(made.trainer.state.batch["position"]) % 2
    for index, (member, earlier) in enumerate(zip(made.network_def.networks, before, strict=True)):
        same = [torch.equal(value, earlier[name]) for name, value in member.state_dict().items()]
        assert all(same) == (index == outsider), index


def test_a_network_imitates_a_committee_and_its_predecessor(dataset_dir, tmp_path):
    train(dataset_dir, tmp_path / "committee", **COMMITTEE)
    train(dataset_dir, tmp_path / "alone")
    overrides = {
        "config_file": [TRAIN, str(ROOT / "configs" / "train" / "imitation.yaml")],
        "imitated_def": COMMITTEE["network_def"],
        "member_def": NETWORK,
        "imitated_weights": str(tmp_path / "committee" / "last.pt"),
        "predecessor_weights": str(tmp_path / "alone" / "last.pt"),
        "initial_weights": str(tmp_path / "alone" / "last.pt"),
    }
    made = train(dataset_dir, tmp_path / "imitating", **overrides)
    assert made.trainer.state.iteration == 4 and made.trainer.state.output["segmentation"] > 0


def test_a_resumed_training_gives_the_same_numbers(dataset_dir, tmp_path):
    train(dataset_dir, tmp_path / "once")
    train(dataset_dir, tmp_path / "twice", stop_after=1)
    assert checkpoint(tmp_path / "twice")["trainer"]["iteration"] == 2
    train(dataset_dir, tmp_path / "twice")
    once, twice = checkpoint(tmp_path / "once"), checkpoint(tmp_path / "twice")
    assert twice["trainer"]["iteration"] == 4
    for part in ("network", "ema"):
        for name, value in once[part].items():
            assert torch.equal(value, twice[part][name]), (part, name, (value - twice[part][name]).abs().max())


def test_the_loss_falls(dataset_dir, tmp_path):
    losses = []
    made = workflow(dataset_dir, tmp_path, iterations=30, iterations_per_epoch=30, val_interval=9, learning_rate=0.01)
    made.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: losses.append(engine.state.output["segmentation"])
    )
    made.run()
    assert sum(losses[-8:]) < 0.9 * sum(losses[:8])


@pytest.mark.parametrize("mode", ["none", "all", "single", "per_region"])
def test_every_election_mode_trains(dataset_dir, tmp_path, mode):
    train(dataset_dir, tmp_path, **{"election#mode": mode, "val_interval": 2})
    assert checkpoint(tmp_path)["election"]["mode"] == mode


def test_bf16_trains_on_the_cpu(dataset_dir, tmp_path):
    made = train(dataset_dir, tmp_path, precision="bf16", iterations=2)
    assert made.trainer.state.output["loss"] > 0


def test_studies_with_missing_sequences_are_trained_on(dataset_dir, tmp_path):
    for file in dataset_dir.rglob("*.nii.gz"):
        if not file.name.endswith(("a_t1ce.nii.gz", "b_flair.nii.gz", "c_t2.nii.gz")):
            target = tmp_path / "data" / file.relative_to(dataset_dir)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    train(tmp_path / "data", tmp_path / "run")
    assert checkpoint(tmp_path / "run")["trainer"]["iteration"] == 4


@pytest.mark.slow
def test_two_processes_train_together(dataset_dir, tmp_path):
    configs = [TRAIN, TRAIN.replace("train.yaml", "multi_gpu_train.yaml")]
    settings = TINY | {"dataset_dir": str(dataset_dir), "output_dir": str(tmp_path)}
    del settings["device"]
    options = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "monai.bundle", "run", "training", "--config_file", str(configs), *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert checkpoint(tmp_path)["trainer"]["iteration"] == 4


def test_a_training_starts_from_the_weights_it_is_given(dataset_dir, tmp_path):
    train(dataset_dir, tmp_path / "first")
    weights = tmp_path / "first" / "last.pt"
    made = workflow(dataset_dir, tmp_path / "second", initial_weights=str(weights))
    averaged = torch.load(weights, weights_only=True)["ema"]
    for network in (made.network_def, made.parser.get_parsed_content("ema").ema_model):
        for name, value in network.state_dict().items():
            assert torch.equal(value, averaged[name]), name


def test_weights_to_start_from_are_validated_first(dataset_dir, tmp_path):
    train(dataset_dir, tmp_path / "first")
    train(dataset_dir, tmp_path / "second", initial_weights=str(tmp_path / "first" / "last.pt"))
    first, second = (json.loads((tmp_path / run / "history.json").read_text()) for run in ("first", "second"))
    assert (first["epoch"], first["epochs"], set(first["validations"])) == (2, 2, {"1", "2"})
    assert set(second["validations"]) == {"0", "1", "2"}
    assert second["validations"]["0"] == first["validations"]["2"]
    assert len(second["validations"]["0"]["subsets"]) == 15


def test_checkpoints_say_what_they_were_made_of(dataset_dir, tmp_path):
    train(dataset_dir, tmp_path, seed=7)
    for file in ("last.pt", "best.pt"):
        made_of = torch.load(tmp_path / file, weights_only=True)["provenance"]
        assert made_of["seed"] == 7 and made_of["studies"] > 0 and len(made_of["data_sha256"]) == 64
        assert made_of["revision"]
