"""Speed and memory of the network, of `lckd segment` and of the server, measured in one run beside others' networks."""

import functools
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from scipy import ndimage
from tqdm import tqdm

from lckd import __version__
from lckd.benchmark_report import draw, markdown
from lckd.contenders import OURS, PAPER, Size, compare, in_turns, paper_windows, pass_at_once, spread
from lckd.devices import choose_device, choose_precision
from lckd.errors import StudyError
from lckd.evaluation import figure_of, write_folder
from lckd.files import write_atomically, write_json
from lckd.processes import Finished, run_python
from lckd.sequences import SEQUENCES, subset_name
from lckd.simulation import SimulatedStudy, simulate_study, write_study
from lckd.weights import WEIGHTS, sha256_of

BRAIN: Final = (144, 176, 144)
FIELD: Final = (240, 240, 155)
"""Voxels of a brain's box, and of the field of view of BraTS that it lies in."""

ALL_SIZES: Final[tuple[Size, ...]] = ((128, 128, 128), BRAIN, FIELD)
"""Of images for the networks."""

DISTINCT_STUDIES: Final = 3
"""Simulated for a batch, and repeated in it."""

ENLARGED: Final = (0.5, 1.0, 1.5)
"""Sides of the brain in growth with voxels, relative to the benchmark's."""

COUNTS: Final = {"4 sequences": 4, "1 sequence": 1}
"""Of sequences, for the command and the server."""

BATCHES: Final = (1, 2, 4, 8)
"""Studies of a run of the command."""

AT_ONCE: Final = (1, 2, 4)
"""Studies of a pass of the network."""

PRECISIONS: Final = ("fp32", "bf16", "fp16")
FLAGS: Final = ("avx2", "avx512_f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_fp16")
"""Of a processor that decide how fast it multiplies."""


@dataclass(frozen=True)
class Settings:
    """What is measured, and how.

    Attributes:
        sizes: of images for the networks, in voxels.
        brain: voxels of the brain's box in simulated studies.
        threads: of the processor.
        runs: that count, of each figure.
        studies: in the batch.
        device: as for ``lckd segment``.
        precisions: that the networks try.
        every_window: run all windows of the paper's network.
    """

    sizes: tuple[Size, ...] = (BRAIN,)
    brain: Size = BRAIN
    threads: int = 2
    runs: int = 5
    studies: int = 12
    device: str = "auto"
    precisions: tuple[str, ...] = ("fp32", "bf16")
    every_window: bool = False

    @property
    def field(self) -> Size:
        """Field of view around the brain, in the proportions of BraTS."""
        x, y, z = (round(side * full / box) for side, full, box in zip(self.brain, FIELD, BRAIN, strict=True))
        return x, y, z


def parse_sizes(text: str) -> tuple[Size, ...]:
    """``144,176,144`` as one size, ``all`` as three.

    Raises:
        StudyError: it is neither, or too small or too large.
    """
    if text == "all":
        return ALL_SIZES
    sides = [int(side) for side in text.split(",") if side.strip().isdecimal()]
    if text.count(",") != 2 or len(sides) != 3 or not all(32 <= side <= 512 for side in sides):
        raise StudyError(f"--size is {text}; accepted are three numbers of 32 to 512, as in 144,176,144, or all")
    return ((sides[0], sides[1], sides[2]),)


def parse_names(option: str, text: str, accepted: Iterable[str]) -> tuple[str, ...]:
    """Names joined by commas.

    Raises:
        StudyError: one is unknown or none is given.
    """
    known, names = tuple(accepted), tuple(dict.fromkeys(text.split(",")))
    if not set(names) <= set(known):
        raise StudyError(f"--{option} is {text}; accepted are {', '.join(known)}, joined by commas")
    return names


class Benchmark:
    """Measures parts one after the other and writes ``benchmark.json``, ``.md`` and ``.png`` after each.

    Args:
        output_dir: made if missing.
        settings: what to measure.

    Raises:
        StudyError: the device is not there, the folder cannot be written, or matplotlib is not installed.
    """

    def __init__(self, output_dir: str | Path, settings: Settings) -> None:
        self.output_dir, self.settings = Path(output_dir), settings
        self.device = choose_device(settings.device)
        self.result: dict[str, Any] = {
            "machine": machine(self.device, settings.threads),
            "settings": asdict(settings) | {"field": settings.field},
        }
        figure_of((1, 1))  # better told now than after an hour that it cannot be drawn
        self._write()

    def run(self, parts: Iterable[str]) -> dict[str, Any]:
        """Measure ``parts`` of ``PARTS``, write, and return what ``benchmark.json`` holds.

        Raises:
            StudyError: a measured command failed, or the folder cannot be written.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(self.settings.threads)
        try:
            for part in parts:
                with tempfile.TemporaryDirectory() as folder:
                    self.result[part] = PARTS[part](self, Path(folder))
                self._write()
        finally:
            torch.set_num_threads(threads)
        return self.result

    def network(self, folder: Path) -> dict[str, Any]:
        """The contenders on images of each size."""
        s = self.settings
        sizes = {
            "x".join(map(str, size)): compare(size, s.precisions, self.device, s.threads, s.runs, s.every_window)
            for size in s.sizes
        }
        result: dict[str, Any] = {"sizes": sizes}
        if (measured := sizes.get("x".join(map(str, s.brain)))) is not None:
            # The paper's authors cut the whole field of view into windows; we crop a study to its brain before.
            row, windows = measured["contenders"][PAPER], paper_windows(s.field)
            seconds = row["best_s"] / row["passes"] * windows
            ratio = round(seconds / measured["contenders"][OURS]["best_s"], 3)
            measured["ratios"]["paper's / ours, whole study"] = ratio
            result["paper_study"] = {"field": s.field, "windows": windows, "seconds": round(seconds, 3)}
        return result

    def command(self, folder: Path) -> dict[str, Any]:
        """``lckd segment`` on one study in a fresh process, with four sequences and with one, and ``lckd --help``."""
        study = self._write_study(folder / "study")
        calls: dict[str, Callable[[], Finished]] = {
            name: functools.partial(
                self._segment, [study], folder / name, "--sequences", subset_name(SEQUENCES[:count])
            )
            for name, count in COUNTS.items()
        }
        calls["--help"] = lambda: run_python(["-m", "lckd", "--help"], self.settings.threads)
        figures = {name: _figures(runs) for name, runs in in_turns(calls, self.settings.runs, "command").items()}
        for name in COUNTS:
            report = json.loads((folder / name / study.name / "report.json").read_text(encoding="utf-8"))
            figures[name]["steps_of_last_s"] = report["timings_s"]
        return figures

    def batch(self, folder: Path) -> dict[str, Any]:
        """A folder of studies with four sequences, from read to written."""
        studies = self._write_studies(folder / "in", self.settings.studies)
        tqdm.write(f"batch: lckd segment on {len(studies)} studies")
        finished = self._segment([folder / "in"], folder / "out")
        return {
            "studies": len(studies),
            "seconds": round(finished.seconds, 2),
            "studies_per_hour": round(3600 * len(studies) / finished.seconds),
            "peak_mb": round(finished.peak_mb),
        }

    def server(self, folder: Path) -> dict[str, Any]:
        """Round trips of a stock client, for studies with four sequences and with one."""
        try:
            from lckd.benchmark_server import round_trips
        except ImportError as error:
            reason = f"{error.name} is not installed, which the server needs; make server installs it"
            tqdm.write(f"server: skipped: {reason}")
            return {"skipped": reason}
        for name, count in COUNTS.items():
            self._write_study(folder / "studies" / name.replace(" ", "_"), sequences=SEQUENCES[:count])
        names = [name.replace(" ", "_") for name in COUNTS]
        x, y, z = (side // 2 for side in self.settings.field)
        return round_trips(folder / "studies", names, (x, y, z), self.settings.threads, self.settings.runs)

    def growth(self, folder: Path) -> dict[str, Any]:
        """Seconds and memory of ``lckd segment`` against sequences, voxels and studies, and of batches in one pass."""
        studies = self._write_studies(folder / "batch", max(BATCHES))
        enlarged = {factor: self._write_study(folder / f"enlarged_{factor}" / "study", factor) for factor in ENLARGED}
        output = folder / "out"
        calls: dict[tuple[str, float], Callable[[], Finished]] = {}
        for count in range(1, len(SEQUENCES) + 1):
            subset = subset_name(SEQUENCES[:count])
            calls["sequences", count] = functools.partial(self._segment, studies[:1], output, "--sequences", subset)
        for factor, study in enlarged.items():
            voxels = round(np.prod(self.settings.brain) * factor**3 / 1e6, 3)
            calls["million voxels", voxels] = functools.partial(self._segment, [study], output)
        for count in BATCHES:
            calls["studies", count] = functools.partial(self._segment, studies[:count], output)
        for count in AT_ONCE:
            s = self.settings
            calls["studies at once", count] = functools.partial(pass_at_once, count, s.brain, self.device, s.threads)
        curves: dict[str, list[dict[str, Any]]] = {}
        for (curve, at), runs in in_turns(calls, self.settings.runs, "growth").items():
            curves.setdefault(curve, []).append({"at": at} | _figures(runs))
        for point in curves["studies"]:
            point["studies_per_hour"] = round(3600 * point["at"] / point["seconds"]["median"])
        return curves

    def _segment(self, inputs: Sequence[Path], output: Path, *options: str) -> Finished:
        arguments = ["-m", "lckd", "segment", *map(str, inputs), "--output", str(output), *options]
        return run_python([*arguments, "--device", self.settings.device], self.settings.threads)

    @functools.cached_property
    def _simulated(self) -> list[SimulatedStudy]:
        seeds = range(DISTINCT_STUDIES)
        return [simulate_study(self.settings.brain, seed=seed) for seed in tqdm(seeds, desc="simulate", unit="study")]

    def _write_study(
        self, folder: Path, factor: float = 1.0, number: int = 0, sequences: tuple[str, ...] = SEQUENCES
    ) -> Path:
        """A simulated brain, its sides ``factor`` times as long, in its field of view."""
        field = tuple(round(side * factor) for side in self.settings.field)
        study = self._simulated[number]
        images = {name: _padded(ndimage.zoom(image, factor, order=1), field) for name, image in study.images.items()}
        return write_study(replace(study, images=images, affine=np.eye(4)), folder, sequences=sequences, label=False)

    def _write_studies(self, folder: Path, count: int) -> list[Path]:
        """So many study folders; few are different."""
        places = [folder / f"study_{number:03}" for number in range(count)]
        for number, place in enumerate(places):
            if number < DISTINCT_STUDIES:
                self._write_study(place, number=number)
            else:
                shutil.copytree(places[number % DISTINCT_STUDIES], place)
        return places

    def _write(self) -> None:
        with write_folder(self.output_dir) as folder:
            write_json(folder / "benchmark.json", self.result)
            text = markdown(self.result)
            write_atomically(folder / "benchmark.md", lambda path: path.write_text(text, encoding="utf-8"))
            if {"network", "growth"} & set(self.result):
                write_atomically(folder / "benchmark.png", lambda path: draw(path, self.result))


PARTS: Final[Mapping[str, Callable[[Benchmark, Path], dict[str, Any]]]] = {
    "network": Benchmark.network,
    "command": Benchmark.command,
    "batch": Benchmark.batch,
    "server": Benchmark.server,
    "growth": Benchmark.growth,
}
"""What can be measured: given an empty folder, each returns its figures."""


def machine(device: torch.device, threads: int) -> dict[str, Any]:
    """What the figures depend on, and what else was running."""
    capabilities = torch.cpu.get_capabilities()
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "flags": [flag for flag in FLAGS if capabilities.get(flag)],
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "default_precision": str(choose_precision("auto", device)).removeprefix("torch."),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lckd": __version__,
        "weights": sha256_of(WEIGHTS),
        "date": datetime.now(timezone.utc).isoformat(timespec="minutes"),
    }


def _cpu_name() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _figures(runs: Sequence[Finished]) -> dict[str, Any]:
    return {"seconds": spread([run.seconds for run in runs]), "peak_mb": round(max(run.peak_mb for run in runs))}


def _padded(image: np.ndarray, field: tuple[int, ...]) -> np.ndarray:
    """The image in the middle of a larger field of view."""
    gaps = [full - side for side, full in zip(image.shape, field, strict=True)]
    return np.pad(image, [(gap // 2, gap - gap // 2) for gap in gaps])
