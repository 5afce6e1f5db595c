import os
import platform
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from lckd.processes import run_python
from lckd.simulation import simulate_study

GIVE_BACK = """
import torch
from pathlib import Path
from lckd.memory import give_back_freed_memory, keep_freed_memory
keep_freed_memory()
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])
pieces = [torch.ones(10_000_000) for _ in range(8)]  # 40 MB each
before = resident()
del pieces[:-1]  # the last one lies above them
kept = resident()
give_back_freed_memory()
print(kept / before, resident() / before)
"""

COUNT_FAULTS = """
import resource, sys
import torch
from lckd.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
features = torch.rand(1, 24, 80, 80, 80)  # 49 MB
def pass_through_layers():
    current = features
    for _ in range(4):
        current = torch.nn.functional.batch_norm(current, None, None, training=True) + features
for _ in range(3):
    pass_through_layers()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    pass_through_layers()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_memory_that_was_freed_is_used_again_without_page_faults():
    faults = {
        how: int(subprocess.run([sys.executable, "-c", COUNT_FAULTS, how], capture_output=True, check=True).stdout)
        for how in ("default", "kept")
    }
    assert faults["kept"] < faults["default"] / 10


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has malloc_trim")
def test_memory_that_was_freed_is_given_back_when_asked():
    done = subprocess.run([sys.executable, "-c", GIVE_BACK], capture_output=True, check=True, text=True)
    kept, given_back = (float(share) for share in done.stdout.split())
    assert kept > 0.95
    assert given_back < 0.7


@pytest.fixture
def large_study(tmp_path):
    """Four sequences of 512x512x400 voxels of 0.4 mm, half of them brain's box; removed afterwards, as it is 840 MB."""
    study = simulate_study(shape=(72, 88, 72), spacing_mm=(2, 2, 2), seed=1)
    folder = tmp_path / "in" / "large"
    folder.mkdir(parents=True)
    for sequence, image in study.images.items():
        voxels = image.astype(np.int16)
        for axis in range(3):
            voxels = voxels.repeat(5, axis)
        gaps = [full - side for full, side in zip((512, 512, 400), voxels.shape, strict=True)]
        voxels = np.pad(voxels, [(gap // 2, gap - gap // 2) for gap in gaps])
        nib.save(nib.Nifti1Image(voxels, np.diag([0.4, 0.4, 0.4, 1])), folder / f"large_{sequence}.nii")
    yield folder
    for file in folder.iterdir():
        file.unlink()


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(os, "sysconf") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") < 8e9,
    reason="less than 8 GB of memory",
)
def test_a_large_study_is_segmented_on_its_grid_in_less_than_6_gb(large_study, tmp_path):
    done = run_python(["-m", "lckd", "segment", str(large_study), "--output", str(tmp_path), "--device", "cpu"], 2)
    label_map = nib.load(tmp_path / "large" / "segmentation.nii.gz")
    assert label_map.shape == (512, 512, 400)
    np.testing.assert_allclose(label_map.affine, np.diag([0.4, 0.4, 0.4, 1]))
    assert np.any(label_map.dataobj)
    assert done.peak_mb < 6000
