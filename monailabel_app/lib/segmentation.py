"""Automatic segmentation for the viewer: any subset of a study's sequences, on the grid of the image it shows."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from cachetools import LRUCache
from monai.data import MetaTensor
from monai.transforms import SpatialResample
from monai.utils import convert_to_numpy
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from numpy.typing import NDArray
from scipy import ndimage

from lckd.calibration import soft_dice
from lckd.datalist import Item, kind_of_file, study_from_files
from lckd.devices import PRECISIONS, choose_precision, devices_here
from lckd.errors import StudyError
from lckd.images import Image, read_image, write_image
from lckd.inferer import StudyInferer
from lckd.loading import LoadStudy
from lckd.marks import NO_MARKS, Marks
from lckd.postprocessing import NO_POSTPROCESSING, Postprocessing
from lckd.report import volumes_ml
from lckd.segmentation import PreparedStudy, Segmentation, Segmenter
from lckd.sequences import REGIONS, SEQUENCE_NAMES, SEQUENCES, SUBSETS, parse_subset, reference_sequence, subset_name
from lib.datastore import fingerprint, sequences_of
from lib.recognition import guess_sequence
from lib.versions import Version, WeightsVersions

LABEL_NAMES = {"necrosis": 1, "edema": 2, "enhancing tumour": 3}
"""As the viewer names our label values: it has colours for the first two, and numbers names by their order."""

AUTO = "auto"

LARGEST = "largest lesion only"
POSTPROCESSING = {"standard": Postprocessing(), LARGEST: Postprocessing(), "none": NO_POSTPROCESSING}
"""The rules that were chosen on validation studies; these and then the largest lesion; thresholds alone."""

CACHE_BYTES = 2 * 2**30


class SegmentationTask(InferTask):
    """MONAI Label's inference task around ``lckd.segmentation.Segmenter``; calls come one at a time.

    Preprocessed images and features are kept per study, subset, weights, device and precision; a changed
    file is another key. Where a sequence is added to a study, or taken away, the others are not encoded again.

    Args:
        versions: of the weights; every call asks which one is in use.
        cache_bytes: of studies to keep.

    Raises:
        StudyError: the weights in use are missing or not what they should be.
    """

    def __init__(self, versions: WeightsVersions, cache_bytes: int = CACHE_BYTES) -> None:
        super().__init__(
            type=InferType.SEGMENTATION,
            labels=LABEL_NAMES,
            dimension=3,
            description="Glioma from any subset of FLAIR, T1, T1ce and T2 (research use only)",
            config={
                "sequences": [AUTO, *map(subset_name, SUBSETS)],
                "this volume is": [AUTO, *SEQUENCES],
                "device": [AUTO, *devices_here()],
                "precision": list(PRECISIONS),
                "postprocessing": list(POSTPROCESSING),
                "flips": False,
            },
        )
        self.versions = versions
        self._segmenters: dict[tuple[str, str], Segmenter] = {}
        self._cache: LRUCache[tuple, PreparedStudy] = LRUCache(cache_bytes, getsizeof=size_bytes)
        self._segmenter(versions.in_use(), AUTO)

    def is_valid(self) -> bool:
        """Always: without weights there is no task."""
        return True

    def facts(self) -> dict[str, Any]:
        """``file`` and ``sha256`` of the weights in use, and what is known of their version."""
        version = self.versions.in_use()
        return {"file": version.file.name, "sha256": version.facts["sha256"], **version.told()}

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Segment.

        Args:
            request: ``image``, the file that the viewer shows; ``study``, an item of a data list, or for a volume
                that was loaded by hand ``name``, what the viewer calls it; the options.

        Returns:
            A temporary NIfTI file with the label map, and what the viewer is told.

        Raises:
            StudyError: an option or the study cannot be used.
        """
        with self.opened(request) as opened:
            result = opened.segmenter.segment(opened.prepared)
        label_map, affine = opened.shown(result.label_map.numpy())
        return written(label_map, affine), opened.report(result, label_map, affine)

    @contextmanager
    def opened(self, request: Mapping[str, Any]) -> Iterator["OpenedStudy"]:
        """The study of a request, and what is to be done with it; kept afterwards, even if the request is refused.

        Raises:
            StudyError: an option or the study cannot be used.
        """
        opened = self._open(request)
        try:
            yield opened
        finally:
            self._keep(opened)

    def _open(self, request: Mapping[str, Any]) -> "OpenedStudy":
        options = {name: request.get(name, default) for name, default in self._config.items()}
        choice = {name: choose(name, options[name], accepted) for name, accepted in self._lists().items()}
        item = request.get("study") or hand_loaded(request["image"], choice["this volume is"], request.get("name"))
        subset = _subset(item, choice["sequences"])
        version = self.versions.in_use()
        segmenter = copy(self._segmenter(version, choice["device"]))
        segmenter.dtype = choose_precision(choice["precision"], segmenter.device)
        segmenter.inferer = StudyInferer(flips=_flag("flips", options["flips"]))
        segmenter.postprocessing = POSTPROCESSING[choice["postprocessing"]]

        facts = (version.facts["sha256"], str(segmenter.device), segmenter.dtype, segmenter.inferer.flips)
        key = (fingerprint(item), subset, *facts, choice["postprocessing"])
        kept = self._cache.pop(key, None)
        prepared = kept or segmenter.prepare(item, LoadStudy(subset))
        for other in tuple(self._cache) if kept is None else ():
            if other[2:-1] == key[2:-1] and set(other[0]) & set(key[0]):  # a file in common, the same network
                prepared.take_features(self._cache[other])
        prepared = _on_device(prepared, segmenter.device)
        file = Path(request["image"])
        grid = None if str(file) == item.get(reference_sequence(subset)) else read_image(file)
        return OpenedStudy(key, segmenter, prepared, choice, version, grid, kept is not None)

    def _keep(self, opened: "OpenedStudy") -> None:
        """In the processor's memory, so that between two calls a GPU's is free."""
        kept = _on_device(opened.prepared, torch.device("cpu"))
        kept.timings_s = {}  # the next time nothing is loaded
        if size_bytes(kept) <= self._cache.maxsize:
            self._cache[opened.key] = kept

    def _lists(self) -> dict[str, list[str]]:
        """The options that are combo boxes, each with what it accepts."""
        return {name: values for name, values in self._config.items() if isinstance(values, list)}

    def _segmenter(self, version: Version, device: str) -> Segmenter:
        """One per device; those of weights that are no longer in use are let go."""
        key = (version.facts["sha256"], device)
        if key not in self._segmenters:
            version.check()
            self._segmenters = {kept: value for kept, value in self._segmenters.items() if kept[0] == key[0]}
            self._segmenters[key] = Segmenter(weights=version.weights, device=device)
        return self._segmenters[key]


@dataclass(frozen=True)
class OpenedStudy:
    """A study that a request is about.

    Attributes:
        key: under which it is kept.
        segmenter: with the weights, device, precision and rules of the request.
        prepared: the study.
        choice: the options that are combo boxes.
        version: of the weights.
        grid: the image that the viewer shows, where it is another one than the reference of the sequences in use.
        cached: it was kept from an earlier request.
    """

    key: tuple
    segmenter: Segmenter
    prepared: PreparedStudy
    choice: Mapping[str, str]
    version: Version
    grid: Image | None
    cached: bool

    @property
    def affine(self) -> NDArray:
        """Voxel to world of the image that the viewer shows."""
        return self.prepared.affine.numpy() if self.grid is None else self.grid.affine

    @property
    def shape(self) -> tuple[int, ...]:
        """Its voxels."""
        return tuple(self.prepared.shown.shape) if self.grid is None else self.grid.array.shape

    def shown(self, label_map: NDArray[np.uint8], marks: Marks = NO_MARKS) -> tuple[NDArray[np.uint8], NDArray]:
        """A result on the grid of the image that the viewer shows, and its affine; of lesions those that are wanted."""
        if self.choice["postprocessing"] == LARGEST:
            seen = marks.onto(self.affine, self.prepared.affine.numpy(), label_map.shape)
            label_map = largest_lesion(label_map, seen)
        return on_grid(label_map, self.prepared.affine.numpy(), self.shape, self.affine), self.affine

    def report(self, result: Segmentation, label_map: NDArray[np.uint8], affine: NDArray) -> dict[str, Any]:
        """What the viewer is told of a result that is shown as ``label_map``."""
        report = result.report | {"volumes_ml": volumes_ml(label_map, affine), "cached": self.cached}
        report["weights"] = report["weights"] | self.version.told()
        # Weights without a calibration, such as fine-tuned ones, estimate no Dice; an order of studies they do give.
        dice = report["estimated_dice"] or {"all": soft_dice(result.probabilities.numpy())}
        # Nothing found at all is what an annotator should look at first.
        found = [value for value in dice.values() if value is not None] or [0.0]
        return report | {"score": round(mean(found), 4), "label_names": LABEL_NAMES}


def written(label_map: NDArray[np.uint8], affine: NDArray) -> str:
    """A temporary NIfTI file with a label map; who asks for it removes it."""
    with tempfile.NamedTemporaryFile(suffix=".nii.gz", delete=False) as file:
        write_image(file.name, label_map, affine)
    return file.name


def hand_loaded(image: str | Path, said: str = AUTO, name: str | None = None) -> Item:
    """Item of a volume that the user loaded into the viewer by hand: one sequence.

    Args:
        image: its file.
        said: the sequence that the user chose for it; with ``auto`` its name says it, or else its voxels.
        name: what the viewer calls it; None takes the file's name.

    Raises:
        StudyError: the file is no image of one sequence.
    """
    file = Path(image)
    notes = []
    sequence = said
    if said == AUTO:
        named = _named(name or file.name)
        sequence = named or guess_sequence(read_image(file))
        reason = "its name says" if named else "its voxels suggest (about one such guess in ten is wrong)"
        notes = [
            f"this volume was taken for {SEQUENCE_NAMES[sequence]}, as {reason}; "
            "if it is another sequence, choose it under 'this volume is' and run again"
        ]
    return {**study_from_files({sequence: file}, "hand-loaded"), "notes": notes}


def on_grid(
    label_map: NDArray[np.uint8], affine: NDArray, shape: tuple[int, ...], target: NDArray
) -> NDArray[np.uint8]:
    """A label map ``(X, Y, Z)`` with its affine on the grid of another ``shape`` and affine; what lies outside is 0."""
    if shape == label_map.shape and np.allclose(target, affine, atol=1e-3):
        return label_map
    source = MetaTensor(torch.from_numpy(label_map)[None].float(), affine=torch.from_numpy(affine))
    resample = SpatialResample(mode="nearest", padding_mode="zeros")
    moved = resample(source, dst_affine=torch.from_numpy(target), spatial_size=shape)
    return convert_to_numpy(moved)[0].astype(np.uint8)


def largest_lesion(label_map: NDArray[np.uint8], marks: Marks = NO_MARKS) -> NDArray[np.uint8]:
    """``label_map`` without whatever hangs together neither with the largest lesion nor with a mark inside of one."""
    lesions, count = ndimage.label(label_map > 0, np.ones((3, 3, 3)))  # corners touch, too
    kept = np.zeros(count + 1, bool)
    kept[np.bincount(lesions.ravel())[1:].argmax() + 1 if count else 0] = True
    kept[lesions[tuple(marks.voxels[marks.claims[:, REGIONS.index("wt")] > 0].T)]] = True
    return np.where(kept[lesions], label_map, 0).astype(np.uint8)


def size_bytes(prepared: PreparedStudy) -> int:
    """Memory that keeping a study takes."""
    features = (prepared.features or {}).values()
    tensors = [prepared.image, prepared.shown, *(scale for scales in features for scale in scales)]
    tensors += [prepared.decoded.features, prepared.decoded.logits] if prepared.decoded else []
    tensors += [] if prepared.label_map is None else [prepared.label_map]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _on_device(prepared: PreparedStudy, device: torch.device) -> PreparedStudy:
    if prepared.features is not None:
        prepared.features = {
            sequence: [scale.to(device) for scale in scales] for sequence, scales in prepared.features.items()
        }
    if prepared.decoded is not None:
        prepared.decoded = prepared.decoded.to(device)
    return prepared


def _subset(item: Item, chosen: str) -> tuple[str, ...]:
    """The sequences to use: all that the study has, or those that were chosen."""
    has = sequences_of(item)
    subset = has if chosen == AUTO else parse_subset(chosen)
    lacking = [sequence for sequence in subset if sequence not in has]
    if lacking:
        raise StudyError(
            f"study {item['study']} has {'+'.join(has)} and no {'+'.join(lacking)}; choose other sequences, or auto"
        )
    return subset


def _named(name: str) -> str | None:
    """The one sequence that the name of a volume holds, with or without an extension."""
    try:
        kind = kind_of_file(Path(f"{name}.nii"))
    except StudyError:  # it holds two
        return None
    return kind if kind in SEQUENCES else None


def choose(name: str, value: Any, accepted: Sequence[str]) -> str:
    """The value of an option that is a combo box; the whole list means that nothing was chosen."""
    value = accepted[0] if isinstance(value, list) else value
    if value not in accepted:
        raise StudyError(f"the option '{name}' is {str(value)[:40]!r}; accepted are {', '.join(accepted)}")
    return value


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise StudyError(f"the option '{name}' is {str(value)[:40]!r}; accepted are true and false")
    return value
