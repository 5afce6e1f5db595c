from pathlib import Path

import pytest
import torch

from lckd.simulation import simulate_study, write_study

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"

torch.set_num_threads(min(torch.get_num_threads(), 2))


@pytest.fixture(scope="session")
def small_study():
    """A simulated glioma study of 32x36x32 voxels of 4.5 mm."""
    return simulate_study(shape=(32, 36, 32), spacing_mm=(4.5, 4.5, 4.5), seed=1)


@pytest.fixture(scope="session")
def dataset_dir(tmp_path_factory) -> Path:
    """Two training and one validation study, simulated, as training expects them."""
    folder = tmp_path_factory.mktemp("dataset")
    for seed, (split, name) in enumerate([("train", "a"), ("train", "b"), ("val", "c")]):
        study = simulate_study(shape=(32, 36, 32), spacing_mm=(4.5, 4.5, 4.5), seed=seed)
        # Training works at 1 mm; small studies of large voxels would be blown up.
        write_study(_as_if_one_millimetre(study), folder / split / name, study_id=name)
    return folder


def _as_if_one_millimetre(study):
    from dataclasses import replace

    import numpy as np

    return replace(study, affine=np.eye(4))


@pytest.fixture(scope="session")
def glioma_test_split() -> Path:
    """The real test studies; skips where they are not."""
    folder = SHARED_DATA / "glioma" / "test"
    if not folder.is_dir():
        pytest.skip("real studies are not beside this checkout (../shared/data/glioma)")
    return folder
