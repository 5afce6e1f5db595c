import pytest
import torch

from lckd.devices import choose_device, choose_precision, devices_here, out_of_memory
from lckd.errors import StudyError


def test_auto_finds_a_device():
    assert choose_device("auto").type in ("cpu", "cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_said_so():
    with pytest.raises(StudyError, match="this machine has none; use --device auto or cpu"):
        choose_device("cuda")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", ""])
def test_an_unknown_device_names_the_known(name):
    with pytest.raises(StudyError, match="accepted are auto, cpu, cuda, mps"):
        choose_device(name)


def test_an_unknown_precision_names_the_known():
    with pytest.raises(StudyError, match="accepted are auto, fp32, bf16, fp16"):
        choose_precision("int8", torch.device("cpu"))


def test_a_real_shortage_of_memory_is_recognized():
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(error.value)
    assert not out_of_memory(RuntimeError("shape mismatch"))


def test_the_processor_is_always_among_the_devices():
    assert devices_here()[-1] == "cpu"
    assert all(choose_device(name) for name in devices_here())
