import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from lckd.datalist import find_studies
from lckd.errors import StudyError
from lckd.images import write_image
from lckd.loading import LoadStudy
from lckd.sequences import SEQUENCES, SUBSETS
from lckd.simulation import write_study


def item_of(study, folder, sequences=SEQUENCES):
    return find_studies(write_study(study, folder, sequences=sequences))[0]


@pytest.mark.parametrize("subset", SUBSETS)
def test_channels_are_in_order_and_a_missing_one_is_zero(small_study, tmp_path, subset):
    loaded = LoadStudy()(item_of(small_study, tmp_path / "s", subset))
    assert loaded["availability"].tolist() == [sequence in subset for sequence in SEQUENCES]
    for channel, sequence in zip(loaded["image"], SEQUENCES, strict=True):
        assert bool(channel.any()) == (sequence in subset)
    assert loaded["warnings"] == []


def test_an_unused_sequences_file_is_never_opened(small_study, tmp_path):
    item = item_of(small_study, tmp_path / "s")
    clean = LoadStudy("flair+t2")(item)["image"]
    for sequence in ("t1", "t1ce"):
        (tmp_path / "s" / item[sequence]).write_bytes(b"garbage")
    assert torch.equal(LoadStudy("flair+t2")(item)["image"].as_tensor(), clean.as_tensor())


def test_a_selection_that_leaves_nothing_is_refused(small_study, tmp_path):
    with pytest.raises(StudyError, match="has flair, of which none may be used"):
        LoadStudy("t2")(item_of(small_study, tmp_path / "s", ("flair",)))


@pytest.mark.parametrize(("values", "expected"), [([0, 1, 2, 4], [0, 1, 2, 3]), ([0, 1, 2, 3], [0, 1, 2, 3])])
def test_brats_labels_become_ours(small_study, tmp_path, values, expected):
    item = item_of(small_study, tmp_path / "s")
    write_image(item["label"], np.array(values, np.uint8)[small_study.label_map], small_study.affine)
    assert LoadStudy()(item)["label"].unique().tolist() == expected


@pytest.mark.parametrize("values", [[0, 3, 4, 1], [0, 1, 2, 7]])
def test_unknown_labels_are_refused(small_study, tmp_path, values):
    item = item_of(small_study, tmp_path / "s")
    write_image(item["label"], np.array(values, np.uint8)[small_study.label_map], small_study.affine)
    with pytest.raises(StudyError, match="holds the values"):
        LoadStudy()(item)


def blob(shape, affine, centre_mm, radius_mm=8.0):
    index = np.stack([*np.indices(shape), np.ones(shape)]).reshape(4, -1)
    distance = np.linalg.norm((affine @ index)[:3] - np.array(centre_mm)[:, None], axis=0).reshape(shape)
    return (distance < radius_mm).astype(np.float32) * 100


OTHER_GRIDS = {
    "flipped": (np.diag([-2.0, 2, 2, 1]), (39, 0, 0)),
    "permuted": (np.array([[0, 2.0, 0, 0], [2, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]), (0, 0, 0)),
    "anisotropic": (np.diag([1.0, 1, 5, 1]), (0, 0, 0)),
    "oblique": (np.array([[1.98, -0.28, 0, 0], [0.28, 1.98, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]), (0, 0, 0)),
}


@pytest.mark.parametrize("name", OTHER_GRIDS)
def test_a_sequence_on_another_grid_lands_at_the_same_place(tmp_path, name):
    reference = np.diag([2.0, 2, 2, 1])
    other, origin = OTHER_GRIDS[name]
    other = other.copy()
    other[:3, 3] = np.array(origin) * 2.0
    shapes = {"anisotropic": (80, 80, 16)}.get(name, (40, 40, 40))
    centre = (30.0, 44.0, 38.0)
    write_image(tmp_path / "s_t1ce.nii.gz", blob((40, 40, 40), reference, centre), reference)
    write_image(tmp_path / "s_t2.nii.gz", blob(shapes, other, centre), other)
    loaded = LoadStudy()(find_studies(tmp_path)[0])
    t1ce, t2 = (loaded["image"][SEQUENCES.index(key)].numpy() > 50 for key in ("t1ce", "t2"))
    assert 2 * (t1ce & t2).sum() / (t1ce.sum() + t2.sum()) > 0.85
    assert loaded["reference"] == "t1ce"
    assert "t2 was resampled to the grid of t1ce" in loaded["warnings"]


@given(
    st.tuples(*[st.floats(-0.3, 0.3)] * 3),
    st.tuples(*[st.floats(0.8, 3.0)] * 3),
    st.tuples(*[st.booleans()] * 3),
    st.permutations(range(3)),
)
@settings(deadline=None, max_examples=15)
def test_a_resampled_ramp_in_mm_is_the_same_ramp(tmp_path_factory, angles, spacing, flips, order):
    # Linear interpolation keeps what is linear in world coordinates exactly, whatever the grid.
    folder = tmp_path_factory.mktemp("ramp")
    reference = np.diag([2.0, 2.0, 2.0, 1.0])
    shape = tuple(int(np.ceil(90 / spacing[axis])) for axis in order)
    axes = (Rotation.from_euler("xyz", angles).as_matrix() * spacing * np.where(flips, -1, 1))[:, list(order)]
    other = np.eye(4)
    other[:3, :3] = axes
    other[:3, 3] = 19.0 - axes @ ((np.array(shape) - 1) / 2)
    write_image(folder / "s_t1ce.nii.gz", ramp((20, 20, 20), reference), reference)
    write_image(folder / "s_t2.nii.gz", ramp(shape, other), other)
    image = LoadStudy()(find_studies(folder)[0])["image"]
    np.testing.assert_allclose(image[SEQUENCES.index("t2")], image[SEQUENCES.index("t1ce")], atol=0.05)


def ramp(shape, affine):
    index = np.stack([*np.indices(shape), np.ones(shape)]).reshape(4, -1)
    return (np.array([1.0, -2.0, 3.0]) @ (affine @ index)[:3]).reshape(shape).astype(np.float32)


def test_a_label_map_on_another_grid_lands_at_the_same_place(tmp_path):
    reference, flipped = np.diag([2.0, 2, 2, 1]), np.diag([-1.0, 1, 1, 1])
    flipped[:3, 3] = 79, 0, 0
    write_image(tmp_path / "s_t2.nii.gz", blob((40, 40, 40), reference, (30, 44, 38)), reference)
    write_image(tmp_path / "s_seg.nii.gz", (blob((80, 80, 80), flipped, (30, 44, 38)) > 0).astype(np.uint8), flipped)
    loaded = LoadStudy()(find_studies(tmp_path)[0])
    image, label = loaded["image"][SEQUENCES.index("t2")].numpy() > 50, loaded["label"][0].numpy() == 1
    assert 2 * (image & label).sum() / (image.sum() + label.sum()) > 0.9
    assert loaded["label"].dtype == torch.uint8
    np.testing.assert_allclose(loaded["label"].affine, reference)
    assert "s_seg.nii.gz was resampled to the grid of t2" in loaded["warnings"][0]


def test_a_label_map_that_lies_elsewhere_is_refused(tmp_path):
    here, far = np.diag([2.0, 2, 2, 1]), np.diag([2.0, 2, 2, 1])
    far[:3, 3] = 500
    write_image(tmp_path / "s_t2.nii.gz", blob((20, 20, 20), here, (20, 20, 20)), here)
    write_image(tmp_path / "s_seg.nii.gz", np.ones((20, 20, 20), np.uint8), far)
    with pytest.raises(StudyError, match=r"label map .*s_seg.nii.gz covers 0% of the t2's box"):
        LoadStudy()(find_studies(tmp_path)[0])


def test_grids_that_do_not_overlap_are_refused(tmp_path):
    far = np.diag([2.0, 2, 2, 1])
    far[:3, 3] = 500
    write_image(
        tmp_path / "s_t1ce.nii.gz", blob((20, 20, 20), np.diag([2.0, 2, 2, 1]), (20, 20, 20)), np.diag([2.0, 2, 2, 1])
    )
    write_image(tmp_path / "s_t2.nii.gz", blob((20, 20, 20), far, (520, 520, 520)), far)
    with pytest.raises(StudyError, match="t2 covers 0% of the t1ce's box"):
        LoadStudy()(find_studies(tmp_path)[0])


def test_channels_of_a_4d_file_go_by_name(small_study, tmp_path):
    stacked = np.stack([small_study.images["t2"], small_study.images["flair"]], axis=-1)
    nib.save(nib.Nifti1Image(stacked, small_study.affine), tmp_path / "four.nii.gz")
    loaded = LoadStudy()(find_studies(tmp_path / "four.nii.gz", channels=["T2", "FLAIR"])[0])
    assert loaded["availability"].tolist() == [True, False, False, True]
    np.testing.assert_allclose(loaded["image"][3], small_study.images["t2"], rtol=1e-5)


def test_an_unused_channel_may_hold_anything(small_study, tmp_path):
    t2 = small_study.images["t2"]
    nib.save(nib.Nifti1Image(np.stack([t2, np.full_like(t2, np.nan)], axis=-1), np.eye(4)), tmp_path / "four.nii.gz")
    (item,) = find_studies(tmp_path / "four.nii.gz", channels=["t2", "flair"])
    loaded = LoadStudy("t2")(item)
    assert loaded["availability"].tolist() == [False, False, False, True]
    assert loaded["image"].isfinite().all()


def test_a_wrong_number_of_channels_is_refused(small_study, tmp_path):
    stacked = np.stack([small_study.images["t2"]] * 3, axis=-1)
    nib.save(nib.Nifti1Image(stacked, small_study.affine), tmp_path / "four.nii.gz")
    with pytest.raises(StudyError, match="has 3 channels but 2 names"):
        LoadStudy()(find_studies(tmp_path / "four.nii.gz", channels=["t2", "flair"])[0])


def test_a_4d_file_for_one_sequence_is_refused(small_study, tmp_path):
    stacked = np.stack([small_study.images["t2"]] * 3, axis=-1)
    nib.save(nib.Nifti1Image(stacked, small_study.affine), tmp_path / "s_t2.nii.gz")
    with pytest.raises(StudyError, match="has 3 channels; accepted is one"):
        LoadStudy()(find_studies(tmp_path)[0])


def test_an_image_with_air_around_the_head_is_warned_of(small_study, tmp_path):
    noise = np.random.default_rng(0).uniform(1, 9, small_study.images["t2"].shape)
    write_image(tmp_path / "s_t2.nii.gz", np.maximum(small_study.images["t2"], noise), np.diag([4.5, 4.5, 4.5, 1]))
    assert "t2 does not look skull-stripped" in LoadStudy()(find_studies(tmp_path)[0])["warnings"][0]
