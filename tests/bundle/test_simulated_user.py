import numpy as np
import pytest

from lckd.sequences import REGIONS
from lckd.simulated_user import SimulatedUser

SHAPE = (24, 24, 12)


def box(*bounds: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(*side) for side in bounds)] = True
    return mask


def regions(mask: np.ndarray) -> np.ndarray:
    return np.stack([mask] * len(REGIONS))


def test_a_missed_region_is_marked_in_its_middle_as_inside():
    truth = box((4, 11), (4, 11), (2, 9))
    mark = SimulatedUser().region_mark("tc", regions(np.zeros_like(truth)), regions(truth))
    assert mark.voxels.tolist() == [[7, 7, 5]]
    assert mark.claims[0, REGIONS.index("tc")] == 1


def test_the_larger_mistake_is_marked_first_and_a_false_one_as_outside():
    truth, false = box((2, 5), (2, 5), (2, 5)), box((10, 19), (10, 19), (1, 10))
    mark = SimulatedUser().region_mark("wt", regions(false), regions(truth))
    assert mark.voxels.tolist() == [[14, 14, 5]]
    assert (mark.claims == -1).all()


def test_where_nothing_is_wrong_nothing_is_marked():
    truth = box((2, 5), (2, 5), (2, 5))
    assert SimulatedUser().region_mark("et", regions(truth), regions(truth)) is None
    assert SimulatedUser().label_mark(truth.astype(np.uint8), truth.astype(np.uint8)) is None


def test_a_label_is_marked_with_the_right_name():
    truth, predicted = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    truth[2:9, 2:9, 2:9] = 3
    predicted[2:9, 2:9, 2:9] = 2
    mark = SimulatedUser().label_mark(predicted, truth)
    assert (mark.claims == 1).all()  # enhancing tumour lies in every region


@pytest.mark.parametrize("seed", range(5))
def test_in_training_marks_lie_within_the_mistake_and_strokes_hang_together(seed):
    truth = box((4, 20), (3, 21), (2, 9))
    user = SimulatedUser(np.random.default_rng(seed), stroke_share=1.0)
    mark = user.region_mark("wt", regions(np.zeros_like(truth)), regions(truth))
    assert truth[tuple(mark.voxels.T)].all() and len(mark) > 1
    assert len(np.unique(mark.voxels[:, 2])) == 1


def test_the_seed_decides():
    truth = box((4, 20), (3, 21), (2, 9))
    marks = [
        SimulatedUser(np.random.default_rng(7), 0.5).region_mark("wt", regions(np.zeros_like(truth)), regions(truth))
        for _ in range(2)
    ]
    assert (marks[0].voxels == marks[1].voxels).all()
