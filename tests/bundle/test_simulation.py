import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lckd.errors import StudyError
from lckd.sequences import LABELS, SEQUENCES
from lckd.simulation import simulate_study, write_study

SMALL = {"shape": (32, 36, 32), "spacing_mm": (4.5, 4.5, 4.5)}
SEEDS = range(4)


def parts(study):
    """Brain mask, healthy brain mask, and the mask of each label."""
    brain = study.images["t1"] > 0
    labels = {name: study.label_map == value for name, value in LABELS.items()}
    return brain, brain & (study.label_map == 0), labels


@pytest.fixture(scope="module")
def studies():
    return [simulate_study(**SMALL, seed=seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def sharp_study():
    return simulate_study(shape=(72, 88, 72), spacing_mm=(2.0, 2.0, 2.0), seed=3)


def test_same_seed_gives_the_same_voxels(studies):
    again = simulate_study(**SMALL, seed=1)
    np.testing.assert_array_equal(again.label_map, studies[1].label_map)
    for sequence in SEQUENCES:
        np.testing.assert_array_equal(again.images[sequence], studies[1].images[sequence])


def test_different_seeds_give_different_brains_and_tumours(studies):
    assert len({(study.images["t2"] > 0).sum() for study in studies}) == len(studies)
    assert len({tuple(np.argwhere(study.label_map).mean(0).round()) for study in studies}) == len(studies)


def test_images_and_label_map_share_shape_and_have_their_types(studies):
    study = studies[0]
    assert tuple(study.images) == SEQUENCES
    assert {(image.shape, image.dtype.name) for image in study.images.values()} == {((32, 36, 32), "float32")}
    assert (study.label_map.shape, study.label_map.dtype.name) == ((32, 36, 32), "uint8")
    assert set(np.unique(study.label_map)) == {0, *LABELS.values()}


def test_affine_is_ras_with_the_spacing_and_centred_on_the_origin():
    study = simulate_study(shape=(32, 36, 24), spacing_mm=(4.5, 5.0, 6.0))
    assert nib.aff2axcodes(study.affine) == ("R", "A", "S")
    np.testing.assert_allclose(nib.affines.voxel_sizes(study.affine), (4.5, 5.0, 6.0))
    np.testing.assert_allclose(study.affine @ (15.5, 17.5, 11.5, 1), (0, 0, 0, 1))


def test_background_is_zero_in_the_same_voxels_of_every_sequence(studies):
    for study in studies:
        brain, _, _ = parts(study)
        assert all(np.array_equal(image > 0, brain) for image in study.images.values())


def test_tumour_lies_in_the_brain_and_is_one_piece(studies, sharp_study):
    for study in [*studies, sharp_study]:
        assert not study.label_map[~parts(study)[0]].any()
        pieces, _ = ndimage.label(study.label_map)
        assert np.bincount(pieces[pieces > 0]).max() > 0.95 * np.count_nonzero(pieces)


def test_necrotic_core_is_deep_in_the_tumour_and_oedema_outside(sharp_study):
    labels = parts(sharp_study)[2]
    depth = ndimage.distance_transform_edt(sharp_study.label_map, 2.0)
    necrotic, rim, oedema = (depth[labels[n]].mean() for n in ("necrotic core", "enhancing tumour", "oedema"))
    assert necrotic > rim > oedema


def test_every_label_is_present_at_either_size(studies, sharp_study):
    for study in [*studies, sharp_study]:
        assert all(mask.sum() >= 4 for mask in parts(study)[2].values())


@pytest.mark.parametrize("size", ["small", "sharp"])
def test_brain_volume_is_an_adults(size, studies, sharp_study):
    study = studies[0] if size == "small" else sharp_study
    assert 1.1e6 < parts(study)[0].sum() * abs(np.linalg.det(study.affine)) < 1.7e6


def test_csf_is_bright_in_t2_and_dark_in_flair_and_t1(sharp_study):
    _, healthy, _ = parts(sharp_study)
    t2 = sharp_study.images["t2"]
    csf = healthy & (t2 > np.percentile(t2[healthy], 97))
    for sequence in ("flair", "t1", "t1ce"):
        image = sharp_study.images[sequence]
        assert image[csf].mean() < 0.8 * image[healthy].mean()


def test_enhancing_tumour_is_bright_in_t1ce_only(studies):
    for study in studies:
        _, healthy, labels = parts(study)
        t1, t1ce = (study.images[s] / np.median(study.images[s][healthy]) for s in ("t1", "t1ce"))
        rim = labels["enhancing tumour"]
        assert t1ce[rim].mean() > 1.15 > t1[rim].mean()


def test_t1_and_t1ce_agree_where_nothing_enhances(sharp_study):
    _, healthy, _ = parts(sharp_study)
    t1, t1ce = (sharp_study.images[s][healthy] for s in ("t1", "t1ce"))
    darker = t1ce < np.percentile(t1ce, 95)
    assert np.corrcoef(t1[darker], t1ce[darker])[0, 1] > 0.7


def test_oedema_is_bright_in_flair_and_t2(studies):
    for study in studies:
        _, healthy, labels = parts(study)
        for sequence in ("flair", "t2"):
            image = study.images[sequence]
            assert image[labels["oedema"]].mean() > 1.2 * np.median(image[healthy])


def test_oedema_spares_the_cortex(sharp_study):
    brain, _, labels = parts(sharp_study)
    depth = ndimage.distance_transform_edt(brain, 2.0)
    assert np.median(depth[labels["oedema"]]) > 8


@settings(deadline=None, max_examples=10)
@given(volume_ml=st.floats(15, 150), seed=st.integers(0, 100))
def test_tumour_has_the_volume_asked_for(volume_ml, seed):
    study = simulate_study(**SMALL, seed=seed, tumour_volume_ml=volume_ml)
    assert np.count_nonzero(study.label_map) * 4.5**3 / 1000 == pytest.approx(volume_ml, rel=0.2)


@settings(deadline=None, max_examples=10)
@given(
    shape=st.tuples(*[st.integers(16, 40)] * 3), spacing=st.tuples(*[st.floats(0.5, 8)] * 3), seed=st.integers(0, 1000)
)
def test_any_grid_holds_a_finite_study_with_every_label(shape, spacing, seed):
    study = simulate_study(shape, spacing, seed)
    assert all(np.isfinite(image).all() for image in study.images.values())
    assert set(np.unique(study.label_map)) == {0, *LABELS.values()}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"shape": (8, 36, 32)}, r"shape \(8, 36, 32\)"),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, r"spacing \(1.0, 0.0, 1.0\)"),
        ({"tumour_volume_ml": -1.0}, "tumour volume -1 ml"),
        ({"tumour_volume_ml": 900.0}, "tumour volume 900 ml"),
    ],
)
def test_impossible_request_is_named(arguments, named):
    with pytest.raises(StudyError, match=named):
        simulate_study(**{**SMALL, **arguments})


def test_written_study_reads_back(studies, tmp_path):
    folder = write_study(studies[0], tmp_path / "study", "sim")
    names = {f"sim_{name}.nii.gz" for name in (*SEQUENCES, "seg")}
    assert {path.name for path in folder.iterdir()} == names
    image, label = (nib.load(folder / f"sim_{name}.nii.gz") for name in ("t1ce", "seg"))
    assert image.get_data_dtype() == np.int16
    np.testing.assert_allclose(image.affine, studies[0].affine)
    np.testing.assert_array_equal(np.asarray(image.dataobj) > 0, studies[0].images["t1ce"] > 0)
    np.testing.assert_array_equal(np.asarray(label.dataobj), studies[0].label_map)


def test_a_subset_is_written_without_label_under_the_folders_name(studies, tmp_path):
    folder = write_study(studies[0], tmp_path / "patient", sequences=("t2", "flair"), label=False)
    assert {path.name for path in folder.iterdir()} == {"patient_t2.nii.gz", "patient_flair.nii.gz"}


def test_unknown_sequence_is_not_written(studies, tmp_path):
    with pytest.raises(StudyError, match="dwi"):
        write_study(studies[0], tmp_path, sequences=("dwi",))
