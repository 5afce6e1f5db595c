import subprocess
from dataclasses import replace
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pytest
from dicom_fixtures import GEOMETRIES, HEADER, SHAPE, affine_of, edit, read_headers, tool, turned, volume, write_stack
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import config, dcmread
from pydicom.dataset import Dataset
from scipy.spatial.transform import Rotation

from lckd.errors import StudyError
from lckd.pacs.conversion import RAS_TO_LPS, planes_of, read_stack
from lckd.pacs.dicom_seg import SEG_TYPES, Algorithm, read_dicom_seg, sample_on_planes, write_dicom_seg
from lckd.pacs.simulated_export import write_series
from lckd.pacs.study import Stack
from lckd.sequences import LABELS

AXIAL = affine_of((1, 0, 0), (0, 1, 0))


def tumour(shape=SHAPE) -> np.ndarray:
    """A label map without symmetry: oedema, enhancing tumour in it, necrotic core in that."""
    label_map = np.zeros(shape, np.uint8)
    x, y, z = (n // 4 for n in shape)
    label_map[x : x + 6, y : y + 5, z : z + 5] = 2
    label_map[x + 1 : x + 5, y + 1 : y + 4, z + 1 : z + 5] = 3
    label_map[x + 2 : x + 4, y + 2 : y + 3, z + 2 : z + 4] = 1
    label_map[-2, 1, -3] = 2
    return label_map


def whole_map(path: Path, shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """What ``read_dicom_seg`` reads, on the whole grid."""
    label_map, placed = read_dicom_seg(path)
    whole = np.zeros(shape, np.uint8)
    corner = np.linalg.inv(affine) @ placed
    np.testing.assert_allclose(corner[:3, :3], np.eye(3), atol=1e-3)
    first = np.rint(corner[:3, 3]).astype(int)
    np.testing.assert_allclose(corner[:3, 3], first, atol=1e-3)
    whole[tuple(slice(a, a + n) for a, n in zip(first, label_map.shape, strict=True))] = label_map
    return whole


def centroid_of_frames(path: Path, segment: int) -> np.ndarray:
    """Centroid in patient mm (RAS) from the attributes of the frames alone."""
    dataset = dcmread(path)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    row, column = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(float)
    between_rows, between_columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    points = []
    pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    for stored, groups in zip(pixels, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        identification = groups.get("SegmentIdentificationSequence")
        found = stored == segment if identification is None else stored == 1
        if identification is not None and identification[0].ReferencedSegmentNumber != segment:
            continue
        r, c = np.nonzero(found)
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        points.append(position + np.outer(c * between_columns, row) + np.outer(r * between_rows, column))
    return RAS_TO_LPS @ np.concatenate(points).mean(0)


def centroid_of_map(label_map: np.ndarray, affine: np.ndarray, value: int) -> np.ndarray:
    return affine[:3, :3] @ np.argwhere(label_map == value).mean(0) + affine[:3, 3]


def assert_in_place(path: Path, label_map: np.ndarray, affine: np.ndarray) -> None:
    np.testing.assert_array_equal(whole_map(path, label_map.shape, affine), label_map)
    tenth = 0.1 * np.linalg.norm(affine[:3, :3], axis=0).min()
    for value in LABELS.values():
        expected = centroid_of_map(label_map, affine, value)
        assert np.linalg.norm(centroid_of_frames(path, value) - expected) < tenth


@pytest.fixture
def stack(tmp_path) -> Stack:
    return write_stack(tmp_path / "source", volume(AXIAL))


@pytest.mark.parametrize(("multiframe", "seg_type"), [(False, "binary"), (True, "labelmap")], ids=str)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_tumour_stays_where_it_is(tmp_path, geometry, multiframe, seg_type):
    affine = GEOMETRIES[geometry]
    source = write_stack(tmp_path / "source", volume(affine), replace(HEADER, multiframe=multiframe))
    written = write_dicom_seg(tumour(), affine, source, tmp_path / "seg.dcm", seg_type=seg_type)
    assert_in_place(written.path, tumour(), affine)


@given(
    st.tuples(*[st.floats(-180, 180)] * 3),
    st.tuples(st.floats(0.4, 2), st.floats(0.4, 2)),
    st.floats(0.5, 7),
    st.tuples(*[st.floats(-300, 300)] * 3),
    st.sampled_from(SEG_TYPES),
)
@settings(deadline=None, max_examples=10)
def test_the_tumour_stays_where_it_is_in_any_geometry(tmp_path_factory, angles, pixel_mm, spacing_mm, origin, seg_type):
    rotation = Rotation.from_euler("xyz", angles, degrees=True)
    affine = turned(rotation, pixel_mm=pixel_mm, spacing_mm=spacing_mm, origin=origin)
    folder = tmp_path_factory.mktemp("any")
    source = write_stack(folder / "source", volume(affine))
    written = write_dicom_seg(tumour(), affine, source, folder / "seg.dcm", seg_type=seg_type)
    assert_in_place(written.path, tumour(), affine)


class TestToolsOfOthers:
    @pytest.fixture(params=[False, True], ids=["classic", "enhanced"])
    def source(self, request, tmp_path) -> Stack:
        return write_stack(tmp_path / "source", volume(AXIAL), replace(HEADER, multiframe=request.param))

    def test_dciodvfy_finds_no_error(self, tmp_path, source):
        program = tool("dciodvfy", "apt-get install dicom3tools")
        write_dicom_seg(tumour(), AXIAL, source, tmp_path / "seg.dcm")
        done = subprocess.run([program, tmp_path / "seg.dcm"], capture_output=True, text=True)
        assert [line for line in done.stderr.splitlines() if line.startswith("Error")] == []
        assert done.returncode == 0

    @pytest.mark.parametrize("seg_type", SEG_TYPES)
    def test_dcmqi_reads_the_same_voxels(self, tmp_path, source, seg_type):
        program = tool("segimage2itkimage", "pip install dcmqi")
        write_dicom_seg(tumour(), AXIAL, source, tmp_path / "seg.dcm", seg_type=seg_type)
        arguments = ["--inputDICOM", tmp_path / "seg.dcm", "--outputDirectory", tmp_path, "--outputType", "nii"]
        subprocess.run([program, *arguments, "--mergeSegments", "--prefix", "q"], check=True, capture_output=True)
        (file,) = tmp_path.glob("q*.nii.gz")
        theirs = nib.load(file)
        corner = np.rint((np.linalg.inv(AXIAL) @ theirs.affine)[:3, 3]).astype(int)
        whole = np.zeros(SHAPE, np.uint8)
        region = tuple(slice(a, a + n) for a, n in zip(corner, theirs.shape, strict=True))
        whole[region] = np.asarray(theirs.dataobj)
        np.testing.assert_array_equal(whole, tumour())

    @pytest.mark.parametrize("seg_type", SEG_TYPES)
    def test_highdicom_finds_the_mask_of_each_source_slice(self, tmp_path, source, seg_type):
        write_dicom_seg(tumour(), AXIAL, source, tmp_path / "seg.dcm", seg_type=seg_type)
        seg = highdicom.seg.segread(tmp_path / "seg.dcm")
        absent = {"assert_missing_frames_are_empty": True}
        if source.frames is None:
            uids = [instance.sop_uid for instance in source.instances]
            found = seg.get_pixels_by_source_instance(uids, combine_segments=True, **absent)
        else:
            numbers = [frame + 1 for frame in source.frames]
            uid = source.instances[0].sop_uid
            found = seg.get_pixels_by_source_frame(uid, numbers, combine_segments=True, **absent)
        np.testing.assert_array_equal(found.transpose(2, 1, 0), tumour())


class TestHeader:
    @pytest.fixture
    def seg(self, tmp_path, stack) -> Dataset:
        facts = Algorithm("LCKD", "9.8", {"sequences": "flair+t2"})
        return dcmread(write_dicom_seg(tumour(), AXIAL, stack, tmp_path / "seg.dcm", algorithm=facts).path)

    @pytest.mark.parametrize(("seg_type", "uid"), [("binary", "66.4"), ("labelmap", "66.7")])
    def test_sop_class(self, tmp_path, stack, seg_type, uid):
        written = write_dicom_seg(tumour(), AXIAL, stack, tmp_path / "seg.dcm", seg_type=seg_type)
        assert dcmread(written.path).SOPClassUID == f"1.2.840.10008.5.1.4.1.1.{uid}"

    def test_patient_study_and_frame_of_reference_are_those_of_the_source(self, seg, stack):
        source = dcmread(stack.instances[0].path)
        for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate"):
            assert seg[keyword].value == source[keyword].value
        assert seg.FrameOfReferenceUID == source.FrameOfReferenceUID
        assert seg.SeriesInstanceUID != source.SeriesInstanceUID

    def test_every_source_instance_is_referenced(self, seg, stack):
        (series,) = seg.ReferencedSeriesSequence
        assert series.SeriesInstanceUID == stack.series_uid
        referenced = [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence]
        assert sorted(referenced) == sorted(instance.sop_uid for instance in stack.instances)

    def test_each_frame_lies_exactly_on_the_slice_it_is_derived_from(self, seg, stack):
        positions = {dcmread(i.path).SOPInstanceUID: dcmread(i.path).ImagePositionPatient for i in stack.instances}
        for frame in seg.PerFrameFunctionalGroupsSequence:
            uid = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
            assert list(frame.PlanePositionSequence[0].ImagePositionPatient) == list(positions[uid])

    def test_codes_colours_and_tracking(self, seg):
        codes = [s.SegmentedPropertyTypeCodeSequence[0] for s in seg.SegmentSequence]
        assert [(c.CodeValue, c.CodingSchemeDesignator) for c in codes] == [
            ("6574001", "SCT"),
            ("79654002", "SCT"),
            ("C113842", "NCIt"),
        ]
        for segment in seg.SegmentSequence:
            assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
            assert segment.AnatomicRegionSequence[0].CodeValue == "12738006"
            assert len(segment.RecommendedDisplayCIELabValue) == 3
            assert segment.TrackingID and segment.TrackingUID
        assert len({segment.TrackingUID for segment in seg.SegmentSequence}) == 3
        assert "infiltration included" in seg.SegmentSequence[1].SegmentDescription

    def test_the_algorithm_is_named(self, seg):
        segment = seg.SegmentSequence[0]
        facts = segment.SegmentationAlgorithmIdentificationSequence[0]
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        assert (facts.AlgorithmName, facts.AlgorithmVersion) == ("LCKD", "9.8")
        assert "flair+t2" in facts.AlgorithmParameters
        assert seg.SoftwareVersions == "9.8"

    def test_an_edited_label_map_is_semiautomatic(self, tmp_path, stack):
        written = write_dicom_seg(tumour(), AXIAL, stack, tmp_path / "seg.dcm", manual=True)
        assert dcmread(written.path).SegmentSequence[0].SegmentAlgorithmType == "SEMIAUTOMATIC"

    def test_enhanced_frames_are_referenced_by_their_number_in_the_file(self, tmp_path):
        source = write_stack(tmp_path / "source", volume(AXIAL), replace(HEADER, multiframe=True))
        part = replace(source, frames=source.frames[3:])
        planes = planes_of(part)
        affine = planes.affine(0, 3.0)
        label_map = tumour((*planes.shape, len(part.frames)))
        seg = dcmread(write_dicom_seg(label_map, affine, part, tmp_path / "seg.dcm").path)
        whole = np.zeros(SHAPE, np.uint8)
        pixels = seg.pixel_array
        for stored, frame in zip(pixels, seg.PerFrameFunctionalGroupsSequence, strict=True):
            number = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
            segment = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            whole[:, :, number - 1][stored.T == 1] = segment
        np.testing.assert_array_equal(whole[:, :, 3:], label_map)


class TestEmptySegments:
    @pytest.mark.parametrize(("seg_type", "numbers"), [("binary", {2: 1, 3: 2}), ("labelmap", {2: 2, 3: 3})])
    def test_an_empty_segment_is_left_out_and_reported(self, tmp_path, stack, seg_type, numbers):
        label_map = np.where(tumour() == 1, 3, tumour()).astype(np.uint8)
        written = write_dicom_seg(label_map, AXIAL, stack, tmp_path / "seg.dcm", seg_type=seg_type)
        assert written.segments == numbers
        assert written.not_detected == ("necrotic core",)
        np.testing.assert_array_equal(whole_map(written.path, SHAPE, AXIAL), label_map)

    @pytest.mark.parametrize("seg_type", SEG_TYPES)
    def test_one_voxel_of_one_segment(self, tmp_path, stack, seg_type):
        label_map = np.zeros(SHAPE, np.uint8)
        label_map[3, 4, 5] = 2
        written = write_dicom_seg(label_map, AXIAL, stack, tmp_path / "seg.dcm", seg_type=seg_type)
        np.testing.assert_array_equal(whole_map(written.path, SHAPE, AXIAL), label_map)

    def test_an_empty_label_map_writes_nothing(self, tmp_path, stack):
        written = write_dicom_seg(np.zeros(SHAPE, np.uint8), AXIAL, stack, tmp_path / "seg.dcm")
        assert (written.path, written.not_detected) == (None, tuple(LABELS))
        assert not (tmp_path / "seg.dcm").exists()


class TestOtherGrids:
    def test_a_label_map_on_a_finer_grid_is_sampled_on_the_slices(self, tmp_path, stack):
        fine = np.repeat(np.repeat(np.repeat(tumour(), 2, 0), 2, 1), 3, 2)
        affine = AXIAL @ np.diag([1 / 2, 1 / 2, 1 / 3, 1])
        affine[:3, 3] = AXIAL[:3, :3] @ (-1 / 4, -1 / 4, -1 / 3) + AXIAL[:3, 3]
        # the centre of a slice's voxel is the edge of four fine ones, all of the same value
        written = write_dicom_seg(fine, affine, stack, tmp_path / "seg.dcm")
        np.testing.assert_array_equal(whole_map(written.path, SHAPE, AXIAL), tumour())

    def test_outside_of_the_label_map_is_background(self, stack):
        sampled = sample_on_planes(tumour()[3:, :, 2:], shifted(AXIAL, (3, 0, 2)), planes_of(stack))
        np.testing.assert_array_equal(sampled[3:, :, 2:], tumour()[3:, :, 2:])
        assert not sampled[:3].any() and not sampled[:, :, :2].any()

    def test_frames_of_a_stack_with_a_missing_slice_lie_on_the_slices_there_are(self, tmp_path):
        write_series(volume(AXIAL, shape=(17, 13, 12)), HEADER, tmp_path / "source")
        (tmp_path / "source" / "IM000005").unlink()
        source = read_headers(tmp_path / "source")
        affine = read_stack(source).affine
        label_map = tumour((17, 13, 12))
        written = write_dicom_seg(label_map, affine, source, tmp_path / "seg.dcm")
        label_map[:, :, 4] = 0
        np.testing.assert_array_equal(whole_map(written.path, label_map.shape, affine), label_map)

    def test_frames_of_a_tilted_stack_lie_on_the_tilted_slices(self, tmp_path):
        tilted = AXIAL.copy()
        tilted[:3, 2] += AXIAL[:3, 1] * 0.8
        source = write_stack(tmp_path / "source", volume(tilted))
        affine = read_stack(source).affine
        label_map = tumour((17, 22, 11))
        written = write_dicom_seg(label_map, affine, source, tmp_path / "seg.dcm")
        expected = centroid_of_map(label_map, affine, 3)
        assert np.linalg.norm(centroid_of_frames(written.path, 3) - expected) < 0.5


def shifted(affine: np.ndarray, voxels) -> np.ndarray:
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ voxels
    return moved


class TestBadSources:
    @staticmethod
    def written(tmp_path, changes):
        write_series(volume(AXIAL), HEADER, tmp_path / "source")
        with config.disable_value_validation():
            edit(tmp_path / "source", changes)
        return write_dicom_seg(tumour(), AXIAL, read_headers(tmp_path / "source"), tmp_path / "seg.dcm")

    def test_an_incomplete_code_is_not_copied(self, tmp_path):
        broken, sound = Dataset(), Dataset()
        broken.CodeValue, broken.CodeMeaning = "MRHEAD", "MR head"
        sound.CodeValue, sound.CodingSchemeDesignator, sound.CodeMeaning = "MRHEAD", "99LOCAL", "MR head"
        written = self.written(tmp_path, {"ProcedureCodeSequence": [broken, sound]})
        assert [code.CodingSchemeDesignator for code in dcmread(written.path).ProcedureCodeSequence] == ["99LOCAL"]

    def test_a_sequence_of_broken_codes_is_left_out_with_a_warning(self, tmp_path):
        written = self.written(tmp_path, {"ProcedureCodeSequence": [Dataset()]})
        assert "ProcedureCodeSequence" not in dcmread(written.path)
        assert "ProcedureCodeSequence" in written.warnings[0]

    @pytest.mark.parametrize(
        "changes",
        [
            {"PatientSex": "unknown"},
            {"PatientBirthDate": "01.02.1970"},
            {"StudyTime": "noon"},
            {"PatientAge": "54"},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_an_invalid_value_is_left_out_without_showing_it(self, tmp_path, changes):
        written = self.written(tmp_path, changes)
        ((keyword, value),) = changes.items()
        assert dcmread(written.path).get(keyword) in ("", None)
        assert keyword in written.warnings[0] and value not in written.warnings[0]

    def test_uids_with_leading_zeros_are_referenced_as_they_are(self, tmp_path):
        series = {"SeriesInstanceUID": "1.2.040.5", "StudyInstanceUID": "1.2.040.1", "FrameOfReferenceUID": "1.2.040.7"}
        written = self.written(tmp_path, series)
        seg = dcmread(written.path)
        assert (seg.StudyInstanceUID, seg.FrameOfReferenceUID) == ("1.2.040.1", "1.2.040.7")
        assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.040.5"

    def test_missing_patient_attributes_are_empty(self, tmp_path):
        missing = dict.fromkeys(("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"))
        written = self.written(tmp_path, missing | {"SeriesNumber": None, "SliceThickness": None})
        assert all(dcmread(written.path)[keyword].is_empty for keyword in missing)

    def test_private_attributes_are_not_copied(self, tmp_path):
        write_series(volume(AXIAL), HEADER, tmp_path / "source")
        for path in (tmp_path / "source").iterdir():
            dataset = dcmread(path)
            dataset.private_block(0x0011, "LOCAL", create=True).add_new(1, "LO", "secret")
            dataset.save_as(path)
        written = write_dicom_seg(tumour(), AXIAL, read_headers(tmp_path / "source"), tmp_path / "seg.dcm")
        assert not [element for element in dcmread(written.path) if element.tag.is_private]

    def test_a_name_in_another_script_is_kept(self, tmp_path):
        written = self.written(tmp_path, {"SpecificCharacterSet": "GB18030", "PatientName": "Wang^XiaoDong=王^小东"})
        assert str(dcmread(written.path).PatientName) == "Wang^XiaoDong=王^小东"

    def test_a_missing_frame_of_reference_is_told(self, tmp_path):
        written = self.written(tmp_path, {"FrameOfReferenceUID": None})
        assert "FrameOfReferenceUID" in written.warnings[0]
        assert dcmread(written.path).FrameOfReferenceUID

    def test_a_source_without_valid_values_passes_dciodvfy(self, tmp_path):
        program = tool("dciodvfy", "apt-get install dicom3tools")
        self.written(tmp_path, {"PatientSex": "X", "StudyDate": "today", "ProcedureCodeSequence": [Dataset()]})
        done = subprocess.run([program, tmp_path / "seg.dcm"], capture_output=True, text=True)
        assert "Error" not in done.stderr


class TestRefused:
    def test_unknown_type(self, tmp_path, stack):
        with pytest.raises(StudyError, match="unknown seg_type 'fractional'; accepted are binary, labelmap"):
            write_dicom_seg(tumour(), AXIAL, stack, tmp_path / "seg.dcm", seg_type="fractional")

    def test_unknown_label_value(self, tmp_path, stack):
        with pytest.raises(StudyError, match="holds 4; accepted are 0, 1 necrotic core"):
            write_dicom_seg(np.where(tumour() == 3, 4, tumour()), AXIAL, stack, tmp_path / "seg.dcm")

    def test_a_folder_that_is_missing(self, tmp_path, stack):
        with pytest.raises(StudyError, match="cannot be written"):
            write_dicom_seg(tumour(), AXIAL, stack, tmp_path / "none" / "seg.dcm")

    def test_reading_something_else(self, tmp_path, stack):
        with pytest.raises(StudyError, match="no DICOM SEG"):
            read_dicom_seg(stack.instances[0].path)

    def test_reading_a_segment_of_another_kind(self, tmp_path, stack):
        written = write_dicom_seg(tumour(), AXIAL, stack, tmp_path / "seg.dcm")
        dataset = dcmread(written.path)
        dataset.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue = "10200004"
        dataset.save_as(written.path)
        with pytest.raises(StudyError, match="10200004"):
            read_dicom_seg(written.path)
