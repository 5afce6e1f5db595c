"""A label map's regions as an RTSTRUCT on the slices of a stack, read back before it gets its name.

Each ROI is a region (whole tumour, tumour core, enhancing tumour), for in radiotherapy volumes are nested. Its contours
run halfway between the centres of pixels inside and outside, so that what they enclose by the even-odd rule, at the
centres, is the region voxel by voxel; the area of a contour is half a pixel smaller. A hole is joined to its outline
by a channel of no width (the standard's keyhole); separate parts, an island in a hole included, are contours of their
own. So it does not matter whether a reader unites the contours of a slice or takes their exclusive or.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import highdicom
import numpy as np
from contourpy import FillType, contour_generator
from highdicom.color import CIELabColor
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import Code
from pydicom.uid import RTStructureSetStorage
from scipy.spatial.distance import cdist

from lckd.errors import StudyError, reason
from lckd.pacs.conversion import RAS_TO_LPS, Planes, planes_of
from lckd.pacs.dicom_seg import BRAIN, CATEGORY, CLOSE_MM, TYPES, Algorithm, sample_on_planes
from lckd.pacs.dicom_source import Source, references_of, save
from lckd.pacs.study import Stack
from lckd.preview import COLOURS, OUTLINES
from lckd.report import DISCLAIMER
from lckd.sequences import LABELS, REGION_LABELS, REGION_NAMES

CODES: Final = {
    "wt": Code("52988006", "SCT", "Lesion"),
    "tc": Code("108369006", "SCT", "Neoplasm"),
    "et": TYPES[LABELS["enhancing tumour"]],
}
"""What each region is; the whole tumour includes oedema, so that it is no neoplasm alone."""

DESCRIPTIONS: Final = {
    "wt": "Tumour core and the FLAIR hyperintensity around it: oedema, infiltration included",
    "tc": "Enhancing tumour and necrotic or non-enhancing core",
    "et": "Tumour that enhances with contrast agent",
}

DETACHED_STUDY: Final = "1.2.840.10008.3.1.2.3.1"
"""A class that is retired, but the one by which structure sets refer to a study."""

_DECIMALS: Final = 4
"""Of a coordinate in mm: far finer than half a pixel, and a third of the file that all digits would make."""


@dataclass(frozen=True)
class WrittenRtstruct:
    """What became of a label map.

    Attributes:
        path: the file; None where the label map is empty, since there is nothing to draw.
        regions: region -> ROI number.
        not_detected: names of the regions without a voxel, which are left out.
        warnings: what the user should know.
        series_uid: new SeriesInstanceUID.
    """

    path: Path | None
    regions: dict[str, int]
    not_detected: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    series_uid: str = ""


# Not rt-utils: it draws through the outermost pixels' centres, so that a region shrinks, and needs OpenCV.
def write_rtstruct(
    label_map: NDArray,
    affine: NDArray,
    stack: Stack,
    path: str | Path,
    *,
    algorithm: Algorithm | None = None,
) -> WrittenRtstruct:
    """Write a label map's regions as RTSTRUCT with contours on the slices of ``stack``, atomically.

    Args:
        label_map: ``(X, Y, Z)`` with the values of ``LABELS``; on another grid than the slices it is sampled on them.
        affine: its voxels to RAS in mm.
        stack: the source series.
        path: the file.
        algorithm: what made it.

    Raises:
        StudyError: an unknown label value, a source that cannot be referenced, a file that cannot be written, or one
            whose contours enclose other voxels than the label map has; then nothing is left behind.
    """
    path, planes, algorithm = Path(path), planes_of(stack), algorithm or Algorithm()
    on_planes = sample_on_planes(label_map, affine, planes)
    masks = {region: np.isin(on_planes, REGION_LABELS[region]) for region in OUTLINES}  # largest first
    found = {region: mask for region, mask in masks.items() if mask.any()}
    not_detected = tuple(REGION_NAMES[region] for region in masks if region not in found)
    if not found:
        return WrittenRtstruct(None, {}, not_detected)
    source = Source.of(stack, planes)
    dataset = _structure_set(source, algorithm)
    dataset.StructureSetROISequence, dataset.ROIContourSequence, dataset.RTROIObservationsSequence = [], [], []
    for number, (region, mask) in enumerate(found.items(), start=1):
        dataset.StructureSetROISequence.append(_roi(number, region, dataset.FrameOfReferenceUID, algorithm))
        dataset.ROIContourSequence.append(_roi_contour(number, region, mask, planes, source))
        dataset.RTROIObservationsSequence.append(_observation(number, region))
    drawn = {REGION_NAMES[region]: mask for region, mask in found.items()}
    save(dataset, path, lambda written: _compare(written, stack, drawn))
    numbers = {region: number for number, region in enumerate(found, start=1)}
    return WrittenRtstruct(path, numbers, not_detected, source.warnings, str(dataset.SeriesInstanceUID))


def read_rtstruct(path: str | Path, stack: Stack) -> dict[str, NDArray[np.bool_]]:
    """Mask ``(columns, rows, slices)`` on the slices of ``stack`` per ROI's name in lower case.

    Args:
        path: the file.
        stack: the series that its contours refer to.

    Raises:
        StudyError: it is no RTSTRUCT with closed contours on these slices.
    """
    planes, indices = planes_of(stack), {reference: index for index, reference in enumerate(references_of(stack))}
    try:
        dataset = dcmread(path)
        names = {int(roi.ROINumber): str(roi.ROIName).lower() for roi in dataset.StructureSetROISequence}
        masks = {name: np.zeros((*planes.shape, len(indices)), bool) for name in names.values()}
        for roi in dataset.ROIContourSequence:
            for contour in roi.ContourSequence:
                index = indices[_reference(contour.ContourImageSequence[0])]
                points = np.reshape(contour.ContourData, (-1, 3)).astype(float) @ RAS_TO_LPS
                pixels = (points - planes.origins[index]) @ planes.axes
                if contour.ContourGeometricType != "CLOSED_PLANAR" or np.abs(pixels[:, 2]).max() > CLOSE_MM:
                    raise StudyError(f"{path} has a contour that is not closed or not on the slice it refers to")
                _flip(masks[names[int(roi.ReferencedROINumber)]][:, :, index], pixels[:, :2] / planes.pixel_mm)
    except StudyError:
        raise
    except Exception as error:  # pydicom raises many types
        raise StudyError(f"{path} is no RTSTRUCT on series {stack.series_uid} ({reason(error)})") from error
    return masks


# --- contours ---------------------------------------------------------------------------------------------------------


def contours_of(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Polygons ``(N, 2)`` of columns and rows, not closed, around the parts of a mask ``(columns, rows)``."""
    # contourpy wants rows first, and a rim of nothing, or a part at the edge would stay open
    generator = contour_generator(z=np.pad(mask.T, 1).astype(np.uint8), fill_type=FillType.OuterOffset)
    parts_and_offsets: Any = generator.filled(0.5, 2)
    return [
        _keyholed([part[first : after - 1] - 1 for first, after in pairwise(ends)])
        for part, ends in zip(*parts_and_offsets, strict=True)
    ]


def _keyholed(rings: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """An outline and its holes as one polygon that runs to each hole and back by a short way between corners.

    A corner lies on a column or on a row of centres. A line from one kind to the other meets no centre, on which
    readers would disagree.
    """
    polygon, *holes = rings
    for hole in holes:
        alike = (polygon[:, :1] % 1 == 0) == (hole[:, 0] % 1 == 0)
        distances = np.where(alike, np.inf, cdist(polygon, hole))
        here, there = np.unravel_index(distances.argmin(), distances.shape)
        around = np.roll(hole, -int(there), axis=0)
        polygon = np.concatenate([polygon[: here + 1], around, around[:1], polygon[here:]])
    return polygon


def _flip(mask: NDArray[np.bool_], polygon: NDArray[np.float64]) -> None:
    """Invert the pixels of ``mask`` whose centre lies in a polygon ``(N, 2)`` by the even-odd rule."""
    first = np.maximum(np.floor(polygon.min(0)).astype(int), 0)
    after = np.maximum(np.ceil(polygon.max(0)).astype(int) + 1, 0)
    box = mask[first[0] : after[0], first[1] : after[1]]
    columns, rows = box.shape
    start, step = polygon - first, np.roll(polygon, -1, axis=0) - polygon
    below = start[:, 1:] <= np.arange(rows)
    side, row = np.nonzero(below != np.roll(below, -1, axis=0))
    crossing = start[side, 0] + (row - start[side, 1]) * step[side, 0] / step[side, 1]
    crossings = np.zeros((columns + 1, rows), int)
    np.add.at(crossings, (np.clip(np.ceil(crossing), 0, columns).astype(int), row), 1)
    box ^= np.cumsum(crossings, axis=0)[:-1] % 2 == 1


# --- the structure set ------------------------------------------------------------------------------------------------


def _structure_set(source: Source, algorithm: Algorithm) -> highdicom.SOPClass:
    """Everything but the ROIs."""
    image, now = source.datasets[0], datetime.now()
    try:
        # In implicit VR, for in explicit VR a contour may have no more than 64 KB.
        dataset = highdicom.SOPClass(
            study_instance_uid=image.StudyInstanceUID,
            series_instance_uid=highdicom.UID(),
            series_number=2000 + image.SeriesNumber,
            sop_instance_uid=highdicom.UID(),
            sop_class_uid=RTStructureSetStorage,
            instance_number=1,
            modality="RTSTRUCT",
            manufacturer="LCKD",
            manufacturer_model_name=algorithm.name,
            software_versions=algorithm.version,
            device_serial_number="none",
            series_description="Glioma contours (research use only)",
            specific_character_set=image.get("SpecificCharacterSet"),
        )
        dataset.copy_patient_and_study_information(image)
    except Exception as error:  # as with the SEG, highdicom refuses by many types
        raise StudyError(
            f"series {image.SeriesInstanceUID} cannot be referenced by an RTSTRUCT ({reason(error)}); use the NIfTI"
        ) from error
    dataset.OperatorsName = ""
    dataset.FrameOfReferenceUID = image.FrameOfReferenceUID
    dataset.PositionReferenceIndicator = image.PositionReferenceIndicator
    dataset.StructureSetLabel, dataset.StructureSetName = "GLIOMA", algorithm.name
    dataset.StructureSetDescription = DISCLAIMER
    dataset.StructureSetDate, dataset.StructureSetTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    dataset.ApprovalStatus = "UNAPPROVED"
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = image.SeriesInstanceUID
    series.ContourImageSequence = _all_images(source)
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = DETACHED_STUDY, image.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = image.FrameOfReferenceUID, [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    return dataset


def _roi(number: int, region: str, frame_of_reference: str, algorithm: Algorithm) -> Dataset:
    roi = Dataset()
    roi.ROINumber, roi.ROIName = number, REGION_NAMES[region].capitalize()
    roi.ROIDescription = f"{DESCRIPTIONS[region]}. {DISCLAIMER}"
    roi.ReferencedFrameOfReferenceUID = frame_of_reference
    roi.ROIGenerationAlgorithm = "AUTOMATIC"
    roi.ROIGenerationDescription = f"{algorithm.name} {algorithm.version}"[:64]
    roi.ROIDerivationAlgorithmIdentificationSequence = algorithm.identification
    return roi


def _roi_contour(number: int, region: str, mask: NDArray[np.bool_], planes: Planes, source: Source) -> Dataset:
    colour, item = COLOURS[OUTLINES[region]], Dataset()
    item.ReferencedROINumber, item.ROIDisplayColor = number, list(colour)
    item.RecommendedDisplayCIELabValue = list(CIELabColor.from_rgb(*colour).value)
    item.ContourSequence = []
    for index in map(int, np.flatnonzero(mask.any(axis=(0, 1)))):
        to_lps = RAS_TO_LPS @ planes.affine(index)[:3]
        uid, frame = source.references[index]
        for polygon in contours_of(mask[:, :, index]):
            points, contour = polygon @ to_lps[:, :2].T + to_lps[:, 3], Dataset()
            contour.ContourImageSequence = [_image(source, uid, [] if frame is None else [frame])]
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            contour.ContourNumber = len(item.ContourSequence) + 1
            contour.ContourData = (points.round(_DECIMALS) + 0.0).ravel().tolist()  # + 0.0, for a zero has no sign
            item.ContourSequence.append(contour)
    return item


def _observation(number: int, region: str) -> Dataset:
    observation = Dataset()
    observation.ObservationNumber = observation.ReferencedROINumber = number
    observation.SegmentedPropertyCategoryCodeSequence = [highdicom.sr.CodedConcept.from_code(CATEGORY)]
    observation.RTROIIdentificationCodeSequence = [highdicom.sr.CodedConcept.from_code(CODES[region])]
    observation.AnatomicRegionSequence = [highdicom.sr.CodedConcept.from_code(BRAIN)]
    # which of these volumes is a GTV or CTV is for a physician to say
    observation.RTROIInterpretedType, observation.ROIInterpreter = "", ""
    return observation


def _all_images(source: Source) -> list[Dataset]:
    """References to all instances of the series; frames are listed with theirs."""
    frames: dict[str, list[int]] = {}
    for uid, frame in source.references:
        frames.setdefault(uid, []).extend([] if frame is None else [frame])
    return [_image(source, uid, numbers) for uid, numbers in frames.items()]


def _image(source: Source, uid: str, frames: list[int]) -> Dataset:
    image = Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = source.datasets[0].SOPClassUID, uid
    if frames:
        image.ReferencedFrameNumber = frames
    return image


def _reference(image: Dataset) -> tuple[str, int | None]:
    frame = image.get("ReferencedFrameNumber")
    return str(image.ReferencedSOPInstanceUID), None if frame is None else int(frame)


def _compare(path: Path, stack: Stack, masks: Mapping[str, NDArray[np.bool_]]) -> None:
    """Read a written RTSTRUCT and compare every voxel with what its contours should enclose."""
    read = read_rtstruct(path, stack)
    different = sum(int((read[name] != mask).sum()) for name, mask in masks.items())
    if different:
        raise StudyError(f"the RTSTRUCT read back differs from the label map in {different} voxels; use the NIfTI")
