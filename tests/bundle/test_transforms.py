import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from monai.data import MetaTensor
from monai.transforms import NormalizeIntensityd

from lckd.transforms import LabelMapToRegionsd, NormalizeNonzerod, box_of, label_map_of, preprocessing, regions_of

LABEL_MAPS = arrays.arrays(np.uint8, (1, 3, 4, 2), elements=st.integers(0, 3))


@given(LABEL_MAPS)
@settings(deadline=None, max_examples=30)
def test_a_label_map_survives_the_way_to_regions_and_back(values):
    label_map = torch.from_numpy(values)
    assert torch.equal(label_map_of(regions_of(label_map)), label_map)


@given(arrays.arrays(bool, (3, 3, 4, 2)))
@settings(deadline=None, max_examples=30)
def test_regions_of_any_prediction_are_nested(values):
    enhancing, whole, core = regions_of(label_map_of(torch.from_numpy(values)))
    assert not (enhancing & ~core).any()
    assert not (core & ~whole).any()


def test_regions_hold_the_labels_brats_says():
    label_map = torch.tensor([0, 1, 2, 3], dtype=torch.uint8).reshape(1, 4, 1, 1)
    item = LabelMapToRegionsd()({"label": label_map})
    assert item["label"].flatten(1).tolist() == [[0, 0, 0, 1], [0, 1, 1, 1], [0, 1, 0, 1]]


def study(spacing_mm: float = 1.0, flip: bool = False) -> MetaTensor:
    image = torch.zeros(4, 20, 24, 18)
    image[0, 4:16, 5:20, 3:15] = torch.rand(12, 15, 12, generator=torch.Generator().manual_seed(0)) * 100 + 50
    affine = torch.diag(torch.tensor([-spacing_mm if flip else spacing_mm, spacing_mm, spacing_mm, 1.0]))
    return MetaTensor(image, affine=affine)


def test_each_sequence_is_normalized_over_the_brain_and_background_stays_zero():
    image = preprocessing()({"image": study()})["image"]
    brain = image[0][image[0] != 0]
    assert abs(brain.mean()) < 1e-3
    assert abs(brain.std() - 1) < 1e-2


def test_a_missing_sequence_stays_zero():
    assert not preprocessing()({"image": study()})["image"][1:].any()


def test_an_outlier_of_an_original_scan_is_cut():
    image = study()
    image[0, 8, 8, 8] = 1e5
    assert preprocessing()({"image": image})["image"].max() == 5


def test_scale_and_offset_free_of_units():
    once, thrice = (preprocessing()({"image": study() * factor})["image"] for factor in (1, 3))
    torch.testing.assert_close(once.as_tensor(), thrice.as_tensor())


def test_the_network_sees_the_same_whatever_the_files_orientation():
    there, back = preprocessing()({"image": study()})["image"], preprocessing()({"image": study(flip=True)})["image"]
    torch.testing.assert_close(there.as_tensor(), back.flip(1).as_tensor())


def test_other_spacings_become_one_millimetre_and_come_back():
    preprocess = preprocessing()
    image = preprocess({"image": study(spacing_mm=2.0)})["image"]
    assert image.pixdim.tolist() == [1, 1, 1]
    assert preprocess.inverse({"image": image})["image"].shape == (4, 20, 24, 18)


def test_sequences_preprocessed_one_at_a_time_are_the_study():
    whole, preprocess = study(spacing_mm=2.0, flip=True), preprocessing()
    whole[1, 2:10, 7:22, 5:17] = 7 + torch.arange(12.0)
    box = box_of(whole.numpy().any(0))
    alone = [preprocess({"image": whole[[index]], "box": box})["image"] for index in range(4)]
    together = preprocess({"image": whole})["image"]
    assert torch.equal(torch.cat(alone).as_tensor(), together.as_tensor())
    assert preprocess.inverse({"image": alone[0]})["image"].shape == (1, 20, 24, 18)


def test_normalization_gives_what_that_of_monai_gives():
    image = study()
    image[1] = 3 * (image[0] != 0)  # constant, and the other two are empty
    expected = NormalizeIntensityd("image", nonzero=True, channel_wise=True)({"image": image.clone()})["image"]
    found = NormalizeNonzerod("image")({"image": image})["image"]
    assert torch.equal(found.as_tensor(), expected.as_tensor())


def test_preprocessing_leaves_the_image_as_it_was():
    image = study()
    before = image.clone()
    preprocessing()({"image": image})
    assert torch.equal(image.as_tensor(), before.as_tensor())


def test_the_box_of_an_empty_mask_is_the_whole_image():
    mask = np.zeros((4, 5, 6), bool)
    assert box_of(mask) == (slice(0, 4), slice(0, 5), slice(0, 6))
    mask[1, 2:4, 5] = True
    assert box_of(mask) == (slice(1, 2), slice(2, 4), slice(5, 6))
