from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lckd.marks import NO_MARKS, Marks
from lckd.simulation import SimulatedStudy, simulate_study, write_study
from lckd.transforms import label_map_of

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"

torch.set_num_threads(min(torch.get_num_threads(), 2))


@pytest.fixture(scope="session")
def small_study():
    """A simulated glioma study of 32x36x32 voxels that say they were 1 mm, so that nothing blows them up."""
    return _toy(seed=1)


@pytest.fixture(scope="session")
def likeliest():
    """Postprocessing for toys, too small for the network to be sure of any voxel: the likeliest hundredth is tumour."""

    def label_map(probabilities: torch.Tensor, voxel_ml: float, marks: Marks = NO_MARKS) -> torch.Tensor:
        limits = probabilities.flatten(1).quantile(0.99, dim=1)
        return label_map_of(probabilities > limits[:, None, None, None])

    return label_map


@pytest.fixture(scope="session")
def dataset_dir(tmp_path_factory) -> Path:
    """Two training and one validation study, simulated, as training expects them."""
    folder = tmp_path_factory.mktemp("dataset")
    for seed, (split, name) in enumerate([("train", "a"), ("train", "b"), ("val", "c")]):
        write_study(_toy(seed), folder / split / name, study_id=name)
    return folder


def _toy(seed: int) -> SimulatedStudy:
    return replace(simulate_study(shape=(32, 36, 32), spacing_mm=(4.5, 4.5, 4.5), seed=seed), affine=np.eye(4))


@pytest.fixture(scope="session")
def glioma_test_split() -> Path:
    """The real test studies; skips where they are not."""
    folder = SHARED_DATA / "glioma" / "test"
    if not folder.is_dir():
        pytest.skip("real studies are not beside this checkout (../shared/data/glioma)")
    return folder
