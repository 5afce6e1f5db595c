"""Clicks and scribbles as the viewer's panels send them, through a real server."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from lib.refinement import REGION_OF, RefinementTask
from lib.segmentation import SegmentationTask
from lib.versions import WeightsVersions
from monailabel.client.client import MONAILabelClient, MONAILabelClientException
from monailabel.interfaces.tasks.infer_v2 import InferType
from server_process import Server

from lckd.datalist import find_studies
from lckd.errors import StudyError
from lckd.images import write_image
from lckd.interaction import Refiner
from lckd.simulation import simulate_study, write_study
from lckd.weights import metadata

FLIPPED = np.array([[0, 0, 2.0, 5], [-1.0, 0, 0, 30], [0, 1.5, 0, -9], [0, 0, 0, 1.0]])
"""Permuted, flipped and anisotropic."""


pytestmark = pytest.mark.skipif("refinement" not in metadata(), reason="the bundle has no refinement for its weights")


@pytest.fixture(scope="module")
def server(small_study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clicks")
    write_study(small_study, folder / "studies" / "a", study_id="a", label=False)
    write_study(small_study, folder / "studies" / "b", study_id="b", sequences=("flair",), label=False)
    study = simulate_study((40, 44, 36), (4.0, 4.0, 4.5), seed=3)
    (folder / "studies" / "turned").mkdir()
    for name in ("flair", "t2"):
        write_image(folder / "studies" / "turned" / f"turned_{name}.nii.gz", study.images[name], FLIPPED)
    server = Server(folder).wait()
    yield server
    server.stop()


@pytest.fixture
def client(server, tmp_path) -> MONAILabelClient:
    return MONAILabelClient(server.url, str(tmp_path), "user-xyz")


def answer(client: MONAILabelClient, model: str, image: str, params: dict, label: Path | None = None, **options):
    file, facts = client.infer(model, image, params, str(label) if label else None, **options)
    return np.asarray(nib.load(file).dataobj), facts


def points(**named: list) -> dict:
    """As SmartEdit sends them: a list for every label that the server has, empty or not."""
    return {"background": [], "necrosis": [], "edema": [], "enhancing tumour": [], "label": "edema"} | named


def test_the_panels_are_there(client):
    models = client.info()["models"]
    assert {models[name]["type"] for name in models} == {"segmentation", "deepedit", "deepgrow", "scribbles"}
    flips = {name for name in models if "flips" in models[name]["config"]}
    assert {models[name]["type"] for name in flips} == {"segmentation"}  # of mirror images nothing is kept to refine
    assert client.info()["labels"] == {"background": 0, "necrosis": 1, "edema": 2, "enhancing tumour": 3}


@pytest.mark.parametrize("study", ["a", "b", "turned"])
def test_points_of_every_label_land_where_they_were_made(client, study):
    plain, _ = answer(client, "lckd", study, {})
    shape = plain.shape
    places = {
        "edema": [shape[0] // 2, 3, 4],
        "necrosis": [2, shape[1] - 3, 5],
        "enhancing tumour": [4, 4, shape[2] - 2],
    }
    where = np.argwhere(plain)
    denied = where[len(where) // 2].tolist() if len(where) else [1, 1, 1]
    sent = {name: [place] for name, place in places.items()}
    edited, facts = answer(client, "lckd_clicks", study, points(**sent, background=[denied]))
    assert facts["label_names"] == {"necrosis": 1, "edema": 2, "enhancing tumour": 3} and facts["marks"] == 4
    for name, place in places.items():
        assert edited[tuple(place)] == facts["label_names"][name]
    assert edited[tuple(denied)] == 0
    assert not [warning for warning in facts["warnings"] if "ignored" in warning]


def test_without_the_last_point_it_is_as_before(client):
    one, two = {"edema": [[5, 5, 5]]}, {"edema": [[5, 5, 5], [20, 20, 20]]}
    first, _ = answer(client, "lckd_clicks", "a", points(**one))
    both, facts = answer(client, "lckd_clicks", "a", points(**two))
    again, _ = answer(client, "lckd_clicks", "a", points(**one))
    assert (first == again).all() and (first != both).any() and facts["cached"]


@pytest.mark.parametrize("label", sorted(REGION_OF))
def test_one_label_is_a_mask_of_its_own(client, label):
    params = {"label": label, "foreground": [[6, 7, 8]], "background": [[20, 20, 20]]}
    mask, facts = answer(client, "lckd_one_label", "a", params)
    assert set(np.unique(mask)) <= {0, 1} and facts["label_names"] == {label: 1}
    assert mask[6, 7, 8] == 1 and mask[20, 20, 20] == 0


def test_scribbles_are_read_by_the_names_that_the_viewer_gives_them(client, small_study, tmp_path):
    scribbles = np.zeros(small_study.label_map.shape, np.uint8)
    scribbles[4:9, 6, 6], scribbles[20, 20:24, 20], scribbles[0, 0, 0] = 6, 5, 2
    file = tmp_path / "scribbles.nii.gz"
    write_image(file, scribbles, small_study.affine)
    names = ["background", "necrosis", "edema", "enhancing tumour", "background_scribbles", "foreground_scribbles"]
    label_info = [{"name": name, "id": index + 1} for index, name in enumerate(names)]
    params = {"label_info": label_info, "selected_label_name": "enhancing tumour", "roi": []}
    mask, facts = answer(client, "lckd_scribbles", "a", params, file)
    assert mask[4:9, 6, 6].all() and not mask[20, 20:24, 20].any()
    assert facts["marks"] == 9 and facts["label_names"] == {"enhancing tumour": 1}


def test_a_hand_loaded_volume_can_be_clicked_too(client, small_study, tmp_path):
    volume = tmp_path / "somebody_flair.nii.gz"
    write_image(volume, small_study.images["flair"], small_study.affine)
    session = client.create_session(str(volume))["session_id"]
    edited, _ = answer(client, "lckd_clicks", "somebody_flair", points(edema=[[3, 3, 3]]), session_id=session)
    assert edited[3, 3, 3] == 2


def test_a_submitted_label_says_that_it_was_made_with_clicks(client, server, small_study, tmp_path):
    answer(client, "lckd_clicks", "b", points(edema=[[3, 3, 3]]))
    label = tmp_path / "label.nii.gz"
    write_image(label, small_study.label_map, small_study.affine)
    client.save_label("b", str(label), params={"label_info": []})
    info = json.loads(next((server.labels / "b" / "final").glob("*/info.json")).read_text())
    assert info["made"] == "semi-automatic" and info["run"]["marks"] == 1 and info["run"]["model"] == "lckd_clicks"


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"edema": [[99, 0, 0]]}, "outside the image"),
        ({"edema": [[1, 1, 1]], "background": [[1, 1, 1]]}, "contradict each other"),
        ({"edema": [["__import__('os')", 0, 0]]}, "accepted are voxel indices"),
        ({"edema": [[1, 2]]}, "accepted are voxel indices"),
        ({"edema": [[1e300, 0, 0]]}, "accepted are voxel indices"),
        ({"edema": {"a": 1}}, "accepted are voxel indices"),
        ({"edema": "abc"}, "accepted are voxel indices"),
        ({"edema": [[10**400, 0, 0]]}, "accepted are voxel indices"),
    ],
)
def test_marks_that_cannot_be_are_refused_with_a_sentence(client, params, told):
    with pytest.raises(MONAILabelClientException) as refused:
        client.infer("lckd_clicks", "a", points(**params))
    assert "Status: 400" in refused.value.msg and told in refused.value.msg


def test_a_label_that_is_none_is_refused(client, small_study, tmp_path):
    with pytest.raises(MONAILabelClientException) as refused:
        client.infer("lckd_one_label", "a", {"label": "liver", "foreground": [[1, 1, 1]], "background": []})
    assert "accepted are whole tumour" in refused.value.msg
    with pytest.raises(MONAILabelClientException) as refused:
        client.infer("lckd_scribbles", "a", {"selected_label_name": "edema"})
    assert "no scribbles were sent" in refused.value.msg


# ---- without a server in between


@pytest.fixture(scope="module")
def clicks(tmp_path_factory) -> RefinementTask:
    task = SegmentationTask(WeightsVersions(tmp_path_factory.mktemp("versions")))
    return RefinementTask(task, Refiner(), InferType.DEEPEDIT)


def test_a_refused_request_keeps_the_study(clicks, small_study, tmp_path):
    (item,) = find_studies(write_study(small_study, tmp_path / "s", label=False))
    request = {"image": item["t1ce"], "study": item}
    with pytest.raises(StudyError, match="outside the image"):
        clicks(request | {"marks": {"edema": [[99, 0, 0]]}})
    file, report = clicks(request | {"marks": {"edema": [[3, 3, 3]]}})
    Path(file).unlink()
    assert report["cached"]


def test_marks_that_touch_in_an_image_finer_than_the_reference_do_not_contradict_each_other(
    clicks, small_study, tmp_path
):
    folder = write_study(small_study, tmp_path / "s", label=False)
    (item,) = find_studies(folder)
    coarse = small_study.images["t1ce"][::2, ::2, ::2]
    write_image(item["t1ce"], coarse, small_study.affine @ np.diag([2.0, 2.0, 2.0, 1.0]))
    marks = {"edema": [[20, 20, 20]], "background": [[21, 20, 20]]}
    file, report = clicks({"image": item["flair"], "study": item, "marks": marks})
    edited = np.asarray(nib.load(file).dataobj)
    Path(file).unlink()
    assert report["sequences"]["reference"] == "t1ce" and report["marks"] == 2
    assert edited[20, 20, 20] == 2 and edited[21, 20, 20] == 0
