import json
import os
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from lib.datastore import StudyDatastore, fingerprint
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException

from lckd.datalist import find_studies
from lckd.errors import StudyError
from lckd.images import write_image
from lckd.simulation import write_study


@pytest.fixture
def datastore(studies) -> StudyDatastore:
    return StudyDatastore(studies, interval_s=None)


@pytest.fixture
def label(small_study, tmp_path):
    file = tmp_path / "label.nii.gz"
    write_image(file, small_study.label_map, small_study.affine)
    return file


def snapshot(folder) -> dict[str, float]:
    return {str(file): file.stat().st_mtime_ns for file in folder.rglob("*")}


def test_an_image_is_a_study_and_its_file_the_reference_sequence(datastore, studies):
    assert datastore.list_images() == ["a", "b", "c"]
    for study, sequence in {"a": "t1ce", "b": "flair", "c": "t1"}.items():
        assert datastore.get_image_uri(study) == str(studies / study / f"{study}_{sequence}.nii.gz")
    assert datastore.get_image_info("b")["missing"] == ["t1", "t1ce"]


def test_each_sequence_can_be_had_by_itself(datastore, studies):
    assert datastore.get_image_uri("b@t2") == str(studies / "b" / "b_t2.nii.gz")
    with pytest.raises(ImageNotFoundException) as refused:
        datastore.get_image_uri("b@t1")
    assert "study b has no 't1'; it has flair, t2" in refused.value.msg


def test_a_flat_folder_whose_files_share_prefixes(small_study, tmp_path):
    for name in ("p1", "p2"):
        write_study(small_study, tmp_path / "flat", study_id=name, sequences=("flair", "t1"), label=False)
    assert StudyDatastore(tmp_path / "flat", interval_s=None).list_images() == ["p1", "p2"]


def test_a_channel_of_a_four_dimensional_file_is_given_as_a_volume(small_study, tmp_path):
    (tmp_path / "four").mkdir()
    stacked = np.stack([small_study.images["flair"], small_study.images["t2"]], -1)
    nib.save(nib.Nifti1Image(stacked, small_study.affine), tmp_path / "four" / "p.nii.gz")
    (tmp_path / "four" / "list.json").write_text('[{"image": "p.nii.gz", "channels": ["flair", "t2"], "study": "p"}]')
    datastore = StudyDatastore(tmp_path / "four" / "list.json", interval_s=None)
    np.testing.assert_allclose(
        nib.load(datastore.get_image_uri("p@t2")).get_fdata(), small_study.images["t2"], rtol=1e-5
    )


def test_channels_that_are_named_anew_are_given_anew(small_study, tmp_path):
    stacked = np.stack([small_study.images["flair"], small_study.images["t2"]], -1)
    nib.save(nib.Nifti1Image(stacked, small_study.affine), tmp_path / "p.nii.gz")
    fingerprints, given = [], {}
    for channels in ('["t2", "flair"]', '["flair", "t2"]'):
        (tmp_path / "list.json").write_text(f'[{{"image": "p.nii.gz", "channels": {channels}, "study": "p"}}]')
        datastore = StudyDatastore(tmp_path / "list.json", interval_s=None)
        fingerprints.append(fingerprint(find_studies(tmp_path / "list.json")[0]))
        given[channels] = datastore.get_image_uri("p@t2")
    assert fingerprints[0] != fingerprints[1]
    np.testing.assert_allclose(nib.load(given['["flair", "t2"]']).get_fdata(), small_study.images["t2"], rtol=1e-5)
    assert not Path(given['["t2", "flair"]']).exists()


def test_a_channel_can_be_asked_for_by_many_at_once(small_study, tmp_path):
    stacked = np.stack([small_study.images["flair"], small_study.images["t2"]], -1)
    nib.save(nib.Nifti1Image(stacked, small_study.affine), tmp_path / "p.nii.gz")
    (tmp_path / "list.json").write_text('[{"image": "p.nii.gz", "channels": ["flair", "t2"], "study": "p"}]')
    datastore = StudyDatastore(tmp_path / "list.json", interval_s=None)
    with ThreadPoolExecutor(8) as pool:
        files = list(pool.map(lambda _: datastore.get_image_uri("p@t2"), range(8)))
    assert len(set(files)) == 1
    np.testing.assert_allclose(nib.load(files[0]).get_fdata(), small_study.images["t2"], rtol=1e-5)


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a/../b", "nobody", "", "a@../../b", "a\x00b"])
def test_nothing_but_ids_is_an_image(datastore, name):
    with pytest.raises(ImageNotFoundException):
        datastore.get_image_uri(name)


def test_the_input_is_never_touched(datastore, studies, label):
    before = snapshot(studies)
    datastore.save_label("a", str(label), "final", {})
    datastore.update_image_info("a", {"x": 1})
    datastore.refresh()
    assert snapshot(studies) == before


def test_labels_are_versions_and_none_is_lost(datastore, label, small_study):
    datastore.save_label("a", str(label), "final", {"client_id": "one"})
    first = datastore.get_label_uri("a", "final")
    write_image(label, np.zeros_like(small_study.label_map), small_study.affine)
    datastore.save_label("a", str(label), "final", {"client_id": "two"})
    assert datastore.get_label_uri("a", "final") != first
    assert np.asarray(nib.load(first).dataobj).any()
    assert not np.asarray(nib.load(datastore.get_label_uri("a", "final")).dataobj).any()
    assert datastore.get_label_info("a", "final")["client_id"] == "two"
    assert "saved" in datastore.get_label_info("a", "final")
    assert datastore.get_unlabeled_images() == ["b", "c"]
    assert datastore.status() == {"total": 3, "completed": 1, "label_tags": {"final": 1}, "unusable": 0}


def test_segments_keep_their_meaning_when_the_viewer_numbers_those_that_are_left(datastore, label, small_study):
    numbered = np.zeros_like(small_study.label_map)
    numbered[small_study.label_map == 3] = 1
    numbered[small_study.label_map == 2] = 2
    write_image(label, numbered, small_study.affine)
    segments = [{"name": "enhancing tumour", "idx": 1}, {"name": "edema", "idx": 2}]
    datastore.save_label("a", str(label), "final", {"label_info": segments})
    saved = np.asarray(nib.load(datastore.get_label_uri("a", "final")).dataobj)
    expected = np.where(small_study.label_map == 1, 0, small_study.label_map)
    np.testing.assert_array_equal(saved, expected)


@pytest.mark.parametrize(
    ("segments", "sentence"),
    [
        (
            [{"name": "cyst", "idx": 1}, {"name": "oedema", "idx": 2}, {"name": "necrosis", "idx": 3}],
            "'cyst' is none of",
        ),
        ([{"name": "oedema", "idx": 2}], "the values [1, 3], of no segment"),
    ],
)
def test_a_segment_of_unknown_meaning_is_refused_and_nothing_saved(datastore, label, segments, sentence):
    with pytest.raises(StudyError) as refused:
        datastore.save_label("a", str(label), "final", {"label_info": segments})
    assert sentence in str(refused.value)
    assert datastore.get_labels_by_image_id("a") == {}


@pytest.mark.parametrize("tag", ["../x", "", "a/b", ".hidden"])
def test_a_tag_is_no_path(datastore, label, tag):
    with pytest.raises(StudyError, match="is not accepted"):
        datastore.save_label("a", str(label), tag, {})


def test_no_label_map_is_no_label(datastore, tmp_path):
    (tmp_path / "x.nii.gz").write_bytes(b"nothing")
    with pytest.raises(StudyError):
        datastore.save_label("a", str(tmp_path / "x.nii.gz"), "final", {})
    with pytest.raises(LabelNotFoundException):
        datastore.get_label_uri("a", "final")


def test_new_studies_and_sequences_appear(datastore, studies, small_study):
    write_study(small_study, studies / "d", study_id="d", sequences=("flair",), label=False)
    write_study(small_study, studies / "c", study_id="c", sequences=("flair",), label=False)
    datastore.refresh()
    assert datastore.list_images() == ["a", "b", "c", "d"]
    assert datastore.get_image_info("c")["sequences"] == ["flair", "t1"]


def test_a_study_that_vanished_is_gone_and_its_labels_stay(datastore, studies, label):
    datastore.save_label("c", str(label), "final", {})
    file = studies / "c" / "c_t1.nii.gz"
    content = file.read_bytes()
    file.unlink()
    datastore.refresh()
    assert datastore.list_images() == ["a", "b"]
    file.write_bytes(content)
    datastore.refresh()
    assert datastore.get_labeled_images() == ["c"]


def test_the_scan_in_the_background_finds_them_too(studies, small_study):
    datastore = StudyDatastore(studies, interval_s=0.05)
    write_study(small_study, studies / "d", study_id="d", sequences=("flair",), label=False)
    deadline = time.monotonic() + 10
    while "d" not in datastore.list_images() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "d" in datastore.list_images()


def test_a_study_that_cannot_be_used_is_no_image_and_says_why(datastore, studies):
    (studies / "e").mkdir()
    (studies / "e" / "t1_to_flair.nii.gz").write_bytes(b"")
    datastore.refresh()
    assert "e" not in datastore.list_images()
    assert "names" in datastore.errors()["e"]
    with pytest.raises(ImageNotFoundException) as refused:
        datastore.get_image_uri("e")
    assert "cannot be used" in refused.value.msg


def test_another_process_sees_the_same(datastore, studies, label):
    save = f"save_label('b', {str(label)!r}, 'original', {{'model': 'x'}})"
    code = f"from lib.datastore import StudyDatastore; StudyDatastore({str(studies)!r}, interval_s=None).{save}"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert datastore.get_label_info("b", "original")["model"] == "x"


def test_labels_are_found_again_without_the_index(datastore, studies, label):
    datastore.save_label("a", str(label), "final", {"client_id": "one"})
    for file in datastore.labels.glob("index.sqlite*"):
        file.unlink()
    assert StudyDatastore(studies, interval_s=None).get_label_info("a", "final")["client_id"] == "one"


def test_a_label_that_was_being_saved_when_the_power_went_is_no_version(datastore, studies, label):
    datastore.save_label("a", str(label), "final", {})
    unfinished = datastore.labels / "a" / "final" / ".f00"
    unfinished.mkdir()
    (unfinished / "info.json").write_text("{")
    again = StudyDatastore(studies, interval_s=None)
    assert again.get_label_uri("a", "final").endswith("0001/label.nii.gz")


def test_what_a_killed_process_left_unfinished_goes_after_a_day(datastore, studies, label):
    datastore.save_label("a", str(label), "final", {})
    fresh, old = (datastore.labels / "a" / "final" / name for name in (".f00", ".f01"))
    for unfinished in (fresh, old):
        unfinished.mkdir()
    os.utime(old, (0, 0))
    StudyDatastore(studies, interval_s=None)
    assert fresh.exists() and not old.exists()


def test_an_index_of_another_version_is_made_anew(datastore, studies, label):
    datastore.save_label("a", str(label), "final", {"client_id": "one"})
    with sqlite3.connect(datastore.labels / "index.sqlite") as index:
        index.execute("DROP TABLE labels")
        index.execute("CREATE TABLE labels (other TEXT)")
        index.execute("PRAGMA user_version = 99")
    again = StudyDatastore(studies, interval_s=None)
    assert again.get_label_info("a", "final")["client_id"] == "one" and len(again.list_images()) == 3


def test_training_gets_the_sequences_and_the_final_label(datastore, label):
    datastore.save_label("b", str(label), "final", {})
    (item,) = datastore.datalist()
    assert set(item) == {"study", "flair", "t2", "label", "image"}
    assert item["label"].endswith("b/final/0001/label.nii.gz")


def test_nothing_is_removed_or_handed_out_whole(datastore):
    for refused in (lambda: datastore.remove_image("a"), lambda: datastore.get_dataset_archive(None)):
        with pytest.raises(ImageNotFoundException):
            refused()
    with pytest.raises(LabelNotFoundException):
        datastore.remove_label("a", "final")


def test_everything_as_json(datastore, label):
    datastore.save_label("a", str(label), "final", {})
    listed = datastore.json()["objects"]
    assert listed["a"] == {"sequences": ["flair", "t1", "t1ce", "t2"], "labels": {"final": {"version": 1, "info": {}}}}
    json.dumps(listed)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(StudyError, match="does not exist"):
        StudyDatastore(tmp_path / "nowhere")
