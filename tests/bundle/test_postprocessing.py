import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lckd.postprocessing import NO_POSTPROCESSING, Postprocessing
from lckd.sequences import LABELS

CORE, ENHANCING = LABELS["necrotic core"], LABELS["enhancing tumour"]


def probabilities(et=(), wt=(), tc=()) -> torch.Tensor:
    """Certain inside the given boxes, impossible elsewhere."""
    result = torch.zeros(3, 8, 8, 8)
    for channel, boxes in zip(result, (et, wt, tc), strict=True):
        for low, high in boxes:
            channel[low:high, low:high, low:high] = 1
    return result


def test_without_rules_regions_are_thresholded_and_nested():
    label_map = NO_POSTPROCESSING(probabilities(et=[(0, 1)], wt=[(0, 4)], tc=[(0, 2)]), voxel_ml=1.0)
    assert torch.bincount(label_map.flatten()).tolist() == [512 - 64, 7, 56, 1]


def test_a_region_has_a_threshold_of_its_own():
    rules = Postprocessing(threshold={"et": 0.5, "wt": 0.3, "tc": 0.5})
    assert (rules(torch.full((3, 2, 2, 2), 0.4), voxel_ml=100.0) == LABELS["oedema"]).all()


@pytest.mark.parametrize(("smallest_ml", "expected"), [(8.0, ENHANCING), (8.1, CORE)])
def test_too_little_enhancing_tumour_becomes_core(smallest_ml, expected):
    rules = Postprocessing(smallest_enhancing_ml=smallest_ml)
    label_map = rules(probabilities(et=[(0, 2)], wt=[(0, 2)]), voxel_ml=1.0)
    assert label_map[0, 0, 0, 0] == expected
    assert int(label_map.count_nonzero()) == 8


def test_small_lesions_are_removed_with_all_they_hold():
    rules = Postprocessing(smallest_lesion_ml=2.0)
    label_map = rules(probabilities(et=[(7, 8)], wt=[(0, 2), (7, 8)], tc=[(7, 8)]), voxel_ml=1.0)
    assert label_map[0, 7, 7, 7] == 0
    assert int(label_map.count_nonzero()) == 8


@given(seed=st.integers(0, 1000), lesion=st.floats(0, 5), enhancing=st.floats(0, 5))
def test_rules_never_add_tumour(seed, lesion, enhancing):
    maps = torch.rand(3, 6, 6, 6, generator=torch.Generator().manual_seed(seed))
    rules = Postprocessing(smallest_lesion_ml=lesion, smallest_enhancing_ml=enhancing)
    assert not (rules(maps, 0.1).bool() & ~NO_POSTPROCESSING(maps, 0.1).bool()).any()
