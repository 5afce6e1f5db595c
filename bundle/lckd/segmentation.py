"""A study's files to a label map on the reference sequence's own grid, and a report on how."""

import operator
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from monai.utils import TraceKeys
from torch import Tensor

from lckd.calibration import Calibration
from lckd.devices import choose_device, choose_precision, out_of_memory
from lckd.inferer import StudyInferer, availability_of, encode_study, join_features, one_by_one, pad
from lckd.loading import LoadStudy, SequenceImages
from lckd.memory import give_back_freed_memory
from lckd.network import LCKDNet
from lckd.postprocessing import Postprocessing
from lckd.refinement import Decoded, decode
from lckd.report import expected_dice, missing_sequences, study_report, voxel_ml_of
from lckd.sequences import SEQUENCES, subset_name
from lckd.transforms import box_of, preprocessing
from lckd.weights import WEIGHTS, load_weights, metadata

FALLBACK_WINDOWS = (128, 96, 64)
"""Windows in voxels to try, one after the other, when the memory does not suffice."""


LARGE_VOXELS = 50_000_000
"""Of an image from which on freed memory is given back between steps; BraTS's have 9 million."""


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


@dataclass
class PreparedStudy:
    """A study as the network reads it; may be kept and segmented again.

    Attributes:
        study: the study's id.
        image: ``(4, D, H, W)`` preprocessed, with what undoes it.
        availability: ``(4,)`` boolean.
        reference: sequence whose grid the outputs have.
        shown: ``(X, Y, Z)`` the reference sequence as read.
        affine: ``(4, 4)`` of the reference sequence.
        warnings: of loading.
        timings_s: of loading and preprocessing.
        features: of the encoder, per sequence, once the study was segmented in one window; or of some sequences, taken
            over from another study.
        decoded: of the decoder, likewise.
        label_map: ``(X, Y, Z)`` the result without marks, once there is one.
    """

    study: str
    image: MetaTensor
    availability: Tensor
    reference: str
    shown: Tensor
    affine: Tensor
    warnings: tuple[str, ...]
    timings_s: dict[str, float]
    features: dict[str, list[Tensor]] | None = None
    decoded: Decoded | None = None
    label_map: Tensor | None = None

    @property
    def subset(self) -> tuple[str, ...]:
        """The sequences in use."""
        return tuple(name for name, has in zip(SEQUENCES, self.availability.tolist(), strict=True) if has)

    def take_features(self, other: "PreparedStudy") -> None:
        """Take over the encoder's features of each sequence that the network would see just as in ``other``."""
        if other.features is None or other.image.shape != self.image.shape:
            return
        ours, theirs = self.image.as_tensor(), other.image.as_tensor()
        for index, sequence in enumerate(SEQUENCES):
            both = sequence in self.subset and sequence in other.features
            if both and torch.equal(ours[index], theirs[index]):
                self.features = (self.features or {}) | {sequence: other.features[sequence]}


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
        postprocessing: probabilities to a label map; None takes its default rules.

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
        postprocessing: Postprocessing | None = None,
    ) -> None:
        self.device = choose_device(str(device))
        self.dtype = choose_precision(precision, self.device)
        self.network = LCKDNet() if network is None else network
        self.weights = {
            "file": str(WEIGHTS.name if weights is None else weights),
            "sha256": load_weights(self.network, weights),
        }
        # Channels last in memory is how convolutions of few channels are fastest.
        self.network.to(self.device).to(memory_format=torch.channels_last_3d).eval()  # type: ignore[call-overload]
        self.inferer = StudyInferer() if inferer is None else inferer
        self.loading = LoadStudy() if loading is None else loading
        self.preprocess = preprocessing() if preprocess is None else preprocess
        facts = metadata() if weights is None else {}
        self._evaluation = facts.get("evaluation")
        self.calibration = Calibration.of(facts.get("calibration"))
        self.postprocessing = Postprocessing() if postprocessing is None else postprocessing

    def __call__(self, item: Mapping[str, Any]) -> Segmentation:
        """Segment the study of a data list's ``item``.

        Raises:
            StudyError: the study cannot be used; the message says why.
        """
        return self.segment(self.prepare(item), keep=False)

    def prepare(self, item: Mapping[str, Any], loading: LoadStudy | None = None) -> PreparedStudy:
        """Load and preprocess the study of a data list's ``item``.

        Args:
            item: of a data list.
            loading: instead of the segmenter's own, e.g. to use fewer sequences.

        Raises:
            StudyError: the study cannot be used; the message says why.
        """
        timings: dict[str, float] = {}
        with timed(timings, "load"):
            read = (loading or self.loading).read(dict(item))
        availability, shown = read.availability, read.images[read.reference]
        with timed(timings, "preprocess"):
            image = self._preprocessed(read)
        return PreparedStudy(
            study=item["study"],
            image=image,
            availability=availability,
            reference=read.reference,
            shown=shown.clone(),  # of a 4-D file it would hold on to all channels
            affine=read.affine,
            warnings=tuple(read.warnings),
            timings_s=timings,
        )

    def _preprocessed(self, read: SequenceImages) -> MetaTensor:
        """``(4, D, H, W)`` of images that are used up, one after the other: of a large study each takes a lot."""
        box = box_of(reduce(operator.or_, (image.numpy() != 0 for image in read.images.values())))
        channels = {}
        for sequence in tuple(read.images):
            item = {"image": MetaTensor(read.images.pop(sequence)[None], affine=read.affine), "box": box}
            channels[sequence] = self.preprocess(item)["image"]
            del item
            _tidy(read.grid.array.size)
        missing = torch.zeros_like(channels[read.reference])
        return torch.cat([channels.get(sequence, missing) for sequence in SEQUENCES])  # type: ignore[return-value]

    def segment(self, prepared: PreparedStudy, keep: bool = True) -> Segmentation:
        """Segment a study.

        Args:
            prepared: the study.
            keep: what the network gave, in ``prepared``, so that a second time costs none of it.
        """
        timings, warnings = dict(prepared.timings_s), list(prepared.warnings)
        _tidy(prepared.shown.numel())
        with timed(timings, "network"):
            logits, device = self.infer(prepared, warnings)
        if not keep:
            prepared.features = prepared.decoded = None
        _tidy(prepared.shown.numel())
        with timed(timings, "postprocess"):
            raw = self.on_original_grid(logits, prepared.image)
            del logits
            prepared.label_map = self.postprocessing(raw, voxel_ml_of(prepared.affine.numpy()))[0]
        return self.reported(prepared, prepared.label_map, raw, device, timings, warnings)

    def reported(
        self,
        prepared: PreparedStudy,
        label_map: Tensor,
        raw: Tensor,
        device: torch.device,
        timings: dict[str, float],
        warnings: list[str],
    ) -> Segmentation:
        """A result with its report.

        Args:
            prepared: the study.
            label_map: ``(X, Y, Z)`` on the original grid.
            raw: ``(3, X, Y, Z)`` probabilities on it, not calibrated; they become the result's.
            device: that computed them.
            timings: in seconds, per step.
            warnings: for the user.
        """
        with timed(timings, "report"):
            subset = prepared.subset
            probabilities = self.calibration.apply_(raw, subset_name(subset))
            estimated = self.calibration.estimated_dice(probabilities, label_map, subset_name(subset))
        timings["total"] = round(sum(timings.values()), 3)
        report = study_report(
            study=prepared.study,
            weights=self.weights,
            used=subset,
            reference=prepared.reference,
            label_map=label_map.numpy(),
            affine=prepared.affine.numpy(),
            expected=expected_dice(self._evaluation, subset),
            estimated=estimated,
            missing=missing_sequences(self._evaluation, subset),
            device=str(device),
            precision=str(self.dtype).removeprefix("torch."),
            timings_s=timings,
            warnings=warnings,
        )
        return Segmentation(
            study=prepared.study,
            label_map=label_map,
            probabilities=probabilities,
            reference=prepared.shown,
            affine=prepared.affine,
            report=report,
        )

    def infer(self, prepared: PreparedStudy, warnings: list[str]) -> tuple[Tensor, torch.device]:
        """Logits ``(3, D, H, W)`` on the CPU and the device that computed them; less memory at every failure.

        Args:
            prepared: keeps what the network gave, if it was segmented in one window.
            warnings: gets what the user should know.
        """
        attempts = [(self.device, self.inferer.window)] + [(self.device, window) for window in FALLBACK_WINDOWS]
        if self.device.type != "cpu":
            attempts += [(torch.device("cpu"), window) for window in (self.inferer.window, *FALLBACK_WINDOWS)]
        for device, window in attempts:
            try:
                logits = self._infer_on(device, window, prepared)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or (device, window) == attempts[-1]:
                    raise
                prepared.features = prepared.decoded = None
                failed = f"{device.type} had not enough memory for windows of {window or 'the whole study'} voxels"
                continue
            if (device, window) != attempts[0]:
                warnings.append(f"{failed}; computed on {device.type} in windows of {window}")
            return logits, device
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _infer_on(
        self, device: torch.device, window: int | tuple[int, int, int] | None, prepared: PreparedStudy
    ) -> Tensor:
        network, inferer = self.network.to(device), self.inferer.with_window(window)
        inputs, availability = prepared.image.as_tensor()[None], prepared.availability[None].to(device)
        try:
            with torch.inference_mode(), torch.autocast(device.type, self.dtype, self.dtype != torch.float32):
                if not inferer.holds(inputs.shape[2:]):
                    return inferer(inputs.to(device), partial(one_by_one, network), availability)[0].cpu().float()
                padded, inside = pad(inputs, inferer.divisor)
                if prepared.decoded is None:
                    prepared.features = prepared.features or {}
                    new = availability_of(set(prepared.subset).difference(prepared.features))
                    prepared.features |= encode_study(network, padded.to(device), new)
                    joined = join_features(prepared.features, prepared.subset)
                    prepared.decoded = decode(network, joined, availability)
                return prepared.decoded.logits[inside].cpu().float()  # half the bytes to copy
        finally:
            self.network.to(self.device)
            if device.type == "cuda":
                torch.cuda.empty_cache()

    def on_original_grid(self, logits: Tensor, image: MetaTensor) -> Tensor:
        """Probabilities ``(3, X, Y, Z)`` on the grid that ``image`` had before ``preprocess``."""
        # Outside the cropped box the inverse pads with zero, which is a probability but no logit.
        # MONAI's inverse empties what it has inverted, and an image is inverted for once per subset.
        operations = deepcopy(image.applied_operations)
        for operation in operations:
            if "dtype" in operation[TraceKeys.EXTRA_INFO]:  # of resampling: double precision doubles the memory
                operation[TraceKeys.EXTRA_INFO]["dtype"] = "float32"
        traced = MetaTensor(logits.sigmoid(), meta=image.meta, applied_operations=operations)
        return self.preprocess.inverse({"image": traced})["image"].as_tensor()


def _tidy(voxels: int) -> None:
    if voxels >= LARGE_VOXELS:
        give_back_freed_memory()


@contextmanager
def timed(timings: dict[str, float], step: str) -> Iterator[None]:
    """Keep the seconds that the block takes under ``timings[step]``."""
    start = time.perf_counter()
    yield
    timings[step] = round(time.perf_counter() - start, 3)
