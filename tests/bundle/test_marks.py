import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lckd.errors import StudyError
from lckd.marks import NO_MARKS, Marks, label_marks, region_marks, total
from lckd.sequences import REGIONS


def claims(marks: Marks) -> dict[str, int]:
    return dict(zip(REGIONS, marks.claims[0].tolist(), strict=True))


class TestClaims:
    @pytest.mark.parametrize(
        ("region", "inside", "claimed"),
        [
            ("et", True, {"et": 1, "tc": 1, "wt": 1}),
            ("tc", True, {"et": 0, "tc": 1, "wt": 1}),
            ("wt", True, {"et": 0, "tc": 0, "wt": 1}),
            ("et", False, {"et": -1, "tc": 0, "wt": 0}),
            ("tc", False, {"et": -1, "tc": -1, "wt": 0}),
            ("wt", False, {"et": -1, "tc": -1, "wt": -1}),
        ],
    )
    def test_regions_are_nested(self, region, inside, claimed):
        assert claims(region_marks(region, inside, [[1, 2, 3]])) == claimed

    @pytest.mark.parametrize(
        ("label", "claimed"),
        [
            ("background", {"et": -1, "tc": -1, "wt": -1}),
            ("oedema", {"et": -1, "tc": -1, "wt": 1}),
            ("necrotic core", {"et": -1, "tc": 1, "wt": 1}),
            ("enhancing tumour", {"et": 1, "tc": 1, "wt": 1}),
        ],
    )
    def test_a_label_says_it_of_every_region(self, label, claimed):
        assert claims(label_marks(label, [[1, 2, 3]])) == claimed


class TestChecks:
    def test_the_same_voxel_counts_once_and_claims_add_up(self):
        marks = total([region_marks("wt", True, [[1, 2, 3]]), region_marks("et", False, [[1, 2, 3]])]).checked(
            (9, 9, 9)
        )
        assert len(marks) == 1 and claims(marks) == {"et": -1, "tc": 0, "wt": 1}

    def test_the_order_does_not_matter(self):
        one, other = region_marks("wt", True, [[5, 2, 3]]), region_marks("et", True, [[1, 2, 3]])
        first, second = (one + other).checked((9, 9, 9)), (other + one).checked((9, 9, 9))
        assert (first.voxels == second.voxels).all() and (first.claims == second.claims).all()

    @pytest.mark.parametrize(
        "pair",
        [
            [region_marks("et", True, [[1, 1, 1]]), region_marks("et", False, [[1, 1, 1]])],
            [region_marks("et", True, [[1, 1, 1]]), region_marks("wt", False, [[1, 1, 1]])],
            [label_marks("oedema", [[1, 1, 1]]), label_marks("background", [[1, 1, 1]])],
        ],
    )
    def test_contradictions_are_refused(self, pair):
        with pytest.raises(StudyError, match="marks at 1 1 1 contradict each other"):
            total(pair).checked((4, 4, 4))

    @pytest.mark.parametrize("voxel", [[-1, 0, 0], [0, 4, 0], [0, 0, 10**9]])
    def test_a_mark_outside_the_image_is_refused(self, voxel):
        with pytest.raises(StudyError, match="outside the image of 4 4 4 voxels"):
            region_marks("wt", True, [voxel]).checked((4, 4, 4))

    def test_no_marks(self):
        assert len(NO_MARKS.checked((4, 4, 4))) == 0 and len(total([])) == 0


@given(
    st.lists(st.integers(0, 20), min_size=3, max_size=3),
    st.floats(-3, 3),
    st.floats(-3, 3),
    st.lists(st.sampled_from([-4.0, -1.0, 0.5, 1.0, 2.0]), min_size=3, max_size=3),
)
@settings(max_examples=50, deadline=None)
def test_a_mark_is_at_the_same_place_on_another_grid(voxel, yaw, pitch, spacing):
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ tilt @ np.diag(spacing), [10, -20, 30]
    target = np.diag([0.25, 0.25, 0.25, 1.0])
    moved = region_marks("wt", True, [voxel]).moved(affine, target)
    world = affine[:3, :3] @ voxel + affine[:3, 3]
    assert np.abs(moved.voxels[0] * 0.25 - world).max() <= 0.126


@pytest.mark.parametrize(
    ("pair", "claims"),  # of ET, WT and TC
    [
        ((region_marks("wt", True, [[2, 2, 2]]), region_marks("wt", False, [[3, 2, 2]])), [[-1, 0, -1]]),
        ((region_marks("et", True, [[2, 2, 2]]), region_marks("et", False, [[3, 2, 2]])), [[0, 1, 1]]),
        ((region_marks("et", True, [[2, 2, 2]]), region_marks("wt", False, [[3, 2, 2]])), []),
        ((region_marks("et", True, [[2, 2, 2]]), region_marks("wt", True, [[3, 2, 2]])), [[1, 1, 1]]),
    ],
)
def test_where_marks_meet_in_a_coarser_voxel_what_they_contradict_is_not_said(pair, claims):
    coarse = np.diag([2.0, 2.0, 2.0, 1.0])
    coarse[:3, 3] = 0.6
    moved = total(pair).onto(np.eye(4), coarse, (4, 4, 4))
    assert moved.claims.tolist() == claims
    assert moved.voxels.tolist() == [[1, 1, 1]] * len(claims)


def test_a_mark_that_the_border_cuts_counts_as_on_it():
    moved = region_marks("wt", True, [[4, 0, 0], [5, 0, 0]]).onto(np.eye(4), np.eye(4), (4, 4, 4))
    assert moved.voxels.tolist() == [[3, 0, 0]]
