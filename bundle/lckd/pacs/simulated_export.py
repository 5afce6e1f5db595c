"""A simulated study as a PACS exports it: realistic headers, thick slices, motion, and series that are of no use.

The patient is fictitious. The same arguments write the same files, UIDs included.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from scipy import ndimage
from scipy.spatial.transform import Rotation

from lckd.errors import StudyError
from lckd.images import Image
from lckd.pacs.simulated_head import simulate_head
from lckd.sequences import SEQUENCES, parse_subset
from lckd.simulation import PROTOCOLS, SimulatedStudy

RAS_TO_LPS: Final = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Of affines. DICOM's patient axes point to the left and posterior; ours to the right and anterior."""

PLANES: Final = {
    "axial": ((1, 0, 0), (0, 1, 0)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
}
"""Directions in LPS in which the column index and the row index grow."""

ACQUISITION_ORDER: Final = ("t1", "t2", "flair", "t1ce")
CONTRAST_TAGS: Final = ("right", "missing", "stamped")
EXTRAS: Final = ("localizer", "dwi", "adc")

_IN_GROUPS: Final = (
    *("ImageType", "ScanningSequence", "SequenceVariant", "MRAcquisitionType", "RepetitionTime", "EchoTime"),
    *("InversionTime", "FlipAngle", "EchoTrainLength", "DiffusionBValue", "ContrastBolusAgent", "ContrastBolusVolume"),
)
"""Attributes that an Enhanced MR instance has in sequences or not at all."""


@dataclass(frozen=True)
class Vendor:
    """How one manufacturer fills its headers.

    Attributes:
        manufacturer: also in the spelling its scanners use; likewise ``model`` and ``software``.
        descriptions: SeriesDescription per sequence.
        image_type: of an original image.
        spin_echo: ScanningSequence and SequenceVariant of T1 and T2; ``inversion`` those of FLAIR.
    """

    manufacturer: str
    model: str
    software: str
    descriptions: Mapping[str, str]
    image_type: tuple[str, ...]
    spin_echo: tuple[str, str] = ("SE", "SK")
    inversion: tuple[str, str] = ("IR", "SK")


VENDORS: Final = {
    "siemens": Vendor(
        "SIEMENS",
        "Avanto",
        "syngo MR B19",
        {
            "flair": "t2_tirm_tra_dark-fluid",
            "t1": "t1_se_tra",
            "t1ce": "t1_se_tra_KM",
            "t2": "t2_tse_tra_512",
        },
        ("ORIGINAL", "PRIMARY", "M", "ND", "NORM"),
        spin_echo=("SE", "SK\\SP\\OSP"),
        inversion=("SE\\IR", "SK\\SP\\MP\\OSP"),
    ),
    "ge": Vendor(
        "GE MEDICAL SYSTEMS",
        "SIGNA HDxt",
        "24\\LX\\MR Software release",
        {"flair": "Ax T2 FLAIR", "t1": "Ax T1", "t1ce": "Ax T1 +C", "t2": "Ax T2 FSE"},
        ("ORIGINAL", "PRIMARY", "OTHER"),
    ),
    "philips": Vendor(
        "Philips Medical Systems",
        "Ingenia",
        "5.3.0",
        {"flair": "FLAIR_longTR", "t1": "T1W_SE", "t1ce": "T1W_SE GD", "t2": "T2W_TSE"},
        ("ORIGINAL", "PRIMARY", "M_SE", "M", "SE"),
    ),
    "canon": Vendor(
        "CANON_MEC",
        "Vantage Titan",
        "V6.0",
        {"flair": "FLAIR AX", "t1": "T1 SE AX", "t1ce": "T1 SE AX CE", "t2": "T2 FSE AX"},
        ("ORIGINAL", "PRIMARY"),
    ),
}


@dataclass(frozen=True)
class SliceGrid:
    """Where the slices of a series lie.

    Attributes:
        plane: ``axial``, ``coronal`` or ``sagittal``.
        oblique_degrees: turns of that plane about the patient's x, y and z.
        pixel_mm: distance of rows, and of columns, as PixelSpacing has it.
        thickness_mm: of a slice, over which the signal is averaged.
        gap_mm: between slices.
    """

    plane: str = "axial"
    oblique_degrees: tuple[float, float, float] = (0.0, 0.0, 0.0)
    pixel_mm: tuple[float, float] = (0.9, 0.9)
    thickness_mm: float = 5.0
    gap_mm: float = 0.0

    def affine(self) -> NDArray[np.float64]:
        """Voxel (column, row, slice) to RAS in mm, with the origin at 0."""
        if self.plane not in PLANES:
            raise StudyError(f"unknown plane {self.plane!r}; accepted are {', '.join(PLANES)}")
        turn = Rotation.from_euler("xyz", self.oblique_degrees, degrees=True).as_matrix()
        along_columns, along_rows = (turn @ np.array(axis, float) for axis in PLANES[self.plane])
        normal = np.cross(along_columns, along_rows)
        lps = np.eye(4)
        lps[:3, :3] = np.stack(
            [
                along_columns * self.pixel_mm[1],
                along_rows * self.pixel_mm[0],
                normal * (self.thickness_mm + self.gap_mm),
            ],
            axis=1,
        )
        return RAS_TO_LPS @ lps


@dataclass(frozen=True)
class SeriesHeader:
    """What the headers of one series say.

    Attributes:
        number: SeriesNumber; series of one study with the same number are the same series.
        description: SeriesDescription; None leaves it out.
        study: what the UIDs are derived from; one value per study.
        attributes: any further DICOM attributes by keyword; None takes one out.
        thickness_mm: SliceThickness; the distance of the slices if None.
        rescale: slope and intercept of the stored values; None stores whole numbers as they are.
        multiframe: one Enhanced MR instance instead of one MR instance per slice.
        first_instance: InstanceNumber of the first slice.
    """

    number: int
    description: str | None
    study: str = "simulated"
    attributes: Mapping[str, Any] = field(default_factory=dict)
    thickness_mm: float | None = None
    rescale: tuple[float, float] | None = None
    multiframe: bool = False
    first_instance: int = 1

    @property
    def study_uid(self) -> UID:
        """StudyInstanceUID."""
        return generate_uid(entropy_srcs=[self.study])

    @property
    def series_uid(self) -> UID:
        """SeriesInstanceUID."""
        return generate_uid(entropy_srcs=[self.study, str(self.number)])

    @property
    def frame_of_reference_uid(self) -> UID:
        """FrameOfReferenceUID, one per study."""
        return generate_uid(entropy_srcs=[self.study, "frame of reference"])

    def instance_uid(self, number: int) -> UID:
        """SOPInstanceUID of the instance with that InstanceNumber."""
        return generate_uid(entropy_srcs=[self.study, str(self.number), str(number)])


@dataclass(frozen=True)
class Export:
    """A written export and its truth.

    Attributes:
        folder: what a PACS would give.
        study_uid: of the one study in it.
        series_uids: per sequence and extra.
        motion: per sequence a rigid ``(4, 4)`` from the study's world to where the head lay in that series (RAS, mm).
    """

    folder: Path
    study_uid: str
    series_uids: dict[str, str]
    motion: dict[str, NDArray[np.float64]]


def write_export(
    study: SimulatedStudy,
    folder: str | Path,
    sequences: tuple[str, ...] = SEQUENCES,
    vendor: str = "siemens",
    grids: Mapping[str, SliceGrid] | SliceGrid | None = None,
    descriptions: Mapping[str, str | None] | None = None,
    contrast_tags: str = "right",
    extras: Iterable[str] = EXTRAS,
    skull: bool = True,
    motion_degrees: float = 0.0,
    motion_mm: float = 0.0,
    multiframe: bool = False,
    seed: int = 0,
) -> Export:
    """Write a study as a PACS export of nested folders and files without extension.

    Args:
        study: what the scanner sees.
        folder: made if missing.
        sequences: the subset to write; it is acquired in ``ACQUISITION_ORDER``.
        vendor: one of ``VENDORS``.
        grids: of all series, or per sequence; axial slices of 5 mm at 6 mm distance if not given.
        descriptions: SeriesDescription per sequence instead of the vendor's; None leaves it out.
        contrast_tags: ``right`` on T1ce only, ``missing`` everywhere, or ``stamped`` on every series.
        extras: series that must not be used: ``localizer``, ``dwi``, ``adc``.
        skull: put a head around the brain.
        motion_degrees: largest turn of the head between series, about each axis.
        motion_mm: likewise its shift.
        multiframe: one Enhanced MR instance per series.
        seed: of the head around the brain, the motion and the UIDs.

    Raises:
        StudyError: an unknown sequence, vendor, plane, kind of contrast tags or extra series.
    """
    _check(vendor, VENDORS, "vendor")
    _check(contrast_tags, CONTRAST_TAGS, "contrast tags")
    extras = tuple(extras)
    for extra in extras:
        _check(extra, EXTRAS, "extra series")
    chosen: list[str] = [name for name in ACQUISITION_ORDER if name in parse_subset(sequences)]
    rng = np.random.default_rng(seed)
    seen = simulate_head(study, seed) if skull else study
    images = {name: Image(seen.images[name], seen.affine) for name in chosen}
    folder = Path(folder)
    root = folder / "DICOM" / "PA000001" / "ST000001"
    base = SeriesHeader(number=1, description=None, study=f"simulated {seed}", multiframe=multiframe)
    motion = {name: _draw_motion(rng, motion_degrees, motion_mm) for name in chosen}
    uids = {}
    first = next(iter(images.values()))
    for number, name in enumerate([*(e for e in EXTRAS if e in extras), *chosen], start=1):
        header = replace(base, number=number)
        uids[name] = str(header.series_uid)
        place = root / f"SE{number:06d}"
        if name in EXTRAS:
            _write_extra(name, first, header, VENDORS[vendor], place)
            continue
        grid = grids if isinstance(grids, SliceGrid) else (grids or {}).get(name, SliceGrid(gap_mm=1.0))
        header = _sequence_header(header, name, VENDORS[vendor], grid, contrast_tags)
        if descriptions is not None and name in descriptions:
            header = replace(header, description=descriptions[name])
        write_series(acquire(images[name], grid, motion[name]), header, place)
    return Export(folder, str(base.study_uid), uids, motion)


def write_series(image: Image, header: SeriesHeader, folder: str | Path) -> list[Path]:
    """Write any volume as one DICOM MR series.

    Args:
        image: ``(columns, rows, slices)`` and its affine; without a rescale its values are rounded.
        header: what the headers say.
        folder: made if missing; files are called IM000001 and so on.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    make = _multiframe_dataset if header.multiframe else _slice_datasets
    paths = []
    for dataset in make(image, header):
        for keyword, value in header.attributes.items():
            if header.multiframe and keyword in _IN_GROUPS:
                continue
            if value is None:
                dataset.pop(keyword, None)
            else:
                setattr(dataset, keyword, value)
        path = folder / f"IM{int(dataset.InstanceNumber):06d}"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def as_displayed(image: Image) -> Image:
    """The same image with its axes as a scanner writes them: rows from head or front, columns from the patient's right.

    The axis with the largest voxels becomes the slices'; axial slices are preferred.
    """
    axes = nib.orientations.io_orientation(image.affine)[:, 0].astype(int)
    sizes = np.linalg.norm(image.affine[:3, :3], axis=0).round(1)
    through = max(range(3), key=lambda axis: (sizes[axis], axes[axis]))
    wanted = nib.orientations.axcodes2ornt(("PIR", "LIP", "LPS")[axes[through]])
    change = nib.orientations.ornt_transform(nib.orientations.io_orientation(image.affine), wanted)
    array = nib.orientations.apply_orientation(image.array, change)
    return Image(array, image.affine @ nib.orientations.inv_ornt_aff(change, image.array.shape))


def acquire(image: Image, grid: SliceGrid, motion: NDArray[np.float64] | None = None) -> Image:
    """The image as slices of ``grid`` show it after ``motion`` of the head; the whole field of view is covered."""
    affine = grid.affine()
    corners = np.stack(np.meshgrid(*[(-0.5, n - 0.5) for n in image.array.shape]), -1).reshape(-1, 3)
    corners = corners @ image.affine[:3, :3].T + image.affine[:3, 3]
    indices = corners @ np.linalg.inv(affine[:3, :3]).T
    shape = np.ceil(np.ptp(indices, axis=0)).astype(int)
    affine[:3, 3] = affine[:3, :3] @ ((indices.max(0) + indices.min(0)) / 2 - (shape - 1) / 2)
    to_voxels = np.linalg.inv((np.eye(4) if motion is None else motion) @ image.affine) @ affine
    part = grid.thickness_mm / (grid.thickness_mm + grid.gap_mm)
    steps = max(1, round(grid.thickness_mm))
    array = np.zeros(shape, np.float32)
    for height in ((np.arange(steps) + 0.5) / steps - 0.5) * part:
        offset = to_voxels[:3, 3] + to_voxels[:3, 2] * height
        array += ndimage.affine_transform(image.array, to_voxels[:3, :3], offset, tuple(shape), order=1)
    array /= steps
    return Image(array, affine)


# --- headers ----------------------------------------------------------------------------------------------------------


def _sequence_header(
    header: SeriesHeader, name: str, vendor: Vendor, grid: SliceGrid, contrast_tags: str
) -> SeriesHeader:
    """The header of an original series of one sequence, with the physics of ``PROTOCOLS``."""
    protocol = PROTOCOLS[name]
    scanning, variant = vendor.spin_echo if protocol.ti_ms is None else vendor.inversion
    attributes = _equipment(vendor) | {
        "ImageType": list(vendor.image_type),
        "ScanningSequence": scanning.split("\\"),
        "SequenceVariant": variant.split("\\"),
        "MRAcquisitionType": "2D",
        "RepetitionTime": protocol.tr_ms,
        "EchoTime": protocol.te_ms,
        "ProtocolName": vendor.descriptions[name],
        "FlipAngle": 90,
        "EchoTrainLength": 1 if protocol.tr_ms < 1000 else 16,
    }
    if header.multiframe:
        attributes |= {"PulseSequenceName": "SPIN ECHO", "EchoPulseSequence": "SPIN"}
        attributes["AcquisitionContrast"] = {"flair": "FLUID_ATTENUATED", "t2": "T2"}.get(name, "T1")
    if protocol.ti_ms is not None:
        attributes["InversionTime"] = protocol.ti_ms
    if contrast_tags == "stamped" or (contrast_tags == "right" and protocol.enhanced):
        attributes |= {"ContrastBolusAgent": "Gadovist", "ContrastBolusVolume": 7.5}
    return replace(
        header,
        description=vendor.descriptions[name],
        thickness_mm=grid.thickness_mm,
        attributes=attributes,
    )


def _equipment(vendor: Vendor) -> dict[str, Any]:
    return {
        "Manufacturer": vendor.manufacturer,
        "ManufacturerModelName": vendor.model,
        "SoftwareVersions": vendor.software.split("\\"),
    }


def _write_extra(name: str, image: Image, header: SeriesHeader, vendor: Vendor, folder: Path) -> None:
    """A series that every export has and no segmentation may use."""
    attributes = _equipment(vendor) | {"ImageType": list(vendor.image_type), "FlipAngle": 90}
    coarse = SliceGrid(pixel_mm=(4.0, 4.0), thickness_mm=6.0, gap_mm=1.8)
    if name == "localizer":
        attributes |= {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "RepetitionTime": 8.6, "EchoTime": 4.0}
        attributes |= {"ScanningSequence": "GR", "SequenceVariant": "SP"}
        for index, plane in enumerate(PLANES):
            volume = acquire(image, replace(coarse, plane=plane))
            middle = volume.array.shape[2] // 2
            affine = volume.affine.copy()
            affine[:3, 3] = affine[:3, :3] @ (0, 0, middle - 1) + affine[:3, 3]
            three = Image(volume.array[:, :, middle - 1 : middle + 2], affine)
            part = replace(header, description="localizer", attributes=attributes, first_instance=1 + 3 * index)
            write_series(three, replace(part, multiframe=False), folder)
        return
    attributes |= {"ScanningSequence": "EP", "SequenceVariant": "SK", "RepetitionTime": 5200, "EchoTime": 96}
    volume = acquire(image, coarse)
    if name == "adc":
        attributes["ImageType"] = ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]
        write_series(volume, replace(header, description="ep2d_diff_3scan_trace_ADC", attributes=attributes), folder)
        return
    for index, b_value in enumerate((0, 1000)):
        part = replace(
            header,
            description="ep2d_diff_3scan_trace",
            attributes=attributes | {"DiffusionBValue": float(b_value)},
            first_instance=1 + index * volume.array.shape[2],
        )
        weighted = Image(volume.array * np.float32(np.exp(-b_value * 0.0008)), volume.affine)
        write_series(weighted, replace(part, multiframe=False), folder)


def _file_dataset(header: SeriesHeader, number: int, sop_class: UID) -> FileDataset:
    """Everything that does not depend on pixels or geometry."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = header.instance_uid(number)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = header.study_uid, header.series_uid
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = header.frame_of_reference_uid, ""
    dataset.PatientName, dataset.PatientID = "Simulated^Patient", header.study.upper().replace(" ", "-")
    dataset.PatientBirthDate, dataset.PatientSex, dataset.PatientPosition = "19700101", "O", "HFS"
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = "20240102"
    dataset.StudyTime = "090000"
    clock = 9 * 60 + 5 * header.number
    dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = f"{clock // 60:02d}{clock % 60:02d}00"
    dataset.AccessionNumber, dataset.StudyID, dataset.ReferringPhysicianName = "", "1", ""
    dataset.StudyDescription, dataset.BodyPartExamined = "MRI head", "HEAD"
    dataset.Modality, dataset.SeriesNumber, dataset.AcquisitionNumber = "MR", header.number, 1
    dataset.InstanceNumber = number
    dataset.Manufacturer, dataset.MagneticFieldStrength = "", 1.5
    if header.description is not None:
        dataset.SeriesDescription = header.description
    return dataset


@dataclass(frozen=True)
class _Placement:
    """The geometry of a series in DICOM's words."""

    orientation: list[float]
    positions: list[list[float]]
    pixel_spacing: list[float]
    spacing: float
    thickness: float

    @classmethod
    def of(cls, image: Image, header: SeriesHeader) -> "_Placement":
        lps = RAS_TO_LPS @ image.affine
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        directions = lps[:3, :3] / spacing
        positions = [lps[:3, 3] + lps[:3, 2] * k for k in range(image.array.shape[2])]
        return cls(
            _decimals(directions[:, :2].T.ravel(), 10),
            [_decimals(position, 8) for position in positions],
            _decimals(spacing[[1, 0]], 8),
            *_decimals([spacing[2], spacing[2] if header.thickness_mm is None else header.thickness_mm], 6),
        )


def _decimals(values: Iterable[float], digits: int) -> list[float]:
    """Rounded, since a decimal string has no more than 16 characters."""
    return [round(float(value), digits) + 0.0 for value in values]


def _stored(image: Image, header: SeriesHeader) -> NDArray[np.integer]:
    """Whole numbers ``(slices, rows, columns)`` as the files hold them."""
    slope, intercept = header.rescale or (1.0, 0.0)
    values = np.round((image.array.transpose(2, 1, 0) - intercept) / slope)
    kind = np.dtype("int16" if values.min() < 0 else "uint16")
    limits = np.iinfo(kind)
    return values.clip(limits.min, limits.max).astype(kind)


def _add_pixels(dataset: Dataset, pixels: NDArray[np.integer]) -> None:
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = np.ascontiguousarray(pixels).tobytes()


def _slice_datasets(image: Image, header: SeriesHeader) -> list[FileDataset]:
    place, stored = _Placement.of(image, header), _stored(image, header)
    datasets = []
    for index, (position, pixels) in enumerate(zip(place.positions, stored, strict=True)):
        dataset = _file_dataset(header, header.first_instance + index, MRImageStorage)
        dataset.ImageOrientationPatient, dataset.ImagePositionPatient = place.orientation, position
        dataset.PixelSpacing, dataset.SliceThickness = place.pixel_spacing, place.thickness
        dataset.SpacingBetweenSlices = place.spacing
        dataset.SliceLocation = round(float(np.dot(np.cross(*np.reshape(place.orientation, (2, 3))), position)), 6)
        dataset.ScanOptions, dataset.MRAcquisitionType, dataset.EchoTrainLength = "", "2D", 1
        dataset.ImageType, dataset.ScanningSequence, dataset.SequenceVariant = ["ORIGINAL", "PRIMARY"], "SE", "NONE"
        _add_pixels(dataset, pixels)
        if header.rescale is not None:
            dataset.RescaleSlope, dataset.RescaleIntercept = header.rescale
            dataset.RescaleType = "US"
        datasets.append(dataset)
    return datasets


def _multiframe_dataset(image: Image, header: SeriesHeader) -> list[FileDataset]:
    """One Enhanced MR instance; geometry and timing are in its functional groups, as the standard has them."""
    place, facts = _Placement.of(image, header), header.attributes
    dataset = _file_dataset(header, header.first_instance, EnhancedMRImageStorage)
    dataset.ImageType = [*facts.get("ImageType", ["ORIGINAL", "PRIMARY"])[:2], "VOLUME", "NONE"]
    dataset.NumberOfFrames = len(place.positions)
    if "ContrastBolusAgent" in facts:
        agent = _item(CodeValue="AGENT", CodingSchemeDesignator="99SIM", CodeMeaning=facts["ContrastBolusAgent"])
        dataset.ContrastBolusAgentSequence = [agent]
    organization = generate_uid(entropy_srcs=[header.study, str(header.number), "dimensions"])
    dataset.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=organization)]
    dataset.DimensionIndexSequence = [
        _item(DimensionOrganizationUID=organization, DimensionIndexPointer=tag, FunctionalGroupPointer=0x00209111)
        for tag in (0x00209056, 0x00209057)
    ]
    dataset.SharedFunctionalGroupsSequence = [_shared_groups(dataset.ImageType, place, header)]
    dataset.PerFrameFunctionalGroupsSequence = [
        _item(
            FrameContentSequence=[_item(StackID="1", InStackPositionNumber=k, DimensionIndexValues=[1, k])],
            PlanePositionSequence=[_item(ImagePositionPatient=position)],
        )
        for k, position in enumerate(place.positions, start=1)
    ]
    _add_pixels(dataset, _stored(image, header))
    return [dataset]


def _shared_groups(image_type: list[str], place: _Placement, header: SeriesHeader) -> Dataset:
    facts = header.attributes
    slope, intercept = header.rescale or (1.0, 0.0)
    spacing = _item(
        PixelSpacing=place.pixel_spacing, SliceThickness=place.thickness, SpacingBetweenSlices=place.spacing
    )
    timing = _item(
        RepetitionTime=facts.get("RepetitionTime", 0),
        FlipAngle=facts.get("FlipAngle", 90),
        EchoTrainLength=facts.get("EchoTrainLength", 1),
    )
    kind = _item(
        FrameType=image_type,
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
        ComplexImageComponent="MAGNITUDE",
        AcquisitionContrast=facts.get("AcquisitionContrast", "UNKNOWN"),
    )
    groups = _item(
        PlaneOrientationSequence=[_item(ImageOrientationPatient=place.orientation)],
        PixelMeasuresSequence=[spacing],
        PixelValueTransformationSequence=[_item(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="US")],
        MRTimingAndRelatedParametersSequence=[timing],
        MREchoSequence=[_item(EffectiveEchoTime=float(facts.get("EchoTime", 0)))],
        MRImageFrameTypeSequence=[kind],
    )
    if "InversionTime" in facts:
        inverted = _item(InversionRecovery="YES", InversionTimes=[float(facts["InversionTime"])])
        groups.MRModifierSequence = [inverted]
    return groups


def _item(**attributes: Any) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def _draw_motion(rng: np.random.Generator, degrees: float, shift_mm: float) -> NDArray[np.float64]:
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", rng.uniform(-degrees, degrees, 3), degrees=True).as_matrix()
    motion[:3, 3] = rng.uniform(-shift_mm, shift_mm, 3)
    return motion


def _check(value: str, accepted: Iterable[str], what: str) -> None:
    if value not in accepted:
        raise StudyError(f"unknown {what} {value!r}; accepted are {', '.join(accepted)}")
