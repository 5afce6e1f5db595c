import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monailabel.config import settings
from monailabel.interfaces.exception import MONAILabelException
from monailabel.interfaces.utils.app import app_instance, clear_cache

from lckd.errors import StudyError
from lckd.simulation import write_study

APP = Path(__file__).resolve().parents[2] / "monailabel_app"


@pytest.fixture
def app(studies):
    yield app_instance(str(APP), str(studies), {"labels": str(studies.parent / "labels")})
    clear_cache()


def values(file: str) -> np.ndarray:
    return np.asarray(nib.load(file).dataobj)


def test_what_the_viewer_builds_its_panel_from(app):
    info = json.loads(json.dumps(app.info()))
    assert info["labels"] == {"background": 0, "necrosis": 1, "edema": 2, "enhancing tumour": 3}
    assert next(iter(info["models"])) == "lckd"
    assert list(info["strategies"]) == ["study", "first", "random", "missing", "uncertainty"]
    assert info["strategies"]["study"]["config"]["study"][1:] == ["a", "b", "c"]
    assert info["datastore"]["total"] == 3


def test_the_next_sample_is_what_the_viewer_downloads_under_its_name(app, studies):
    sample = app.next_sample({"strategy": "first", "client_id": "one"})
    assert sample == {"id": "a", "path": str(studies / "a" / "a_t1ce.nii.gz")}
    assert app.datastore().get_image_info("a")["name"] == "a_t1ce.nii.gz"


def test_a_run_leaves_a_score_and_no_label(app):
    result = app.infer({"model": "lckd", "image": "b"})
    assert values(result["file"]).shape == (32, 36, 32)
    assert app.datastore().get_image_info("b")["score"] == result["params"]["score"]
    assert app.datastore().get_labels_by_image_id("b") == {}


def test_a_run_with_fewer_sequences_is_no_score_of_the_study(app):
    app.infer({"model": "lckd", "image": "b", "sequences": "t2"})
    assert "score" not in app.datastore().get_image_info("b")


def test_a_result_that_is_saved_says_where_it_comes_from(app):
    result = app.infer({"model": "lckd", "image": "b", "save_label": True, "client_id": "one"})
    info = app.datastore().get_label_info("b", "original")
    assert (info["client_id"], info["params"]["sequences"]["used"]) == ("one", ["flair", "t2"])
    assert info["params"]["weights"]["sha256"] == app.model_facts()["sha256"]
    np.testing.assert_array_equal(values(app.datastore().get_label_uri("b", "original")), values(result["file"]))


def test_a_label_map_among_the_files_of_a_study_is_not_read_when_it_is_segmented(app, studies, small_study):
    write_study(small_study, studies / "d", study_id="d", sequences=("t2",))
    (studies / "d" / "d_seg.nii.gz").write_bytes(b"nothing")
    app.datastore().refresh()
    assert app.infer({"model": "lckd", "image": "d"})["params"]["sequences"]["used"] == ["t2"]


def test_one_sequence_of_a_study_is_segmented_on_its_own_grid_with_all_of_them(app, studies):
    nib.save(
        nib.Nifti1Image(values(studies / "b" / "b_t2.nii.gz")[:, :, ::2], np.diag([1, 1, 2, 1])),
        studies / "b" / "b_t2.nii.gz",
    )
    result = app.infer({"model": "lckd", "image": "b@t2"})
    assert values(result["file"]).shape == (32, 36, 16)
    assert result["params"]["sequences"]["used"] == ["flair", "t2"]


def test_a_hand_loaded_volume_is_one_sequence(app, studies):
    request = {"model": "lckd", "session_image": str(studies / "a" / "a_t2.nii.gz"), "name": "brain T2"}
    result = app.infer(request | {"save_label": True})
    assert result["params"]["sequences"]["used"] == ["t2"]
    assert app.datastore().status()["label_tags"] == {}


@pytest.mark.parametrize("image", ["../a", "/etc/passwd", "", None, "b@t1"])
def test_no_other_image_is_segmented(app, image):
    with pytest.raises(MONAILabelException):
        app.infer({"model": "lckd", "image": image})


def test_another_model_is_refused(app):
    with pytest.raises(MONAILabelException) as refused:
        app.infer({"model": "deepedit", "image": "a"})
    assert "there is no such model; accepted are lckd" in refused.value.msg


def test_a_submitted_label_is_scored_against_the_proposal(app):
    result = app.infer({"model": "lckd", "image": "a", "save_label": True})
    app.on_save_label("a", app.datastore().save_label("a", result["file"], "final", {"client_id": "one"}))
    assert app.datastore().get_label_info("a", "final")["dice"] == {"et": 1.0, "wt": 1.0, "tc": 1.0}


def test_a_submitted_label_says_which_run_came_before_it(app):
    result = app.infer({"model": "lckd", "image": "b", "sequences": "t2", "client_id": "one"})
    app.datastore().save_label("b", result["file"], "final", {"client_id": "two"})
    info = app.datastore().get_label_info("b", "final")
    assert (info["client_id"], info["run"]["client_id"], info["run"]["sequences"]) == ("two", "one", ["t2"])
    assert info["run"]["weights"]["sha256"] == app.model_facts()["sha256"]


def test_a_batch_makes_every_study_open_with_a_proposal(app):
    assert set(app.batch_infer({"model": "lckd", "images": "unlabeled"}).values()) == {"done"}
    for study in "abc":
        assert "original" in app.datastore().get_image_info(study)["labels"]
        assert "score" in app.datastore().get_image_info(study)
        # Where Slicer's module looks for the names of a label that it shows at once.
        info = app.datastore().json()["objects"][study]["labels"]["original"]["info"]
        assert info["params"]["label_names"] == {"necrosis": 1, "edema": 2, "enhancing tumour": 3}


@pytest.mark.slow
def test_a_batch_in_a_process_of_its_own_is_seen_by_the_server(app, studies, tmp_path):
    conf = {"labels": str(studies.parent / "labels")}
    environment = {
        "MONAI_LABEL_APP_DIR": str(APP),
        "MONAI_LABEL_STUDIES": str(studies),
        "MONAI_LABEL_APP_CONF": json.dumps(conf),
        "PATH": "",
        "OMP_NUM_THREADS": "1",
    }
    request = json.dumps({"model": "lckd", "images": "unlabeled", "device": "cuda", "multi_gpu": True})
    command = [sys.executable, "-m", "monailabel.interfaces.utils.app", "-m", "batch_infer", "-r", request]
    subprocess.run(command, check=True, env=environment, cwd=tmp_path, capture_output=True)
    assert app.datastore().get_labeled_images("original") == ["a", "b", "c"]


def test_the_background_starts_with_the_server_when_it_is_asked_for(studies, monkeypatch):
    app = app_instance(str(APP), str(studies), {"precompute": "true"})
    started = []
    monkeypatch.setitem(app.on_init_complete.__func__.__globals__, "start_in_background", lambda *_: started.append(1))
    app.on_init_complete()
    clear_cache()
    assert started


def test_an_address_is_no_folder_of_studies():
    with pytest.raises(StudyError, match="is an address; accepted is a folder of studies"):
        app_instance(str(APP), "http://127.0.0.1:1/dicom-web", {})


def test_weights_that_are_missing_stop_the_start(studies, tmp_path):
    with pytest.raises(StudyError, match="weights .* are missing"):
        app_instance(str(APP), str(studies), {"weights": str(tmp_path / "none.pt")})


def test_monai_label_starts_no_process_at_every_next_sample(app):
    assert settings.MONAI_LABEL_AUTO_UPDATE_SCORING
    assert not app._auto_update_scoring
