"""What marks say of their surroundings, against the textbook and as a user would expect it."""

import numpy as np
import pytest
import torch
from torch import Tensor

from lckd.gaussian_process import DOUBT, LIKENESS_REACH, MOST, NEAR, NOISE, REACH, SHARPNESS, SURE, reach_of, regress
from lckd.marks import Marks, region_marks, total
from lckd.sequences import REGIONS

BOX = (slice(0, 80),) * 3
TC, ET, WT = (REGIONS.index(region) for region in ("tc", "et", "wt"))


def changed(marks: Marks, features: Tensor | None = None, logit: float = 0.0) -> Tensor:
    """What is added to equal logits ``(3, 40, 40, 40)``."""
    features = torch.zeros(2, 40, 40, 40) if features is None else features
    return regress(features, 1.0, torch.full((3, 40, 40, 40), logit), marks, BOX, REACH).sum(0)


def doubt(logit: float) -> float:
    """Standard deviation of the prior."""
    return (1 + np.exp(-abs(logit) / DOUBT)) / 1.5


def test_it_is_the_posterior_mean_of_the_textbook():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5, 4, 4, 4))
    logits = rng.normal(size=(3, 4, 4, 4))
    marked, claims = np.array([[0, 0, 0], [6, 2, 4], [4, 4, 6]]), np.array([1, -1, 1])
    marks = total(region_marks("wt", claim > 0, [voxel]) for voxel, claim in zip(marked, claims, strict=True))
    box = (slice(0, 8),) * 3
    got = regress(torch.tensor(features), 2.0, torch.tensor(logits), marks, box, REACH).sum(0)

    def covariance(one, other):
        away = 2 * np.linalg.norm(np.subtract(one, other))
        unlike = np.mean((features[(slice(None), *one)] - features[(slice(None), *other)]) ** 2)
        near = NEAR * np.exp(-((away / REACH["wt"]) ** 2))
        alike = (1 - NEAR) * np.exp(-SHARPNESS * unlike / 2 - away / LIKENESS_REACH)
        return (near + alike) * doubt(logits[WT][one]) * doubt(logits[WT][other])

    places = [tuple(voxel // 2) for voxel in marked]
    among = [[covariance(one, other) for other in places] for one in places]
    lacking = claims * SURE - np.array([logits[WT][place] for place in places])
    for target in ((0, 0, 0), (3, 1, 2), (1, 3, 0)):
        to_marks = [covariance(target, place) for place in places]
        expected = to_marks @ np.linalg.inv(among + NOISE * np.eye(3)) @ lacking
        assert got[(WT, *target)].item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("inside", [True, False])
def test_a_mark_is_answered_around_it_and_says_what_it_implies(inside):
    change = changed(region_marks("tc", inside, [[40, 40, 40]])) * (1 if inside else -1)
    implied, untouched = (WT, ET) if inside else (ET, WT)  # inside of the core is whole tumour, outside no ET
    for region in (TC, implied):
        assert change[region, 20, 20, 20].item() == pytest.approx(SURE / (1 + NOISE / doubt(0) ** 2), rel=1e-4)
    assert not change[untouched].any()
    assert change[TC, 20, 20, 20] > change[TC, 20, 24, 20] > change[TC, 20, 36, 20] > 0


def test_another_tissue_is_changed_as_far_as_it_is_near_alone():
    features = torch.zeros(2, 40, 40, 40)
    features[:, 24:] = 9
    change = changed(region_marks("wt", True, [[40, 40, 40]]), features)[WT]
    nearness = NEAR * np.exp(-((10 / REACH["wt"]) ** 2))
    assert change[25, 20, 20].item() == pytest.approx(change[20, 20, 20].item() * nearness, rel=1e-3)
    assert change[34, 20, 20] < 0.1 < 2 < change[6, 20, 20]  # 28 voxels to either side


@pytest.mark.parametrize("apart", [2, 8, 30])
def test_marks_that_claim_opposites_share_the_voxels_between_them(apart):
    marks = region_marks("wt", True, [[40 - apart, 40, 40]]) + region_marks("wt", False, [[40 + apart, 40, 40]])
    change = changed(marks)[WT]
    assert abs(change[20, 20, 20]) < 1e-3
    assert (change[20 - apart // 2 : 20] > 0).all() and (change[21 : 21 + apart // 2] < 0).all()


def test_what_the_logits_say_already_is_not_said_again():
    marks = region_marks("wt", True, [[40, 40, 40]])
    assert not changed(marks, logit=SURE)[WT].any() and not changed(marks, logit=2 * SURE)[WT].any()
    assert changed(marks, logit=-SURE)[WT].max() > changed(marks)[WT].max()


def test_where_the_network_is_sure_less_is_changed():
    marks, blank = region_marks("wt", True, [[40, 40, 40]]), torch.zeros(2, 40, 40, 40)
    logits = torch.zeros(3, 40, 40, 40)
    logits[:, 22:] = -6
    change = regress(blank, 1.0, logits, marks, BOX, REACH).sum(0)[WT]
    assert 0 < change[24, 20, 20] < 0.7 * change[16, 20, 20]  # 8 voxels to either side


def test_a_second_mark_of_the_same_place_adds_next_to_nothing():
    once, twice = (changed(region_marks("wt", True, [[40, 40, 40], *more])) for more in ([], [[41, 40, 40]]))
    assert twice.max() < 1.1 * once.max()


def test_a_stroke_does_not_crowd_out_a_click():
    stroke = np.stack([np.arange(10, 70), np.full(60, 20), np.full(60, 20)], 1)
    stroke = np.concatenate([np.add(stroke, [0, row, 0]) for row in range(3)])
    assert len(stroke) > 5 * MOST
    change = changed(region_marks("wt", True, stroke) + region_marks("wt", False, [[40, 30, 20]]))[WT]
    assert (change[5:35, 10, 10] > SURE / 2).all()
    assert change[20, 15, 10] < -SURE / 2


def test_the_order_of_marks_does_not_matter():
    marks = total(region_marks("et", bool(step % 2), [[20 + 7 * step, 40, 30]]) for step in range(6))
    turned = Marks(marks.voxels[::-1].copy(), marks.claims[::-1].copy())
    assert torch.allclose(changed(marks), changed(turned), atol=1e-3)


def test_a_mark_outside_reaches_further_once_one_inside_says_where_the_region_is():
    outside, inside = (region_marks("et", claim, [[40, 40, 40]]) for claim in (False, True))
    assert reach_of(outside, t1ce=False)["et"] < reach_of(outside + inside, t1ce=False)["et"]
    assert reach_of(outside, t1ce=True) == reach_of(inside, t1ce=True) == REACH
