from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lckd.images import Image, read_image
from lckd.pacs.registration import Grid, Registration, head_mask, register, resample
from lckd.pacs.simulated_head import SimulatedHead, simulate_head
from lckd.simulation import SimulatedStudy, simulate_study

OBLIQUE = Rotation.from_euler("xyz", (8, -5, 12), degrees=True).as_matrix()


def affine_of(rotation=None, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if rotation is None else rotation) @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine


def displacement_mm(transform: np.ndarray) -> float:
    points = np.array([[x, y, z] for x in (-50, 50) for y in (-60, 60) for z in (-40, 40)])
    return float(np.linalg.norm(points @ transform[:3, :3].T + transform[:3, 3] - points, axis=1).mean())


def ramp(affine: np.ndarray, shape=(40, 44, 36)) -> Image:
    """An image whose value is the world's x + 2 y + 4 z."""
    world = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    return Image((world @ [1.0, 2.0, 4.0]).astype(np.float32), affine)


@pytest.fixture(scope="module")
def study() -> SimulatedStudy:
    return simulate_study((48, 59, 48), (3.0, 3.0, 3.0), seed=4)


@pytest.fixture(scope="module")
def head(study) -> SimulatedHead:
    return simulate_head(study, seed=4)


@pytest.fixture(scope="module")
def motion() -> np.ndarray:
    return affine_of(Rotation.from_euler("xyz", (9, -6, 7), degrees=True).as_matrix(), origin=(8, -9, 6))


@pytest.fixture(scope="module")
def moved(head, motion) -> Image:
    """The head's FLAIR after a motion, in thick slices of an oblique, left-handed grid."""
    flair = Image(head.images["flair"], motion @ head.affine)
    affine = affine_of(OBLIQUE @ np.diag([-1, 1, 1]), (3.0, 3.0, 5.0))
    affine[:3, 3] = -affine[:3, :3] @ (np.array([72, 80, 44]) / 2)
    return resample(flair, None, Grid((72, 80, 44), affine))


@pytest.fixture(scope="module")
def found(moved, head) -> Registration:
    return register(moved, Image(head.images["t1"], head.affine))


def test_known_motion_is_undone(found, motion):
    assert found.accepted
    assert displacement_mm(found.transform @ motion) < 1.0


def test_result_is_described(found):
    assert found.metric_after > found.metric_before
    assert 0.7 < found.overlap <= 1
    assert 5 < found.rotation_degrees < 20
    assert "mutual information rose" in found.reason


def test_same_input_gives_the_same_transform(found, moved, head):
    again = register(moved, Image(head.images["t1"], head.affine))
    np.testing.assert_array_equal(again.transform, found.transform)


def test_registered_image_lies_on_the_fixed_grid(found, moved, head):
    fixed = Image(head.images["t1"], head.affine)
    on_fixed = resample(moved, found, Grid.of(fixed))
    assert on_fixed.array.shape == fixed.array.shape
    correlation = np.corrcoef(on_fixed.array[head.brain], head.images["flair"][head.brain])[0, 1]
    assert correlation > 0.8


@pytest.mark.parametrize("stripped_is_moving", [True, False])
def test_stripped_brain_finds_its_head(study, head, motion, stripped_is_moving):
    brain = Image(study.images["t1"], motion @ study.affine)
    whole = Image(head.images["t2"], head.affine)
    found = register(brain, whole) if stripped_is_moving else register(whole, brain)
    transform = found.transform if stripped_is_moving else np.linalg.inv(found.transform)
    assert found.accepted
    assert displacement_mm(transform @ motion) < 1.5


def test_aligned_images_keep_their_place(study):
    image = Image(study.images["t1"], study.affine)
    found = register(image, image)
    assert found.accepted
    np.testing.assert_array_equal(found.transform, np.eye(4))
    assert "no transform was better than none" in found.reason


def test_foreign_image_is_refused_and_cannot_be_used(head):
    fixed = Image(head.images["t1"], head.affine)
    noise = np.random.default_rng(0).normal(100, 20, head.brain.shape).astype(np.float32)
    found = register(Image(noise, head.affine), fixed)
    assert not found.accepted
    assert "accepted from" in found.reason
    with pytest.raises(ValueError, match="cannot be used"):
        resample(fixed, found, Grid.of(fixed))


def test_head_mask_is_filled_and_holds_the_brain(head):
    for image in head.images.values():
        mask = head_mask(Image(image, head.affine))
        assert mask[head.brain].mean() > 0.999
        assert 0.2 < mask.mean() < 0.7


class TestResample:
    @pytest.mark.parametrize(
        "affine",
        [
            affine_of(OBLIQUE, (1.0, 1.2, 3.0), (-10, 5, 8)),
            affine_of(np.diag([-1, -1, 1]), (0.9, 0.9, 2.0), (30, 30, -20)),
            affine_of(OBLIQUE @ np.diag([-1, 1, 1]), (1.0, 1.0, 2.0)),
            affine_of(np.eye(3)[[2, 0, 1]], (1.0, 1.5, 1.0)),
        ],
        ids=["oblique", "LPS", "left-handed", "permuted"],
    )
    def test_world_coordinates_are_kept(self, affine):
        source = ramp(affine)
        centre = affine[:3, :3] @ (np.array(source.array.shape) / 2) + affine[:3, 3]
        grid = Grid((7, 6, 5), affine_of(OBLIQUE.T, (1.1, 0.9, 1.3), centre - 3))
        expected = ramp(grid.affine, grid.shape)
        np.testing.assert_allclose(resample(source, None, grid).array, expected.array, atol=1e-2)

    def test_transform_goes_from_moving_to_fixed(self):
        shift = affine_of(origin=(5, 0, 0))
        registration = Registration(shift, 0, 1, 1, 0, True, "")
        moved = resample(ramp(np.eye(4)), registration, Grid((8, 8, 8), affine_of(origin=(10, 10, 10))))
        np.testing.assert_allclose(moved.array, ramp(affine_of(origin=(5, 10, 10)), (8, 8, 8)).array, atol=1e-3)

    def test_outside_is_filled(self):
        far = Grid((3, 3, 3), affine_of(origin=(500, 0, 0)))
        assert (resample(ramp(np.eye(4)), None, far, outside=-7).array == -7).all()

    def test_nearest_keeps_label_values(self):
        labels = Image(np.random.default_rng(0).integers(0, 4, (9, 9, 9)).astype(np.float32), np.eye(4))
        grid = Grid((9, 9, 9), affine_of(OBLIQUE, origin=(0.3, 0.2, 0.1)))
        assert set(np.unique(resample(labels, None, grid, "nearest").array)) <= {0, 1, 2, 3}


@pytest.mark.slow
def test_real_heads_come_back_to_where_they_were():
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "raw_head" / "MS_patient12_study1"
    if not folder.is_dir():
        pytest.skip("real heads are not beside this checkout (../shared/data/raw_head)")
    flair, t1 = (read_image(folder / f"MS_long_patient12_study1_{name}.nii.gz") for name in ("flair", "t1"))
    there, back = register(flair, t1), register(t1, flair)
    assert there.accepted and back.accepted
    assert displacement_mm(back.transform @ there.transform) < 1.0
