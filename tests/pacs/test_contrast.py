import numpy as np
import pytest
from scipy import ndimage

from lckd.pacs.contrast import enhancement, verdict

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


@pytest.fixture
def head():
    """T1, T1ce and brain of 100 mm with tissue of two kinds, and vessels that take up contrast."""
    rng = np.random.default_rng(0)
    shape = (50, 50, 50)
    distance = np.linalg.norm(np.indices(shape) - 24.5, axis=0)
    brain = distance < 23
    tissue = 100 + 20 * (ndimage.gaussian_filter(rng.standard_normal(shape), 2) > 0)
    vessels = ndimage.gaussian_filter((rng.random(shape) > 0.9995).astype(float), 1) > 0.02
    noise = rng.normal(0, 3, (2, *shape))
    return (tissue + noise[0]) * brain, (1.3 * tissue + 120 * vessels + noise[1]) * brain, brain


def test_contrast_is_confirmed(head):
    t1, t1ce, brain = head
    assert verdict(enhancement(t1ce, t1, brain, AFFINE)) == "confirmed"


def test_exchanged_images_have_the_opposite_sign(head):
    t1, t1ce, brain = head
    score = enhancement(t1, t1ce, brain, AFFINE)
    assert score == pytest.approx(-enhancement(t1ce, t1, brain, AFFINE))
    assert verdict(score) == "contradicted"


@pytest.mark.parametrize("change", ["scale", "noise", "blur", "shift", "coil", "curve"])
def test_another_t1_without_contrast_is_none(head, change):
    t1, _, brain = head
    rng = np.random.default_rng(1)
    other = {
        "scale": lambda: 7 * t1,
        "noise": lambda: t1 + 8 * rng.standard_normal(t1.shape) * brain,
        "blur": lambda: ndimage.gaussian_filter(t1, 0.7) * brain,
        "shift": lambda: ndimage.shift(t1, 0.5, order=1) * brain,
        "coil": lambda: t1 * np.linspace(0.8, 1.2, 50)[:, None, None],
        "curve": lambda: t1**1.4,
    }[change]()
    assert verdict(enhancement(other, t1, brain, AFFINE)) == "contradicted"


def test_too_little_to_compare_says_nothing(head):
    t1, t1ce, brain = head
    small = np.zeros_like(brain)
    small[20:26, 20:26, 20:26] = True
    assert enhancement(t1ce, t1, small, AFFINE) is None
    assert verdict(None) == "unclear"
    assert verdict(0.8) == "unclear"
