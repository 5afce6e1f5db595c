"""The networks that the benchmark compares, each on one image: ours, MONAI's SegResNet and the paper's.

``python -m lckd.contenders`` runs one of them in a fresh process, for its first passes and its peak memory.
"""

import functools
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import torch
from monai.data import MetaTensor
from monai.networks.nets import SegResNet
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count
from tqdm import tqdm

from lckd.devices import choose_device, choose_precision
from lckd.inferer import StudyInferer, pad
from lckd.memory import keep_freed_memory
from lckd.network import LCKDNet
from lckd.paper_network import PaperDecoder, PaperEncoder
from lckd.processes import Finished, run_python
from lckd.segmentation import PreparedStudy, Segmenter
from lckd.sequences import SEQUENCES

Size = tuple[int, int, int]
Key = TypeVar("Key")
Result = TypeVar("Result")

PAPER_WINDOW: Final = (160, 160, 80)
PAPER_OVERLAP: Final = 1 / 3
"""Of the windows in which the paper's authors segment a study; x, y, z."""

PAPER_DIVISOR: Final = 32
"""What sides of a window are divisible by, the last by half of it."""


@dataclass(frozen=True)
class Contender:
    """A network and what it computes of one image.

    Attributes:
        run: gives logits on the CPU, from an image on the CPU.
        network: in plain torch, whose arithmetic is counted.
        inputs: of one pass of it.
        passes: of the network that the whole image takes.
        passes_run: of them that ``run`` does.
    """

    run: Callable[[], Tensor]
    network: nn.Module
    inputs: tuple[Tensor, ...]
    passes: int = 1
    passes_run: int = 1

    def parameters(self) -> int:
        """How many numbers the network learnt."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def gmac(self) -> float:
        """Multiply-adds of the whole image's convolutions, in 10^9, counted in a pass."""
        device = next(self.network.parameters()).device
        onednn = {torch.ops.aten.mkldnn_convolution: _onednn_flop}  # of lckd.blocks.Conv; torch does not know it
        with torch.inference_mode(), FlopCounterMode(display=False, custom_mapping=onednn) as counter:
            self.network(*(value.to(device) for value in self.inputs))
        return self.passes * counter.get_total_flops() / 2e9

    def seconds(self) -> float:
        """Seconds of the whole image, extrapolated if ``run`` does fewer passes."""
        start = time.perf_counter()
        self.run()
        return (time.perf_counter() - start) * self.passes / self.passes_run


def _onednn_flop(image: Sequence[int], weight: Sequence[int], *_: Any, out_shape: Sequence[int], **__: Any) -> int:
    return conv_flop_count(list(image), list(weight), list(out_shape))


def ours(sequences: int, size: Size, device: torch.device, precision: str) -> Contender:
    """The shipped network as ``Segmenter`` runs it, on the first ``sequences`` of an image, in one window."""
    segmenter = Segmenter(inferer=StudyInferer(window=None), device=str(device), precision=precision)
    availability = torch.arange(len(SEQUENCES)) < sequences
    image = MetaTensor(_image(size) * availability[:, None, None, None])

    def run() -> Tensor:
        # A new study each time, for one that was segmented keeps its features.
        study = PreparedStudy(
            study="benchmark",
            image=image,
            availability=availability,
            reference=SEQUENCES[0],
            shown=image[0],
            affine=torch.eye(4),
            warnings=(),
            timings_s={},
        )
        warnings: list[str] = []
        logits, _ = segmenter.infer(study, warnings)
        for warning in warnings:
            tqdm.write(f"ours, {precision}: {warning}")
        return logits

    padded, _ = pad(image.as_tensor()[None], segmenter.inferer.divisor)
    return Contender(run, LCKDNet().eval(), (padded, availability[None]))


def ours_at_once(studies: int, size: Size, device: torch.device, precision: str) -> Contender:
    """Our network with random weights on so many studies with four sequences in one pass."""
    padded, _ = pad(_image(size)[None], divisor=StudyInferer().divisor)
    availability = torch.ones(studies, len(SEQUENCES), dtype=torch.bool)
    network = LCKDNet().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return _plain(network, (padded.repeat(studies, 1, 1, 1, 1), availability), device, precision)


def segresnet(size: Size, device: torch.device, precision: str) -> Contender:
    """The network of ``brats_mri_segmentation`` in MONAI's model zoo, with random weights, in one window."""
    network = SegResNet(
        blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1), init_filters=16, in_channels=4, out_channels=3, dropout_prob=0.2
    )
    padded, _ = pad(_image(size)[None], divisor=8)
    return _plain(network, (padded,), device, precision)


def paper(size: Size, device: torch.device, precision: str, every_window: bool = False) -> Contender:
    """The paper's network with random weights, in the authors' windows.

    Args:
        size: of the image.
        device: to compute on.
        precision: to compute at.
        every_window: run them all; else one, from which the whole image is extrapolated.
    """
    network = LCKDNet(PaperEncoder(), PaperDecoder())
    inferer = StudyInferer(PAPER_WINDOW, PAPER_OVERLAP, divisor=PAPER_DIVISOR)
    image = _image(size)[None]
    x, y, z = PAPER_WINDOW
    window = pad(image, PAPER_DIVISOR)[0][:, :, :x, :y, :z]
    availability = torch.ones(1, len(SEQUENCES), dtype=torch.bool)
    passes = paper_windows(size)
    if not every_window:
        return _plain(network, (window, availability), device, precision, passes)
    whole = _plain(network, (image, availability), device, precision, passes, run=inferer)
    return replace(whole, inputs=(window, availability), passes_run=passes)


def paper_windows(size: Iterable[int]) -> int:
    """In how many windows MONAI's sliding window cuts an image of ``size``."""
    return math.prod(
        max(0, math.ceil((side - window) / int(window * (1 - PAPER_OVERLAP)))) + 1
        for side, window in zip(size, PAPER_WINDOW, strict=True)
    )


OURS, OURS_ALONE = "ours, 4 sequences", "ours, 1 sequence"
SEGRESNET, PAPER = "SegResNet, 4 sequences", "paper's network, 4 sequences"


def builders(
    size: Size, device: torch.device, precision: str, every_window: bool = False
) -> dict[str, Callable[[], Contender]]:
    """What makes each contender, by name."""
    return {
        OURS: functools.partial(ours, 4, size, device, precision),
        "ours, 3 sequences": functools.partial(ours, 3, size, device, precision),
        "ours, 2 sequences": functools.partial(ours, 2, size, device, precision),
        OURS_ALONE: functools.partial(ours, 1, size, device, precision),
        SEGRESNET: functools.partial(segresnet, size, device, precision),
        PAPER: functools.partial(paper, size, device, precision, every_window),
    }


def in_turns(calls: Mapping[Key, Callable[[], Result]], runs: int, title: str) -> dict[Key, list[Result]]:
    """What each call gives, ``runs`` times: they take turns, so that a drift of the machine's speed hits all alike."""
    results: dict[Key, list[Result]] = {name: [] for name in calls}
    with tqdm(total=runs * len(calls), desc=title, unit="run") as bar:
        for _ in range(runs):
            for name, call in calls.items():
                results[name].append(call())
                bar.update()
    return results


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest of ``values``."""
    figures = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, 5) for name, value in figures.items()}


def compare(
    size: Size, precisions: Sequence[str], device: torch.device, threads: int, runs: int, every_window: bool = False
) -> dict[str, Any]:
    """All contenders on one image, beside what the machine can at most.

    Args:
        size: of the image, in voxels.
        precisions: to try; each contender is given the one that it is fastest at.
        device: to compute on.
        threads: of the processor.
        runs: that count; one more warms up.
        every_window: see ``paper``.

    Returns:
        ``{"peaks_gflop_s": {precision: {"matmul", "convolution"}}, "contenders": {name: figures}, "ratios"}``.
    """
    title = "x".join(map(str, size))
    contenders: dict[str, dict[str, Any]] = {}
    peaks: dict[str, dict[str, float]] = {}
    for precision in precisions:
        field = {name: build() for name, build in builders(size, device, precision, every_window).items()}
        peak_calls, gflop = _peak_calls(device, choose_precision(precision, device))
        calls = {name: contender.seconds for name, contender in field.items()} | peak_calls
        warm = {name: values[1:] for name, values in in_turns(calls, runs + 1, f"{title} {precision}").items()}
        peaks[precision] = {name: round(gflop[name] / min(warm[name]), 1) for name in peak_calls}
        for name, contender in field.items():
            if name not in contenders:
                contenders[name] = _facts(contender)
            contenders[name]["seconds"][precision] = spread(warm[name])
    for name, figures in tqdm(contenders.items(), desc=f"{title} cold", unit="process"):
        seconds = {precision: warm["median"] for precision, warm in figures["seconds"].items()}
        best = min(seconds, key=lambda precision: seconds[precision])
        gflop_s = 2 * figures["gmac"] / seconds[best]
        figures |= {
            "precision": best,
            "best_s": seconds[best],
            "gflop_s": round(gflop_s, 1),
            "share_of_peak": round(gflop_s / max(peaks[best].values()), 3),
        }
        figures |= _fresh(name, size, best, device, threads)
    best_s = {name: figures["best_s"] for name, figures in contenders.items()}
    ratios = {
        "SegResNet / ours": best_s[SEGRESNET] / best_s[OURS],
        "paper's / ours": best_s[PAPER] / best_s[OURS],
        "one / four sequences": best_s[OURS_ALONE] / best_s[OURS],
    }
    rounded = {name: round(ratio, 3) for name, ratio in ratios.items()}
    return {"peaks_gflop_s": peaks, "contenders": contenders, "ratios": rounded}


def _facts(contender: Contender) -> dict[str, Any]:
    """What does not depend on the precision, and room for the seconds."""
    return {
        "parameters": contender.parameters(),
        "gmac": round(contender.gmac(), 2),
        "passes": contender.passes,
        "passes_run": contender.passes_run,
        "seconds": {},
    }


def _image(size: Size) -> Tensor:
    """``(4, D, H, W)`` of noise; what a convolution takes does not depend on what it sees."""
    return torch.randn(len(SEQUENCES), *size, generator=torch.Generator().manual_seed(0))


def _plain(
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    device: torch.device,
    precision: str,
    passes: int = 1,
    run: Callable[..., Any] | None = None,
) -> Contender:
    """A network called as it is, or by an inferer."""
    network.to(device).eval()
    dtype = choose_precision(precision, device)

    def forward() -> Tensor:
        with torch.inference_mode(), torch.autocast(device.type, dtype, dtype != torch.float32):
            image, *others = (value.to(device) for value in inputs)
            logits = network(image, *others) if run is None else run(image, network, *others)
            return logits.float().cpu()

    return Contender(forward, network, inputs, passes)


def _peak_calls(device: torch.device, dtype: torch.dtype) -> tuple[dict[str, Callable[[], float]], dict[str, float]]:
    """Calls that give the seconds of a large matrix product and convolution, and their 10^9 operations."""
    side, channels, voxels = (8192, 128, 96) if device.type == "cuda" else (2048, 64, 48)
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    kernel = torch.randn(channels, channels, 3, 3, 3, device=device, dtype=dtype)
    image = torch.randn(1, channels, voxels, voxels, voxels, device=device, dtype=dtype)
    kernel, image = (value.to(memory_format=torch.channels_last_3d) for value in (kernel, image))

    def timed(call: Callable[[], Tensor]) -> float:
        start = time.perf_counter()
        with torch.inference_mode():
            call()[..., 0].flatten()[0].item()  # which waits for the device
        return time.perf_counter() - start

    calls: dict[str, Callable[[], Tensor]] = {
        "matmul": lambda: matrix @ matrix,
        "convolution": lambda: nn.functional.conv3d(image, kernel, padding=1),
    }
    gflop = {"matmul": 2e-9 * side**3, "convolution": 2e-9 * 27 * channels**2 * voxels**3}
    return {name: functools.partial(timed, call) for name, call in calls.items()}, gflop


def pass_at_once(studies: int, size: Size, device: torch.device, threads: int) -> Finished:
    """The second pass of ``ours_at_once``, and the memory of its process, or on a GPU there."""
    return _in_fresh_process(size, "auto", device, threads, studies=studies, passes=2)


def _fresh(name: str, size: Size, precision: str, device: torch.device, threads: int) -> dict[str, float]:
    """Seconds of a contender's first pass and its peak memory, in a process of its own."""
    finished = _in_fresh_process(size, precision, device, threads, name=name, passes=1)
    return {"cold_s": finished.seconds, "peak_mb": round(finished.peak_mb)}


def _in_fresh_process(size: Size, precision: str, device: torch.device, threads: int, **what: Any) -> Finished:
    """What ``main`` measures."""
    what |= {"size": size, "precision": precision, "device": str(device), "threads": threads}
    finished = run_python(["-m", "lckd.contenders", json.dumps(what)], threads)
    said = json.loads(finished.said.splitlines()[-1])
    return replace(finished, seconds=said["seconds"], peak_mb=said["device_mb"] or finished.peak_mb)


def main() -> None:
    """Run one contender and print the seconds of its last pass and, on a GPU, its peak memory there as JSON."""
    keep_freed_memory()  # as the command line does, for all of them alike
    what = json.loads(sys.argv[1])
    torch.set_num_threads(what["threads"])
    device = choose_device(what["device"])
    image = (tuple(what["size"]), device, what["precision"])
    contender = ours_at_once(what["studies"], *image) if "studies" in what else builders(*image)[what["name"]]()
    seconds = [round(contender.seconds(), 5) for _ in range(what["passes"])]
    device_mb = torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else None
    print(json.dumps({"seconds": seconds[-1], "device_mb": device_mb}))


if __name__ == "__main__":
    main()
