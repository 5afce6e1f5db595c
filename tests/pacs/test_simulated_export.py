import subprocess
from collections import Counter, defaultdict
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_fixtures import HEADER, read_headers, tool, write_stack
from pydicom import dcmread
from pydicom.dataset import Dataset
from scipy import ndimage

from lckd.errors import StudyError
from lckd.images import Image
from lckd.pacs.conversion import read_stack
from lckd.pacs.simulated_export import CONTRAST_TAGS, VENDORS, Export, SliceGrid, as_displayed, write_export
from lckd.sequences import SEQUENCES
from lckd.simulation import SimulatedStudy, simulate_study

COARSE = SliceGrid(pixel_mm=(9.0, 9.0), thickness_mm=8.0, gap_mm=4.0)


@pytest.fixture(scope="module")
def study() -> SimulatedStudy:
    return simulate_study(shape=(32, 36, 32), spacing_mm=(4.5, 4.5, 4.5), seed=1)


@pytest.fixture(scope="module")
def export(study, tmp_path_factory) -> Export:
    return write_export(study, tmp_path_factory.mktemp("export"), grids=COARSE)


def files_of(export: Export) -> list[Path]:
    return sorted(path for path in export.folder.rglob("*") if path.is_file())


def headers_of(export: Export) -> dict[str, list[Dataset]]:
    """Per name of a series its headers."""
    names = {uid: name for name, uid in export.series_uids.items()}
    found = defaultdict(list)
    for path in files_of(export):
        header = dcmread(path, stop_before_pixels=True)
        found[names[header.SeriesInstanceUID]].append(header)
    return dict(found)


def series_folder(export: Export, name: str) -> Path:
    return next(path.parent for path in files_of(export) if dcmread(path).SeriesInstanceUID == export.series_uids[name])


def test_it_looks_like_an_export(export):
    headers = headers_of(export)
    assert set(headers) == {*SEQUENCES, "localizer", "dwi", "adc"}
    assert all("." not in path.name for path in files_of(export))
    assert {header.StudyInstanceUID for series in headers.values() for header in series} == {export.study_uid}
    assert {str(header.PatientName) for series in headers.values() for header in series} == {"Simulated^Patient"}


def test_the_same_seed_writes_the_same_files(study, export, tmp_path):
    again = write_export(study, tmp_path, grids=COARSE)
    assert [path.read_bytes() for path in files_of(again)] == [path.read_bytes() for path in files_of(export)]


def test_another_seed_writes_another_study(study, export, tmp_path):
    other = write_export(study, tmp_path, sequences=("t1",), extras=(), grids=COARSE, seed=1)
    assert other.study_uid != export.study_uid


def test_extras_are_what_no_one_may_use(export):
    headers = headers_of(export)
    assert len({tuple(header.ImageOrientationPatient) for header in headers["localizer"]}) == 3
    assert Counter(header.DiffusionBValue for header in headers["dwi"]).keys() == {0, 1000}
    assert "ADC" in headers["adc"][0].ImageType


@pytest.mark.parametrize(
    ("tags", "tagged"), [("right", {"t1ce"}), ("missing", set()), ("stamped", set(SEQUENCES))], ids=CONTRAST_TAGS
)
def test_contrast_tags(study, tmp_path, tags, tagged):
    headers = headers_of(write_export(study, tmp_path, contrast_tags=tags, extras=(), grids=COARSE))
    assert {name for name, series in headers.items() if "ContrastBolusAgent" in series[0]} == tagged


def test_descriptions_can_be_changed_or_missing(study, tmp_path):
    changed = {"flair": "Kopf FLAIR", "t1": None}
    headers = headers_of(
        write_export(study, tmp_path, sequences=("flair", "t1"), descriptions=changed, extras=(), grids=COARSE)
    )
    assert headers["flair"][0].SeriesDescription == "Kopf FLAIR"
    assert "SeriesDescription" not in headers["t1"][0]


@pytest.mark.parametrize("multiframe", [False, True], ids=["classic", "enhanced"])
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_the_head_is_at_its_place_in_every_plane(study, tmp_path, plane, multiframe):
    grid = SliceGrid(plane, (5.0, -4.0, 8.0), (4.5, 4.5), 5.0, 1.0)
    export = write_export(study, tmp_path, sequences=("t2",), grids=grid, extras=(), skull=False, multiframe=multiframe)
    stack = read_headers(series_folder(export, "t2"))
    assert stack.plane == plane
    image = read_stack(stack)
    expected = Image(study.images["t2"], study.affine)
    np.testing.assert_allclose(centre_mm(image), centre_mm(expected), atol=0.5)


def centre_mm(image: Image) -> np.ndarray:
    return image.affine[:3, :3] @ ndimage.center_of_mass(image.array) + image.affine[:3, 3]


def test_motion_is_the_truth(study, tmp_path):
    grid = SliceGrid(pixel_mm=(4.5, 4.5), thickness_mm=4.5)
    options = {"sequences": ("t2",), "grids": grid, "extras": (), "skull": False}
    still = write_export(study, tmp_path / "still", **options)
    moved = write_export(study, tmp_path / "moved", **options, motion_degrees=15, motion_mm=10, seed=3)
    before, after = (read_stack(read_headers(series_folder(export, "t2"))) for export in (still, moved))
    matrix = np.linalg.inv(after.affine) @ moved.motion["t2"] @ before.affine
    undone = ndimage.affine_transform(after.array, matrix, output_shape=before.array.shape, order=1)
    assert np.corrcoef(undone.ravel(), before.array.ravel())[0, 1] > 0.93
    assert np.corrcoef(after.array.ravel(), before.array.ravel())[0, 1] < 0.85
    np.testing.assert_array_equal(still.motion["t2"], np.eye(4))


def test_a_head_surrounds_the_brain(study, export):
    image = read_stack(read_headers(series_folder(export, "t1")))
    bright = image.array > 0.3 * np.percentile(image.array, 99)
    voxel_ml = abs(np.linalg.det(image.affine[:3, :3])) / 1000
    assert bright.sum() * voxel_ml > 1.4 * (study.images["t1"] > 0).sum() * 4.5**3 / 1000


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_vendor_writes_its_own_headers(study, tmp_path, vendor):
    export = write_export(study, tmp_path, vendor=vendor, sequences=("flair",), extras=(), grids=COARSE)
    header = headers_of(export)["flair"][0]
    assert header.Manufacturer == VENDORS[vendor].manufacturer
    assert header.SeriesDescription == VENDORS[vendor].descriptions["flair"]
    assert 1500 < header.InversionTime < 3000


def test_classic_files_pass_dciodvfy(export):
    program = tool("dciodvfy", "apt-get install dicom3tools")
    for name in export.series_uids:
        path = next(series_folder(export, name).iterdir())
        assert "Error" not in subprocess.run([program, path], capture_output=True, text=True).stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"vendor": "acme"}, "unknown vendor 'acme'; accepted are siemens"),
        ({"contrast_tags": "some"}, "unknown contrast tags"),
        ({"extras": ("spectroscopy",)}, "unknown extra series"),
        ({"grids": SliceGrid("radial")}, "unknown plane"),
    ],
)
def test_unknown_options_are_refused(study, tmp_path, options, sentence):
    with pytest.raises(StudyError, match=sentence):
        write_export(study, tmp_path, **options)


@pytest.mark.parametrize(
    ("codes", "spacing", "plane"),
    [
        ("RAS", (1, 1, 5), "axial"),
        ("LAS", (1, 1, 1), "axial"),
        ("RAS", (5, 1, 1), "sagittal"),
        ("SRA", (1, 1, 5), "coronal"),
    ],
)
def test_any_nifti_becomes_slices_as_a_scanner_writes_them(tmp_path, codes, spacing, plane):
    canonical = np.diag([*spacing, 1.0]) if codes != "SRA" else np.diag([1.0, 5.0, 1.0, 1.0])
    array = np.random.default_rng(0).integers(1, 99, (12, 13, 14)).astype(np.float32)
    there = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes))
    image = Image(
        nib.orientations.apply_orientation(array, there),
        canonical @ nib.orientations.inv_ornt_aff(there, array.shape),
    )
    displayed = as_displayed(image)
    assert "".join(nib.aff2axcodes(displayed.affine)) == {"axial": "LPS", "coronal": "LIP", "sagittal": "PIR"}[plane]
    stack = write_stack(tmp_path, displayed, HEADER)
    assert stack.plane == plane
    read = read_stack(stack)
    back = nib.as_closest_canonical(nib.Nifti1Image(read.array, read.affine))
    np.testing.assert_array_equal(back.get_fdata(), array)
    np.testing.assert_allclose(back.affine, canonical, atol=1e-5)
