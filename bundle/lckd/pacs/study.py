"""A study as stacks: which instances of a series make up one volume, in which order."""

import hashlib
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import correct_ambiguous_vr_element, write_data_element
from pydicom.sequence import Sequence as Items
from pydicom.tag import BaseTag
from pydicom.uid import EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage

KEYWORDS: Final = (
    *("SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "StudyDate", "SeriesDate"),
    *("AcquisitionDate", "ContentDate", "AcquisitionDateTime", "StudyTime", "SeriesTime", "AcquisitionTime"),
    *("ContentTime", "Modality", "Manufacturer", "StudyDescription", "SeriesDescription", "ManufacturerModelName"),
    *("VolumetricProperties", "VolumeBasedCalculationTechnique", "ComplexImageComponent", "AcquisitionContrast"),
    *("ContrastBolusAgent", "ContrastBolusAgentSequence", "BodyPartExamined", "ScanningSequence", "SequenceVariant"),
    *("ScanOptions", "MRAcquisitionType", "SequenceName", "AngioFlag", "SliceThickness", "RepetitionTime", "EchoTime"),
    *("InversionTime", "EchoNumbers", "MagneticFieldStrength", "SpacingBetweenSlices", "EchoTrainLength"),
    *("ProtocolName", "ContrastBolusRoute", "ContrastBolusVolume", "ContrastBolusStartTime", "TriggerTime"),
    *("ContrastBolusTotalDose", "ContrastBolusIngredient", "GantryDetectorTilt", "FlipAngle", "PatientPosition"),
    *("PulseSequenceName", "EchoPulseSequence", "InversionRecovery", "EchoPlanarPulseSequence", "DiffusionBValue"),
    *("StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "AcquisitionNumber", "InstanceNumber"),
    *("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID", "TemporalPositionIdentifier"),
    *("NumberOfTemporalPositions", "SliceLocation", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames"),
    *("Rows", "Columns", "PixelSpacing", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PixelPaddingValue", "RescaleIntercept", "RescaleSlope", "RescaleType", "RequestedProcedureDescription"),
    *("PerformedProcedureStepDescription", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
"""What identification and conversion read of an instance."""

ENHANCED_CLASSES: Final = (EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage)
CHARACTER_SET_TAG: Final = 0x00080005
UTF_8: Final = "ISO_IR 192"
SIEMENS_B_VALUE, GE_B_VALUE, PHILIPS_B_VALUE = 0x0019100C, 0x00431039, 0x20011003

_VENDOR_TAGS: Final = (SIEMENS_B_VALUE, GE_B_VALUE, PHILIPS_B_VALUE)
TAGS: Final = frozenset(BaseTag(tag) for tag in (*map(tag_for_keyword, KEYWORDS), *_VENDOR_TAGS) if tag)

ORIENTATION_TOLERANCE: Final = 1e-3
"""Largest difference of direction cosines within a stack."""

POSITION_TOLERANCE_MM: Final = 0.01
"""Slices nearer than this along the normal are at one position."""

_GROUPS: Final = {
    "PlanePositionSequence": {"ImagePositionPatient": "ImagePositionPatient"},
    "PlaneOrientationSequence": {"ImageOrientationPatient": "ImageOrientationPatient"},
    "PixelMeasuresSequence": {
        keyword: keyword for keyword in ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices")
    },
    "MREchoSequence": {"EffectiveEchoTime": "EchoTime"},
    "MRTimingAndRelatedParametersSequence": {
        keyword: keyword for keyword in ("RepetitionTime", "FlipAngle", "EchoTrainLength")
    },
    "MRModifierSequence": {"InversionTimes": "InversionTime"},
    "MRDiffusionSequence": {"DiffusionBValue": "DiffusionBValue"},
    "MRImageFrameTypeSequence": {
        "FrameType": "ImageType",
        **{
            keyword: keyword
            for keyword in ("ComplexImageComponent", "AcquisitionContrast", "VolumeBasedCalculationTechnique")
        },
    },
    "PixelValueTransformationSequence": {
        keyword: keyword for keyword in ("RescaleIntercept", "RescaleSlope", "RescaleType")
    },
    "FrameContentSequence": {
        "FrameAcquisitionDateTime": "AcquisitionDateTime",
        "FrameAcquisitionNumber": "AcquisitionNumber",
        "TemporalPositionIndex": "TemporalPositionIdentifier",
    },
}
"""Functional groups of an enhanced instance -> attributes of a classic one."""


def values(header: Dataset, keyword: str | int) -> list[Any]:
    """The values of an attribute as a list; empty where it is missing, empty or unreadable."""
    try:
        value = header[keyword].value
    except (
        Exception
    ):  # KeyError where it is missing; pydicom raises many types for a value that does not fit its representation
        return []
    if value is None or (isinstance(value, str | bytes) and not value):
        return []
    return [value] if isinstance(value, str | bytes) or not isinstance(value, Iterable) else list(value)


def text(header: Dataset, keyword: str) -> str:
    """An attribute as one line of text; empty where it is missing."""
    return " ".join(" ".join(str(value) for value in values(header, keyword)).split())


def words(header: Dataset, keyword: str) -> tuple[str, ...]:
    """An attribute's values in upper case."""
    return tuple(str(value).strip().upper() for value in values(header, keyword) if str(value).strip())


def numbers(header: Dataset, keyword: str, count: int | None = None) -> tuple[float, ...]:
    """An attribute's finite numbers; empty where one cannot be read or there are not ``count`` of them."""
    try:
        found = tuple(float(value) for value in values(header, keyword))
    except (TypeError, ValueError):
        return ()
    if not np.isfinite(found).all() or (count is not None and len(found) != count):
        return ()
    return found


def number(header: Dataset, keyword: str) -> float | None:
    """An attribute's first finite number, or None."""
    return next(iter(numbers(header, keyword)), None)


def acquired(header: Dataset) -> datetime | None:
    """When an instance was acquired, as exactly as its header says; None where it does not."""
    moment = _moment(text(header, "AcquisitionDateTime"))
    if moment is not None:
        return moment
    for kind in ("Acquisition", "Content", "Series", "Study"):
        time = text(header, f"{kind}Time").replace(":", "")
        date = text(header, f"{kind}Date") or text(header, "StudyDate") or "19000101"
        moment = _moment(date.replace(".", "").replace("-", "") + time) if time else None
        if moment is not None:
            return moment
    return None


def _moment(written: str) -> datetime | None:
    digits, _, fraction = written.split("+")[0].split("-")[0].partition(".")
    try:
        moment = datetime.strptime(digits[:14].ljust(14, "0"), "%Y%m%d%H%M%S")
        return moment + timedelta(seconds=float(f"0.{fraction}")) if fraction else moment
    except ValueError:
        return None


def b_value(header: Dataset) -> float | None:
    """Diffusion weighting in s/mm², from the standard's attribute or a vendor's; None where there is none."""
    for tag in ("DiffusionBValue", SIEMENS_B_VALUE, PHILIPS_B_VALUE, GE_B_VALUE):
        for value in values(header, tag)[:1]:
            try:
                written = value.decode("ascii").split("\\")[0] if isinstance(value, bytes) else value
                found = float(written)
            except (TypeError, ValueError, UnicodeDecodeError):
                continue
            # GE adds 10^9 to the value.
            return found % 1e9 if np.isfinite(found) else None
    return None


def patient_key(header: Dataset) -> tuple[str, str]:
    """Stands for the patient's ID and its issuer, empty if that is not named, without naming him; never to be shown."""
    identity = text(header, "PatientID").upper()
    issuer = text(header, "IssuerOfPatientID").upper()
    return _hashed(identity), _hashed(issuer) if issuer else ""


def count_patients(keys: Iterable[tuple[str, str]]) -> int:
    """How many patients there are by their ``patient_key``; an ID without an issuer may be anyone's of that ID."""
    issuers: dict[str, set[str]] = defaultdict(set)
    for identity, issuer in keys:
        issuers[identity].add(issuer)
    return sum(max(1, len(named - {""})) for named in issuers.values())


def _hashed(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()[:16]


class Instance:
    """One DICOM file of an MR image: what its header says. Its pixels stay on disk.

    A header is kept encoded, since 100,000 of pydicom's datasets need gigabytes.

    Args:
        path: the file.
        header: attributes of ``KEYWORDS`` are kept; those whose value cannot be read are not.
        transfer_syntax: UID of the file's encoding.
        patient: of ``patient_key``; None computes it from ``header``.
    """

    __slots__ = (
        *("path", "patient", "transfer_syntax", "sop_class_uid", "sop_uid", "series_uid", "study_uid"),
        "_encoded",
    )

    def __init__(
        self, path: Path, header: Dataset, transfer_syntax: str = "", patient: tuple[str, str] | None = None
    ) -> None:
        self.path = path
        self.patient = patient_key(header) if patient is None else patient
        meta = getattr(header, "file_meta", None) or Dataset()
        self.transfer_syntax = sys.intern(transfer_syntax or text(meta, "TransferSyntaxUID"))
        self.sop_class_uid = sys.intern(text(header, "SOPClassUID"))
        self.study_uid = sys.intern(text(header, "StudyInstanceUID"))
        self.series_uid = sys.intern(text(header, "SeriesInstanceUID"))
        self.sop_uid = text(header, "SOPInstanceUID")
        self._encoded = _encode(header)

    @property
    def header(self) -> Dataset:
        """The attributes kept; a new dataset at every call."""
        return read_dataset(BytesIO(self._encoded), is_implicit_VR=False, is_little_endian=True)

    @property
    def enhanced(self) -> bool:
        """Whether it is a multi-frame object with functional groups."""
        return self.sop_class_uid in ENHANCED_CLASSES

    def __repr__(self) -> str:
        return f"Instance({str(self.path)!r})"


def _encode(header: Dataset) -> bytes:
    """The attributes kept, as explicit little endian in UTF-8, whatever the file is in."""
    charset = header.original_character_set
    encodings = (charset,) if isinstance(charset, str) else tuple(charset)
    signed = next(iter(values(header, "PixelRepresentation")), 0)
    parts = [_encode_element(DataElement(CHARACTER_SET_TAG, "CS", UTF_8))]
    for tag in sorted(header.keys() & TAGS - {CHARACTER_SET_TAG}):
        raw = header.get_item(tag)
        if isinstance(raw, RawDataElement) and isinstance(raw.value, bytes) and raw.VR != "SQ":
            parts.append(_encode_raw(tag, raw.VR, raw.value, *raw[5:7], encodings, signed))
        else:
            parts.append(_encode_readable(header, tag))
    return b"".join(parts)


# Most attributes repeat from slice to slice, and decoding is what indexing an export spends its time on.
@lru_cache(maxsize=8192)
def _encode_raw(
    tag: int, vr: str | None, value: bytes, implicit: bool, little: bool, encodings: tuple[str, ...], signed: int
) -> bytes:
    header = Dataset()
    header.PixelRepresentation = signed
    try:
        raw = RawDataElement(BaseTag(tag), vr, len(value), value, 0, implicit, little)
        element = convert_raw_data_element(raw, encoding=list(encodings), ds=header)
        header[tag] = element
    except Exception:  # as in ``values``
        return b""
    return _encode_readable(header, tag)


def _encode_readable(header: Dataset, tag: int) -> bytes:
    try:
        element = header[tag]
        if element.VR == "SQ":
            element = _pruned_items(element)
        elif len(element.VR) != 2:
            element = correct_ambiguous_vr_element(element, header, True)  # type: ignore[assignment]
        elif element.VR in ("DS", "IS"):
            # pydicom may keep what is no number as text.
            numbers_in = [float(value) for value in values(header, tag)]
            return _encode_element(element) if np.isfinite(numbers_in).all() else b""
    except Exception:  # as in ``values``
        return b""
    return _encode_element(element)


def _encode_element(element: DataElement) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    try:
        write_data_element(buffer, element, UTF_8)
    except Exception:  # a value that no writer accepts is as good as a missing one
        return b""
    return buffer.getvalue()


def _pruned_items(element: DataElement) -> DataElement:
    return DataElement(element.tag, "SQ", Items([_pruned(item) for item in element.value]))


def _pruned(item: Dataset) -> Dataset:
    """An item without the functional groups that nobody here reads."""
    kept = Dataset()
    for keyword in (*_GROUPS, "CodeMeaning", "CodeValue"):
        if keyword in item:
            kept[keyword] = item[keyword]
    return kept


class _Plane(NamedTuple):
    instance: Instance
    frame: int | None
    header: Dataset
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    along_mm: float

    @property
    def at(self) -> int:
        return round(self.along_mm / POSITION_TOLERANCE_MM)


@dataclass(frozen=True)
class Stack:
    """One volume.

    Args:
        number: within its series, from 1.
        instances: classic: one per slice, in order along the normal; enhanced: exactly one.
        frames: enhanced: 0-based frames in order along the normal; None for classic.
        notes: sentences about how it was put together.
    """

    number: int
    instances: tuple[Instance, ...]
    frames: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def header(self) -> Dataset:
        """Of the first slice, as a classic instance would say it."""
        return self._slice(0)

    @property
    def slices(self) -> tuple[Dataset, ...]:
        """Header per slice, in order along the normal, as a classic instance would say it."""
        if self.frames is not None:
            headers = flat_headers(self.instances[0])
            return tuple(headers[frame] for frame in self.frames)
        return tuple(instance.header for instance in self.instances)

    def _slice(self, index: int) -> Dataset:
        if self.frames is None:
            return self.instances[index].header
        return flat_headers(self.instances[0], [self.frames[index]])[0]

    @property
    def study_uid(self) -> str:
        """StudyInstanceUID."""
        return self.instances[0].study_uid

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID."""
        return self.instances[0].series_uid

    @property
    def description(self) -> str:
        """SeriesDescription, else ProtocolName."""
        return text(self.header, "SeriesDescription") or text(self.header, "ProtocolName")

    @property
    def frame_of_reference_uid(self) -> str:
        """FrameOfReferenceUID; empty where the header does not say."""
        return text(self.header, "FrameOfReferenceUID")

    @property
    def orientation(self) -> NDArray[np.float64]:
        """Direction cosines of row, column and normal ``(3, 3)``, one per row, in patient coordinates."""
        cosines = np.array(numbers(self.header, "ImageOrientationPatient", 6)).reshape(2, 3)
        return np.stack([*cosines, np.cross(*cosines)])

    @cached_property
    def positions(self) -> NDArray[np.float64]:
        """ImagePositionPatient per slice ``(N, 3)`` in mm, in order along the normal."""
        return np.array([numbers(header, "ImagePositionPatient", 3) for header in self.slices])

    @property
    def plane(self) -> str:
        """``axial``, ``sagittal`` or ``coronal``, whichever is nearest."""
        return ("sagittal", "coronal", "axial")[int(np.abs(self.orientation[2]).argmax())]

    @cached_property
    def gaps_mm(self) -> NDArray[np.float64]:
        """Distances ``(N - 1,)`` between neighbouring slices along the normal."""
        return np.diff(self.positions @ self.orientation[2])

    @property
    def spacing_mm(self) -> float:
        """Usual distance between slices; the slice thickness where there is one slice only."""
        if len(self.gaps_mm):
            return float(np.median(self.gaps_mm))
        return number(self.header, "SliceThickness") or 0.0

    @property
    def extent_mm(self) -> float:
        """Length covered along the normal, the outer slices' thickness included."""
        return float(self.gaps_mm.sum()) + self.spacing_mm

    @property
    def uniform(self) -> bool:
        """Whether no slice is missing, and all are equally far apart."""
        return len(self.gaps_mm) > 0 and bool((np.abs(self.gaps_mm - self.spacing_mm) < 0.1 * self.spacing_mm).all())

    @property
    def size(self) -> int:
        """Number of slices."""
        return len(self.instances) if self.frames is None else len(self.frames)


@dataclass(frozen=True)
class Ignored:
    """Instances of a series, or a whole series, that are no image to work with.

    Args:
        series_uid: SeriesInstanceUID; empty where the files do not say.
        description: SeriesDescription.
        reason: a sentence.
        count: number of files or frames.
    """

    series_uid: str
    description: str
    reason: str
    count: int


@dataclass(frozen=True)
class Study:
    """One study of one patient.

    Args:
        uid: StudyInstanceUID.
        stacks: all its volumes.
        ignored: what else was found in it.
    """

    uid: str
    stacks: tuple[Stack, ...]
    ignored: tuple[Ignored, ...] = ()


def build_study(uid: str, instances: Iterable[Instance], ignored: Sequence[Ignored] = ()) -> Study:
    """The study of ``instances``, whose patient and StudyInstanceUID are one."""
    series: dict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        series[instance.series_uid].append(instance)
    stacks: list[Stack] = []
    left_out = list(ignored)
    for members in series.values():
        found, unusable = split_series(members)
        stacks += found
        left_out += unusable
    stacks.sort(key=lambda stack: (number(stack.header, "SeriesNumber") or 0, stack.series_uid, stack.number))
    return Study(uid, tuple(stacks), tuple(left_out))


def split_series(instances: Sequence[Instance]) -> tuple[list[Stack], list[Ignored]]:
    """The volumes in one series, numbered in order of acquisition, and what fits into none."""
    single, repeated = _without_repeated_uids(instances)
    planes, ignored = _place(single)
    groups: list[list[_Plane]] = []
    for group in _by_geometry(planes):
        groups += _volumes(group)
    stacks = sorted((_ordered(group, repeated) for group in groups), key=lambda item: item[0])
    return [_numbered(index, planes, notes) for index, (_, planes, notes) in enumerate(stacks, start=1)], ignored


def _numbered(number: int, planes: list[_Plane], notes: tuple[str, ...]) -> Stack:
    first = planes[0]
    if first.frame is not None:
        return Stack(number, (first.instance,), tuple(int(plane.frame or 0) for plane in planes), notes)
    return Stack(number, tuple(plane.instance for plane in planes), None, notes)


def _without_repeated_uids(instances: Sequence[Instance]) -> tuple[list[Instance], int]:
    by_uid = {instance.sop_uid: instance for instance in instances}
    return list(by_uid.values()), len(instances) - len(by_uid)


def _place(instances: Sequence[Instance]) -> tuple[list[_Plane], list[Ignored]]:
    planes: list[_Plane] = []
    unplaced: Counter[str] = Counter()
    for instance in instances:
        for frame, header in enumerate(flat_headers(instance)):
            plane = _plane(instance, frame if instance.enhanced else None, header)
            if isinstance(plane, str):
                unplaced[plane] += 1
            else:
                planes.append(plane)
    if not unplaced:
        return planes, []
    header = instances[0].header
    return planes, [
        Ignored(instances[0].series_uid, text(header, "SeriesDescription"), why, count)
        for why, count in unplaced.items()
    ]


def _plane(instance: Instance, frame: int | None, header: Dataset) -> _Plane | str:
    """The plane, or why its place is unknown."""
    position = np.array(numbers(header, "ImagePositionPatient", 3))
    orientation = np.array(numbers(header, "ImageOrientationPatient", 6))
    for keyword, found in (("ImagePositionPatient", position), ("ImageOrientationPatient", orientation)):
        if not len(found):
            return f"{keyword} is missing or unreadable, so the slice has no place in space"
    row, column = orientation.reshape(2, 3)
    if abs(np.linalg.norm(row) - 1) > 0.01 or abs(np.linalg.norm(column) - 1) > 0.01 or abs(row @ column) > 0.01:
        return "ImageOrientationPatient does not hold two perpendicular unit vectors"
    if np.abs(position).max() > 1e6:
        return "ImagePositionPatient lies more than a kilometre away"
    return _Plane(instance, frame, header, position, orientation, float(np.cross(row, column) @ position))


def flat_headers(instance: Instance, frames: Sequence[int] | None = None) -> list[Dataset]:
    """Header per frame, with the attributes of an enhanced instance where a classic one has them.

    Args:
        instance: classic (one header) or enhanced.
        frames: of an enhanced instance; None takes all.
    """
    whole = instance.header
    if not instance.enhanced:
        return [whole]
    shared = (_items(whole, "SharedFunctionalGroupsSequence") or [Dataset()])[0]
    per_frame = _items(whole, "PerFrameFunctionalGroupsSequence")
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        if keyword in whole:
            del whole[keyword]
    _flatten(shared, whole)
    headers = []
    for frame in range(len(per_frame)) if frames is None else frames:
        header = Dataset()
        header.update(whole)
        _flatten(per_frame[frame], header)
        headers.append(header)
    return headers


def _items(header: Dataset, keyword: str) -> list[Dataset]:
    return [item for item in values(header, keyword) if isinstance(item, Dataset)]


def _flatten(groups: Dataset, header: Dataset) -> None:
    for sequence, names in _GROUPS.items():
        for item in _items(groups, sequence)[:1]:
            for source, target in names.items():
                found = values(item, source)
                if found:
                    try:
                        setattr(header, target, found[0] if len(found) == 1 else found)
                    except Exception:  # as in ``values``
                        continue


def _by_geometry(planes: Iterable[_Plane]) -> list[list[_Plane]]:
    """Planes of one orientation, matrix and pixel size; of one instance where it is enhanced."""
    groups: dict[Any, list[_Plane]] = defaultdict(list)
    orientations: list[NDArray[np.float64]] = []
    for plane in planes:
        near = [np.abs(plane.orientation - known).max() <= ORIENTATION_TOLERANCE for known in orientations]
        if True not in near:
            orientations.append(plane.orientation)
            near.append(True)
        spacing = tuple(round(side, 4) for side in numbers(plane.header, "PixelSpacing"))
        matrix = (number(plane.header, "Rows"), number(plane.header, "Columns"))
        enhanced = plane.instance.sop_uid if plane.frame is not None else None
        groups[near.index(True), matrix, spacing, enhanced, words(plane.header, "ImageType")[:3]].append(plane)
    return list(groups.values())


_Names = Callable[[list[_Plane]], list[Any]]


def _nearly(keyword: str, least: float, fraction: float) -> _Names:
    """Values of a numerical attribute, those that differ by no more than noise being one."""

    def clusters(planes: list[_Plane]) -> list[Any]:
        found = [b_value(p.header) if keyword == "b" else number(p.header, keyword) for p in planes]
        names: dict[float | None, int] = {None: -1}
        previous: float | None = None
        for value in sorted({value for value in found if value is not None}):
            apart = previous is None or value - previous > max(least, fraction * abs(previous))
            names[value] = len(names) if apart or previous is None else names[previous]
            previous = value
        return [names[value] for value in found]

    return clusters


_SPLITS: Final[tuple[_Names, ...]] = (
    lambda planes: [words(plane.header, "ImageType") for plane in planes],
    _nearly("b", 5, 0.02),
    _nearly("EchoTime", 0.3, 0.05),
    _nearly("InversionTime", 20, 0.05),
    _nearly("FlipAngle", 1, 0.05),
    lambda planes: [number(plane.header, "TemporalPositionIdentifier") for plane in planes],
    lambda planes: [number(plane.header, "AcquisitionNumber") for plane in planes],
    lambda planes: _occurrence(planes),
)
"""What tells volumes at the same positions from each other, strongest first."""


def _volumes(planes: list[_Plane], splits: Sequence[_Names] = _SPLITS) -> list[list[_Plane]]:
    """One volume, or several, where positions repeat or slices are unevenly spaced and an attribute explains it."""
    if not splits or not (_repeats(planes) or _uneven(planes)):
        return [planes]
    parts: dict[Any, list[_Plane]] = defaultdict(list)
    for plane, name in zip(planes, splits[0](planes), strict=True):
        parts[name].append(plane)
    positions = len({plane.at for plane in planes})
    # An attribute that differs from slice to slice tells no volumes apart.
    whole = [part for part in parts.values() if len(part) >= max(2, min(5, positions / 2))]
    if len(whole) < 2 or (not _repeats(planes) and any(_uneven(part) for part in whole)):
        return _volumes(planes, splits[1:])
    return [volume for part in parts.values() for volume in _volumes(part, splits[1:])]


def _repeats(planes: list[_Plane]) -> bool:
    return len({plane.at for plane in planes}) < len(planes)


def _uneven(planes: list[_Plane]) -> bool:
    gaps = np.diff(sorted(plane.along_mm for plane in planes))
    return len(gaps) > 1 and bool((np.abs(gaps - np.median(gaps)) > 0.1 * np.median(gaps)).any())


def _occurrence(planes: list[_Plane]) -> list[int]:
    """Which visit of its position each plane is, where every position was visited equally often at other times."""
    visits: dict[int, list[int]] = defaultdict(list)
    for index in sorted(range(len(planes)), key=lambda index: _recency(planes[index])):
        visits[planes[index].at].append(index)
    names = [0] * len(planes)
    if len({len(indices) for indices in visits.values()}) == 1:
        for indices in visits.values():
            if len({acquired(planes[index].header) for index in indices}) == len(indices):
                for name, index in enumerate(indices):
                    names[index] = name
    return names


def _recency(plane: _Plane) -> tuple[float, datetime, float]:
    return (
        number(plane.header, "AcquisitionNumber") or 0.0,
        acquired(plane.header) or datetime.min,
        number(plane.header, "InstanceNumber") or 0.0,
    )


def _ordered(planes: list[_Plane], repeated: int) -> tuple[tuple[Any, ...], list[_Plane], tuple[str, ...]]:
    """Key to sort stacks by, planes in order along the normal without duplicates, and notes."""
    latest = {plane.at: plane for plane in (sorted(planes, key=_recency) if _repeats(planes) else planes)}
    ordered = [latest[at] for at in sorted(latest)]
    notes = []
    if repeated:
        notes.append(f"{repeated} files of this series repeat a SOPInstanceUID; one of each was kept")
    if len(ordered) < len(planes):
        notes.append(
            f"{len(planes) - len(ordered)} slices lie at the position of another; "
            "the one with the highest AcquisitionNumber was kept"
        )
    first = ordered[0]
    key = (*_recency(first), number(first.header, "EchoTime") or 0.0, first.along_mm)
    return key, ordered, tuple(notes)
