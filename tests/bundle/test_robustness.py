import json

import nibabel as nib
import numpy as np
import pytest
import torch

from lckd.datalist import find_studies
from lckd.errors import StudyError
from lckd.loading import LoadStudy
from lckd.robustness import CHANGES, TESTED_SUBSETS, RobustnessTest, markdown
from lckd.segmentation import Segmenter
from lckd.sequences import SEQUENCES
from lckd.simulation import simulate_study, write_study


@pytest.fixture(scope="module")
def items(small_study, tmp_path_factory) -> list[dict]:
    return find_studies(write_study(small_study, tmp_path_factory.mktemp("studies") / "s"))


def changed(items, name: str, sequences=None) -> tuple[dict, dict]:
    """A study before and after a change."""
    load = LoadStudy(sequences)
    return load(dict(items[0])), CHANGES[name](load(dict(items[0])))


def centre_mm(study: dict) -> np.ndarray:
    """World coordinates of the tumour's centre."""
    voxels = np.argwhere(study["label"][0].numpy() > 0).mean(0)
    return nib.affines.apply_affine(study["label"].affine.numpy(), voxels)


@pytest.mark.parametrize("name", [name for name, change in CHANGES.items() if change])
def test_a_change_alters_the_images_and_leaves_the_tumour_in_its_place(items, name):
    before, after = changed(items, name)
    assert after["image"].shape[1:] == after["label"].shape[1:]
    assert torch.equal(after["image"].affine, after["label"].affine)
    assert after["image"].shape != before["image"].shape or not torch.equal(after["image"], before["image"])
    if name not in ("rotated by 10 degrees", "truncated field of view"):
        np.testing.assert_allclose(centre_mm(after), centre_mm(before), atol=1.0)
    volume = [float((study["label"] > 0).sum()) * float(study["label"].pixdim.prod()) for study in (before, after)]
    if name != "truncated field of view":
        assert volume[1] == pytest.approx(volume[0], rel=0.25)


@pytest.mark.parametrize("name", [name for name, change in CHANGES.items() if change])
def test_a_missing_sequence_stays_missing(items, name):
    after = changed(items, name, "flair+t2")[1]
    assert after["image"][SEQUENCES.index("t1ce")].count_nonzero() == 0
    assert after["image"][SEQUENCES.index("flair")].count_nonzero() > 0


def test_changes_repeat(items):
    for name in ("noise", "bias field"):
        assert torch.equal(changed(items, name)[1]["image"], changed(items, name)[1]["image"])


def test_slices_are_as_thick_as_they_say(items):
    np.testing.assert_allclose(changed(items, "slices of 5 mm")[1]["image"].pixdim, (1, 1, 5))


def test_a_healthy_brain_has_no_tumour():
    study = simulate_study(shape=(32, 36, 32), spacing_mm=(4.5, 4.5, 4.5), seed=1, tumour_volume_ml=0)
    assert not study.label_map.any()
    assert all(np.isfinite(image).all() and image.max() > 0 for image in study.images.values())


@pytest.mark.slow
def test_the_tables_have_a_row_for_every_change(items, tmp_path):
    segmenter = Segmenter(device="cpu")
    result = RobustnessTest(segmenter, tmp_path, TESTED_SUBSETS[:1]).run(items, healthy_brains=1)
    assert json.loads((tmp_path / "robustness.json").read_text()) == result
    assert set(result["dice"]) == set(CHANGES)
    assert len(result["healthy_ml"]["flair"]) == 1
    text = markdown(result)
    assert all(f"| {name} |" in text for name in CHANGES)
    assert result["dice"]["other orientation"]["flair"]["wt"] == pytest.approx(
        result["dice"]["clean"]["flair"]["wt"], abs=0.01
    )


@pytest.mark.slow
def test_a_study_that_fails_does_not_stop_the_others(items, tmp_path):
    broken = {"study": "broken", "error": "its flair is no image"}
    test = RobustnessTest(Segmenter(device="cpu"), tmp_path, TESTED_SUBSETS[:1])
    with pytest.raises(StudyError, match="1 of 2 studies were not evaluated: broken"):
        test.run([broken, *items], healthy_brains=1)
    result = json.loads((tmp_path / "robustness.json").read_text())
    assert result["studies"] == 1
    assert set(result["dice"]) == set(CHANGES)
