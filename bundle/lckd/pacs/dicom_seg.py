"""A label map as a DICOM SEG on the slices of a stack, read back before it gets its name."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import highdicom
import numpy as np
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription, segread
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import Code, codes

from lckd import __version__
from lckd.errors import StudyError, reason
from lckd.pacs.conversion import RAS_TO_LPS, Planes, planes_of
from lckd.pacs.dicom_source import Source, save
from lckd.pacs.study import Stack, text
from lckd.preview import COLOURS
from lckd.report import DISCLAIMER
from lckd.sequences import LABELS

SEG_TYPES: Final = ("binary", "labelmap")

CATEGORY: Final = Code("49755003", "SCT", "Morphologically Abnormal Structure")
BRAIN: Final = Code("12738006", "SCT", "Brain")

TYPES: Final = {
    1: Code("6574001", "SCT", "Necrosis"),
    2: Code("79654002", "SCT", "Edema"),
    3: Code("C113842", "NCIt", "Enhancing Lesion"),
}
"""What each label value is, in the words of DICOM's CID 7168 and NCIt."""

DESCRIPTIONS: Final = {
    1: "Necrotic or non-enhancing tumour core",
    2: "FLAIR hyperintensity around the core: oedema, infiltration included",
    3: "Tumour that enhances with contrast agent",
}

CLOSE_MM: Final = 0.01
"""A frame nearer than this to a slice lies on it."""


@dataclass(frozen=True)
class Algorithm:
    """What made a label map.

    Attributes:
        name: up to 64 characters.
        version: of the software.
        parameters: whatever it ran with, e.g. the sequences used and the hash of the weights.
    """

    name: str = "LCKD glioma segmentation"
    version: str = __version__
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def identification(self) -> highdicom.AlgorithmIdentificationSequence:
        """The same as DICOM has it."""
        return highdicom.AlgorithmIdentificationSequence(
            name=self.name,
            family=codes.cid7162.ArtificialIntelligence,
            version=self.version,
            parameters=dict(self.parameters) or None,
        )


@dataclass(frozen=True)
class WrittenSeg:
    """What became of a label map.

    Attributes:
        path: the file; None where the label map is empty, since a SEG without segments is not valid.
        segments: label value -> segment number.
        not_detected: names of the labels without a voxel, which are left out.
        warnings: what the user should know.
        series_uid: new SeriesInstanceUID; likewise ``sop_uid`` of the instance.
    """

    path: Path | None
    segments: dict[int, int]
    not_detected: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    series_uid: str = ""
    sop_uid: str = ""


def write_dicom_seg(
    label_map: NDArray,
    affine: NDArray,
    stack: Stack,
    path: str | Path,
    *,
    algorithm: Algorithm | None = None,
    seg_type: str = "binary",
    manual: bool = False,
    series_description: str = "Glioma segmentation (research use only)",
) -> WrittenSeg:
    """Write a label map as DICOM SEG whose frames lie on the slices of ``stack``, atomically.

    Args:
        label_map: ``(X, Y, Z)`` with the values of ``LABELS``; on another grid than the slices it is sampled on them.
        affine: its voxels to RAS in mm.
        stack: the source series.
        path: the file.
        algorithm: what made it.
        seg_type: ``binary``, one bit per voxel and segment, which every viewer reads, or ``labelmap``.
        manual: a person has edited it.
        series_description: up to 64 characters.

    Raises:
        StudyError: an unknown type or label value, a source that cannot be referenced, a file that cannot be written,
            or one that reads back as something else; then nothing is left behind.
    """
    if seg_type not in SEG_TYPES:
        raise StudyError(f"unknown seg_type {seg_type!r}; accepted are {', '.join(SEG_TYPES)}")
    path, planes = Path(path), planes_of(stack)
    on_planes = sample_on_planes(label_map, affine, planes)
    values = [value for value in LABELS.values() if (on_planes == value).any()]
    not_detected = tuple(name for name, value in LABELS.items() if value not in values)
    if not values:
        return WrittenSeg(None, {}, not_detected)
    # a binary SEG must number its segments from 1 without gaps, a label map SEG need not
    segments = {v: index if seg_type == "binary" else v for index, v in enumerate(values, start=1)}
    source = Source.of(stack, planes)
    kind = SegmentAlgorithmTypeValues.SEMIAUTOMATIC if manual else SegmentAlgorithmTypeValues.AUTOMATIC
    dataset = _dataset(
        _renumbered(on_planes, segments),
        source,
        seg_type,
        [_describe(value, numbered, kind, algorithm or Algorithm()) for value, numbered in segments.items()],
        series_description,
        algorithm or Algorithm(),
    )
    if stack.frames is not None:
        _refer_to(dataset, stack.frames)
    save(dataset, path, lambda written: _compare(written, on_planes, planes, segments, source))
    return WrittenSeg(
        path, segments, not_detected, source.warnings, str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID)
    )


def read_dicom_seg(path: str | Path) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Label map ``(columns, rows, slices)`` and affine (RAS, mm) of a SEG with our codes, from first to last frame.

    Raises:
        StudyError: the file is no SEG, its frames are unevenly spaced, or it has a segment we have no label value for.
    """
    path = Path(path)
    try:
        dataset = segread(path)
        # highdicom counts slices against the normal, our stacks along it
        volume = dataset.get_volume(combine_segments=True, allow_missing_positions=True).flip_spatial(0)
    except OSError as error:
        raise StudyError(f"{path} cannot be read ({error.strerror or error})") from error
    except Exception as error:  # highdicom raises many types
        raise StudyError(f"{path} is no DICOM SEG on evenly spaced slices ({reason(error)})") from error
    table = np.zeros(int(volume.array.max()) + 1, np.uint8)
    for numbered, value in _segment_values(path, dataset).items():
        if numbered < len(table):
            table[numbered] = value
    affine = np.eye(4)
    affine[:3] = RAS_TO_LPS @ volume.affine[:3, [2, 1, 0, 3]]
    return table[volume.array].transpose(2, 1, 0), affine


def sample_on_planes(label_map: NDArray, affine: NDArray, planes: Planes) -> NDArray[np.uint8]:
    """Label map ``(columns, rows, N)`` on each slice, by the nearest voxel; 0 outside.

    Raises:
        StudyError: the label map holds other values than ``LABELS``.
    """
    _check_values(label_map)
    columns, rows = planes.shape
    sampled = np.zeros((columns, rows, len(planes.origins)), np.uint8)
    to_voxels = np.linalg.inv(affine)
    for index in range(sampled.shape[2]):
        matrix = to_voxels @ planes.affine(index)
        places = [
            np.rint(along[3] + along[0] * np.arange(columns)[:, None] + along[1] * np.arange(rows)).astype(int)
            for along in matrix[:3]
        ]
        inside = np.logical_and.reduce([(p >= 0) & (p < n) for p, n in zip(places, label_map.shape, strict=True)])
        nearest = tuple(np.where(inside, place, 0) for place in places)
        sampled[:, :, index] = np.where(inside, label_map[nearest], 0)
    return sampled


def _check_values(label_map: NDArray) -> None:
    strange = sorted(set(np.unique(label_map).tolist()) - {0, *LABELS.values()})
    if strange:
        accepted = ", ".join(f"{value} {name}" for name, value in LABELS.items())
        raise StudyError(f"the label map holds {strange[0]}; accepted are 0, {accepted}")


def _renumbered(label_map: NDArray[np.uint8], segments: Mapping[int, int]) -> NDArray[np.uint8]:
    """Frames ``(N, rows, columns)`` of segment numbers."""
    table = np.zeros(max(LABELS.values()) + 1, np.uint8)
    table[list(segments)] = list(segments.values())
    return np.ascontiguousarray(table[label_map].transpose(2, 1, 0))


# --- the segmentation -------------------------------------------------------------------------------------------------


def _describe(value: int, numbered: int, kind: SegmentAlgorithmTypeValues, algorithm: Algorithm) -> SegmentDescription:
    name = next(name for name, label in LABELS.items() if label == value)
    segment = SegmentDescription(
        segment_number=numbered,
        segment_label=name.capitalize(),
        segmented_property_category=CATEGORY,
        segmented_property_type=TYPES[value],
        algorithm_type=kind,
        algorithm_identification=algorithm.identification,
        tracking_uid=highdicom.UID(),
        tracking_id=f"Glioma {name}",
        anatomic_regions=[BRAIN],
        display_color=CIELabColor.from_rgb(*COLOURS[name]),
    )
    segment.SegmentDescription = DESCRIPTIONS[value]
    return segment


def _dataset(
    frames: NDArray[np.uint8],
    source: Source,
    seg_type: str,
    segments: list[SegmentDescription],
    series_description: str,
    algorithm: Algorithm,
) -> Segmentation:
    try:
        return Segmentation(
            source_images=source.datasets,
            pixel_array=frames,
            segmentation_type=SegmentationTypeValues[seg_type.upper()],
            segment_descriptions=segments,
            series_instance_uid=highdicom.UID(),
            series_number=1000 + source.datasets[0].SeriesNumber,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer="LCKD",
            manufacturer_model_name=algorithm.name,
            software_versions=algorithm.version,
            device_serial_number="none",
            content_label="GLIOMA",
            content_description=DISCLAIMER,
            series_description=series_description,
        )
    except Exception as error:  # highdicom refuses by many types what it cannot make valid
        raise StudyError(
            f"series {source.datasets[0].SeriesInstanceUID} cannot be referenced by a DICOM SEG ({reason(error)}); "
            "use the NIfTI"
        ) from error


def _refer_to(dataset: Dataset, frames: tuple[int, ...]) -> None:
    """Make references to the n-th frame of the stack ones to the frame of the file."""
    images = [
        image
        for frame in dataset.PerFrameFunctionalGroupsSequence
        for derivation in frame.DerivationImageSequence
        for image in derivation.SourceImageSequence
    ]
    for image in {id(image): image for image in images}.values():  # segments share the item of their slice
        image.ReferencedFrameNumber = frames[int(image.ReferencedFrameNumber) - 1] + 1


# --- reading back -----------------------------------------------------------------------------------------------------


class _Frame(NamedTuple):
    """A frame of a SEG: stored values ``(rows, columns)``, segment number (None in a label map), position in RAS."""

    pixels: NDArray
    segment: int | None
    position: NDArray[np.float64]
    reference: tuple[str, int | None]


def _frames(dataset: Dataset) -> Iterator[_Frame]:
    pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for stored, groups in zip(pixels, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        identification = groups.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
        image = groups.DerivationImageSequence[0].SourceImageSequence[0]
        frame = image.get("ReferencedFrameNumber")
        yield _Frame(
            stored,
            int(identification[0].ReferencedSegmentNumber) if identification else None,
            RAS_TO_LPS @ np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float),
            (str(image.ReferencedSOPInstanceUID), None if frame is None else int(frame)),
        )


def _compare(
    path: Path, label_map: NDArray[np.uint8], planes: Planes, segments: Mapping[int, int], source: Source
) -> None:
    """Read a written SEG and compare every voxel, position and reference with what it should hold."""
    dataset = dcmread(path)
    read = np.zeros_like(label_map)
    values = {numbered: value for value, numbered in segments.items()}
    try:
        for frame in _frames(dataset):
            distances = np.linalg.norm(planes.origins - frame.position, axis=1)
            index = int(distances.argmin())
            if distances[index] > CLOSE_MM or frame.reference != source.references[index]:
                raise StudyError("the SEG read back has a frame that is not on the slice it refers to; use the NIfTI")
            for numbered, value in (
                values.items() if frame.segment is None else [(frame.segment, values[frame.segment])]
            ):
                read[:, :, index][(frame.pixels == (numbered if frame.segment is None else 1)).T] = value
    except (AttributeError, IndexError, KeyError, ValueError) as error:
        raise StudyError(f"the SEG cannot be read back ({reason(error)}); use the NIfTI") from error
    different = int((read != label_map).sum())
    if different:
        raise StudyError(f"the SEG read back differs from the label map in {different} voxels; use the NIfTI")


def _segment_values(path: Path, dataset: Segmentation) -> dict[int, int]:
    """Segment number -> label value."""
    by_code = {(code.value, code.scheme_designator): value for value, code in TYPES.items()}
    values = {}
    for segment in dataset.SegmentSequence:
        if segment.SegmentNumber == 0:
            continue
        code = segment.SegmentedPropertyTypeCodeSequence[0]
        key = (text(code, "CodeValue"), text(code, "CodingSchemeDesignator"))
        if key not in by_code:
            accepted = ", ".join(f"{code.meaning} ({code.value})" for code in TYPES.values())
            raise StudyError(
                f"{path} has a segment of type {text(code, 'CodeMeaning')} ({key[0]}); accepted: {accepted}"
            )
        values[int(segment.SegmentNumber)] = by_code[key]
    return values
