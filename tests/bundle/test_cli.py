import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch

from lckd.__main__ import VERBS, main
from lckd.segmentation import Segmenter
from lckd.sequences import SEQUENCES
from lckd.simulation import write_study
from lckd.weights import save_weights


@pytest.fixture
def studies(small_study, tmp_path):
    write_study(small_study, tmp_path / "in" / "a", sequences=("flair", "t2"))
    write_study(small_study, tmp_path / "in" / "b")
    return tmp_path / "in"


def fails_with_traceback(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert stopped.value.code == 2
    return capsys.readouterr().err


def fails(capsys, *arguments) -> str:
    error = fails_with_traceback(capsys, *arguments)
    assert "Traceback" not in error
    return error


def test_a_folder_of_studies(studies, tmp_path):
    main(["segment", str(studies), "--output", str(tmp_path / "out")])
    for name, used in {"a": ["flair", "t2"], "b": ["flair", "t1", "t1ce", "t2"]}.items():
        folder = tmp_path / "out" / name
        assert {file.name for file in folder.iterdir()} == {"segmentation.nii.gz", "report.json", "preview.png"}
        report = json.loads((folder / "report.json").read_text())
        assert report["sequences"]["used"] == used
        label_map = np.asarray(nib.load(folder / "segmentation.nii.gz").dataobj)
        assert set(np.unique(label_map)) <= {0, 1, 2, 3}
        voxels = round(report["volumes_ml"]["regions"]["wt"] * 1000)
        assert voxels == (label_map > 0).sum()


def test_explicit_files_brats_labels_and_probabilities(studies, tmp_path):
    flair, t1ce = next(studies.glob("b/*flair*")), next(studies.glob("b/*t1ce*"))
    options = ["--labels", "brats", "--probabilities", "--nopreview"]
    main(["segment", "--flair", str(flair), "--t1ce", str(t1ce), "--output", str(tmp_path / "out"), *options])
    folder = tmp_path / "out" / "b"
    assert not (folder / "preview.png").exists()
    label_map = np.asarray(nib.load(folder / "segmentation.nii.gz").dataobj)
    probability = np.asarray(nib.load(folder / "probabilities_et.nii.gz").dataobj)
    assert 3 not in label_map
    np.testing.assert_array_equal(label_map == 4, probability > 0.5)
    assert json.loads((folder / "report.json").read_text())["labels"]["4"] == "enhancing tumour"


def test_a_bad_study_stops_nothing_but_the_exit_code_tells(studies, tmp_path, capsys):
    (studies / "bad").mkdir()
    (studies / "bad" / "x_t1.nii.gz").write_bytes(b"no image")
    error = fails(capsys, "segment", studies, "--output", tmp_path / "out")
    assert "bad: FAILED:" in error
    assert "1 of 3 studies failed: bad" in error
    assert sorted(folder.name for folder in (tmp_path / "out").iterdir()) == ["a", "b"]


def test_studies_of_one_name_in_two_folders_do_not_overwrite_each_other(small_study, tmp_path, capsys):
    for hospital, sequences in {"x": ("flair",), "y": ("flair", "t2")}.items():
        write_study(small_study, tmp_path / hospital / "mri", study_id="mri", sequences=sequences)
    error = fails(capsys, "segment", tmp_path / "x" / "mri", tmp_path / "y" / "mri", "--output", tmp_path / "out")
    assert "mri: FAILED: two studies are called mri; rename one" in error and "1 of 2 studies failed" in error
    assert json.loads((tmp_path / "out" / "mri" / "report.json").read_text())["sequences"]["used"] == ["flair"]


def test_a_second_run_leaves_nothing_of_the_first_beside_its_results(studies, tmp_path):
    for options in (["--probabilities"], ["--nopreview"]):
        main(["segment", str(studies / "a"), "--output", str(tmp_path / "out"), *options])
    assert {file.name for file in (tmp_path / "out" / "a").iterdir()} == {"segmentation.nii.gz", "report.json"}


def test_a_defect_of_ours_costs_one_study_alone(studies, tmp_path, capsys, monkeypatch):
    original = Segmenter.on_original_grid

    def breaks_on_a(self, logits, image):
        if not image[SEQUENCES.index("t1ce")].any():
            raise ZeroDivisionError("a defect")
        return original(self, logits, image)

    monkeypatch.setattr(Segmenter, "on_original_grid", breaks_on_a)
    error = fails_with_traceback(capsys, "segment", studies, "--output", tmp_path / "out")
    assert "a: FAILED: unexpected ZeroDivisionError (a defect); please report it" in error
    assert (tmp_path / "out" / "b" / "segmentation.nii.gz").is_file()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--devcie", "cpu"], "unknown option '--devcie'"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--precision", "int4"], "unknown precision 'int4'"),
        (["--labels", "msd"], "unknown labels 'msd'; accepted are standard, brats"),
        (["--sequences", "flair+dwi"], "unknown sequence 'dwi'"),
        (["--overlap", "1.5"], "--overlap is 1.5; accepted is 0 to 0.9"),
        (["--window", "big"], "--window is big; accepted is 32 to 4096"),
        (["--weights", "nowhere.pt"], "weights nowhere.pt are missing"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_done(studies, tmp_path, capsys, options, sentence):
    assert sentence in fails(capsys, "segment", studies, "--output", tmp_path / "out", *options)
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there(studies, tmp_path, capsys):
    assert "this machine has none" in fails(capsys, "segment", studies, "--output", tmp_path, "--device", "cuda")


def test_a_forgotten_output_is_asked_for(studies, capsys):
    assert "segment needs --output" in fails(capsys, "segment", studies)


def test_nothing_to_segment(tmp_path, capsys):
    assert "no study was given" in fails(capsys, "segment", "--output", tmp_path)
    assert "does not exist" in fails(capsys, "segment", tmp_path / "nowhere", "--output", tmp_path)


def test_an_output_that_cannot_be_written(studies, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert "cannot be made" in fails(capsys, "segment", studies, "--output", tmp_path / "file")


def test_a_full_disk_is_told_and_leaves_no_half_file(studies, tmp_path, capsys, monkeypatch):
    def full(self, filename):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib.Nifti1Image, "to_filename", full)
    assert "No space left on device" in fails(capsys, "segment", studies / "a", "--output", tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.nii.gz"))


def test_weights_of_another_architecture(studies, tmp_path, capsys):
    save_weights({"layer.weight": torch.zeros(3)}, tmp_path / "other.pt")
    error = fails(capsys, "segment", studies, "--output", tmp_path / "out", "--weights", tmp_path / "other.pt")
    assert "do not fit this network" in error


def test_names_are_never_evaluated(small_study, tmp_path):
    folder = write_study(small_study, tmp_path / "$print(1) @x", sequences=("flair",))
    main(["segment", str(folder), "--output", str(tmp_path / "1e5"), "--nopreview"])
    assert (tmp_path / "1e5" / "_print_1_x" / "segmentation.nii.gz").is_file()


def test_evaluation_writes_its_four_files(small_study, dataset_dir, tmp_path):
    main(["evaluate", str(dataset_dir / "val"), "--output", str(tmp_path / "out")])
    assert {file.suffix for file in (tmp_path / "out").iterdir()} == {".json", ".csv", ".md", ".png"}
    table = json.loads((tmp_path / "out" / "evaluation.json").read_text())["table"]
    assert len(table["subsets"]) == 15


def test_evaluation_leaves_out_what_has_no_label_map_and_says_so(dataset_dir, small_study, tmp_path, capsys):
    write_study(small_study, tmp_path / "in" / "unlabelled", sequences=("t1",), label=False)
    (tmp_path / "in" / "c").symlink_to(dataset_dir / "val" / "c")
    error = fails(capsys, "evaluate", tmp_path / "in", "--output", tmp_path / "out")
    assert "unlabelled: FAILED: it has no label map" in error
    assert "1 of 2 studies were not evaluated: unlabelled" in error
    assert (tmp_path / "out" / "evaluation.md").is_file()


@pytest.mark.slow
def test_the_demo_finds_the_simulated_tumour_without_t1ce(tmp_path, capsys):
    main(["demo", "--output", str(tmp_path)])
    said = capsys.readouterr().out
    assert "no patient's image" in said
    assert float(said.split("whole tumour ")[1][:4]) >= 0.6
    assert (tmp_path / "segmentation" / "simulated" / "preview.png").is_file()
    assert not list(tmp_path.rglob("*t1ce*"))


@pytest.mark.parametrize("verb", VERBS)
def test_help_helps(verb):
    done = subprocess.run([sys.executable, "-m", "lckd", verb, "--help"], capture_output=True, text=True, timeout=60)
    shown = done.stdout + done.stderr
    assert VERBS[verb].__doc__.splitlines()[0] in shown
    assert "FIRE_METADATA" not in shown


def test_no_network_connection_is_opened(studies, tmp_path):
    code = (
        "import socket, sys\n"
        "def refuse(*args, **kwargs): raise AssertionError('a socket was opened')\n"
        "socket.socket.connect = socket.create_connection = refuse\n"
        "from lckd.__main__ import main\n"
        "main(['segment', sys.argv[1], '--output', sys.argv[2]])\n"
    )
    command = [sys.executable, "-c", code, str(studies / "a"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_training_from_the_command_line(dataset_dir, tmp_path):
    tiny = ["--network_def#encoder#widths", "[4,6]", "--network_def#encoder#blocks", "[0,1]"]
    tiny += ["--network_def#decoder#widths", "[4,6]", "--network_def#decoder#blocks", "[1,1]"]
    short = ["--iterations", "2", "--iterations_per_epoch", "2", "--val_interval", "1", "--warmup_iterations", "1"]
    short += ["--patch_size", "[16,16,16]", "--workers", "0", "--precision", "fp32", "--device", "cpu"]
    main(["train", str(dataset_dir), "--output", str(tmp_path / "run"), *tiny, *short])
    assert {"best.pt", "last.pt"} <= {file.name for file in (tmp_path / "run").iterdir()}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--iteratoins", "5"], "unknown setting '--iteratoins'"),
        (["--config", "nowhere.yaml"], "the config nowhere.yaml does not exist"),
        (["--initial_weights", "nowhere.pt"], "weights nowhere.pt are missing"),
    ],
)
def test_a_training_refuses_what_it_does_not_know(dataset_dir, tmp_path, capsys, options, sentence):
    assert sentence in fails(capsys, "train", dataset_dir, "--output", tmp_path, *options)


def test_a_training_without_data_is_told_what_is_missing(tmp_path, capsys):
    assert "train" in fails(capsys, "train", tmp_path / "nowhere", "--output", tmp_path)
