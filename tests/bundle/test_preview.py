import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from PIL import Image

from lckd.preview import COLOURS, PANEL, draw_preview

AFFINE = np.diag([4.0, 4, 6, 1])


def picture(tmp_path, image, label_map, affine=AFFINE) -> np.ndarray:
    draw_preview(image, label_map, affine, tmp_path / "p.png", "title", "footer")
    assert [file.name for file in tmp_path.iterdir()] == ["p.png"]
    return np.asarray(Image.open(tmp_path / "p.png").convert("RGB")).astype(int)


def head() -> tuple[np.ndarray, np.ndarray]:
    """A ball of brain with a tumour at the patient's left, front and top, and bright tissue there."""
    index = np.stack(np.indices((40, 44, 30)))
    ball = (
        ((index - np.array([20, 22, 15])[:, None, None, None]) / np.array([18, 20, 13])[:, None, None, None]) ** 2
    ).sum(0) < 1
    label_map = np.zeros(ball.shape, np.uint8)
    label_map[8:13, 28:34, 19:23] = 3
    return ball * 100.0 + 50 * (label_map > 0), label_map


def place_of_tumour(pixels: np.ndarray, panel: int) -> tuple[float, float]:
    """Mean column and row of the outline in a panel, from 0 at its left and top to 1."""
    left = 16 + panel * (PANEL + 16)
    part = pixels[50 : 50 + PANEL, left : left + PANEL]
    rows, columns = np.nonzero(np.abs(part - COLOURS["enhancing tumour"]).sum(-1) < 60)
    return columns.mean() / PANEL, rows.mean() / PANEL


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "PIR", "SAL"])
def test_the_patients_left_is_on_the_right_whatever_the_files_orientation(tmp_path, codes):
    image, label_map = head()
    turn = ornt_transform(io_orientation(AFFINE), axcodes2ornt(tuple(codes)))
    affine = AFFINE @ inv_ornt_aff(turn, image.shape)
    pixels = picture(tmp_path, nib.apply_orientation(image, turn), nib.apply_orientation(label_map, turn), affine)
    (axial_x, axial_y), (coronal_x, coronal_y), (sagittal_x, sagittal_y) = (
        place_of_tumour(pixels, n) for n in range(3)
    )
    assert axial_x > 0.6  # the patient's left
    assert axial_y < 0.45  # the front is up
    assert coronal_x > 0.6
    assert coronal_y < 0.45  # the top is up
    assert sagittal_x < 0.45  # the front is on the left
    assert sagittal_y < 0.45


def test_without_a_tumour_the_middle_is_drawn(tmp_path):
    image, label_map = head()
    pixels = picture(tmp_path, image, np.zeros_like(label_map))
    assert pixels[50 : 50 + PANEL, 16 : 16 + PANEL].max() > 100


def test_the_background_of_a_stripped_brain_is_black(tmp_path):
    pixels = picture(tmp_path, *head())
    assert pixels[60 : 60 + 10, 200:210].max() == 0


@pytest.mark.parametrize("image", [np.zeros((8, 8, 8)), -np.ones((8, 8, 8))])
def test_an_image_without_contrast_is_no_error(tmp_path, image):
    picture(tmp_path, image, np.zeros((8, 8, 8), np.uint8))
