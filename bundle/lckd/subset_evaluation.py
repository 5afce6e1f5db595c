"""The 15 subsets on labelled studies, through the same steps as inference."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor
from tqdm import tqdm

from lckd.errors import StudyError
from lckd.evaluation import score, summarize, write_tables
from lckd.inferer import decode_subset, encode_study, pad
from lckd.segmentation import Segmenter
from lckd.sequences import SEQUENCES, SUBSETS, subset_name
from lckd.transforms import label_map_of, regions_of


class SubsetEvaluation:
    """Scores every subset of each study's sequences and writes the tables.

    Each study is encoded once, and decoded for every subset; label maps are compared on the original
    grid, after the same postprocessing as in inference.

    Args:
        segmenter: with weights.
        output_dir: for ``evaluation.json``, ``.csv``, ``.md`` and ``.png``.
    """

    def __init__(self, segmenter: Segmenter, output_dir: str | Path) -> None:
        self.segmenter, self.output_dir = segmenter, Path(output_dir)

    def run(self, items: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """Evaluate the labelled studies among ``items``, write the tables and return the summary.

        Raises:
            StudyError: a study cannot be used, or none has a label map.
        """
        labelled = [item for item in items if "label" in item]
        if not labelled:
            raise StudyError("no study has a label map; its file name must end in _seg, as in study_seg.nii.gz")
        records = [record for item in tqdm(labelled, unit="study") for record in self._records(item)]
        table = summarize(records)
        title = f"Dice and HD95 of {len(labelled)} studies, weights {self.segmenter.weights['sha256'][:12]}"
        write_tables(table, records, self.output_dir, title)
        return table

    def _records(self, item: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        loaded = self.segmenter.loading(dict(item))
        target = regions_of(loaded["label"].as_tensor()).bool()
        spacing_mm = loaded["image"].pixdim.tolist()
        image = self.segmenter.preprocess({"image": loaded["image"]})["image"]
        for subset, logits in self._logits(image, loaded["availability"]):
            probabilities = self.segmenter.on_original_grid(logits, image)
            prediction = regions_of(label_map_of(probabilities > 0.5))
            for region, result in score(prediction, target, spacing_mm).items():
                yield {"study": item["study"], "subset": subset_name(subset), "region": region, **result}

    def _logits(self, image: MetaTensor, availability: Tensor) -> Iterator[tuple[tuple[str, ...], Tensor]]:
        device, dtype = self.segmenter.device, self.segmenter.dtype
        padded, inside = pad(image.as_tensor()[None].to(device), self.segmenter.inferer.divisor)
        available = {name for name, has in zip(SEQUENCES, availability.tolist(), strict=True) if has}
        with torch.inference_mode(), torch.autocast(device.type, dtype, dtype != torch.float32):
            features = encode_study(self.segmenter.network, padded, availability[None].to(device))
            for subset in SUBSETS:
                if available.issuperset(subset):
                    yield subset, decode_subset(self.segmenter.network, features, subset)[inside][0].float().cpu()
