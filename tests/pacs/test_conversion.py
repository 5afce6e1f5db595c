import subprocess
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_fixtures import GEOMETRIES, HEADER, affine_of, edit, read_headers, tool, turned, volume, write_stack
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless
from scipy.spatial.transform import Rotation

from lckd.errors import StudyError
from lckd.images import Image, read_image
from lckd.pacs.conversion import read_stack
from lckd.pacs.simulated_export import as_displayed, write_series

AXIAL = affine_of((1, 0, 0), (0, 1, 0))


def assert_same_place(image: Image, expected: Image) -> None:
    np.testing.assert_array_equal(image.array, expected.array)
    np.testing.assert_allclose(image.affine, expected.affine, atol=1e-4)


@pytest.mark.parametrize("multiframe", [False, True], ids=["classic", "enhanced"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_voxels_and_affine_come_back(tmp_path, geometry, multiframe):
    image = volume(GEOMETRIES[geometry])
    read = read_stack(write_stack(tmp_path, image, replace(HEADER, multiframe=multiframe)))
    assert_same_place(read, image)
    assert read.array.dtype == np.float32
    assert read.warnings == ()


@given(
    st.tuples(*[st.floats(-180, 180)] * 3),
    st.tuples(st.floats(0.4, 2), st.floats(0.4, 2)),
    st.floats(0.5, 7),
    st.booleans(),
)
@settings(deadline=None, max_examples=10)
def test_any_rotation_and_spacing_comes_back(tmp_path_factory, angles, pixel_mm, spacing_mm, multiframe):
    affine = turned(Rotation.from_euler("xyz", angles, degrees=True), pixel_mm=pixel_mm, spacing_mm=spacing_mm)
    image = volume(affine, shape=(5, 6, 10))
    read = read_stack(write_stack(tmp_path_factory.mktemp("any"), image, replace(HEADER, multiframe=multiframe)))
    assert_same_place(read, image)


@pytest.mark.parametrize("multiframe", [False, True], ids=["classic", "enhanced"])
def test_slices_stored_against_the_normal_are_sorted(tmp_path, multiframe):
    image = volume(AXIAL)
    flip = np.diag([1.0, 1, -1, 1])
    flip[2, 3] = image.array.shape[2] - 1
    stored = Image(image.array[:, :, ::-1], image.affine @ flip)
    assert_same_place(read_stack(write_stack(tmp_path, stored, replace(HEADER, multiframe=multiframe))), image)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_dcm2niix_agrees(tmp_path, geometry):
    program = tool("dcm2niix", "pip install dcm2niix")
    read = read_stack(write_stack(tmp_path / "in", volume(GEOMETRIES[geometry], shape=(24, 20, 12))))
    (tmp_path / "out").mkdir()
    subprocess.run([program, "-z", "n", "-o", tmp_path / "out", tmp_path / "in"], check=True, capture_output=True)
    (file,) = (tmp_path / "out").glob("*.nii")
    theirs = nib.as_closest_canonical(nib.load(file))
    ours = nib.as_closest_canonical(nib.Nifti1Image(read.array, read.affine))
    np.testing.assert_array_equal(theirs.get_fdata(), ours.get_fdata())
    np.testing.assert_allclose(theirs.affine, ours.affine, atol=1e-3)


@pytest.mark.parametrize("sequence", ["flair", "t1ce"])
def test_a_real_scan_comes_back(tmp_path, sequence):
    path = Path(__file__).parents[3] / f"shared/data/raw_head/TCGA-FG-6692/TCGA-FG-6692_{sequence}.nii.gz"
    if not path.is_file():
        pytest.skip("real scans are not beside this checkout (../shared/data/raw_head)")
    image = as_displayed(read_image(path))
    assert_same_place(read_stack(write_stack(tmp_path, image)), image)


@pytest.mark.parametrize("multiframe", [False, True], ids=["classic", "enhanced"])
def test_slope_and_intercept_are_applied(tmp_path, multiframe):
    image = volume(AXIAL)
    stack = write_stack(tmp_path, image, replace(HEADER, rescale=(2.5, -100.0), multiframe=multiframe))
    np.testing.assert_allclose(read_stack(stack).array, image.array, atol=1.26)


def test_each_slice_has_its_own_slope(tmp_path):
    image = volume(AXIAL)
    write_series(image, HEADER, tmp_path)
    edit(tmp_path, {"RescaleSlope": 3, "RescaleIntercept": 0}, names="IM000004")
    array = read_stack(read_headers(tmp_path)).array
    np.testing.assert_array_equal(array[:, :, 3], image.array[:, :, 3] * 3)
    np.testing.assert_array_equal(array[:, :, 4], image.array[:, :, 4])


def test_monochrome1_is_turned_round_with_a_warning(tmp_path):
    image = volume(AXIAL)
    write_series(image, HEADER, tmp_path)
    edit(tmp_path, {"PhotometricInterpretation": "MONOCHROME1"})
    read = read_stack(read_headers(tmp_path))
    np.testing.assert_array_equal(read.array, 65535 - image.array)
    assert "MONOCHROME1" in read.warnings[0]


def test_negative_values_are_read(tmp_path):
    image = volume(AXIAL)
    image = Image(image.array - 2000, image.affine)
    assert_same_place(read_stack(write_stack(tmp_path, image)), image)


class TestCompressed:
    @pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda uid: uid.name)
    def test_lossless_syntaxes_give_the_same_voxels(self, tmp_path, syntax):
        image = volume(AXIAL, shape=(40, 36, 10))
        write_series(image, HEADER, tmp_path)
        for path in tmp_path.iterdir():
            dataset = dcmread(path)
            try:
                dataset.compress(syntax, generate_instance_uid=False)
            except (RuntimeError, NotImplementedError):
                pytest.skip(f"no encoder for {syntax.name} is installed")
            dataset.save_as(path)
        assert_same_place(read_stack(read_headers(tmp_path)), image)

    def test_jpeg_lossless_of_dcmtk_gives_the_same_voxels(self, tmp_path):
        program = tool("dcmcjpeg", "apt-get install dcmtk")
        pytest.importorskip("gdcm", reason="no decoder of JPEG Lossless is installed (python-gdcm)")
        image = volume(AXIAL)
        for path in write_series(image, HEADER, tmp_path):
            subprocess.run([program, path, path], check=True)
        assert_same_place(read_stack(read_headers(tmp_path)), image)

    def test_a_syntax_without_decoder_is_named(self, tmp_path):
        for path in write_series(volume(AXIAL), HEADER, tmp_path):
            dataset = dcmread(path)
            dataset.compress(RLELossless, generate_instance_uid=False)
            dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"
            dataset.save_as(path)
        with pytest.raises(StudyError, match=r"MPEG2.*1\.2\.840\.10008\.1\.2\.4\.100.*pip install 'lckd\[pacs\]'"):
            read_stack(read_headers(tmp_path))

    def test_a_file_without_meta_information_is_read(self, tmp_path):
        image = volume(AXIAL)
        for path in write_series(image, HEADER, tmp_path):
            dataset = dcmread(path)
            del dataset.file_meta
            dataset.preamble = None
            dataset.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=False)
        assert_same_place(read_stack(read_headers(tmp_path)), image)


class TestGaps:
    @staticmethod
    def ramp() -> Image:
        """Linear along the slices, so that interpolation is exact."""
        height = np.arange(30, dtype=np.float32) * 10 + 5
        return Image(np.broadcast_to(height, (8, 9, 30)).copy(), AXIAL)

    def test_a_missing_slice_is_interpolated_with_a_warning(self, tmp_path):
        write_series(self.ramp(), HEADER, tmp_path)
        (tmp_path / "IM000012").unlink()
        read = read_stack(read_headers(tmp_path))
        assert_same_place(read, self.ramp())
        assert "1 missing slices were interpolated" in read.warnings[0]

    def test_many_missing_slices_are_refused(self, tmp_path):
        write_series(self.ramp(), HEADER, tmp_path)
        for number in (9, 10, 11):
            (tmp_path / f"IM{number:06d}").unlink()
        with pytest.raises(StudyError, match="widest between slices 8 and 9.*accepted are two in a row"):
            read_stack(read_headers(tmp_path))

    def test_missing_slices_all_over_are_refused(self, tmp_path):
        write_series(self.ramp(), HEADER, tmp_path)
        for number in (4, 9, 14, 19):
            (tmp_path / f"IM{number:06d}").unlink()
        with pytest.raises(StudyError, match="10% in all"):
            read_stack(read_headers(tmp_path))

    def test_uneven_spacing_is_resampled_with_a_warning(self, tmp_path):
        image = self.ramp()
        image.array[:, :, 7] += 2.0
        write_series(image, HEADER, tmp_path)
        position = dcmread(tmp_path / "IM000008").ImagePositionPatient
        position[2] += 0.2 * 3.0
        edit(tmp_path, {"ImagePositionPatient": position}, names="IM000008")
        read = read_stack(read_headers(tmp_path))
        np.testing.assert_allclose(read.array, self.ramp().array, atol=1e-3)
        assert "resampled to 3.00 mm" in read.warnings[0]

    def test_rounded_positions_are_taken_as_they_are(self, tmp_path):
        write_series(self.ramp(), HEADER, tmp_path)
        for path in tmp_path.iterdir():
            position = dcmread(path).ImagePositionPatient
            position[2] = round(float(position[2]) + 0.04, 1)
            edit(tmp_path, {"ImagePositionPatient": position}, names=path.name)
        assert read_stack(read_headers(tmp_path)).warnings == ()


class TestTilt:
    @staticmethod
    def tilted(degrees: float) -> Image:
        """A blob in slices that are stacked along an axis tilted towards the rows' direction."""
        affine = AXIAL.copy()
        affine[:3, 2] += AXIAL[:3, 1] / np.linalg.norm(AXIAL[:3, 1]) * 3 * np.tan(np.radians(degrees))
        grid = np.stack(np.meshgrid(*[np.arange(n) for n in (40, 48, 16)], indexing="ij"), -1)
        world = grid @ affine[:3, :3].T + affine[:3, 3]
        centre = affine[:3, :3] @ (20, 24, 8) + affine[:3, 3]
        return Image((1000 * np.exp(-((world - centre) ** 2).sum(-1) / 120)).astype(np.float32), affine)

    def test_a_tilted_stack_is_straightened_in_place_with_a_warning(self, tmp_path):
        image = self.tilted(15)
        read = read_stack(write_stack(tmp_path, image))
        assert "tilted by 15.0 degrees" in read.warnings[0]
        directions = read.affine[:3, :3] / np.linalg.norm(read.affine[:3, :3], axis=0)
        np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-6)
        np.testing.assert_allclose(centroid_mm(read), centroid_mm(image), atol=0.1)

    def test_a_steep_tilt_is_refused(self, tmp_path):
        with pytest.raises(StudyError, match=r"tilted by 40\.0 degrees.*accepted are 30"):
            read_stack(write_stack(tmp_path, self.tilted(40)))

    def test_a_tilt_within_rounding_is_ignored(self, tmp_path):
        assert read_stack(write_stack(tmp_path, self.tilted(0.3))).warnings == ()

    def test_slices_beside_their_stack_are_refused(self, tmp_path):
        write_series(volume(AXIAL), HEADER, tmp_path)
        position = dcmread(tmp_path / "IM000005").ImagePositionPatient
        position[0] += 8
        edit(tmp_path, {"ImagePositionPatient": position}, names="IM000005")
        with pytest.raises(StudyError, match="beside their stack"):
            read_stack(read_headers(tmp_path))


def centroid_mm(image: Image) -> np.ndarray:
    index = np.stack(np.indices(image.array.shape), -1).reshape(-1, 3)
    return image.affine[:3, :3] @ np.average(index, axis=0, weights=image.array.ravel()) + image.affine[:3, 3]


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"PixelSpacing": None}, "PixelSpacing of instance .* is missing"),
            ({"PixelSpacing": [0.01, 0.01]}, "PixelSpacing 0.01 x 0.01 mm"),
            ({"Rows": 1}, "accepted are two or more"),
            ({"PhotometricInterpretation": "PALETTE COLOR"}, "holds PALETTE COLOR"),
            ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "RGB with 3 values per pixel"),
            ({"RescaleSlope": 0, "RescaleIntercept": 7}, "is constant"),
            ({"PixelData": b"\0" * 100}, "cannot be decoded"),
        ],
    )
    def test_a_bad_attribute_is_named(self, tmp_path, changes, sentence):
        write_series(volume(AXIAL), HEADER, tmp_path)
        edit(tmp_path, changes)
        with pytest.raises(StudyError, match=f"series {HEADER.series_uid}.*{sentence}"):
            read_stack(read_headers(tmp_path))

    def test_few_slices(self, tmp_path):
        with pytest.raises(StudyError, match="has 9 slices; accepted are 10 or more"):
            read_stack(write_stack(tmp_path, volume(AXIAL, shape=(8, 8, 9))))

    def test_mixed_pixel_sizes(self, tmp_path):
        stack = write_stack(tmp_path / "a", volume(AXIAL))
        other = write_stack(tmp_path / "b", volume(affine_of((1, 0, 0), (0, 1, 0), pixel_mm=(0.9, 0.9))))
        mixed = replace(stack, instances=(*stack.instances[:6], *other.instances[6:]))
        with pytest.raises(StudyError, match=r"mixes PixelSpacing 1\\1 and 0\.9\\0\.9"):
            read_stack(mixed)

    def test_a_file_that_has_gone(self, tmp_path):
        stack = write_stack(tmp_path, volume(AXIAL))
        gone = next(instance for instance in stack.instances if instance.path.name == "IM000003")
        gone.path.unlink()
        with pytest.raises(StudyError, match=f"instance {gone.sop_uid} cannot be read") as caught:
            read_stack(stack)
        assert "IM000003" not in str(caught.value)  # a file's name may be the patient's

    def test_no_sentence_names_the_patient(self, tmp_path):
        write_series(volume(AXIAL), HEADER, tmp_path)
        edit(tmp_path, {"PixelData": b"\0" * 100})
        with pytest.raises(StudyError) as error:
            read_stack(read_headers(tmp_path))
        assert "Simulated" not in str(error.value)
