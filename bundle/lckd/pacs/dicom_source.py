"""What all our DICOM objects have in common: valid values of the series they belong to, and how they are saved."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pydicom.valuerep import DSfloat, PersonName, validate_value

from lckd.errors import StudyError, reason
from lckd.files import write_atomically
from lckd.pacs.conversion import RAS_TO_LPS, Planes
from lckd.pacs.study import Stack, number, numbers

PATIENT_AND_STUDY: Final = {
    "PatientID": 2,
    "PatientName": 2,
    "PatientBirthDate": 2,
    "PatientSex": 2,
    "AccessionNumber": 2,
    "StudyID": 2,
    "StudyDate": 2,
    "StudyTime": 2,
    "ReferringPhysicianName": 2,
    "PositionReferenceIndicator": 2,
    "IssuerOfPatientID": 3,
    "OtherPatientIDs": 3,
    "EthnicGroup": 3,
    "PatientIdentityRemoved": 3,
    "DeidentificationMethod": 3,
    "DeidentificationMethodCodeSequence": 3,
    "StudyDescription": 3,
    "ProcedureCodeSequence": 3,
    "ReasonForPerformedProcedureCodeSequence": 3,
    "PatientAge": 3,
    "PatientSize": 3,
    "PatientWeight": 3,
    "ClinicalTrialSponsorName": 3,
    "ClinicalTrialProtocolID": 3,
    "ClinicalTrialProtocolName": 3,
    "ClinicalTrialSiteID": 3,
    "ClinicalTrialSubjectID": 3,
    "ClinicalTrialTimePointID": 3,
    "Manufacturer": 3,
    "ManufacturerModelName": 3,
    "DeviceSerialNumber": 3,
    "SoftwareVersions": 3,
    "LossyImageCompression": 3,
    "LossyImageCompressionRatio": 3,
    "LossyImageCompressionMethod": 3,
}
"""What is copied from the source; type 2 must be present but may be empty, type 3 may be missing."""


@dataclass(frozen=True)
class Source:
    """The source series as highdicom needs it: only what a result copies or refers to.

    Attributes:
        datasets: one per slice, or one enhanced with the stack's frames.
        references: of ``references_of``.
        warnings: what was repaired; without values, which name the patient.
    """

    datasets: list[Dataset]
    references: tuple[tuple[str, int | None], ...]
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, stack: Stack, planes: Planes) -> "Source":
        """The source that ``stack`` is, whose slices lie on ``planes``.

        Raises:
            StudyError: its first file cannot be read.
        """
        common, warnings = _common_attributes(stack)
        slices = stack.slices
        spacing_mm = float(np.median(np.diff(planes.heights_mm))) if len(slices) > 1 else None
        measures = Dataset()
        measures.PixelSpacing = [_decimal(side) for side in planes.pixel_mm[::-1]]
        measures.SliceThickness = _decimal(number(slices[0], "SliceThickness") or spacing_mm or 1.0)
        if spacing_mm is not None:
            measures.SpacingBetweenSlices = _decimal(spacing_mm)
        orientation = [_decimal(cosine) for cosine in numbers(slices[0], "ImageOrientationPatient", 6)]
        positions = [[_decimal(mm) for mm in position] for position in planes.origins @ RAS_TO_LPS]
        if stack.frames is None:
            datasets = [
                _classic(common, instance.sop_uid, measures, orientation, position)
                for instance, position in zip(stack.instances, positions, strict=True)
            ]
        else:
            datasets = [_enhanced(common, stack.instances[0].sop_uid, measures, orientation, positions)]
        return cls(datasets, references_of(stack), warnings)


def references_of(stack: Stack) -> tuple[tuple[str, int | None], ...]:
    """Per slice its SOPInstanceUID and, where that holds many, the number of the frame, from 1."""
    if stack.frames is None:
        return tuple((instance.sop_uid, None) for instance in stack.instances)
    return tuple((stack.instances[0].sop_uid, frame + 1) for frame in stack.frames)


def save(dataset: Dataset, path: Path, compare: Callable[[Path], None]) -> None:
    """Write a result under its name once ``compare`` has read it back and found what it should hold.

    Raises:
        StudyError: of ``compare``, or the file cannot be written; then nothing is left behind.
    """

    def write(temporary: Path) -> None:
        dataset.save_as(temporary, enforce_file_format=True)
        compare(temporary)

    try:
        write_atomically(path, write)
    except OSError as error:
        raise StudyError(
            f"{path} cannot be written ({error.strerror or error}); free space or choose another"
        ) from error


def _common_attributes(stack: Stack) -> tuple[Dataset, tuple[str, ...]]:
    """What all instances of the source share, cleaned, and warnings."""
    path = stack.instances[0].path
    try:
        with config.disable_value_validation():  # a warning would show the patient's data
            original = dcmread(path, stop_before_pixels=True, force=True)
            common, dropped = _cleaned(original)
    except Exception as error:  # pydicom raises many types
        raise StudyError(
            f"instance {stack.instances[0].sop_uid} cannot be read ({reason(error)}); "
            "a result needs its patient and study"
        ) from error
    warnings = []
    if dropped:
        warnings.append(f"{', '.join(dropped)} of the source hold no valid value and were not copied into the results")
    common.Modality, common.SOPClassUID = "MR", stack.instances[0].sop_class_uid
    common.StudyInstanceUID, common.SeriesInstanceUID = stack.study_uid, stack.series_uid
    common.Rows, common.Columns = (int(number(stack.header, keyword) or 0) for keyword in ("Rows", "Columns"))
    common.FrameOfReferenceUID = stack.frame_of_reference_uid
    if not common.FrameOfReferenceUID:
        common.FrameOfReferenceUID = generate_uid(entropy_srcs=[stack.series_uid])
        warnings.append(
            "the source has no FrameOfReferenceUID; the results have a new one, so viewers may not overlay them"
        )
    common.SeriesNumber = int(np.clip(number(stack.header, "SeriesNumber") or 0, 0, 99_999))
    if any(not str(element.value).isascii() for element in common):
        common.SpecificCharacterSet = "ISO_IR 192"
    return common, tuple(warnings)


def _cleaned(original: Dataset) -> tuple[Dataset, list[str]]:
    """The attributes that are copied, and the keywords of those that hold no valid value."""
    clean, dropped = Dataset(), []
    for keyword, kind in PATIENT_AND_STUDY.items():
        value = _valid(original, keyword) if keyword in original else None
        if value is None and keyword in original and not _is_empty(original, keyword):
            dropped.append(keyword)
        if value is not None:
            setattr(clean, keyword, value)
        elif kind == 2:
            setattr(clean, keyword, "")
    return clean, dropped


def _is_empty(original: Dataset, keyword: str) -> bool:
    try:
        return original[keyword].is_empty
    except Exception:  # as in ``_valid``
        return False


def _valid(original: Dataset, keyword: str) -> Any:
    """An attribute's value, or None where it is missing or not as the standard has it."""
    try:
        element = original[keyword]
        if element.is_empty:
            return None
        if element.VR == "SQ":
            return [item for item in map(_valid_code, element.value) if item is not None] or None
        values = list(element.value) if element.VM > 1 else [element.value]
        for value in values:
            validate_value(element.VR, value, config.RAISE)
        if keyword == "PatientSex" and element.value not in ("M", "F", "O"):
            return None
        return PersonName(str(element.value)) if element.VR == "PN" else element.value
    except Exception:  # pydicom raises many types for a value that does not fit its representation
        return None


def _valid_code(item: Dataset) -> Dataset | None:
    """A code with all that its macro requires and nothing else, or None."""
    code = Dataset()
    for keyword in ("CodeValue", "LongCodeValue", "URNCodeValue", "CodingSchemeDesignator", "CodeMeaning"):
        value = _valid(item, keyword) if keyword in item else None
        if value is not None:
            setattr(code, keyword, value)
    coded = "URNCodeValue" in code or (
        "CodingSchemeDesignator" in code and ("CodeValue" in code or "LongCodeValue" in code)
    )
    return code if coded and "CodeMeaning" in code else None


def _decimal(value: float) -> DSfloat:
    return DSfloat(float(value) + 0.0, auto_format=True)


def _classic(
    common: Dataset, uid: str, measures: Dataset, orientation: list[DSfloat], position: list[DSfloat]
) -> Dataset:
    dataset = Dataset()
    dataset.update(common)
    dataset.update(measures)
    dataset.SOPInstanceUID = uid
    dataset.ImageOrientationPatient, dataset.ImagePositionPatient = orientation, position
    return dataset


def _enhanced(
    common: Dataset, uid: str, measures: Dataset, orientation: list[DSfloat], positions: list[list[DSfloat]]
) -> Dataset:
    dataset, turned, shared = Dataset(), Dataset(), Dataset()
    dataset.update(common)
    dataset.SOPInstanceUID, dataset.NumberOfFrames = uid, len(positions)
    turned.ImageOrientationPatient = orientation
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [turned]
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for position in positions:
        placed, frame = Dataset(), Dataset()
        placed.ImagePositionPatient = position
        frame.PlanePositionSequence = [placed]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    return dataset
