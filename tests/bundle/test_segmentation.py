"""Segmentation of whole studies by the shipped weights, on small simulated studies."""

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from lckd.datalist import find_studies
from lckd.images import write_image
from lckd.inferer import StudyInferer
from lckd.segmentation import Segmenter
from lckd.sequences import SUBSETS
from lckd.simulation import simulate_study, write_study
from lckd.subset_evaluation import SubsetEvaluation


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def item(small_study, tmp_path_factory) -> dict:
    return find_studies(write_study(small_study, tmp_path_factory.mktemp("studies") / "s"))[0]


@pytest.fixture(scope="module")
def plain(segmenter, item):
    return segmenter(item)


def test_the_label_map_lies_on_the_reference_sequences_grid(plain, small_study):
    assert plain.label_map.shape == small_study.label_map.shape
    np.testing.assert_allclose(plain.affine, small_study.affine)


def test_probabilities_and_label_map_agree(plain):
    assert torch.equal(plain.label_map == 3, plain.probabilities[0] > 0.5)


def test_the_report_says_what_was_done(plain):
    report = plain.report
    assert report["sequences"]["used"] == ["flair", "t1", "t1ce", "t2"]
    assert report["sequences"]["reference"] == "t1ce"
    assert set(report["timings_s"]) == {"load", "preprocess", "network", "postprocess", "report", "total"}
    assert report["device"] == "cpu"
    assert report["precision"] == "float32"
    assert 0 < report["expected_dice"]["wt"]["dice"] <= 1


@pytest.mark.parametrize("codes", ["LPS", "SAL", "PIR"])
def test_the_files_orientation_does_not_move_the_tumour(segmenter, plain, small_study, tmp_path, codes):
    turn = ornt_transform(io_orientation(small_study.affine), axcodes2ornt(tuple(codes)))
    affine = small_study.affine @ inv_ornt_aff(turn, small_study.label_map.shape)
    for sequence, image in small_study.images.items():
        write_image(tmp_path / f"s_{sequence}.nii.gz", nib.apply_orientation(image, turn), affine)
    turned = segmenter(find_studies(tmp_path)[0])
    np.testing.assert_allclose(turned.affine, affine)
    expected = nib.apply_orientation(plain.label_map.numpy(), turn)
    assert (turned.label_map.numpy() == expected).mean() > 0.999


@pytest.mark.slow
def test_in_an_oblique_study_of_thick_slices_the_tumour_is_found_where_it_is(tmp_path):
    study = simulate_study(shape=(48, 58, 48), spacing_mm=(3, 3, 3), seed=1)
    rotation = np.array([[0.98, -0.2, 0, 5], [0.2, 0.98, 0, -7], [0, 0, 1, 9], [0, 0, 0, 1]])
    affine = rotation @ study.affine @ np.diag([-1, 1, 2, 1])  # flipped, oblique, slices of 6 mm
    for sequence in ("flair", "t1ce", "t2"):
        write_image(tmp_path / f"s_{sequence}.nii.gz", study.images[sequence][..., ::2], affine)
    result = Segmenter(device="cpu")(find_studies(tmp_path)[0])
    np.testing.assert_allclose(result.affine, affine, atol=1e-4)
    found, truth = result.label_map.numpy() > 0, study.label_map[..., ::2] > 0
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.7


def test_a_missing_sequences_file_changes_nothing(segmenter, item, small_study, tmp_path):
    absent = find_studies(write_study(small_study, tmp_path / "s", sequences=("flair", "t2")))[0]
    garbage = dict(absent, t1=str(tmp_path / "garbage.nii.gz"))
    (tmp_path / "garbage.nii.gz").write_bytes(b"garbage")
    chosen = Segmenter(device="cpu", precision="fp32")
    chosen.loading = type(chosen.loading)("flair+t2")
    assert torch.equal(segmenter(absent).probabilities, chosen(garbage).probabilities)


@pytest.mark.parametrize("flips", [False, True])
def test_kept_features_give_what_a_run_of_that_subset_gives(segmenter, item, tmp_path, flips, monkeypatch):
    monkeypatch.setattr(segmenter, "inferer", StudyInferer(flips=flips))
    loaded = segmenter.loading(item)
    image = segmenter.preprocess({"image": loaded["image"]})["image"]
    kept = dict(SubsetEvaluation(segmenter, tmp_path)._logits(image, loaded["availability"]))
    for subset in SUBSETS[::5]:
        availability = torch.tensor([[name in subset for name in ("flair", "t1", "t1ce", "t2")]])
        with torch.inference_mode():
            fresh = segmenter.inferer(image.as_tensor()[None], segmenter.network, availability)[0]
        torch.testing.assert_close(kept[subset], fresh, rtol=1e-3, atol=1e-3)


def test_a_prepared_study_is_encoded_once(segmenter, item, plain, monkeypatch):
    prepared = segmenter.prepare(item)
    assert torch.equal(segmenter.segment(prepared).label_map, plain.label_map)
    monkeypatch.delattr(type(segmenter.network), "encode")
    assert torch.equal(segmenter.segment(prepared).probabilities, plain.probabilities)


def test_without_enough_memory_smaller_windows_are_tried_and_said(segmenter, item, monkeypatch):
    original, windows = type(segmenter.network).encode, iter((192, 128))

    def short_of_memory(network, image, availability):
        if next(windows, None):
            raise torch.OutOfMemoryError("no memory for this window")
        return original(network, image, availability)

    monkeypatch.setattr(type(segmenter.network), "encode", short_of_memory)
    result = segmenter(item)
    assert "not enough memory" in result.report["warnings"][0]
    assert "windows of 96" in result.report["warnings"][0]


def test_other_errors_of_the_network_are_not_hidden(segmenter, item, monkeypatch):
    def broken(network, image, availability):
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(type(segmenter.network), "encode", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        segmenter(item)
