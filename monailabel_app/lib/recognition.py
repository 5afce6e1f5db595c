"""Which sequence a volume is, judged by its voxels alone, where nothing else says it."""

import json
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from lckd.errors import StudyError
from lckd.images import Image
from lckd.sequences import SEQUENCES

DISCRIMINANT = Path(__file__).with_name("recognition.json")
"""Made by ``benchmarks/recognition.py``: per sequence the weights of the features, and a bias."""

GRID = (6, 7, 6)
PERCENTILES = (1, 2, 5, 10, 25, 50, 75, 90, 95, 98, 99, 99.5, 99.9)


def guess_sequence(image: Image) -> str:
    """The most probable sequence of a skull-stripped volume, by a linear discriminant of ``features_of``.

    Raises:
        StudyError: the image has several channels.
    """
    if image.array.ndim != 3:
        raise StudyError(f"the volume has {len(image.array)} channels; accepted is one sequence")
    weights, bias = _discriminant()
    return SEQUENCES[int(np.argmax(weights @ features_of(image) + bias))]


def features_of(image: Image) -> NDArray[np.float64]:
    """What the volume looks like: the brain in coarse blocks, and percentiles of its voxels.

    Blocks tell ventricles and rim from white matter, and so fluid that is bright (T2) or dark; the upper
    percentiles tell vessels and rims with contrast agent (T1ce) from T1. Both are relative to the median and the
    middle 80 % of the voxels; the blocks of both hemispheres are averaged, as a tumour is mostly in one.
    """
    array = nib.orientations.apply_orientation(image.array, nib.orientations.io_orientation(image.affine))
    array = array[ndimage.find_objects((array != 0).astype(np.uint8))[0]]
    percentiles = np.percentile(array[array != 0], PERCENTILES)
    lower, median, upper = (percentiles[PERCENTILES.index(percentile)] for percentile in (10, 50, 90))
    spread = max(upper - lower, np.finfo(np.float32).eps)

    both = torch.from_numpy(np.stack([array, array != 0]).astype(np.float32))
    sums, filled = torch.nn.functional.adaptive_avg_pool3d(both, GRID).double().numpy()
    means = np.divide(sums, filled, out=np.full(GRID, median), where=filled > 0.1)
    blocks = np.clip((means - median) / spread, -2, 2)
    blocks = (blocks + blocks[::-1])[: GRID[0] // 2] / 2
    return np.concatenate([blocks.ravel(), np.clip((percentiles - median) / spread, -3, 4)])


@cache
def _discriminant() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights ``(4, F)`` and biases ``(4,)`` in the order of ``SEQUENCES``."""
    content = json.loads(DISCRIMINANT.read_text(encoding="utf-8"))
    return np.array([content["weights"][name] for name in SEQUENCES]), np.array(
        [content["bias"][name] for name in SEQUENCES]
    )
