from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from lib import segmentation
from lib.recognition import guess_sequence
from lib.segmentation import LABEL_NAMES, SegmentationTask, hand_loaded, largest_lesion
from lib.versions import WeightsVersions

from lckd.datalist import find_studies
from lckd.errors import StudyError
from lckd.images import Image, read_image, write_image
from lckd.marks import region_marks
from lckd.network import LCKDNet
from lckd.sequences import LABELS, SEQUENCES
from lckd.simulation import simulate_study, write_study

SYNONYMS = {"necrosis": "necrotic core", "edema": "oedema", "enhancing tumour": "enhancing tumour"}


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> SegmentationTask:
    return SegmentationTask(WeightsVersions(tmp_path_factory.mktemp("versions")))


@pytest.fixture
def items(studies) -> dict[str, dict]:
    return {item["study"]: item for item in find_studies(studies)}


@pytest.fixture
def a(items) -> dict:
    """What the server asks for the study with four sequences, which the viewer shows as T1ce."""
    return {"image": items["a"]["t1ce"], "study": items["a"]}


def segmented(task, request) -> tuple[nib.Nifti1Image, dict]:
    file, report = task(request)
    image = nib.load(file)
    kept = nib.Nifti1Image(np.asarray(image.dataobj), image.affine)
    Path(file).unlink()
    return kept, report


def values(image: nib.Nifti1Image) -> np.ndarray:
    return np.asarray(image.dataobj)


def imported(image: nib.Nifti1Image, label_names: dict[str, int]) -> dict[str, np.ndarray]:
    """Segments as 3D Slicer makes them: names in the order of their values, the i-th gets label value i + 1."""
    names = [name for name, _ in sorted(label_names.items(), key=lambda pair: pair[1]) if name != "background"]
    return {name: values(image) == number for number, name in enumerate(names, start=1)}


# ---- subsets and the report


@pytest.mark.parametrize(("study", "used"), [("a", [*SEQUENCES]), ("b", ["flair", "t2"]), ("c", ["t1"])])
def test_a_study_is_segmented_with_what_it_has(task, items, study, used):
    image = items[study].get("t1ce") or items[study].get("flair") or items[study]["t1"]
    result, report = segmented(task, {"image": image, "study": items[study]})
    assert report["sequences"]["used"] == used
    assert report["sequences"]["missing"] == [sequence for sequence in SEQUENCES if sequence not in used]
    assert result.shape == nib.load(image).shape
    assert set(np.unique(values(result))) <= {0, 1, 2, 3}


def test_the_report_says_volumes_and_how_far_to_trust_them(task, a):
    result, report = segmented(task, a)
    expected_ml = float((values(result) > 0).sum()) / 1000
    assert report["volumes_ml"]["regions"]["wt"] == pytest.approx(expected_ml, abs=1e-3)
    assert set(report["expected_dice"]) == {"et", "wt", "tc"}
    assert report["timings_s"]["total"] > 0
    assert report["weights"]["version"] == "base"
    assert report["label_names"] == LABEL_NAMES


def test_the_score_is_the_mean_estimate_of_what_was_found(task, a, sensitive):
    _, report = segmented(task, a)  # the shipped rules find nothing in a toy
    assert list(report["estimated_dice"].values()) == [None] * 3
    assert report["score"] == 0  # an annotator should look at it first
    _, report = segmented(task, a | {"postprocessing": "none"})
    found = [value for value in report["estimated_dice"].values() if value is not None]
    assert found
    assert report["score"] == pytest.approx(np.mean(found), abs=1e-4)


def test_chosen_sequences_alone_are_used_and_the_result_is_on_the_grid_that_is_shown(task, items, a):
    moved = nib.load(items["a"]["t2"])
    shifted = np.eye(4)
    shifted[:3, 3] = 2
    nib.save(nib.Nifti1Image(values(moved)[:30], shifted), items["a"]["t2"])
    result, report = segmented(task, a | {"sequences": "t2"})
    assert report["sequences"]["used"] == ["t2"]
    np.testing.assert_allclose(result.affine, nib.load(items["a"]["t1ce"]).affine)
    assert result.shape == nib.load(items["a"]["t1ce"]).shape


def test_a_sequence_that_is_shown_by_itself_gets_its_own_grid(task, items):
    stretched = np.diag([1.0, 1.0, 2.0, 1.0])
    nib.save(nib.Nifti1Image(values(nib.load(items["b"]["t2"]))[:, :, ::2], stretched), items["b"]["t2"])
    result, _ = segmented(task, {"image": items["b"]["t2"], "study": items["b"]})
    np.testing.assert_allclose(result.affine, stretched)


# ---- options


def test_the_viewer_is_offered_the_options_and_the_processor_is_among_the_devices(task):
    options = task.info()["config"]
    assert "cpu" in options["device"]
    assert len(options["sequences"]) == 1 + 15
    assert options["this volume is"] == ["auto", *SEQUENCES]
    assert {"precision", "postprocessing", "flips"} <= options.keys()


def test_options_that_nobody_touched_are_whole_lists(task, a):
    assert segmented(task, a | task.info()["config"])[1]["sequences"]["used"] == [*SEQUENCES]


@pytest.mark.parametrize(
    "options",
    [{"precision": "fp32"}, {"device": "cpu"}, {"flips": True}, {"postprocessing": "none"}],
)
def test_each_option_gives_a_result(task, a, options):
    assert segmented(task, a | options)[1]["label_names"] == LABEL_NAMES


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"device": "tpu"}, "the option 'device' is 'tpu'; accepted are auto, "),
        ({"sequences": "swi"}, "the option 'sequences' is 'swi'"),
        ({"sequences": {"a": 1}}, "the option 'sequences' is"),
        ({"flips": "yes"}, "the option 'flips' is 'yes'; accepted are true and false"),
        ({"postprocessing": "x" * 999}, "the option 'postprocessing' is 'xxx"),
    ],
)
def test_an_option_of_another_value_is_refused(task, a, options, sentence):
    with pytest.raises(StudyError) as refused:
        task(a | options)
    assert str(refused.value).startswith(sentence)


def test_sequences_that_the_study_lacks_cannot_be_chosen(task, items):
    with pytest.raises(StudyError, match=r"study c has t1 and no flair\+t2; choose other sequences, or auto"):
        task({"image": items["c"]["t1"], "study": items["c"], "sequences": "flair+t1+t2"})


def test_the_largest_lesion_alone_is_left():
    label_map = np.zeros((9, 9, 9), np.uint8)
    label_map[:3, :3, :3], label_map[1, 1, 1], label_map[7, 7, 7] = 2, 3, 1
    label_map[3, 3, 3] = 2  # touches with a corner
    assert np.unique(largest_lesion(label_map)).tolist() == [0, 2, 3]
    assert largest_lesion(label_map)[3, 3, 3] == 2
    label_map[8, 0, 8] = 1
    marked = largest_lesion(label_map, region_marks("wt", True, [[7, 7, 7]]))
    assert marked[7, 7, 7] == 1 and marked[8, 0, 8] == 0
    assert not largest_lesion(np.zeros((3, 3, 3), np.uint8)).any()


# ---- volumes loaded by hand


@pytest.mark.parametrize("name", ["patient 7 FLAIR", "p7_flair.nii.gz", "t2-flair"])
def test_the_name_of_a_hand_loaded_volume_says_its_sequence(items, name):
    item = hand_loaded(items["c"]["t1"], name=name)
    assert "flair" in item
    assert "taken for FLAIR, as its name says" in item["notes"][0]


def test_the_option_says_it_against_the_name(items):
    item = hand_loaded(items["c"]["t1"], said="t2", name="flair")
    assert ("t2" in item, item["notes"]) == (True, [])


@pytest.mark.parametrize("name", ["volume.nii.gz", "flair_to_t1", "MRBrainTumor1", "seg"])
def test_where_neither_says_it_the_voxels_do_and_the_report_warns(task, studies, name):
    file = studies / "a" / "a_t2.nii.gz"
    _, report = segmented(task, {"image": str(file), "name": name, "sequences": "auto"})
    assert report["sequences"]["used"] == ["t2"]
    assert "taken for T2, as its voxels suggest" in report["warnings"][-1]


def test_most_simulated_sequences_are_recognized_by_their_voxels_in_any_orientation():
    right = []
    for seed in range(40, 44):
        study = simulate_study(shape=(48, 56, 48), spacing_mm=(3, 3, 3), seed=seed)
        turned = study.affine @ np.array([[0, 0, 1, 0], [-1, 0, 0, 55], [0, 1, 0, 0], [0, 0, 0, 1.0]])
        for sequence, array in study.images.items():
            image = Image(array.transpose(1, 2, 0)[::-1], turned)
            right.append(guess_sequence(image) == sequence)
    assert np.mean(right) >= 0.8


def test_a_four_dimensional_volume_is_no_hand_loaded_sequence(tmp_path):
    nib.save(nib.Nifti1Image(np.random.rand(4, 4, 4, 2), np.eye(4)), tmp_path / "x.nii.gz")
    with pytest.raises(StudyError, match="2 channels; accepted is one"):
        hand_loaded(tmp_path / "x.nii.gz")


# ---- geometry


@pytest.fixture
def sensitive(monkeypatch, likeliest):
    monkeypatch.setitem(segmentation.POSTPROCESSING, "none", likeliest)


def plain_and(task, study, folder, array_of, affine) -> tuple[np.ndarray, nib.Nifti1Image]:
    """The label map on the plain grid, and the result for the same study on another grid."""
    write_study(study, folder / "plain", study_id="s", label=False)
    for sequence, array in study.images.items():
        (folder / "other").mkdir(exist_ok=True)
        write_image(folder / "other" / f"s_{sequence}.nii.gz", np.round(array_of(array)).astype(np.int16), affine)
    results = []
    for name in ("plain", "other"):
        (item,) = find_studies(folder / name)
        results.append(
            segmented(
                task,
                {
                    "image": item["t1ce"],
                    "study": item,
                    "precision": "fp32",
                    "postprocessing": "none",
                },
            )[0]
        )
    return values(results[0]), results[1]


def test_on_a_flipped_and_permuted_grid(task, small_study, tmp_path, sensitive):
    affine = np.array([[0, 0, -1, 31], [-1, 0, 0, 35], [0, 1, 0, 0], [0, 0, 0, 1.0]])

    def turned(array):
        return array.transpose(1, 2, 0)[::-1, :, ::-1]

    plain, result = plain_and(task, small_study, tmp_path, turned, affine)
    assert plain.any()
    np.testing.assert_allclose(result.affine, affine)
    np.testing.assert_array_equal(values(result), turned(plain))


def test_on_an_oblique_grid(task, small_study, tmp_path, sensitive):
    angle = np.radians(20)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[:3, 3] = (-40, 12, 7)
    plain, result = plain_and(task, small_study, tmp_path, lambda array: array, affine)
    np.testing.assert_allclose(result.affine, affine, atol=1e-5)
    assert overlap(values(result), plain) > 0.9


@pytest.mark.slow
def test_on_an_oblique_anisotropic_and_flipped_grid_the_tumour_is_where_it_is(task, tmp_path):
    study = simulate_study(shape=(72, 88, 48), spacing_mm=(2, 2, 3), seed=3)
    angle = np.radians(15)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = 71
    turned = replace(
        study,
        images={name: array[::-1] for name, array in study.images.items()},
        label_map=study.label_map[::-1],
        affine=turn @ study.affine @ flip,
    )
    write_study(turned, tmp_path / "s", study_id="s", label=False)
    (item,) = find_studies(tmp_path / "s")
    result, _ = segmented(task, {"image": item["t1ce"], "study": item})
    np.testing.assert_allclose(result.affine, turned.affine, atol=1e-4)
    assert overlap(values(result), turned.label_map) > 0.6


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Dice of what is labelled."""
    return 2 * ((first > 0) & (second > 0)).sum() / ((first > 0).sum() + (second > 0).sum())


@pytest.mark.parametrize("absent", [None, *LABELS])
def test_the_viewer_gives_every_class_its_own_name_also_when_one_is_absent(task, a, monkeypatch, absent):
    label_map = torch.zeros(1, 32, 36, 32, dtype=torch.uint8)
    for value in {1, 2, 3} - {LABELS.get(absent)}:
        label_map[0, 5 * value, 5, 5] = value
    monkeypatch.setattr("lckd.postprocessing.Postprocessing.__call__", lambda self, *arguments: label_map)
    result, report = segmented(task, a)
    segments = imported(result, report["label_names"])
    for name, mask in segments.items():
        np.testing.assert_array_equal(mask, label_map[0].numpy() == LABELS[SYNONYMS[name]])


# ---- cache


def test_the_second_time_the_kept_study_gives_the_same(task, items):
    request = {"image": items["b"]["flair"], "study": items["b"]}
    first, second = segmented(task, request), segmented(task, request)
    assert (first[1]["cached"], second[1]["cached"]) == (False, True)
    assert ("load" in first[1]["timings_s"], "load" in second[1]["timings_s"]) == (True, False)
    np.testing.assert_array_equal(values(first[0]), values(second[0]))


def test_a_changed_file_is_read_again(task, items):
    request = {"image": items["c"]["t1"], "study": items["c"]}
    segmented(task, request)
    image = read_image(items["c"]["t1"])
    write_image(items["c"]["t1"], image.array[::-1], image.affine)
    assert not segmented(task, request)[1]["cached"]


@pytest.mark.parametrize("options", [{"sequences": "flair"}, {"precision": "bf16"}])
def test_another_subset_or_precision_is_kept_apart(task, items, options):
    request = {"image": items["b"]["flair"], "study": items["b"], "precision": "fp32"}
    segmented(task, request)
    assert not segmented(task, request | options)[1]["cached"]


def test_a_sequence_that_is_added_is_the_only_one_to_be_encoded(items, tmp_path, monkeypatch):
    two, three = (
        {"image": items["a"]["flair"], "study": items["a"], "sequences": chosen}
        for chosen in ("flair+t2", "flair+t1+t2")
    )
    fresh = segmented(SegmentationTask(WeightsVersions(tmp_path)), three)
    encode, encoded = LCKDNet.encode, []

    def listened(network, image, availability):
        encoded.extend(sequence for sequence, has in zip(SEQUENCES, availability[0].tolist(), strict=True) if has)
        return encode(network, image, availability)

    task = SegmentationTask(WeightsVersions(tmp_path))
    monkeypatch.setattr(LCKDNet, "encode", listened)
    segmented(task, two)
    added = segmented(task, three)
    assert encoded == ["flair", "t2", "t1"]
    np.testing.assert_array_equal(values(added[0]), values(fresh[0]))


def test_the_oldest_study_leaves_when_the_memory_is_full(items, tmp_path):
    requests = [{"image": items[study][shown], "study": items[study]} for study, shown in (("b", "flair"), ("c", "t1"))]
    task = SegmentationTask(WeightsVersions(tmp_path))
    segmented(task, requests[0])
    small = SegmentationTask(WeightsVersions(tmp_path), cache_bytes=task._cache.currsize)
    cached = [segmented(small, request)[1]["cached"] for request in (*requests, requests[0])]
    assert cached == [False, False, False]
    assert small._cache.currsize <= small._cache.maxsize


def test_without_enough_memory_smaller_windows_are_tried_and_the_user_is_told(task, items, monkeypatch):
    encode, failures = LCKDNet.encode, [MemoryError()]

    def encode_or_fail(*arguments):
        if failures:
            raise failures.pop()
        return encode(*arguments)

    monkeypatch.setattr(LCKDNet, "encode", encode_or_fail)
    _, report = segmented(task, {"image": items["c"]["t1"], "study": items["c"]})
    assert any("had not enough memory" in warning for warning in report["warnings"])
