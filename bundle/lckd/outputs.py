"""What a segmented study leaves on disk, and batches of studies in which one failure stops nothing."""

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lckd.errors import StudyError, reason
from lckd.files import write_json
from lckd.images import write_image
from lckd.preview import draw_preview
from lckd.report import summary_line
from lckd.segmentation import LARGE_VOXELS, PreparedStudy, Segmentation, Segmenter
from lckd.sequences import BRATS_VALUES, LABELS, REGIONS, subset_name

logger = logging.getLogger(__name__)

LABEL_STYLES = ("standard", "brats")


class StudyWriter:
    """Writes ``<output>/<study>/segmentation.nii.gz``, ``report.json`` and ``preview.png``.

    Args:
        output_dir: made if missing.
        labels: ``standard`` writes 1 necrotic core, 2 oedema, 3 enhancing tumour; ``brats`` 1, 2, 4.
        probabilities: also write ``probabilities_<region>.nii.gz``.
        preview: draw the picture.

    Raises:
        StudyError: an unknown style of labels, or the folder cannot be written.
    """

    def __init__(
        self, output_dir: str | Path, labels: str = "standard", probabilities: bool = False, preview: bool = True
    ) -> None:
        if labels not in LABEL_STYLES:
            raise StudyError(f"unknown labels {labels!r}; accepted are {', '.join(LABEL_STYLES)}")
        self.output_dir, self.probabilities, self.preview = Path(output_dir).expanduser(), probabilities, preview
        self.values = BRATS_VALUES if labels == "brats" else {value: value for value in LABELS.values()}
        try:
            self.output_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyError(f"output folder {self.output_dir} cannot be made ({error.strerror})") from error
        if not os.access(self.output_dir, os.W_OK):
            raise StudyError(f"output folder {self.output_dir} cannot be written; choose another with --output")

    def __call__(self, segmentation: Segmentation) -> Path:
        """Write all files of one study and return its folder.

        Raises:
            StudyError: a file cannot be written; none is left half written.
        """
        folder = self.output_dir / segmentation.study
        affine = segmentation.affine.numpy()
        label_map = segmentation.label_map.numpy()
        table = np.zeros(max(LABELS.values()) + 1, np.uint8)
        table[list(self.values)] = list(self.values.values())
        report = segmentation.report | {"labels": {str(self.values[value]): name for name, value in LABELS.items()}}
        try:
            folder.mkdir(exist_ok=True)
            write_image(folder / "segmentation.nii.gz", table[label_map], affine)
            # What an earlier run wrote and this one does not would lie beside a label map that it does not belong to.
            for region, probability in zip(REGIONS, segmentation.probabilities.numpy(), strict=True):
                file = folder / f"probabilities_{region}.nii.gz"
                if self.probabilities:
                    write_image(file, probability, affine)
                else:
                    file.unlink(missing_ok=True)
            if not self.preview:
                (folder / "preview.png").unlink(missing_ok=True)
            else:
                used, missing = (report["sequences"][key] for key in ("used", "missing"))
                title = (
                    f"{segmentation.study}    used: {subset_name(used)}    missing: {subset_name(missing) or 'none'}"
                )
                draw_preview(
                    segmentation.reference.numpy(),
                    label_map,
                    affine,
                    folder / "preview.png",
                    title,
                    " ".join([report["disclaimer"], *(f"Warning: {text}." for text in report["warnings"][:1])]),
                )
            write_json(folder / "report.json", report)
        except OSError as error:
            raise StudyError(
                f"{folder} cannot be written ({error.strerror or error}); free space or choose another --output"
            ) from error
        return folder


class Batch:
    """Segments and writes studies; a failure is told, counted and passed over.

    Args:
        segmenter: segments a study.
        writer: writes it.
    """

    def __init__(self, segmenter: Segmenter, writer: StudyWriter) -> None:
        self.segmenter, self.writer = segmenter, writer
        self.failures: dict[str, str] = {}

    def __call__(self, item: Mapping[str, Any]) -> Segmentation | None:
        """Segment and write the study of ``item``; None if that failed."""
        with self._telling(item):
            segmentation = self.segmenter.segment(self._read(item), keep=False)
            self._write(segmentation)
            return segmentation
        return None

    def run(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Segment every item, with a progress bar, then ``finish``.

        While one study is segmented, the next one is read and the one before is written.
        """
        items = list(items)
        written: Future[None] | None = None
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            studies = tqdm(self._read_ahead(items, reader), total=len(items), unit="study", disable=len(items) < 2)
            for item, prepared in studies:
                if prepared is None:
                    continue
                with self._telling(item):
                    segmentation = self.segmenter.segment(prepared, keep=False)
                    if written is not None:
                        written.result()  # so that one waits to be written, not many
                    written = writer.submit(self._write_telling, item, segmentation)
        self.finish(len(items))

    def finish(self, total: int) -> None:
        """Say how many of ``total`` studies failed.

        Raises:
            StudyError: at least one failed.
        """
        if self.failures:
            raise StudyError(f"{len(self.failures)} of {total} studies failed: {', '.join(self.failures)}")

    def _read_ahead(
        self, items: Sequence[Mapping[str, Any]], reader: Executor
    ) -> Iterator[tuple[Mapping[str, Any], PreparedStudy | None]]:
        """Each item and its study, None if that failed; the next is begun then, unless one is all the memory holds."""
        ahead: Future[PreparedStudy] | None = None
        for item, following in zip(items, [*items[1:], None], strict=True):
            prepared = None
            with self._telling(item):
                prepared = self._read(item) if ahead is None else ahead.result()
            large = prepared is not None and prepared.shown.numel() >= LARGE_VOXELS
            ahead = None if following is None or large else reader.submit(self._read, following)
            yield item, prepared

    def _read(self, item: Mapping[str, Any]) -> PreparedStudy:
        if "error" in item:
            raise StudyError(item["error"])
        return self.segmenter.prepare(item)

    def _write_telling(self, item: Mapping[str, Any], segmentation: Segmentation) -> None:
        with self._telling(item):
            self._write(segmentation)

    def _write(self, segmentation: Segmentation) -> None:
        folder = self.writer(segmentation)
        tqdm.write(f"{summary_line(segmentation.report)}\n  -> {folder}")
        for warning in segmentation.report["warnings"]:
            tqdm.write(f"  warning: {warning}", file=sys.stderr)

    @contextmanager
    def _telling(self, item: Mapping[str, Any]) -> Iterator[None]:
        """A failure within the block is told and kept, and goes no further."""
        try:
            yield
        except StudyError as error:
            self._fail(item["study"], str(error))
        except Exception as error:  # a defect of ours must not cost the user the studies that follow
            logger.exception("unexpected error")
            self._fail(item["study"], f"unexpected {type(error).__name__} ({reason(error)}); please report it")

    def _fail(self, study: str, sentence: str) -> None:
        self.failures[study] = sentence
        tqdm.write(f"{study}: FAILED: {sentence}", file=sys.stderr)
