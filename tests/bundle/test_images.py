import gzip
import os

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from lckd.errors import StudyError
from lckd.files import write_atomically
from lckd.images import looks_skull_stripped, read_channels, read_image, read_label_map, write_image


def scan(shape=(6, 7, 5)) -> np.ndarray:
    return np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(shape)


def oblique(angle: float = 0.3, spacing=(1.0, 2.0, 3.0), flip: bool = False) -> np.ndarray:
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation * np.array(spacing) * np.array([-1 if flip else 1, 1, 1])
    affine[:3, 3] = 10, -20, 30
    return affine


def save(path, array, affine=None):
    affine = np.eye(4) if affine is None else affine
    if path.name.endswith((".nii", ".nii.gz")):
        image = nib.Nifti1Image(array, affine)
        image.set_qform(affine, 1)
        image.set_sform(affine, 1)
        nib.save(image, path)
    else:
        image = sitk.GetImageFromArray(array.transpose())
        lps = np.diag([-1, -1, 1, 1]) @ affine
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin(lps[:3, 3].tolist())
        sitk.WriteImage(image, str(path))
    return path


@given(st.floats(-1.5, 1.5), st.tuples(*[st.floats(0.5, 6.0)] * 3), st.booleans(), st.sampled_from(["nrrd", "mha"]))
@settings(deadline=None, max_examples=15)
def test_every_format_gives_the_same_voxels_at_the_same_place(tmp_path_factory, angle, spacing, flip, ending):
    folder, affine = tmp_path_factory.mktemp("formats"), oblique(angle, spacing, flip)
    nifti = read_image(save(folder / "a.nii.gz", scan(), affine))
    other = read_image(save(folder / f"a.{ending}", scan(), affine))
    np.testing.assert_array_equal(nifti.array, other.array)
    np.testing.assert_allclose(nifti.affine, other.affine, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_every_number_type_is_read(tmp_path, dtype):
    image = read_image(save(tmp_path / "a.nii", scan().astype(dtype)))
    np.testing.assert_array_equal(image.array, scan().astype(dtype))
    assert image.array.dtype == np.float32


def test_the_headers_scaling_is_applied(tmp_path):
    image = nib.Nifti1Image(scan().astype(np.int16), np.eye(4))
    image.header.set_slope_inter(2, 1)
    nib.save(image, tmp_path / "a.nii.gz")
    raw = nib.load(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(read_image(tmp_path / "a.nii.gz").array, np.asarray(raw.dataobj))


def test_a_4d_file_gives_its_channels_first(tmp_path):
    assert read_image(save(tmp_path / "a.nii.gz", scan((3, 4, 5, 2)))).array.shape == (2, 3, 4, 5)


@pytest.mark.parametrize("ending", ["nii", "nii.gz", "nrrd", "mha"])
def test_a_fourth_axis_of_one_is_dropped(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    if ending.startswith("nii"):
        save(path, scan()[..., None])
    else:
        sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(scan().transpose())]), str(path))
    np.testing.assert_array_equal(read_image(path).array, scan())


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_nifti_2_is_read(tmp_path, name):
    nib.save(nib.Nifti2Image(scan(), oblique()), tmp_path / name)
    image = read_image(tmp_path / name)
    np.testing.assert_array_equal(image.array, scan())
    np.testing.assert_allclose(image.affine, oblique())


def test_only_the_used_channels_must_be_good(tmp_path):
    good, dead = scan(), np.zeros_like(scan())
    path = save(tmp_path / "a.nii.gz", np.stack([good, dead], axis=-1))
    channels = read_channels(path, ["t1", "t2"], ["t1"])
    assert list(channels) == ["t1"]
    np.testing.assert_array_equal(channels["t1"].array, good)
    with pytest.raises(StudyError, match=r"channel t2 of .*a.nii.gz is constant"):
        read_channels(path, ["t1", "t2"], ["t1", "t2"])


def test_a_file_that_does_not_say_where_it_lies_is_warned_of(tmp_path):
    nib.save(nib.Nifti1Image(scan(), None), tmp_path / "a.nii")
    assert "does not say where it lies" in read_image(tmp_path / "a.nii").warnings[0]


NAN, INF = scan(), scan()
NAN[0, 0, 0], INF[1, 1, 1] = np.nan, np.inf


@pytest.mark.parametrize(
    ("array", "affine", "reason"),
    [
        (NAN, None, "NaN or infinite"),
        (INF, None, "NaN or infinite"),
        (np.zeros((4, 4, 4), np.float32), None, r"constant \(0 everywhere\)"),
        (np.full((4, 4, 4), 7, np.int16), None, r"constant \(7 everywhere\)"),
        (scan((5, 5)), None, "shape"),
        (scan((5, 5, 1)), None, "shape"),
        (scan().astype(np.complex64), None, "voxels of type complex64"),
        (scan(), np.diag([20.0, 1, 1, 1]), "voxels of 20 x 1 x 1 mm"),
        (scan(), np.diag([0.01, 1, 1, 1]), "voxels of 0.01 x 1 x 1 mm"),
    ],
)
def test_what_is_no_scan_is_refused_with_file_and_reason(tmp_path, array, affine, reason):
    with pytest.raises(StudyError, match=reason) as error:
        read_image(save(tmp_path / "bad.nii.gz", array, affine))
    assert "bad.nii.gz" in str(error.value)


def test_an_affine_without_inverse_is_refused(tmp_path):
    image = nib.Nifti1Image(scan(), np.eye(4))
    image.header["sform_code"] = 1
    for row in ("srow_x", "srow_y", "srow_z"):
        image.header[row] = [1, 1, 1, 0]
    image.to_filename(tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[254:256] = (1).to_bytes(2, "little")
    for row in range(3):
        raw[280 + 16 * row : 296 + 16 * row] = np.array([1, 1, 1, 0], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(bytes(raw))
    with pytest.raises(StudyError, match="affine without an inverse"):
        read_image(tmp_path / "a.nii")


def test_a_colour_image_is_refused(tmp_path):
    colours = np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colours, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(StudyError, match="accepted are whole and floating-point numbers"):
        read_image(tmp_path / "a.nii")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
@pytest.mark.parametrize("content", [b"", b"no image at all, whatever its name says" * 20])
def test_a_file_that_is_no_image_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StudyError, match=r"is empty|truncated or no|cannot be read"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
def test_a_truncated_file_is_refused(tmp_path, name):
    array = np.random.default_rng(0).normal(size=(12, 12, 12)).astype(np.float32)
    whole = save(tmp_path / name, array).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(StudyError, match="truncated|cannot be read"):
        read_image(tmp_path / name)


def test_a_flipped_byte_in_a_compressed_file_is_noticed(tmp_path):
    whole = bytearray(gzip.compress(save(tmp_path / "a.nii", scan()).read_bytes()))
    whole[-6] ^= 0xFF
    (tmp_path / "b.nii.gz").write_bytes(whole)
    with pytest.raises(StudyError):
        read_image(tmp_path / "b.nii.gz")


@pytest.mark.parametrize(("name", "reason"), [("nowhere.nii", "does not exist"), ("a.png", "unknown extension")])
def test_a_path_that_cannot_be_an_image_is_refused(tmp_path, name, reason):
    with pytest.raises(StudyError, match=reason):
        read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii", "a.nrrd"])
def test_what_is_more_than_memory_holds_is_refused_by_its_header(tmp_path, name):
    if name.endswith(".nii"):
        header = nib.Nifti1Header()
        header.set_data_shape((2000, 2000, 2000))
        (tmp_path / name).write_bytes(header.binaryblock + bytes(100))
    else:
        text = "NRRD0004\ntype: short\ndimension: 3\nsizes: 2000 2000 2000\nendian: little\nencoding: raw\n\n"
        (tmp_path / name).write_bytes(text.encode() + bytes(100))
    with pytest.raises(StudyError, match=r"shape \(2000, 2000, 2000\), over 1,500,000,000 voxels"):
        read_image(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
def test_a_file_without_permission_is_refused(tmp_path, name):
    save(tmp_path / name, scan()).chmod(0)
    with pytest.raises(StudyError, match="cannot be opened .Permission denied"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("read", [read_image, read_label_map])
def test_a_path_that_the_system_refuses_is_told(tmp_path, read):
    with pytest.raises(StudyError, match="check the path"):
        read(tmp_path / ("a" * 300 + ".nii"))


@pytest.mark.parametrize("dimensions", [2, 83])
def test_a_meta_image_of_another_dimension_is_refused_before_itk_reads_it(tmp_path, dimensions):
    path = save(tmp_path / "a.mha", scan())
    path.write_bytes(path.read_bytes().replace(b"NDims = 3", f"NDims = {dimensions}".encode()))
    with pytest.raises(StudyError, match=f"has {dimensions} dimensions"):
        read_image(path)


@given(st.lists(st.tuples(st.integers(0, 347), st.integers(0, 255)), min_size=1, max_size=6))
@settings(deadline=None, max_examples=60)
def test_a_damaged_header_never_ends_in_a_traceback(tmp_path_factory, damage):
    path = save(tmp_path_factory.mktemp("damaged") / "a.nii", scan())
    content = bytearray(path.read_bytes())
    for place, byte in damage:
        content[place] = byte
    path.write_bytes(content)
    try:
        assert np.isfinite(read_image(path).array).all()
    except StudyError as error:
        assert "a.nii" in str(error)


@given(st.floats(-1.5, 1.5), st.booleans())
@settings(deadline=None, max_examples=10)
def test_a_label_map_comes_back_as_it_was_written(tmp_path_factory, angle, flip):
    path, affine = tmp_path_factory.mktemp("labels") / "a.nii.gz", oblique(angle, flip=flip)
    labels = (scan() % 4).astype(np.uint8)
    write_image(path, labels, affine)
    read, read_affine = read_label_map(path)
    np.testing.assert_array_equal(read, labels)
    np.testing.assert_allclose(read_affine, affine, atol=1e-4)
    header = nib.load(path).header
    assert (header["sform_code"], header["qform_code"], header.get_data_dtype()) == (1, 1, np.uint8)


def test_a_write_that_fails_keeps_the_old_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full_disk(temporary):
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, full_disk)
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


@pytest.mark.parametrize(("sides_mm", "stripped"), [((135, 165), True), ((160, 190), False)])
def test_a_head_in_few_slices_with_empty_air_does_not_look_stripped(sides_mm, stripped):
    x, y = np.meshgrid(np.arange(-115, 115, 2), np.arange(-115, 115, 2), indexing="ij")
    slice_ = ((2 * x / sides_mm[0]) ** 2 + (2 * y / sides_mm[1]) ** 2 < 1).astype(np.float32)
    stack = np.repeat(slice_[..., None], 18, -1)
    assert looks_skull_stripped(stack, np.diag([2, 2, 5.5, 1])) == stripped


def test_a_brain_looks_stripped_and_a_head_does_not(small_study):
    brain = small_study.images["t2"]
    noise = np.random.default_rng(0).uniform(1, 5, brain.shape).astype(np.float32)
    affine = np.diag([4.5, 4.5, 4.5, 1])
    assert looks_skull_stripped(brain, affine)
    assert not looks_skull_stripped(np.maximum(brain, noise), affine)
