import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from lckd.augmentation import (
    RandCoilSensitivityd,
    RandHealthyHemisphered,
    RandThickSlicesd,
    RandTransplantedTumour,
    RandUnenhancedd,
    midline,
)
from lckd.loading import LoadStudy
from lckd.simulation import write_study
from lckd.transforms import preprocessing


@pytest.fixture(scope="module")
def study(small_study, tmp_path_factory) -> dict:
    """A preprocessed study whose tumour is put on the left of the brain's middle alone."""
    folder = write_study(small_study, tmp_path_factory.mktemp("study"), study_id="a")
    item = {name: str(folder / f"a_{name}.nii.gz") for name in small_study.images} | {"study": "a"}
    loaded = preprocessing(label=True)(LoadStudy()(item | {"label": str(folder / "a_seg.nii.gz")}))
    label = torch.zeros_like(loaded["label"].as_tensor())
    label[:, 2:8, 10:20, 10:20] = 2
    return {"image": loaded["image"].as_tensor(), "label": label}


def _mirrored(image: torch.Tensor, doubled: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of columns that are each other's mirror image."""
    pairs = [(x, doubled - x) for x in range(image.shape[1]) if 0 <= doubled - x < image.shape[1] and 2 * x < doubled]
    left, right = zip(*pairs, strict=True)
    return image[:, list(left)].numpy(), image[:, list(right)].numpy()


class TestMidline:
    @pytest.mark.parametrize("shift", [-3, 0, 4])
    def test_it_is_found_where_the_image_is_symmetric(self, shift):
        half = torch.rand(1, 12, 10, 10) + 0.1
        image = torch.zeros(1, 40, 10, 10)
        image[:, 8 + shift : 20 + shift], image[:, 20 + shift : 32 + shift] = half, half.flip(1)
        assert midline(image) == 39 + 2 * shift

    def test_a_tumour_does_not_move_it_far(self, study):
        assert abs(midline(study["image"]) - (study["image"].shape[1] - 1)) <= 4


class TestHealthyHemisphere:
    def test_the_other_hemisphere_takes_the_tumour_s_place(self, study):
        changed = RandHealthyHemisphered(prob=1.0)(study)
        assert not changed["label"].any()
        ill, well = _mirrored(changed["image"], midline(study["image"]))
        np.testing.assert_array_equal(ill, well)

    def test_it_is_normalized_as_a_brain_without_a_tumour(self, study):
        image = RandHealthyHemisphered(prob=1.0)(study)["image"]
        for channel in image:
            assert abs(float(channel[channel != 0].mean())) < 1e-4
            assert abs(float(channel[channel != 0].std()) - 1) < 1e-2

    def test_the_right_hemisphere_likewise(self, study):
        flipped = {key: value.flip(1) for key, value in study.items()}
        changed = RandHealthyHemisphered(prob=1.0)(flipped)
        ill, well = _mirrored(changed["image"], midline(flipped["image"]))
        assert not changed["label"].any() and (ill == well).all()

    def test_a_tumour_on_both_sides_stays(self, study):
        both = study | {"label": torch.ones_like(study["label"])}
        changed = RandHealthyHemisphered(prob=1.0)(both)
        assert changed["image"] is both["image"] and changed["label"].all()

    def test_a_study_without_a_tumour_stays(self, study):
        healthy = study | {"label": torch.zeros_like(study["label"])}
        assert RandHealthyHemisphered(prob=1.0)(healthy)["image"] is healthy["image"]

    def test_a_missing_sequence_stays_missing(self, study):
        image = study["image"].clone()
        image[1] = 0
        assert not RandHealthyHemisphered(prob=1.0)(study | {"image": image})["image"][1].any()

    def test_not_always(self, study):
        assert RandHealthyHemisphered(prob=0.0)(study)["image"] is study["image"]

    def test_metadata_is_kept(self, study):
        with_affine = {key: MetaTensor(value, affine=torch.eye(4) * 2) for key, value in study.items()}
        changed = RandHealthyHemisphered(prob=1.0)(with_affine)
        assert all(float(changed[key].affine[0, 0]) == 2 for key in changed)


class TestTransplantedTumour:
    @pytest.fixture
    def donor(self) -> dict:
        """A brain of twos, tens in its tumour, at another place of a larger grid."""
        image, label = torch.zeros(4, 44, 40, 36), torch.zeros(1, 44, 40, 36)
        image[:, 4:36, 4:36, 4:36] = 2
        image[:, 8:14, 16:24, 16:24], label[:, 8:14, 16:24, 16:24] = 10, 4
        return {"image": image, "label": label, "availability": torch.ones(4, dtype=torch.bool)}

    @pytest.fixture
    def host(self) -> dict:
        """A healthy brain of ones."""
        image = torch.zeros(4, 36, 36, 36)
        image[:, 2:34, 2:34, 2:34] = 1
        label = torch.zeros(1, 36, 36, 36)
        return {"image": image, "label": label, "availability": torch.ones(4, dtype=torch.bool)}

    @staticmethod
    def _changed(host, donor, seed=0, **settings) -> dict:
        transplant = RandTransplantedTumour([donor], prob=1.0, **settings)
        return transplant.set_random_state(seed)(host)

    def test_the_whole_tumour_comes_with_its_labels_in_all_sequences(self, host, donor):
        changed = self._changed(host, donor, shift=0)
        assert changed["label"].sum() == donor["label"].sum()
        assert (changed["image"][changed["label"].expand(4, -1, -1, -1) == 4] == 10).all()

    def test_it_lies_where_it_lay_in_its_own_brain_or_that_s_mirror_image(self, host, donor):
        places = {
            int(torch.nonzero(self._changed(host, donor, seed, shift=0)["label"][0])[:, 0].min()) for seed in range(8)
        }
        assert places == {6, 24}  # 4 voxels from the brain's border, on either side

    def test_surroundings_fade_out(self, host, donor):
        changed = self._changed(host, donor, margin=(4, 4), shift=0)
        line = changed["image"][0, :, 18, 18][2:34]
        assert {1.0, 1.25, 1.5, 1.75, 10.0} == set(line.tolist())

    def test_outside_the_brain_nothing_changes(self, host, donor):
        for seed in range(8):
            changed = self._changed(host, donor, seed, shift=14, inside=0.0)
            outside = host["image"][:1] == 0
            assert not changed["image"][outside.expand(4, -1, -1, -1)].any() and not changed["label"][outside].any()

    def test_a_tumour_that_would_be_cut_off_is_not_taken(self, host, donor):
        small = torch.where(torch.arange(36)[None, :, None, None] // 9 % 3 == 0, 0, host["image"])
        assert self._changed(host | {"image": small}, donor, inside=1.0)["image"] is small

    def test_a_donor_that_lacks_a_sequence_gives_nothing(self, host, donor):
        lacking = donor | {"availability": torch.tensor([True, False, True, True])}
        assert self._changed(host, lacking)["image"] is host["image"]
        without = host | {"availability": lacking["availability"]}
        assert self._changed(without, lacking)["label"].any()

    def test_a_healthy_donor_gives_nothing(self, host, donor):
        assert self._changed(host, donor | {"label": torch.zeros_like(donor["label"])})["image"] is host["image"]

    def test_neither_study_is_changed_itself(self, host, donor):
        before = [study[key].clone() for study in (host, donor) for key in ("image", "label")]
        self._changed(host, donor)
        after = [study[key] for study in (host, donor) for key in ("image", "label")]
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


class TestUnenhanced:
    @pytest.fixture
    def enhancing(self) -> dict:
        """A brain of noise whose T1ce is its T1 but for a bright rim around a necrosis, both within oedema."""
        image, label = torch.zeros(4, 40, 40, 40), torch.zeros(1, 40, 40, 40)
        image[:, 4:36, 4:36, 4:36] = torch.randn(4, 32, 32, 32, generator=torch.Generator().manual_seed(0)) + 1
        image[2] = image[1]
        for value, margin in ((2, 10), (3, 14), (1, 17)):
            label[:, margin:-margin, margin:-margin, margin:-margin] = value
        image[2][label[0] == 3] += 6
        return {"image": image, "label": label}

    def test_t1ce_shows_in_the_core_what_t1_shows(self, enhancing):
        changed = RandUnenhancedd(prob=1.0, noise=0.0)(enhancing)
        core = enhancing["label"][0] % 2 == 1
        before, after = (changed["image"][channel] for channel in (1, 2))
        brain = before != 0
        expected = (before - before[brain].mean()) / before[brain].std()
        torch.testing.assert_close(after[core], expected[core], atol=1e-4, rtol=0)

    def test_it_is_normalized_and_the_background_stays_zero(self, enhancing):
        after = RandUnenhancedd(prob=1.0)(enhancing)["image"][2]
        brain = enhancing["image"][2] != 0
        assert not after[~brain].any()
        assert abs(float(after[brain].mean())) < 1e-4 and abs(float(after[brain].std()) - 1) < 1e-3

    def test_what_enhanced_is_core_that_does_not(self, enhancing):
        changed = RandUnenhancedd(prob=1.0)(enhancing)
        assert changed["unenhanced"]
        expected = torch.where(enhancing["label"] == 3, 1, enhancing["label"])
        assert torch.equal(changed["label"], expected)

    def test_other_sequences_and_the_given_study_stay(self, enhancing):
        before = {key: value.clone() for key, value in enhancing.items()}
        changed = RandUnenhancedd(prob=1.0)(enhancing)
        assert torch.equal(changed["image"][[0, 1, 3]], before["image"][[0, 1, 3]])
        assert all(torch.equal(enhancing[key], before[key]) for key in before)

    @pytest.mark.parametrize("channel", [1, 2])
    def test_a_study_without_t1_or_t1ce_stays(self, enhancing, channel):
        enhancing["image"][channel] = 0
        changed = RandUnenhancedd(prob=1.0)(enhancing)
        assert changed["image"] is enhancing["image"] and not changed["unenhanced"]

    def test_a_study_without_enhancing_tumour_stays(self, enhancing):
        enhancing["label"][enhancing["label"] == 3] = 1
        changed = RandUnenhancedd(prob=1.0)(enhancing)
        assert changed["image"] is enhancing["image"] and not changed["unenhanced"]

    def test_not_always(self, enhancing):
        assert not RandUnenhancedd(prob=0.0)(enhancing)["unenhanced"]

    def test_the_seed_decides(self, enhancing):
        first, second, other = (
            RandUnenhancedd(prob=1.0).set_random_state(seed)(enhancing)["image"] for seed in (0, 0, 1)
        )
        assert torch.equal(first, second) and not torch.equal(first, other)


class TestCoilSensitivity:
    def change(self, study: dict, seed: int = 0) -> torch.Tensor:
        transform = RandCoilSensitivityd("image", prob=1.0)
        transform.set_random_state(seed)
        return transform(study)["image"]

    def test_the_background_stays_zero_and_the_brain_normalized(self, study):
        changed = self.change(study)
        brain = study["image"] != 0
        assert not changed[~brain].any()
        for channel, mask in zip(changed, brain, strict=True):
            assert abs(float(channel[mask].mean())) < 1e-4 and abs(float(channel[mask].std()) - 1) < 1e-3

    def test_it_varies_smoothly_over_the_brain(self, study):
        changed = self.change(study)
        brain = study["image"][0] != 0
        difference = (changed - study["image"])[0]
        assert float(difference[brain].std()) > 0.02
        steps = difference.diff(dim=0)[brain[1:] & brain[:-1]]
        assert float(steps.abs().median()) < float(difference[brain].std())

    def test_the_seed_decides_and_sequences_differ(self, study):
        assert torch.equal(self.change(study), self.change(study))
        assert not torch.equal(self.change(study), self.change(study, seed=1))

    def test_a_missing_sequence_stays_missing(self, study):
        image = study["image"].clone()
        image[3] = 0
        assert not self.change({"image": image})[3].any()


class TestThickSlices:
    @staticmethod
    def _changed(image: torch.Tensor, **settings) -> torch.Tensor:
        change = RandThickSlicesd("image", prob=1.0, sequence_prob=1.0, axial_prob=1.0, **settings)
        return change.set_random_state(0)({"image": image})["image"]

    def test_what_varies_along_the_head_s_axis_is_averaged(self):
        image = torch.zeros(1, 8, 8, 24)
        image[..., ::2] = 1
        assert float(self._changed(image, thickness=(4.0, 4.0)).std()) < 0.01

    def test_what_varies_within_a_slice_stays(self):
        image = torch.rand(1, 8, 8, 1).expand(1, 8, 8, 24).contiguous()
        torch.testing.assert_close(self._changed(image), image)

    def test_each_sequence_has_its_own_thickness(self):
        image = torch.rand(1, 8, 8, 96).repeat(4, 1, 1, 1)
        changed = self._changed(image)
        assert changed.shape == image.shape
        assert not all(torch.equal(changed[0], other) for other in changed[1:])

    def test_a_missing_sequence_stays_missing(self):
        image = torch.rand(2, 8, 8, 24)
        image[1] = 0
        assert not self._changed(image)[1].any()

    def test_a_patch_thinner_than_a_slice(self):
        assert self._changed(torch.rand(1, 8, 8, 2)).shape == (1, 8, 8, 2)

    def test_not_always(self):
        image = torch.rand(1, 8, 8, 24)
        assert RandThickSlicesd("image", prob=0.0)({"image": image})["image"] is image
