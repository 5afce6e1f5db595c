"""Which device computes, and at which precision."""

import torch

from lckd.errors import StudyError

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


def choose_device(name: str = "auto") -> torch.device:
    """The device that ``name`` means; ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        StudyError: an unknown device, or one this machine lacks.
    """
    kind, _, index = name.partition(":")
    if kind not in DEVICES or (index and not index.isdecimal()):
        raise StudyError(f"unknown device {name!r}; accepted are {', '.join(DEVICES)}, or cuda:1 and so on")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and int(index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present[kind]:
        raise StudyError(f"device {name!r} was asked for but this machine has none; use --device auto or cpu")
    return torch.device(name)


def devices_here() -> list[str]:
    """The devices of this machine by name, the processor always among them."""
    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The type convolutions compute in; ``auto`` is bfloat16 where the processor multiplies it natively.

    Raises:
        StudyError: an unknown precision.
    """
    if name not in PRECISIONS:
        raise StudyError(f"unknown precision {name!r}; accepted are {', '.join(PRECISIONS)}")
    if name != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    # An emulated bfloat16 is slower than float32; only these processors have the instructions.
    native = device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    return torch.bfloat16 if native else torch.float32


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that a device, or the machine, has no memory left."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
