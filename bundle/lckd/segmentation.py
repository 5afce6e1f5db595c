"""A study's files to a label map on the reference sequence's own grid, and a report on how."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from torch import Tensor

from lckd.calibration import Calibration
from lckd.devices import choose_device, choose_precision, out_of_memory
from lckd.inferer import StudyInferer
from lckd.loading import LoadStudy
from lckd.network import LCKDNet
from lckd.report import expected_dice, missing_sequences, study_report
from lckd.sequences import SEQUENCES
from lckd.transforms import label_map_of, preprocessing
from lckd.weights import WEIGHTS, load_weights, metadata

FALLBACK_WINDOWS = (128, 96, 64)
"""Windows in voxels to try, one after the other, when the memory does not suffice."""


@dataclass(frozen=True)
class Segmentation:
    """What segmenting a study gave.

    Attributes:
        study: the study's id.
        label_map: ``(X, Y, Z)`` uint8 of our label values, on the reference sequence's original grid.
        probabilities: ``(3, X, Y, Z)`` float32 of ET, WT and TC on the same grid, calibrated.
        reference: ``(X, Y, Z)`` the reference sequence as read.
        affine: ``(4, 4)`` voxel to world in mm, RAS.
        report: what goes into ``report.json``.
    """

    study: str
    label_map: Tensor
    probabilities: Tensor
    reference: Tensor
    affine: Tensor
    report: dict[str, Any]


class Segmenter:
    """Loads, preprocesses, infers and postprocesses one study at a time.

    Args:
        network: an ``LCKDNet`` without weights.
        weights: file of the weights; None for the shipped ones.
        inferer: window, overlap and flips.
        loading: an item of a data list to image and availability.
        preprocess: invertible transforms to the network's grid.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.

    Raises:
        StudyError: the weights or the device cannot be used.
    """

    def __init__(
        self,
        network: LCKDNet | None = None,
        weights: str | Path | None = None,
        inferer: StudyInferer | None = None,
        loading: LoadStudy | None = None,
        preprocess: Compose | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        self.device = choose_device(str(device))
        self.dtype = choose_precision(precision, self.device)
        self.network = LCKDNet() if network is None else network
        self.weights = {
            "file": str(WEIGHTS.name if weights is None else weights),
            "sha256": load_weights(self.network, weights),
        }
        self.network.to(self.device).eval()
        self.inferer = StudyInferer() if inferer is None else inferer
        self.loading = LoadStudy() if loading is None else loading
        self.preprocess = preprocessing() if preprocess is None else preprocess
        facts = metadata() if weights is None else {}
        self._evaluation, self.calibration = facts.get("evaluation"), Calibration.of(facts.get("calibration"))

    def __call__(self, item: Mapping[str, Any]) -> Segmentation:
        """Segment the study of a data list's ``item``.

        Raises:
            StudyError: the study cannot be used; the message says why.
        """
        timings: dict[str, float] = {}
        with _timed(timings, "load"):
            loaded = self.loading(dict(item))
        warnings = list(loaded["warnings"])
        affine, reference = loaded["image"].affine, loaded["reference"]
        shown = loaded["image"][SEQUENCES.index(reference)].as_tensor().clone()  # preprocessing works in place
        with _timed(timings, "preprocess"):
            image = self.preprocess({"image": loaded["image"]})["image"]
        with _timed(timings, "network"):
            logits, device = self._infer(image, loaded["availability"], warnings)
        with _timed(timings, "postprocess"):
            probabilities = self.calibration.apply(self.on_original_grid(logits, image))
            label_map = label_map_of(probabilities > 0.5)[0]
        subset = tuple(name for name, has in zip(SEQUENCES, loaded["availability"].tolist(), strict=True) if has)
        timings["total"] = round(sum(timings.values()), 3)
        report = study_report(
            study=item["study"],
            weights=self.weights,
            used=subset,
            reference=reference,
            label_map=label_map.numpy(),
            affine=affine.numpy(),
            expected=expected_dice(self._evaluation, subset),
            estimated=self.calibration.estimated_dice(probabilities),
            missing=missing_sequences(self._evaluation, subset),
            device=str(device),
            precision=str(self.dtype).removeprefix("torch."),
            timings_s=timings,
            warnings=warnings,
        )
        return Segmentation(
            study=item["study"],
            label_map=label_map,
            probabilities=probabilities,
            reference=shown,
            affine=affine,
            report=report,
        )

    def _infer(self, image: MetaTensor, availability: Tensor, warnings: list[str]) -> tuple[Tensor, torch.device]:
        """Logits ``(3, D, H, W)`` on the CPU and the device that computed them; less memory at every failure."""
        attempts = [(self.device, self.inferer.window)] + [(self.device, window) for window in FALLBACK_WINDOWS]
        if self.device.type != "cpu":
            attempts += [(torch.device("cpu"), window) for window in (self.inferer.window, *FALLBACK_WINDOWS)]
        inputs = image.as_tensor()[None]
        for device, window in attempts:
            try:
                logits = self._infer_on(device, window, inputs, availability[None])
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or (device, window) == attempts[-1]:
                    raise
                failed = f"{device.type} had not enough memory for windows of {window or 'the whole study'} voxels"
                continue
            if (device, window) != attempts[0]:
                warnings.append(f"{failed}; computed on {device.type} in windows of {window}")
            return logits, device
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _infer_on(
        self, device: torch.device, window: int | tuple[int, int, int] | None, inputs: Tensor, availability: Tensor
    ) -> Tensor:
        network = self.network.to(device)
        inferer = self.inferer.with_window(window)
        try:
            with torch.inference_mode(), torch.autocast(device.type, self.dtype, self.dtype != torch.float32):
                return inferer(inputs.to(device), network, availability.to(device))[0].float().cpu()
        finally:
            self.network.to(self.device)
            if device.type == "cuda":
                torch.cuda.empty_cache()

    def on_original_grid(self, logits: Tensor, image: MetaTensor) -> Tensor:
        """Probabilities ``(3, X, Y, Z)`` on the grid that ``image`` had before ``preprocess``."""
        # Outside the cropped box the inverse pads with zero, which is a probability but no logit.
        # MONAI's inverse empties what it has inverted, and an image is inverted for once per subset.
        traced = MetaTensor(logits.sigmoid(), meta=image.meta, applied_operations=deepcopy(image.applied_operations))
        return self.preprocess.inverse({"image": traced})["image"].as_tensor()


@contextmanager
def _timed(timings: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[step] = round(time.perf_counter() - start, 3)
