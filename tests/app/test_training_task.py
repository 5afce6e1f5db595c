"""Fine-tuning on submitted labels: small studies, a tiny network, and, for what is decided afterwards, no training."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lckd.datalist import study_id
from lckd.decoder import Decoder
from lckd.encoder import Encoder
from lckd.errors import StudyError
from lckd.files import write_json
from lckd.network import LCKDNet
from lckd.simulation import write_study
from lckd.weights import WEIGHTS, load_weights, save_weights, sha256_of

pytest.importorskip("monailabel", reason="MONAI Label is not installed: make .venv/server.done")

import lib.training as training
from lib.datastore import StudyDatastore
from lib.segmentation import SegmentationTask
from lib.versions import BASE, WeightsVersions

TINY = {
    "network_def#encoder#widths": [4, 6],
    "network_def#encoder#blocks": [0, 1],
    "network_def#decoder#widths": [4, 6],
    "network_def#decoder#blocks": [1, 1],
    "patch_size": [16, 16, 16],
    "iterations_per_epoch": 2,
    "workers": 0,
    "precision": "fp32",
}
OPTIONS = {"iterations": 4, "device": "cpu"}
SUBSETS = [("flair", "t1", "t1ce", "t2"), ("flair", "t2"), ("t1ce",), ("t1", "t2")]


def tiny_network() -> LCKDNet:
    return LCKDNet(Encoder(widths=[4, 6], blocks=[0, 1]), Decoder(widths=[4, 6], blocks=[1, 1]))


def names_for(section: str, number: int, pattern: str = "study{}") -> list[str]:
    names = [pattern.format(index) for index in range(100)]
    return [name for name in names if training.section_of(study_id(name), 0.25) == section][:number]


def submit(small_study, folder: Path, names: list[str], labels: Path | None = None) -> StudyDatastore:
    for name, sequences in zip(names, SUBSETS, strict=True):
        write_study(small_study, folder / name, study_id=name, sequences=sequences, label=False)
    datastore = StudyDatastore(folder, labels, interval_s=None)
    write_study(small_study, folder.parent / "truth", study_id="truth")
    truth = folder.parent / "truth" / "truth_seg.nii.gz"
    for study in datastore.list_images():
        datastore.save_label(study, str(truth), "final", {})
    return datastore


@pytest.fixture
def datastore(small_study, tmp_path) -> StudyDatastore:
    """Two submitted studies for training and two for validation, of different subsets."""
    return submit(small_study, tmp_path / "studies", names_for("train", 2) + names_for("val", 2))


@pytest.fixture
def tiny(datastore) -> training.FineTuning:
    """A task that trains a tiny network."""
    torch.manual_seed(0)
    base = datastore.labels.parent / "base.pt"
    save_weights(tiny_network().state_dict(), base)
    return training.FineTuning(WeightsVersions(datastore.labels / "weights", base), settings=TINY)


@pytest.fixture
def decided(datastore, monkeypatch):
    """A function that goes through a training of the shipped weights that ends with a given Dice, from 0.5."""
    task = training.FineTuning(WeightsVersions(datastore.labels / "weights"))

    def run(dice: float, **options) -> dict:
        def pretended(data, output, overlays, settings) -> None:
            state = torch.load(settings["initial_weights"], weights_only=True)
            state = {name: value + 1e-3 for name, value in state.items()}
            election = {"mode": "multi", "winners": {}, "table": {}}
            torch.save({"ema": state, "election": election, "provenance": {}}, output / "last.pt")
            validations = {"0": {"mean_dice": 0.5}, "1": {"mean_dice": dice}}
            write_json(output / "history.json", {"epoch": 1, "epochs": 1, "validations": validations})

        monkeypatch.setattr(training, "run_training", pretended)
        return task(OPTIONS | options, datastore)

    run.task, run.versions, run.datastore = task, task.versions, datastore
    return run


class TestStudies:
    def test_a_study_keeps_its_section_whatever_else_is_submitted(self):
        sections = {f"p{number}": training.section_of(f"p{number}", 0.25) for number in range(400)}
        assert 60 < list(sections.values()).count("val") < 140
        # Written down: another rule would move studies between the two on servers that have trained already.
        assert [name for name in ("p0", "p1", "p2", "p3", "p4") if sections[name] == "val"] == ["p0", "p2"]

    def test_too_few_studies_are_told(self, small_study, tmp_path):
        write_study(small_study, tmp_path / "studies" / "a", study_id="a")
        datastore = StudyDatastore(tmp_path / "studies", interval_s=None)
        task = training.FineTuning(WeightsVersions(datastore.labels / "weights"))
        for refused in (task, task.check):
            with pytest.raises(StudyError, match="0 can train and 0 can validate.*at least 2 of each.*submit more"):
                refused(OPTIONS, datastore)

    def test_a_study_that_cannot_be_loaded_is_left_out(self, tiny, datastore, small_study):
        broken = names_for("train", 3)[-1]
        write_study(small_study, datastore.studies / broken, study_id=broken, label=False)
        datastore.refresh()
        datastore.save_label(broken, datastore.get_label_uri(names_for("train", 1)[0], "final"), "final", {})
        for file in (datastore.studies / broken).iterdir():
            file.write_bytes(b"no image")
        tiny(OPTIONS, datastore)
        assert broken not in tiny.versions.version("0001").facts["training_studies"]


class TestTraining:
    def test_a_training_makes_a_version(self, tiny, datastore):
        base = tiny.versions.base
        outcome = tiny(OPTIONS | {"use": "always"}, datastore)
        version = tiny.versions.in_use()
        assert outcome["version"] == outcome["in_use"] == version.name == "0001"
        assert load_weights(tiny_network(), version.weights) == version.facts["sha256"] != base.facts["sha256"]
        facts = version.facts
        assert (facts["parent"], facts["parent_sha256"]) == (BASE, base.facts["sha256"])
        assert sorted(facts["validation"]["studies"]) == sorted(names_for("val", 2))
        assert sorted(facts["training_studies"]) == sorted(names_for("train", 2))
        assert {"t1ce", "t2", "t1+t2"} == set(facts["validation"]["after"]["subsets"]) - {"t1"}  # the studies' own
        assert set(facts["election"]["winners"]) == {"et", "wt", "tc"}
        assert not (tiny.versions.folder / "runs").exists()

    def test_progress_and_outcome_are_in_the_stats(self, tiny, datastore, monkeypatch):
        seen = []
        run_training = training.run_training

        def watched(*args) -> None:
            run_training(*args)
            seen.append(tiny.stats())

        monkeypatch.setattr(training, "run_training", watched)
        tiny(OPTIONS, datastore)
        assert (seen[0]["epoch"], seen[0]["total_epochs"]) == (2, 2) and "total_time" not in seen[0]
        assert "mean Dice" in tiny.stats()["message"] and tiny.stats()["total_time"] > 0
        json.dumps(tiny.stats(), allow_nan=False)

    def test_the_same_training_is_not_run_twice(self, tiny, datastore):
        tiny(OPTIONS | {"use": "never"}, datastore)
        tiny(OPTIONS | {"use": "always"}, datastore)
        assert tiny.versions.names() == [BASE, "0001"] and tiny.versions.in_use().name == "0001"

    def test_names_that_look_like_code_are_data(self, small_study, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        code = "$open('owned','w')"
        names = [name for section in ("train", "val") for name in names_for(section, 2, code + "{}@network")]
        root = tmp_path / code / "@output_dir"
        root.mkdir(parents=True)
        datastore = submit(small_study, root / "studies", names, Path(code) / "@labels")
        base = Path(f"{code}.pt")
        save_weights(tiny_network().state_dict(), base)
        task = training.FineTuning(WeightsVersions(datastore.labels / "weights", base), settings=TINY)
        assert task(OPTIONS, datastore)["version"] == "0001"
        assert not (tmp_path / "owned").exists()

    @pytest.mark.parametrize(
        ("option", "value"), [("iterations", "$open('owned')"), ("learning rate", 7), ("device", "@x"), ("use", "x")]
    )
    def test_an_option_outside_its_list_is_refused(self, decided, option, value):
        for refused in (decided.task, decided.task.check):
            with pytest.raises(StudyError, match=f"the option '{option}' is .*; accepted are"):
                refused(OPTIONS | {option: value}, decided.datastore)

    def test_a_training_that_diverged_is_no_version(self, tiny, datastore):
        tiny.settings |= {"learning_rate": 1e30}
        with pytest.raises(StudyError, match="diverged.*lower learning rate"):
            tiny(OPTIONS, datastore)
        assert tiny.versions.names() == [BASE]

    def test_one_at_a_time(self, decided):
        with (
            WeightsVersions(decided.versions.folder).changing(),
            pytest.raises(StudyError, match="running already; wait for its end, or stop it"),
        ):
            decided(0.6)

    def test_a_killed_training_goes_on_where_it_was(self, tiny, datastore, monkeypatch):
        tiny.settings |= {"iterations": 60}
        code = (
            f"import sys; sys.path.insert(0, {str(Path(training.__file__).parents[1])!r})\n"
            "from lib.training import FineTuning; from lib.versions import WeightsVersions\n"
            "from lib.datastore import StudyDatastore\n"
            f"datastore = StudyDatastore({str(datastore.studies)!r}, interval_s=None)\n"
            f"versions = WeightsVersions(datastore.labels / 'weights', {str(tiny.versions.base.weights)!r})\n"
            f"FineTuning(versions, settings={tiny.settings!r})({OPTIONS!r}, datastore)\n"
        )
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        until = time.monotonic() + 300  # a busy machine
        while not list(tiny.versions.folder.glob("runs/*/last.pt")) and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert tiny.versions.names() == [BASE]
        started_from = []
        run_training = training.run_training

        def watched(data, output, overlays, settings) -> None:
            started_from.append(torch.load(output / "last.pt", weights_only=True)["trainer"]["iteration"])
            run_training(data, output, overlays, settings)

        monkeypatch.setattr(training, "run_training", watched)
        tiny(OPTIONS, datastore)
        assert 2 <= started_from[0] < 60
        assert tiny.versions.names() == [BASE, "0001"]

    def test_a_training_that_was_killed_at_its_very_end_is_finished(self, tiny, datastore, monkeypatch):
        def full(state, facts) -> None:
            raise OSError("no space left")

        with monkeypatch.context() as patched, pytest.raises(OSError, match="no space left"):
            patched.setattr(tiny.versions, "add", full)
            tiny(OPTIONS, datastore)
        assert tiny(OPTIONS, datastore)["version"] == "0001"

    def test_other_labels_are_another_training(self, decided):
        decided(0.6, use="never")
        study = names_for("train", 1)[0]
        decided.datastore.save_label(study, decided.datastore.get_label_uri(study, "final"), "final", {})
        assert decided(0.6, use="never")["version"] == "0002"


class TestVersions:
    @pytest.mark.parametrize(
        ("dice", "use", "in_use"),
        [
            (0.6, "when better", "0001"),
            (0.5, "when better", BASE),
            (0.4, "when better", BASE),
            (0.4, "always", "0001"),
            (0.6, "never", BASE),
        ],
    )
    def test_a_version_is_kept_and_used_when_it_should_be(self, decided, dice, use, in_use):
        assert decided(dice, use=use)["in_use"] == decided.versions.in_use().name == in_use
        assert decided.versions.names() == [BASE, "0001"]
        assert decided.task.stats()["best_metric"] == (0.0 if in_use == BASE else dice)

    def test_rolling_back_goes_to_what_a_version_was_made_from(self, decided):
        decided(0.6)
        decided(0.6, iterations=5)
        assert decided.versions.in_use().facts["parent"] == "0001"
        for expected in ("0001", BASE):
            assert expected in decided(0.0, action="roll back")["message"]
            assert decided.versions.in_use().name == expected
        with pytest.raises(StudyError, match="nothing to go back to"):
            decided(0.0, action="roll back")

    def test_a_version_that_was_not_better_can_be_chosen(self, decided):
        decided(0.4)
        assert "use 0001" in decided.task.config()["action"]
        decided(0.0, action="use 0001")
        assert decided.versions.in_use().name == "0001"

    def test_other_weights_at_the_start_are_used_instead_of_what_was_made_of_the_first(self, decided, tmp_path):
        decided(0.6)
        other = tmp_path / "other.pt"
        save_weights(tiny_network().state_dict(), other)
        assert WeightsVersions(decided.versions.folder, other).in_use().weights == other
        assert WeightsVersions(decided.versions.folder).in_use().name == "0001"

    def test_a_changed_file_is_refused(self, decided):
        decided(0.6)
        version = decided.versions.in_use()
        version.weights.write_bytes(version.weights.read_bytes() + b"x")
        with pytest.raises(StudyError, match="SHA-256.*restore the file"):
            SegmentationTask(decided.versions)
        with pytest.raises(StudyError, match="SHA-256"):
            decided(0.6)

    def test_the_server_notices_a_switch_at_the_next_inference(self, decided):
        study = names_for("train", 1)[0]
        item = decided.datastore.item(study)
        request = {"study": item, "image": decided.datastore.get_image_uri(study), "device": "cpu"}
        task = SegmentationTask(decided.versions)
        shipped = task(request)[1]
        assert shipped["weights"]["version"] == BASE and shipped["expected_dice"]
        decided(0.6)
        tuned = task(request)[1]
        assert tuned["weights"]["version"] == "0001" and tuned["weights"]["validation_dice"] == 0.6
        assert tuned["weights"]["sha256"] == sha256_of(decided.versions.in_use().weights)
        assert tuned["expected_dice"] is None  # nobody has evaluated these weights on test studies
        assert not tuned["cached"]

    def test_the_shipped_file_is_not_touched(self, decided):
        before = sha256_of(WEIGHTS)
        decided(0.6)
        assert sha256_of(WEIGHTS) == before
