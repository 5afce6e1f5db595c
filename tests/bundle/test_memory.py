import platform
import subprocess
import sys

import pytest

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
