"""Exports small enough that a whole study takes seconds: brains alone, of 32 mm."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydicom import dcmread

from lckd.pacs.identification import Identification, identify
from lckd.pacs.pipeline import Options, Outcome, StudyPipeline
from lckd.pacs.reading import open_export, quiet
from lckd.pacs.simulated_export import Export, SliceGrid, write_export
from lckd.segmentation import Segmenter
from lckd.simulation import SimulatedStudy

SMALL = SliceGrid(pixel_mm=(1.0, 1.0), thickness_mm=2.0)


def small_export(study: SimulatedStudy, folder: Path, **options: Any) -> Export:
    return write_export(study, folder, grids=SMALL, skull=False, **{"extras": (), **options})


def identified(folder: Path) -> Identification:
    with open_export(folder, progress=False) as export, quiet():
        return identify(export.study(export.study_uids[0]))


def process(segmenter: Segmenter, folder: Path, output: Path, **options: Any) -> Outcome:
    output.mkdir(exist_ok=True)
    with quiet():
        return StudyPipeline(segmenter, output, Options(**options))(identified(folder))


def edit_series(export: Export, sequence: str, change: Callable[[Any], None]) -> None:
    """Change the datasets of a series on disk."""
    for path in series_files(export, sequence):
        dataset = dcmread(path)
        change(dataset)
        dataset.save_as(path)


def series_files(export: Export, sequence: str) -> list[Path]:
    files = sorted(path for path in export.folder.rglob("*") if path.is_file())
    return [path for path in files if dcmread(path).SeriesInstanceUID == export.series_uids[sequence]]
