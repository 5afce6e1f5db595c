"""The 15 subsets on labelled studies, through the same steps as inference."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor
from tqdm import tqdm

from lckd.calibration import logit_histogram
from lckd.errors import StudyError
from lckd.evaluation import not_evaluated, score, summarize, write_tables
from lckd.inferer import decode_subset, encode_study, pad
from lckd.report import voxel_ml_of
from lckd.segmentation import Segmenter
from lckd.sequences import SEQUENCES, SUBSETS, subset_name
from lckd.transforms import regions_of


class SubsetEvaluation:
    """Scores every subset of each study's sequences and writes the tables.

    Each study is encoded once, and decoded for every subset; label maps are compared on the original
    grid, after the same postprocessing as in inference. Histograms of the uncalibrated logits in the
    brain are kept for ``lckd.calibration``.

    Args:
        segmenter: with weights.
        output_dir: for ``evaluation.json``, ``.csv``, ``.md`` and ``.png``.
        subsets: which of the 15.
        change: applied to each loaded study, e.g. one of ``lckd.robustness``.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        output_dir: str | Path,
        subsets: Sequence[tuple[str, ...]] = SUBSETS,
        change: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        self.segmenter, self.output_dir, self.subsets, self.change = segmenter, Path(output_dir), subsets, change

    def run(self, items: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """Evaluate studies, write the tables and return the summary.

        Raises:
            StudyError: a study failed, after the tables of the others were written, or none could be evaluated.
        """
        items = list(items)
        table, failures = self.evaluate(items)
        if failures:
            raise StudyError(not_evaluated(failures, len(items)))
        return table

    def evaluate(self, items: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Any], list[str]]:
        """What ``run`` does, but a study that fails is only told and left out; the summary and the failed ones' names.

        Raises:
            StudyError: none could be evaluated.
        """
        records: list[dict[str, Any]] = []
        failures: list[str] = []
        for item in tqdm(list(items), unit="study"):
            try:
                if "error" in item:
                    raise StudyError(item["error"])
                if "label" not in item:
                    raise StudyError("it has no label map; name that like study_seg.nii.gz")
                records += self._records(item)
            except StudyError as error:
                failures.append(item["study"])
                tqdm.write(f"{item['study']}: FAILED: {error}", file=sys.stderr)
        if not records:
            raise StudyError("no study could be evaluated")
        table = summarize(records)
        write_tables(table, records, self.output_dir, self.segmenter.weights["sha256"])
        return table, failures

    def _records(self, item: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        loaded = self.segmenter.loading(dict(item))
        if self.change is not None:
            loaded = self.change(loaded)
        target = regions_of(loaded["label"].as_tensor()).bool()
        brain = loaded["image"].as_tensor().ne(0).any(0)
        spacing_mm, voxel_ml = loaded["image"].pixdim.tolist(), voxel_ml_of(loaded["image"].affine.numpy())
        for subset, probabilities in self.probabilities(loaded):
            prediction = regions_of(self.segmenter.postprocessing(probabilities, voxel_ml))
            for index, (region, result) in enumerate(score(prediction, target, spacing_mm).items()):
                histogram = logit_histogram(probabilities[index][brain], target[index][brain])
                record = {"study": item["study"], "subset": subset_name(subset), "region": region}
                yield record | result | {"histogram": histogram}

    def probabilities(self, loaded: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Tensor]]:
        """Each possible subset with its uncalibrated probabilities ``(3, X, Y, Z)`` on the original grid.

        Args:
            loaded: what ``LoadStudy`` gives; its image is used up.
        """
        image = self.segmenter.preprocess({"image": loaded["image"]})["image"]
        for subset, logits in self._logits(image, loaded["availability"]):
            yield subset, self.segmenter.on_original_grid(logits, image)

    def _logits(self, image: MetaTensor, availability: Tensor) -> Iterator[tuple[tuple[str, ...], Tensor]]:
        device, dtype, network = self.segmenter.device, self.segmenter.dtype, self.segmenter.network
        padded, inside = pad(image.as_tensor()[None].to(device), self.segmenter.inferer.divisor)
        available = {name for name, has in zip(SEQUENCES, availability.tolist(), strict=True) if has}
        with torch.inference_mode(), torch.autocast(device.type, dtype, dtype != torch.float32):
            features = encode_study(network, padded, availability[None].to(device))
            mirrored = None
            if self.segmenter.inferer.flips:
                mirrored = encode_study(network, padded.flip(2), availability[None].to(device))
            for subset in self.subsets:
                if available.issuperset(subset):
                    logits = decode_subset(network, features, subset)
                    if mirrored is not None:
                        logits = (logits + decode_subset(network, mirrored, subset).flip(2)) / 2
                    yield subset, logits[inside][0].float().cpu()
