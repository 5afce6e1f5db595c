import numpy as np
import pytest

from lckd.pacs.measurements import diameters_mm

AFFINE = np.array([[0, 2.0, 0, 5], [-1.0, 0, 0, 7], [0, 0, 4.0, 9], [0, 0, 0, 1]])


def test_a_box_of_known_size():
    label_map = np.zeros((30, 20, 12), np.uint8)
    label_map[2:15, 3:9, 4:8] = 2  # 12 x 10 mm in a slice, 12 mm across slices
    label_map[5, 5, 5] = 3
    label_map[5, 7, 5] = 3
    found = diameters_mm(label_map, AFFINE)
    assert found["wt"]["in_slice"] == pytest.approx(np.hypot(12, 10), abs=0.05)
    assert found["wt"]["in_space"] == pytest.approx(np.linalg.norm([12, 10, 12]), abs=0.05)
    assert found["et"] == {"in_space": 4.0, "in_slice": 4.0}


@pytest.mark.parametrize("voxels", [0, 1])
def test_next_to_nothing_has_no_diameter(voxels):
    label_map = np.zeros((5, 5, 5), np.uint8)
    label_map.flat[:voxels] = 1
    assert diameters_mm(label_map, AFFINE)["tc"] == {"in_space": 0.0, "in_slice": 0.0}


def test_flat_and_straight_regions():
    label_map = np.zeros((20, 20, 20), np.uint8)
    for index in range(20):  # a diagonal, which has no hull
        label_map[index, index, index] = 1
    expected = np.linalg.norm([19, 38, 76])
    assert diameters_mm(label_map, AFFINE)["tc"]["in_space"] == pytest.approx(expected, abs=0.05)
    assert diameters_mm(label_map, AFFINE)["tc"]["in_slice"] == 0.0


def test_it_agrees_with_all_pairs():
    label_map = (np.random.default_rng(0).random((9, 8, 7)) > 0.7).astype(np.uint8)
    points = np.argwhere(label_map) @ AFFINE[:3, :3].T
    furthest = np.linalg.norm(points[:, None] - points[None], axis=-1).max()
    assert diameters_mm(label_map, AFFINE)["tc"]["in_space"] == pytest.approx(furthest, abs=0.05)
