"""Clicks and scribbles of the viewer's panels: marks for ``lckd.interaction``, and what the panels expect back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from numpy.typing import NDArray

from lckd.errors import StudyError
from lckd.images import read_label_map
from lckd.interaction import Refiner
from lckd.marks import BACKGROUND, OUTER, Marks, label_marks, region_marks, total
from lckd.sequences import LABELS, REGION_LABELS, REGION_NAMES
from lib.segmentation import LABEL_NAMES, OpenedStudy, SegmentationTask, on_grid, written

MOST_MARKS = 100_000
"""Voxels that a request may mark: more than any scribble, and no burden."""

OUR_LABELS = {shown: next(name for name, own in LABELS.items() if own == value) for shown, value in LABEL_NAMES.items()}
"""What the viewer calls a label, and what we call it."""

REGION_OF = {REGION_NAMES[region]: region for region in OUTER} | {
    shown: [region for region in OUTER if value in REGION_LABELS[region]][-1] for shown, value in LABEL_NAMES.items()
}
"""Regions by their names, and the innermost region of each label: a mark that denies the label lies outside of it."""


class RefinementTask(InferTask):
    """Corrects what ``SegmentationTask`` gives, with the marks that a panel sends along.

    Args:
        segmentation: which prepares, segments and keeps the studies.
        refiner: with weights.
        type: ``DEEPEDIT``: points of every label; ``DEEPGROW``: points inside and outside of one label, or region;
            ``SCRIBBLES``: the same as a label map.
    """

    def __init__(self, segmentation: SegmentationTask, refiner: Refiner, type: InferType) -> None:
        labels = {BACKGROUND: 0, **LABEL_NAMES} if type == InferType.DEEPEDIT else LABEL_NAMES
        super().__init__(
            type=type,
            labels=labels,
            dimension=3,
            description="Corrects the segmentation around your marks (research use only)",
            # Of a study and its mirror image no features are kept that could be refined.
            config={name: value for name, value in segmentation._config.items() if name != "flips"},
        )
        self.segmentation, self.refiner = segmentation, refiner

    def is_valid(self) -> bool:
        """Always: without weights there is no task."""
        return True

    def interaction(self) -> tuple[str, ...]:
        """Parts of a request that are no options: what was marked."""
        return {
            InferType.DEEPEDIT: (BACKGROUND, *LABEL_NAMES),
            InferType.DEEPGROW: ("label", "foreground", "background"),
            InferType.SCRIBBLES: ("label_info", "selected_label_name", "roi"),
        }[self.type]

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Segment with marks.

        Args:
            request: as for ``SegmentationTask``; ``marks``: what ``interaction`` names; ``scribbles``: a file.

        Returns:
            A temporary NIfTI file with the label map, or of one label or region a mask, and what the viewer is told.

        Raises:
            StudyError: a mark, an option or the study cannot be used.
        """
        with self.segmentation.opened(request) as opened:
            marks, label = self._marks(request, opened)
            marks, prepared = marks.checked(opened.shape), opened.prepared
            seen = marks.onto(opened.affine, prepared.affine.numpy(), prepared.shown.shape)
            result = self.refiner(opened.segmenter, prepared, seen)
        label_map, affine = opened.shown(result.label_map.numpy(), marks)
        label_map = marks.drawn_on(torch.from_numpy(label_map)).numpy()
        report = opened.report(result, label_map, affine) | {"marks": len(marks)}
        if opened.version.weights is not None:
            report["warnings"] = [*report["warnings"], "the refinement was trained with the shipped weights, not these"]
        if label is None:
            return written(label_map, affine), report
        values = (LABEL_NAMES[label],) if label in LABEL_NAMES else REGION_LABELS[REGION_OF[label]]
        return written(np.isin(label_map, values).astype(np.uint8), affine), report | {"label_names": {label: 1}}

    def _marks(self, request: Mapping[str, Any], opened: OpenedStudy) -> tuple[Marks, str | None]:
        """The marks, and the label or region that is asked for; None for all labels."""
        said = request.get("marks", {})
        if self.type == InferType.DEEPEDIT:
            named = {name: _points(name, said.get(name)) for name in self.interaction()}
            return total(label_marks(OUR_LABELS.get(name, name), points) for name, points in named.items()), None
        label = str(said.get("label" if self.type == InferType.DEEPGROW else "selected_label_name"))
        if label not in REGION_OF:
            raise StudyError(f"the label {label[:40]!r} cannot be refined; accepted are {', '.join(REGION_OF)}")
        if self.type == InferType.DEEPGROW:
            inside, outside = (_points(name, said.get(name)) for name in ("foreground", "background"))
        else:
            inside, outside = _scribbles(request.get("scribbles"), said.get("label_info"), opened)
        region = REGION_OF[label]
        told = label_marks(OUR_LABELS[label], inside) if label in OUR_LABELS else region_marks(region, True, inside)
        return told + region_marks(region, False, outside), label


def _points(name: str, points: Any) -> NDArray[np.int64]:
    """Voxel indices ``(N, 3)`` of a panel's points; none where it sends none."""
    if points is None or points == []:
        return np.zeros((0, 3), np.int64)
    try:
        places = np.array(points, np.float64)
    except (TypeError, ValueError, OverflowError):
        places = np.zeros(0)
    if places.ndim != 2 or places.shape[1] != 3 or len(places) > MOST_MARKS or not (np.abs(places) < 1e6).all():
        raise StudyError(
            f"the points of {name!r} are {str(points)[:40]!r}; accepted are voxel indices [[i, j, k], ...]"
        )
    return np.rint(places).astype(np.int64)


def _scribbles(file: Any, label_info: Any, opened: OpenedStudy) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Voxel indices inside and outside of the label, from the label map that the scribbles panel sends."""
    if file is None:
        raise StudyError("no scribbles were sent; draw some, then update")
    values, affine = read_label_map(file)
    values = on_grid(values, affine, opened.shape, opened.affine)
    known = label_info if isinstance(label_info, list) else []
    ids = {str(info.get("name")): info.get("id", info.get("idx")) for info in known if isinstance(info, Mapping)}
    # A viewer that does not say it numbers the scribbles after the labels.
    numbers = {"foreground_scribbles": len(LABEL_NAMES) + 2, "background_scribbles": len(LABEL_NAMES) + 1} | ids
    inside, outside = (np.argwhere(values == numbers[f"{name}_scribbles"]) for name in ("foreground", "background"))
    if not 0 < len(inside) + len(outside) <= MOST_MARKS:
        raise StudyError(
            f"the scribbles have {len(inside) + len(outside)} voxels; accepted are strokes of 1 to {MOST_MARKS} voxels"
        )
    return inside, outside
