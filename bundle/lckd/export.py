"""The network in two parts that other engines can run: as ONNX files, and in TensorRT on the GPU.

Availability decides shapes inside the network, which an engine cannot follow. Its parts are therefore the encoder for
one sequence and the decoder for four, the missing ones filled: nothing but the image's size varies.
"""

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from monai.networks import trt_compile
from monai.networks.trt_compiler import get_dynamic_axes
from monai.networks.utils import convert_to_onnx
from monai.utils import optional_import
from torch import Tensor, nn

from lckd.errors import StudyError, reason
from lckd.files import write_atomically
from lckd.filling import fill
from lckd.inferer import padded_size
from lckd.network import LCKDNet
from lckd.segmentation import Segmenter
from lckd.sequences import SEQUENCES

USUAL_SIZE = (144, 176, 144)
"""Voxels of a brain at 1 mm, for which engines are tuned."""

EXPORTER: dict[str, Any] = {"dynamo": False}
"""torch's tracing exporter to ONNX: ``blocks`` has its norms in operations that ONNX has, while that one runs."""

PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}

PACKAGES = {
    "tensorrt": "tensorrt<11",  # MONAI sets precisions by flags, which TensorRT 11 no longer has
    "polygraphy": "polygraphy",
    "onnx_graphsurgeon": "onnx-graphsurgeon",
    "onnx": "onnx",
    "cuda": "cuda-python",
}
"""What MONAI's ``trt_compile`` imports, and what to ask pip for."""


class FilledDecoder(nn.Module):
    """A decoder for the features of all four sequences, each available or filled.

    Args:
        decoder: of an ``LCKDNet``.
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder: Any = decoder

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """``(4, C, d, h, w)`` per scale to the finest level's ``(1, C, d, h, w)`` and logits ``(1, 3, D, H, W)``."""
        every = torch.ones(1, len(SEQUENCES), dtype=torch.bool, device=features[0].device)
        finest = self.decoder.walk(features, every)[0]
        return finest, self.decoder.logits(finest)


class EngineEncoder(nn.Module):
    """The encoder's place in a network, taken by an engine.

    Args:
        engine: ``(image (1, 1, D, H, W), sequence (1,)) -> list of (1, C, d, h, w)``.
    """

    def __init__(self, engine: nn.Module) -> None:
        super().__init__()
        self.engine = engine

    def forward(self, image: Tensor, sequence: Tensor) -> list[Tensor]:
        """Features of one image, finest scale first."""
        # An engine reads plain float32 and writes into the same memory each time; these features will be kept.
        scales = _run(self.engine, image.float().contiguous(), sequence)
        return [scale.clone() for scale in scales]


class EngineDecoder(nn.Module):
    """The decoder's place in a network, taken by an engine.

    Args:
        engine: as ``FilledDecoder``.
        decoder: whose head makes logits of features that were kept.
    """

    def __init__(self, engine: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.engine = engine
        self.decoder: Any = decoder

    def forward(self, features: list[Tensor], availability: Tensor) -> list[Tensor]:
        """Logits ``(1, 3, D, H, W)`` from ``(N, C, d, h, w)`` per scale of the N available sequences of one study."""
        return [self._decode(features, availability)[1]]

    def walk(self, features: list[Tensor], availability: Tensor) -> list[Tensor]:
        """``(1, C, d, h, w)`` of the finest level."""
        return [self._decode(features, availability)[0]]

    def logits(self, finest: Tensor) -> Tensor:
        """Logits ``(1, 3, D, H, W)`` of the finest level's result."""
        return self.decoder.logits(finest)

    def _decode(self, features: list[Tensor], availability: Tensor) -> list[Tensor]:
        filled = [fill(scale.float(), availability)[0].contiguous() for scale in features]
        return [result.clone() for result in _run(self.engine, filled)]


def _run(engine: nn.Module, *inputs: Any) -> Iterable[Tensor]:
    """The engine's results; those of the module that it was compiled from where the study did not fit the GPU."""
    on_gpu = any(parameter.is_cuda for parameter in engine.parameters())
    return engine(*inputs) if on_gpu else getattr(engine, "orig_forward", engine)(*inputs)


@dataclass(frozen=True)
class Part:
    """A part of the network as exporters need it.

    Attributes:
        module: in evaluation mode.
        inputs: of the least size.
        profile: least, usual and largest shape of every input by name, as MONAI's ``trt_compile`` takes them.
        outputs: their names.
    """

    module: nn.Module
    inputs: tuple[Any, ...]
    profile: dict[str, list[list[int]]]
    outputs: list[str]


def parts(network: LCKDNet, largest: Iterable[int]) -> dict[str, Part]:
    """The parts of a network.

    Args:
        network: whose weights they share.
        largest: voxels per axis of the largest window.
    """
    encoder: Any = network.encoder
    divisor, widths = encoder.divisor, encoder.widths
    most = padded_size(largest, divisor)
    usual = tuple(min(side, limit) for side, limit in zip(padded_size(USUAL_SIZE, divisor), most, strict=True))
    sizes = (padded_size((1, 1, 1), divisor), usual, most)
    names = [f"features_{scale}" for scale in range(len(widths))]
    strides = [divisor // 2 ** (len(widths) - 1 - scale) for scale in range(len(widths))]
    image = {"image": [[1, 1, *size] for size in sizes], "sequence": [[1]] * 3}
    features = {
        name: [[len(SEQUENCES), width, *(side // stride for side in size)] for size in sizes]
        for name, width, stride in zip(names, widths, strides, strict=True)
    }
    device = next(network.parameters()).device
    zeros = [torch.zeros(shapes[0], device=device) for shapes in (image["image"], *features.values())]
    sequence = torch.zeros(1, dtype=torch.long, device=device)
    return {
        "encoder": Part(encoder, (zeros[0], sequence), image, names),
        "decoder": Part(FilledDecoder(network.decoder).eval(), (zeros[1:],), features, ["finest", "logits"]),
    }


def export_onnx(segmenter: Segmenter, folder: str | Path) -> None:
    """Write ``encoder.onnx`` and ``decoder.onnx`` for images of any size that the encoder's ``divisor`` divides.

    Raises:
        StudyError: the package onnx is missing, or the folder cannot be written.
    """
    if importlib.util.find_spec("onnx") is None:
        raise StudyError("ONNX files need the package onnx, which is not installed; pip install onnx")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, part in parts(segmenter.network, USUAL_SIZE).items():
            write_atomically(Path(folder) / f"{name}.onnx", partial(_write_onnx, part))
    except OSError as error:
        raise StudyError(f"{folder} cannot be written ({error.strerror}); choose another output folder") from error


def _write_onnx(part: Part, file: Path) -> None:
    convert_to_onnx(
        part.module,
        part.inputs,
        filename=str(file),
        input_names=list(part.profile),
        output_names=part.outputs,
        dynamic_axes=get_dynamic_axes([part.profile]),
        **EXPORTER,
    )


def with_engines(segmenter: Segmenter, folder: str | Path) -> Segmenter:
    """Let TensorRT run ``segmenter``'s network at its precision.

    The engines are built once and kept in ``folder`` for these weights, this precision and this largest window;
    TensorRT refuses those of another GPU or version, and they are built again.

    Raises:
        StudyError: there is no GPU, packages are missing, no largest window is given or an engine cannot be built.
    """
    _require_tensorrt(segmenter.device)
    network, window, precision = segmenter.network, segmenter.inferer.window, PRECISIONS[segmenter.dtype]
    if window is None:
        raise StudyError("TensorRT engines need a largest window, but window is null; give it in voxels, such as 192")
    torch.cuda.set_device(segmenter.device.index or 0)  # MONAI's engines are on the current GPU
    largest = [window] * 3 if isinstance(window, int) else list(window)
    key = "_".join([segmenter.weights["sha256"][:12], precision, *map(str, largest)])
    engines = parts(network, largest)
    for name, part in engines.items():
        arguments = {"precision": precision, "input_profiles": [part.profile], "export_args": dict(EXPORTER)}
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            trt_compile(part.module, str(Path(folder) / f"{key}.{name}"), arguments)
            with torch.inference_mode():
                part.module(*part.inputs)  # builds or loads the engine, here rather than within the first study
        except Exception as error:  # TensorRT, its parser and MONAI raise a dozen types
            raise StudyError(
                f"the {name}'s TensorRT engine cannot be built or loaded ({reason(error)}); "
                "leave inference_trt.yaml away to segment without"
            ) from error
    network.encoder = EngineEncoder(engines["encoder"].module)
    network.decoder = EngineDecoder(engines["decoder"].module, network.decoder)
    return segmenter


def _require_tensorrt(device: torch.device) -> None:
    """Raises StudyError where an engine can be neither built nor run."""
    missing = [module for module in PACKAGES if importlib.util.find_spec(module) is None]
    tensorrt, installed = optional_import("tensorrt")
    if installed and int(tensorrt.__version__.split(".")[0]) > 10:
        missing.append("tensorrt")
    needs = [] if device.type == "cuda" else [f"an NVIDIA GPU (the device in use is {device.type})"]
    needs += [f"the packages {', '.join(PACKAGES[module] for module in missing)}"] if missing else []
    if needs:
        raise StudyError(f"TensorRT engines need {' and '.join(needs)}; leave inference_trt.yaml away to do without")
