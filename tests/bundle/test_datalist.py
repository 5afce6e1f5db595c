import json
import os
from pathlib import Path

import pytest

from lckd.datalist import find_split, find_studies, kind_of_file, study_from_files, study_id
from lckd.errors import StudyError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Brats18_TCIA01_499_1_flair.nii.gz", "flair"),
        ("BraTS19_CBICA_ASK_1_t1ce.nii.gz", "t1ce"),
        ("BraTS2021_00002_t1.nii.gz", "t1"),
        ("BraTS-GLI-00012-000-t2f.nii.gz", "flair"),
        ("BraTS-GLI-00012-000-t1n.nii.gz", "t1"),
        ("BraTS-GLI-00012-000-t1c.nii.gz", "t1ce"),
        ("BraTS-GLI-00012-000-t2w.nii.gz", "t2"),
        ("BraTS-GLI-00012-000-seg.nii.gz", "label"),
        ("T1 Gd.nrrd", "t1ce"),
        ("patient_T1-CE.mha", "t1ce"),
        ("T2_FLAIR.nii", "flair"),
        ("c_t1.nii.gz", "t1"),
        ("t2_star.nii.gz", None),
        ("T1_map.nii.gz", None),
        ("t1_brain_mask.nii.gz", None),
        ("t1ce_brain.nii.gz", "t1ce"),
        ("dwi.nii.gz", None),
        ("notes_t1.txt", None),
        (".hidden_t1.nii.gz", None),
        ("segmentation.nii.gz", None),
        ("probabilities_et.nii.gz", None),
    ],
)
def test_what_a_file_name_says(name, kind):
    assert kind_of_file(Path(name)) == kind


@pytest.mark.parametrize("name", ["flair_t2_brain.nii.gz", "t1_flair.nii.gz", "flair_to_t1.nii.gz"])
def test_a_name_with_two_sequences_is_not_guessed(name):
    with pytest.raises(StudyError, match=r"names \w+ and \w+; rename it, or say which it is"):
        kind_of_file(Path(name))


def test_a_study_folder_is_one_study_by_its_name(tmp_path):
    touch(tmp_path / "p7", "x_t1.nii.gz", "x_flair.nii.gz", "x_seg.nii.gz", "notes.txt")
    (item,) = find_studies(tmp_path / "p7")
    assert item == {
        "study": "p7",
        "flair": str(tmp_path / "p7" / "x_flair.nii.gz"),
        "t1": str(tmp_path / "p7" / "x_t1.nii.gz"),
        "label": str(tmp_path / "p7" / "x_seg.nii.gz"),
    }


def test_a_folder_of_study_folders_gives_them_in_order(tmp_path):
    touch(tmp_path, "b/b_t2.nii.gz", "a/a_t1.nii.gz", "deep/c/c_flair.nii.gz", ".trash/t1.nii.gz")
    assert [item["study"] for item in find_studies(tmp_path)] == ["a", "b", "c"]


def test_a_stray_image_beside_the_study_folders_hides_none(tmp_path):
    touch(tmp_path, "overview.nii.gz", "a/a_t1.nii.gz")
    assert [item["study"] for item in find_studies(tmp_path)] == ["a"]


def test_a_studys_own_images_come_before_its_folders(tmp_path):
    touch(tmp_path / "p", "x_t1.nii.gz", "derived/y_t2.nii.gz")
    assert [item["study"] for item in find_studies(tmp_path / "p")] == ["p"]


def test_a_link_to_a_folder_above_ends(tmp_path):
    touch(tmp_path, "a/a_t1.nii.gz")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert [(item["study"], "error" in item) for item in find_studies(tmp_path)] == [("a", False)]


def test_results_inside_the_input_are_no_studies(tmp_path):
    touch(tmp_path, "a/a_t1.nii.gz", "out/a/segmentation.nii.gz", "out/a/probabilities_et.nii.gz", "out/a/preview.png")
    assert [(item["study"], "error" in item) for item in find_studies(tmp_path)] == [("a", False)]


def test_a_folder_below_does_not_hide_what_is_wrong_above(tmp_path):
    touch(tmp_path / "p", "a_t1.nii.gz", "a_t1w.nii.gz", "derived/x_t2.nii.gz")
    above, below = find_studies(tmp_path / "p")
    assert "two files for t1" in above["error"]
    assert below["study"] == "derived"


def test_an_ambiguous_name_in_a_flat_folder_costs_one_study(tmp_path):
    touch(tmp_path, "A_t1.nii.gz", "B_t1.nii.gz", "B_t2_flair_t1.nii.gz", "C_t1.nii.gz")
    items = {item["study"]: item for item in find_studies(tmp_path)}
    assert [study for study, item in items.items() if "error" not in item] == ["A", "C"]
    assert "names flair and t1" in items["B"]["error"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_costs_one_study(tmp_path):
    touch(tmp_path, "a/a_t1.nii.gz", "b/b_t1.nii.gz")
    (tmp_path / "a").chmod(0)
    bad, good = find_studies(tmp_path)
    (tmp_path / "a").chmod(0o700)
    assert "cannot be read (Permission denied)" in bad["error"]
    assert good["study"] == "b"


@pytest.mark.parametrize("path", ["a" * 5000, "~nobody_of_this_name/study"])
def test_a_path_that_the_system_refuses_is_told(path):
    with pytest.raises(StudyError, match="check the path"):
        find_studies(path)


def test_a_flat_folder_is_split_by_what_precedes_the_sequence(tmp_path):
    touch(tmp_path, "A_flair.nii.gz", "A_t1_ce.nii.gz", "B_flair.nii.gz", "B_seg.nii.gz")
    items = {item["study"]: item for item in find_studies(tmp_path)}
    assert set(items["A"]) == {"study", "flair", "t1ce"}
    assert set(items["B"]) == {"study", "flair", "label"}


def test_two_files_for_one_sequence_are_refused_by_name(tmp_path):
    touch(tmp_path / "p", "a_t1.nii.gz", "a_t1w.nii.gz")
    (item,) = find_studies(tmp_path / "p")
    assert "two files for t1" in item["error"]
    assert "a_t1.nii.gz" in item["error"]
    assert "a_t1w.nii.gz" in item["error"]


def test_a_bad_study_does_not_hide_the_good(tmp_path):
    touch(tmp_path, "bad/scan1.nii.gz", "good/x_t1.nii.gz")
    bad, good = find_studies(tmp_path)
    assert "holds no sequence, only scan1.nii.gz" in bad["error"]
    assert "error" not in good


def test_files_that_begin_differently_are_one_study_only_with_a_note(tmp_path):
    touch(tmp_path / "p", "A_t1.nii.gz", "B_flair.nii.gz")
    assert "('A', 'B') were taken for one study" in find_studies(tmp_path / "p")[0]["notes"][0]


def test_an_image_of_unknown_kind_is_ignored_with_a_note(tmp_path):
    touch(tmp_path / "p", "x_t1.nii.gz", "dwi.nii.gz", "segmentation.nii.gz")
    assert find_studies(tmp_path / "p")[0]["notes"] == ["dwi.nii.gz was ignored: its name holds no sequence"]


def test_equal_ids_are_refused(tmp_path):
    touch(tmp_path, "one/p/x_t1.nii.gz", "two/p/x_t1.nii.gz")
    first, second = find_studies(tmp_path)
    assert "error" not in first
    assert "two studies are called p" in second["error"]


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_nothing_to_segment_is_said_so(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(StudyError, match="does not exist|holds no sequence"):
        find_studies(tmp_path / name)


def test_a_data_list_with_sections_and_relative_paths(tmp_path):
    touch(tmp_path, "img/a_flair.nii.gz", "img/b_t2.nii.gz")
    content = {"training": [{"flair": "img/a_flair.nii.gz"}], "test": [{"study": "b", "T2w": "img/b_t2.nii.gz"}]}
    (tmp_path / "list.json").write_text(json.dumps(content))
    assert [item["study"] for item in find_studies(tmp_path / "list.json")] == ["a_flair", "b"]
    (item,) = find_split(tmp_path / "list.json", "test")
    assert item == {"study": "b", "t2": str(tmp_path / "img" / "b_t2.nii.gz")}


def test_msds_dataset_json_names_its_channels(tmp_path):
    touch(tmp_path, "imagesTr/BRATS_001.nii.gz", "labelsTr/BRATS_001.nii.gz")
    content = {
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        "labels": {"0": "background"},
        "training": [{"image": "./imagesTr/BRATS_001.nii.gz", "label": "./labelsTr/BRATS_001.nii.gz"}],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    (item,) = find_studies(tmp_path / "dataset.json")
    assert item["channels"] == ["flair", "t1", "t1ce", "t2"]
    assert item["study"] == "BRATS_001"
    assert item["label"].endswith("labelsTr/BRATS_001.nii.gz")


def test_msds_test_images_are_plain_paths(tmp_path):
    content = {
        "authors": ["A", "B"],
        "channel_names": {"0": "FLAIR", "1": "T1w"},
        "test": ["./imagesTs/BRATS_9.nii.gz"],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    (item,) = find_studies(tmp_path / "dataset.json")
    image = str(tmp_path / "imagesTs" / "BRATS_9.nii.gz")
    assert item == {"study": "BRATS_9", "image": image, "channels": ["flair", "t1"]}


def test_a_section_that_is_not_there_is_told_with_those_that_are(tmp_path):
    (tmp_path / "list.json").write_text('{"training": [{"flair": "a.nii.gz"}]}')
    with pytest.raises(StudyError, match="has no val; it has training"):
        find_studies(tmp_path / "list.json", section="val")


@pytest.mark.parametrize("text", ["[]", '{"channels": 3}', "{", '{"channels": ["dwi"]}'])
def test_a_broken_sidecar_is_told(tmp_path, text):
    touch(tmp_path, "four.nii.gz")
    (tmp_path / "four.json").write_text(text)
    with pytest.raises(StudyError, match="four"):
        find_studies(tmp_path / "four.nii.gz")


def test_a_4d_file_must_name_its_channels(tmp_path):
    touch(tmp_path, "four.nii.gz")
    with pytest.raises(StudyError, match="--channels flair,t1,t1ce,t2"):
        find_studies(tmp_path / "four.nii.gz")
    (tmp_path / "four.json").write_text(json.dumps({"channels": ["T2", "FLAIR"]}))
    assert find_studies(tmp_path / "four.nii.gz")[0]["channels"] == ["t2", "flair"]


@pytest.mark.parametrize("channels", [["flair", "flair"], ["flair", "dwi"]])
def test_wrong_channel_names_are_refused(tmp_path, channels):
    touch(tmp_path, "four.nii.gz")
    with pytest.raises(StudyError, match="accepted are flair, t1, t1ce, t2, each once"):
        find_studies(tmp_path / "four.nii.gz", channels=channels)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "3",
        "[]",
        "[3]",
        "[" * 100_000,
        '["a.nii.gz"]',
        '{"modality": "MR"}',
        '[{"dwi": "a.nii.gz"}]',
        '[{"flair": "nowhere.nii.gz"}]',
        '[{"image": "a.nii.gz", "channels": 5}]',
    ],
    ids=lambda text: text[:30],
)
def test_a_broken_data_list_is_told(tmp_path, text):
    (tmp_path / "list.json").write_text(text)
    try:
        (item,) = find_studies(tmp_path / "list.json")
    except StudyError as error:
        assert "list.json" in str(error)
    else:
        assert "list.json" in item["error"]


def test_explicit_files_go_by_alias(tmp_path):
    touch(tmp_path, "one.nii.gz", "two.nii.gz")
    item = study_from_files({"T1Gd": tmp_path / "one.nii.gz", "fla": tmp_path / "two.nii.gz"}, "s")
    assert item == {"study": "s", "flair": str(tmp_path / "two.nii.gz"), "t1ce": str(tmp_path / "one.nii.gz")}


@pytest.mark.parametrize("files", [{}, {"dwi": "a.nii.gz"}, {"flair": "nowhere.nii.gz"}, {"t1ce": "x", "t1gd": "x"}])
def test_wrong_explicit_files_are_refused(tmp_path, files, monkeypatch):
    monkeypatch.chdir(touch(tmp_path, "a.nii.gz", "x"))
    with pytest.raises(StudyError):
        study_from_files(files)


@pytest.mark.parametrize(
    ("name", "expected"), [("../../etc", "_.._etc"), ("a b/c", "a_b_c"), ("..", "study"), ("", "study"), ("ü", "_")]
)
def test_a_hostile_id_becomes_a_safe_folder_name(name, expected):
    assert study_id(name) == expected
