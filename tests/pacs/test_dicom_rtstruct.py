import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_fixtures import GEOMETRIES, HEADER, SHAPE, edit, read_headers, tool, turned, volume, write_stack
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path as Polygon
from pydicom import config, dcmread
from pydicom.dataset import Dataset
from scipy.spatial.transform import Rotation

from lckd.errors import StudyError
from lckd.pacs import dicom_rtstruct
from lckd.pacs.conversion import RAS_TO_LPS
from lckd.pacs.dicom_rtstruct import contours_of, read_rtstruct, write_rtstruct
from lckd.pacs.dicom_seg import Algorithm
from lckd.pacs.simulated_export import write_series
from lckd.pacs.study import Stack
from lckd.sequences import LABELS, REGION_LABELS, REGION_NAMES

AXIAL = GEOMETRIES["axial"]


def tumour(shape=SHAPE) -> np.ndarray:
    """A label map without symmetry: a hole in the rim, an island in the hole, a second part, the very edge."""
    label_map = np.zeros(shape, np.uint8)
    label_map[2:12, 2:11, 3:8] = 2
    label_map[3:10, 3:10, 3:8] = 3
    label_map[4:9, 4:9, 4:7] = 1
    label_map[6, 6, 5] = 3
    label_map[13, 1, 2] = 3
    label_map[:2, 0, 1] = 2
    return label_map


def masks_of(label_map: np.ndarray) -> dict[str, np.ndarray]:
    return {REGION_NAMES[region]: np.isin(label_map, labels) for region, labels in REGION_LABELS.items()}


def enclosed(polygon: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre lies in a polygon, by a library that was not written for this."""
    centres = np.stack(np.indices(shape), axis=-1).reshape(-1, 2)
    return Polygon(np.concatenate([polygon, polygon[:1]]), closed=True).contains_points(centres).reshape(shape)


def rasterized(path: Path, label_map: np.ndarray, affine: np.ndarray) -> dict[str, np.ndarray]:
    """Masks on the label map's grid from the contours' coordinates alone, whatever they refer to."""
    dataset = dcmread(path)
    names = {roi.ROINumber: roi.ROIName.lower() for roi in dataset.StructureSetROISequence}
    masks = {name: np.zeros(label_map.shape, bool) for name in names.values()}
    to_voxels = np.linalg.inv(affine)
    for roi in dataset.ROIContourSequence:
        for contour in roi.ContourSequence:
            points = np.reshape(contour.ContourData, (-1, 3)).astype(float) @ RAS_TO_LPS
            voxels = points @ to_voxels[:3, :3].T + to_voxels[:3, 3]
            (index,) = set(np.rint(voxels[:, 2]).astype(int))
            np.testing.assert_allclose(voxels[:, 2], index, atol=1e-3)
            masks[names[roi.ReferencedROINumber]][:, :, index] ^= enclosed(voxels[:, :2], label_map.shape[:2])
    return masks


def centroid(contours: list[Dataset]) -> np.ndarray:
    """Of the polygons in patient mm (RAS), weighted by their area."""
    areas, centres = [], []
    for contour in contours:
        points = np.reshape(contour.ContourData, (-1, 3)).astype(float)
        first, following = points - points[0], np.roll(points, -1, axis=0) - points[0]
        twice = np.cross(first, following)
        normal = twice.sum(0) / np.linalg.norm(twice.sum(0))
        parts = twice @ normal
        areas.append(parts.sum() / 2)
        centres.append(points[0] + (parts[:, None] * (first + following)).sum(0) / 3 / parts.sum())
    return RAS_TO_LPS @ np.average(centres, axis=0, weights=areas)


def assert_in_place(path: Path, label_map: np.ndarray, affine: np.ndarray) -> None:
    found = rasterized(path, label_map, affine)
    for name, mask in masks_of(label_map).items():
        np.testing.assert_array_equal(found[name], mask)


@pytest.fixture
def stack(tmp_path) -> Stack:
    return write_stack(tmp_path / "source", volume(AXIAL))


@pytest.mark.parametrize("multiframe", [False, True], ids=["classic", "enhanced"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_tumour_stays_where_it_is(tmp_path, geometry, multiframe):
    affine = GEOMETRIES[geometry]
    source = write_stack(tmp_path / "source", volume(affine), replace(HEADER, multiframe=multiframe))
    written = write_rtstruct(tumour(), affine, source, tmp_path / "rtstruct.dcm")
    assert_in_place(written.path, tumour(), affine)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_centroid_is_that_of_the_label_map(tmp_path, geometry):
    affine = GEOMETRIES[geometry]
    label_map = np.zeros(SHAPE, np.uint8)
    label_map[3:12, 2:10, 2:9] = 2
    label_map[3:12, 2:5, 5:9] = 0
    source = write_stack(tmp_path / "source", volume(affine))
    written = write_rtstruct(label_map, affine, source, tmp_path / "rtstruct.dcm")
    found = centroid(dcmread(written.path).ROIContourSequence[0].ContourSequence)
    expected = affine[:3, :3] @ np.argwhere(label_map).mean(0) + affine[:3, 3]
    assert np.linalg.norm(found - expected) < 0.1 * np.linalg.norm(affine[:3, :3], axis=0).min()


@given(
    st.tuples(*[st.floats(-180, 180)] * 3),
    st.tuples(st.floats(0.4, 2), st.floats(0.4, 2)),
    st.floats(0.5, 7),
    st.tuples(*[st.floats(-300, 300)] * 3),
)
@settings(deadline=None, max_examples=5)
def test_the_tumour_stays_where_it_is_in_any_geometry(tmp_path_factory, angles, pixel_mm, spacing_mm, origin):
    rotation = Rotation.from_euler("xyz", angles, degrees=True)
    affine = turned(rotation, pixel_mm=pixel_mm, spacing_mm=spacing_mm, origin=origin)
    folder = tmp_path_factory.mktemp("any")
    source = write_stack(folder / "source", volume(affine))
    written = write_rtstruct(tumour(), affine, source, folder / "rtstruct.dcm")
    assert_in_place(written.path, tumour(), affine)


class TestContours:
    @given(arrays(bool, (9, 7)))
    @settings(deadline=None, max_examples=100)
    def test_any_mask_is_enclosed_whether_contours_are_united_or_taken_by_exclusive_or(self, mask):
        parts = [enclosed(polygon, mask.shape) for polygon in contours_of(mask)]
        none = np.zeros_like(mask)
        np.testing.assert_array_equal(np.logical_xor.reduce([none, *parts]), mask)
        np.testing.assert_array_equal(np.logical_or.reduce([none, *parts]), mask)

    def test_a_hole_is_joined_to_its_outline(self):
        mask = np.ones((7, 7), bool)
        mask[2:5, 2:5] = False
        (polygon,) = contours_of(mask)
        assert len(np.unique(polygon, axis=0)) == len(polygon) - 2

    def test_a_contour_is_half_a_pixel_smaller_than_its_pixels(self):
        mask = np.zeros((9, 9), bool)
        mask[2:7, 3:8], mask[4, 8] = True, True
        ((x, y),) = [polygon.T for polygon in contours_of(mask)]
        assert abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2 == mask.sum() - 0.5


class TestHeader:
    @pytest.fixture
    def dataset(self, tmp_path, stack) -> Dataset:
        facts = Algorithm("LCKD", "9.8", {"sequences": "flair+t2"})
        return dcmread(write_rtstruct(tumour(), AXIAL, stack, tmp_path / "rtstruct.dcm", algorithm=facts).path)

    def test_patient_study_and_frame_of_reference_are_those_of_the_source(self, dataset, stack):
        source = dcmread(stack.instances[0].path)
        for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate"):
            assert dataset[keyword].value == source[keyword].value
        assert dataset.SeriesInstanceUID != source.SeriesInstanceUID
        (frame,) = dataset.ReferencedFrameOfReferenceSequence
        uids = {dataset.FrameOfReferenceUID, frame.FrameOfReferenceUID}
        uids |= {roi.ReferencedFrameOfReferenceUID for roi in dataset.StructureSetROISequence}
        assert uids == {source.FrameOfReferenceUID}

    def test_every_source_instance_is_referenced(self, dataset, stack):
        (study,) = dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence
        (series,) = study.RTReferencedSeriesSequence
        assert (study.ReferencedSOPInstanceUID, series.SeriesInstanceUID) == (stack.study_uid, stack.series_uid)
        referenced = [item.ReferencedSOPInstanceUID for item in series.ContourImageSequence]
        assert referenced == [instance.sop_uid for instance in stack.instances]

    def test_enhanced_frames_are_referenced_by_their_number_in_the_file(self, tmp_path):
        source = write_stack(tmp_path / "source", volume(AXIAL), replace(HEADER, multiframe=True))
        dataset = dcmread(write_rtstruct(tumour(), AXIAL, source, tmp_path / "rtstruct.dcm").path)
        series = dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence
        assert list(series[0].ContourImageSequence[0].ReferencedFrameNumber) == [frame + 1 for frame in source.frames]
        contours = dataset.ROIContourSequence[0].ContourSequence
        assert {contour.ContourImageSequence[0].ReferencedFrameNumber for contour in contours} == {2, 3, 4, 5, 6, 7, 8}

    def test_names_codes_and_colours(self, dataset):
        assert [roi.ROIName for roi in dataset.StructureSetROISequence] == [
            "Whole tumour",
            "Tumour core",
            "Enhancing tumour",
        ]
        codes = [seen.RTROIIdentificationCodeSequence[0] for seen in dataset.RTROIObservationsSequence]
        assert [(code.CodeValue, code.CodingSchemeDesignator) for code in codes] == [
            ("52988006", "SCT"),
            ("108369006", "SCT"),
            ("C113842", "NCIt"),
        ]
        colours = [tuple(roi.ROIDisplayColor) for roi in dataset.ROIContourSequence]
        assert colours == [(86, 180, 233), (230, 159, 0), (240, 60, 100)]

    def test_it_claims_neither_approval_nor_a_use(self, dataset):
        assert dataset.ApprovalStatus == "UNAPPROVED"
        assert "Research use only" in dataset.StructureSetDescription
        assert "research use only" in dataset.SeriesDescription
        assert all("Research use only" in roi.ROIDescription for roi in dataset.StructureSetROISequence)
        assert {seen.RTROIInterpretedType for seen in dataset.RTROIObservationsSequence} == {""}

    def test_the_algorithm_is_named(self, dataset):
        roi = dataset.StructureSetROISequence[0]
        (facts,) = roi.ROIDerivationAlgorithmIdentificationSequence
        assert roi.ROIGenerationAlgorithm == "AUTOMATIC"
        assert (facts.AlgorithmName, facts.AlgorithmVersion, dataset.SoftwareVersions) == ("LCKD", "9.8", "9.8")
        assert "flair+t2" in facts.AlgorithmParameters

    @pytest.mark.parametrize("multiframe", [False, True], ids=["classic", "enhanced"])
    def test_dciodvfy_finds_no_error(self, tmp_path, multiframe):
        program = tool("dciodvfy", "apt-get install dicom3tools")
        source = write_stack(tmp_path / "source", volume(AXIAL), replace(HEADER, multiframe=multiframe))
        write_rtstruct(tumour(), AXIAL, source, tmp_path / "rtstruct.dcm")
        done = subprocess.run([program, tmp_path / "rtstruct.dcm"], capture_output=True, text=True)
        assert [line for line in done.stderr.splitlines() if line.startswith("Error")] == []
        assert done.returncode == 0

    def test_a_long_contour_keeps_its_type(self, tmp_path):
        """In explicit VR no value may have more than 64 KB."""
        comb = np.zeros((81, 81, 11), np.uint8)
        comb[:, ::2, 5] = comb[0, :, 5] = 2
        source = write_stack(tmp_path / "source", volume(AXIAL, comb.shape))
        written = write_rtstruct(comb, AXIAL, source, tmp_path / "rtstruct.dcm")
        (contour, *_) = dcmread(written.path).ROIContourSequence[0].ContourSequence
        assert contour["ContourData"].VR == "DS" and contour.NumberOfContourPoints > 6000


class TestEmptyRegions:
    def test_an_empty_region_is_left_out_and_reported(self, tmp_path, stack):
        written = write_rtstruct((tumour() > 0) * LABELS["oedema"], AXIAL, stack, tmp_path / "rtstruct.dcm")
        assert (written.regions, written.not_detected) == ({"wt": 1}, ("tumour core", "enhancing tumour"))
        assert [roi.ROIName for roi in dcmread(written.path).StructureSetROISequence] == ["Whole tumour"]

    def test_an_empty_label_map_writes_nothing(self, tmp_path, stack):
        written = write_rtstruct(np.zeros(SHAPE, np.uint8), AXIAL, stack, tmp_path / "rtstruct.dcm")
        assert written.path is None and len(written.not_detected) == 3
        assert not (tmp_path / "rtstruct.dcm").exists()

    def test_one_voxel_is_a_contour_that_encloses_it(self, tmp_path, stack):
        label_map = np.zeros(SHAPE, np.uint8)
        label_map[0, 0, 0] = 3
        written = write_rtstruct(label_map, AXIAL, stack, tmp_path / "rtstruct.dcm")
        np.testing.assert_array_equal(read_rtstruct(written.path, stack)["enhancing tumour"], label_map > 0)


class TestSources:
    def test_a_stack_with_a_missing_slice(self, tmp_path):
        write_series(volume(AXIAL, shape=(17, 13, 12)), HEADER, tmp_path / "source")
        (tmp_path / "source" / "IM000005").unlink()
        source = read_headers(tmp_path / "source")
        label_map = tumour((17, 13, 12))
        written = write_rtstruct(label_map, AXIAL, source, tmp_path / "rtstruct.dcm")
        label_map[:, :, 4] = 0
        assert_in_place(written.path, label_map, AXIAL)

    def test_an_invalid_value_is_left_out_without_showing_it(self, tmp_path):
        write_series(volume(AXIAL), HEADER, tmp_path / "source")
        with config.disable_value_validation():
            edit(tmp_path / "source", {"SpecificCharacterSet": "GB18030", "PatientName": "Wang^XiaoDong=王^小东"})
            edit(tmp_path / "source", {"PatientSex": "unknown"})
        written = write_rtstruct(tumour(), AXIAL, read_headers(tmp_path / "source"), tmp_path / "rtstruct.dcm")
        assert str(dcmread(written.path).PatientName) == "Wang^XiaoDong=王^小东"
        assert "PatientSex" in written.warnings[0] and "unknown" not in written.warnings[0]


class TestRefused:
    def test_unknown_label_value(self, tmp_path, stack):
        with pytest.raises(StudyError, match="holds 4; accepted are 0, 1 necrotic core"):
            write_rtstruct(tumour() * 4, AXIAL, stack, tmp_path / "rtstruct.dcm")

    def test_a_folder_that_is_missing(self, tmp_path, stack):
        with pytest.raises(StudyError, match="cannot be written"):
            write_rtstruct(tumour(), AXIAL, stack, tmp_path / "none" / "rtstruct.dcm")

    def test_contours_that_enclose_something_else_are_not_kept(self, tmp_path, stack, monkeypatch):
        monkeypatch.setattr(dicom_rtstruct, "contours_of", lambda mask: contours_of(np.roll(mask, 1, axis=0)))
        with pytest.raises(StudyError, match=r"differs from the label map in \d+ voxels; use the NIfTI"):
            write_rtstruct(tumour(), AXIAL, stack, tmp_path / "rtstruct.dcm")
        assert [file.name for file in tmp_path.iterdir()] == ["source"]

    def test_reading_something_else(self, stack):
        with pytest.raises(StudyError, match="is no RTSTRUCT on series"):
            read_rtstruct(stack.instances[0].path, stack)

    def test_reading_contours_beside_their_slice(self, tmp_path, stack):
        written = write_rtstruct(tumour(), AXIAL, stack, tmp_path / "rtstruct.dcm")
        dataset = dcmread(written.path)
        dataset.ROIContourSequence[0].ContourSequence[0].ContourData[2] += 1
        dataset.save_as(written.path)
        with pytest.raises(StudyError, match="not on the slice it refers to"):
            read_rtstruct(written.path, stack)
