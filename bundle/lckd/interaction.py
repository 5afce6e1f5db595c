"""A user's marks on a segmented study: what is drawn where, on the grid that the user sees."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lckd.errors import StudyError
from lckd.inferer import pad
from lckd.marks import Marks
from lckd.refinement import WINDOW, RefinementNet, near, refine
from lckd.report import voxel_ml_of
from lckd.segmentation import PreparedStudy, Segmentation, Segmenter, timed
from lckd.weights import REFINEMENT_WEIGHTS, load_weights


class Refiner:
    """Corrects a segmenter's results by marks.

    The same marks give the same result, whatever was asked before: without the last mark it is the one before. A mark
    is as it was made; beyond its window nothing changes.

    Args:
        network: a ``RefinementNet`` without weights.
        weights: file of its weights; None for the shipped ones.

    Raises:
        StudyError: the weights cannot be used.
    """

    def __init__(self, network: RefinementNet | None = None, weights: str | Path | None = None) -> None:
        self.network = RefinementNet() if network is None else network
        self.sha256 = load_weights(self.network, weights, REFINEMENT_WEIGHTS)
        self.network.eval()

    def __call__(self, segmenter: Segmenter, prepared: PreparedStudy, marks: Marks) -> Segmentation:
        """The segmentation of a study after marks, voxel indices of ``prepared.shown``.

        Args:
            segmenter: that prepared the study.
            prepared: the study; segmented first if it was not.
            marks: all marks, also the earlier ones.

        Raises:
            StudyError: a mark lies outside the image or contradicts another, or the study is too large to be kept.
        """
        timings, warnings = dict(prepared.timings_s), list(prepared.warnings)
        marks = marks.checked(prepared.shown.shape)
        if prepared.label_map is None:
            first = segmenter.segment(prepared).report
            timings, warnings = first["timings_s"], first["warnings"]
            del timings["total"], timings["report"]
        with timed(timings, "refinement"):
            label_map, raw = self.label_map(segmenter, prepared, marks)
        result = segmenter.reported(prepared, label_map, raw, segmenter.device, timings, warnings)
        result.report["marks"] = len(marks)
        return result

    def label_map(self, segmenter: Segmenter, prepared: PreparedStudy, marks: Marks) -> tuple[Tensor, Tensor]:
        """The label map ``(X, Y, Z)`` alone, and uncalibrated probabilities ``(3, X, Y, Z)``; raises likewise."""
        marks = marks.checked(prepared.shown.shape)
        if prepared.label_map is None:
            segmenter.segment(prepared)
        if prepared.decoded is None or prepared.label_map is None:
            raise StudyError(
                f"study {prepared.study} cannot be refined, for its features are not kept: it is too large, or was "
                "segmented together with its mirror image; edit its label map by hand"
            )
        raw = segmenter.on_original_grid(self._logits(segmenter, prepared, marks), prepared.image)
        affine = prepared.affine.numpy()
        label_map = segmenter.postprocessing(raw, voxel_ml_of(affine), marks)[0]
        # A rule for whole components could reach further than the marks do.
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        reach = np.ceil(WINDOW * float(prepared.image.pixdim.max()) / spacing).astype(int)
        inside = near(marks.voxels, label_map.shape, reach.tolist())
        return torch.where(inside, label_map, prepared.label_map), raw

    def _logits(self, segmenter: Segmenter, prepared: PreparedStudy, marks: Marks) -> Tensor:
        """Logits ``(3, D, H, W)`` on the grid of ``prepared.image``."""
        assert prepared.decoded is not None
        device, dtype = prepared.decoded.logits.device, segmenter.dtype
        size = prepared.image.shape[1:]
        _, inside = pad(torch.empty(1, 1, *size), segmenter.inferer.divisor)
        start = [side.start for side in inside[1:]]
        seen = marks.onto(prepared.affine.numpy(), prepared.image.affine.numpy(), size)  # the brain's box
        shifted = Marks(seen.voxels + start, seen.claims)
        with torch.inference_mode(), torch.autocast(device.type, dtype, dtype != torch.float32):
            return refine(self.network.to(device), prepared.decoded, shifted)[inside].cpu()
