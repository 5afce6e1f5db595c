import os
import socket
import stat
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.fileset import FileSet
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    MRImageStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    generate_uid,
)

from lckd.errors import StudyError
from lckd.pacs import reading
from lckd.pacs.identification import identify
from lckd.pacs.reading import open_export, read_instance
from lckd.pacs.series_table import rows
from lckd.pacs.study import Instance

NAME = "Muster^Max"


def slice_of(z=0.0, study="1.2.3", series="1.2.3.4", patient="P1", kind=MRImageStorage, **attributes) -> Dataset:
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 100"
    header.SOPClassUID, header.SOPInstanceUID = kind, generate_uid()
    header.StudyInstanceUID, header.SeriesInstanceUID, header.PatientID, header.PatientName = (
        study,
        series,
        patient,
        NAME,
    )
    header.StudyDate, header.StudyTime, header.StudyID, header.Modality = "20200101", "100000", "1", "MR"
    header.SeriesDescription, header.SeriesNumber, header.InstanceNumber = "T1 Schädel", 1, 1
    header.Rows, header.Columns, header.PixelSpacing = 4, 5, [1, 1]
    header.ImagePositionPatient, header.ImageOrientationPatient = [0, 0, z], [1, 0, 0, 0, 1, 0]
    header.SamplesPerPixel, header.BitsAllocated, header.BitsStored, header.HighBit = 1, 16, 12, 11
    header.PixelRepresentation, header.PhotometricInterpretation = 0, "MONOCHROME2"
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    return header


def write(
    path: Path, header: Dataset, syntax=ExplicitVRLittleEndian, pixels: bytes | None = bytes(40), bare=False
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels is not None:
        header.PixelData = pixels
        header["PixelData"].VR = "OW"
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    if bare:
        dcmwrite(path, header, implicit_vr=implicit, little_endian=little, enforce_file_format=False)
        return path
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    dcmwrite(path, header, enforce_file_format=True)
    return path


def write_volume(folder: Path, count=3, **attributes) -> Path:
    for index in range(count):
        write(folder / f"IM{index}", slice_of(index * 5.0, InstanceNumber=index + 1, **attributes))
    return folder


def export_of(path: Path, **options) -> reading.Export:
    with open_export(path, progress=False, **options) as export:
        return export


def reasons(export: reading.Export) -> dict[str, int]:
    return {left.reason: left.count for left in export.unreadable}


class TestFolder:
    def test_is_read_recursively_without_extensions(self, tmp_path):
        write_volume(tmp_path / "a" / "b" / "c")
        study = export_of(tmp_path).study("1.2.3")
        assert [stack.size for stack in study.stacks] == [3]

    def test_studies_are_kept_apart(self, tmp_path):
        write_volume(tmp_path / "a", study="1.2.3")
        write_volume(tmp_path / "b", study="1.2.5", series="1.2.5.1", patient="P2")
        export = export_of(tmp_path)
        assert export.study_uids == ("1.2.3", "1.2.5")
        assert export.series_uids == {"1.2.3.4", "1.2.5.1"}

    def test_a_study_of_two_patients_is_refused_alone(self, tmp_path):
        write_volume(tmp_path / "a")
        write_volume(tmp_path / "b", patient="P2")
        write_volume(tmp_path / "c", study="1.2.5")
        export = export_of(tmp_path)
        assert export.study_uids == ("1.2.5",)
        with pytest.raises(StudyError, match="2 different PatientID") as caught:
            export.study("1.2.3")
        assert "P2" not in str(caught.value)

    @pytest.mark.parametrize(("issuer", "patients"), [("", 1), ("ward", 1), ("other", 2)])
    def test_an_id_without_its_issuer_is_no_other_patient(self, tmp_path, issuer, patients):
        write_volume(tmp_path / "a", IssuerOfPatientID="ward")
        write_volume(tmp_path / "b", IssuerOfPatientID=issuer)
        export = export_of(tmp_path)
        assert len(export.study_uids) == 2 - patients
        if patients == 2:
            with pytest.raises(StudyError, match="2 different PatientID"):
                export.study("1.2.3")

    def test_an_unknown_study(self, tmp_path):
        export = export_of(write_volume(tmp_path))
        with pytest.raises(StudyError, match="no study 9"):
            export.study("9")

    @pytest.mark.parametrize("content", [None, b"", b"hello", b"\x00" * 4000])
    def test_without_an_image_is_refused(self, tmp_path, content):
        if content is not None:
            (tmp_path / "file").write_bytes(content)
        with pytest.raises(StudyError, match="holds no MR image"):
            export_of(tmp_path)

    def test_that_does_not_exist_is_refused(self, tmp_path):
        with pytest.raises(StudyError, match="does not exist"):
            export_of(tmp_path / "none")

    def test_links_in_a_circle_end(self, tmp_path):
        write_volume(tmp_path / "a")
        (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
        assert len(export_of(tmp_path).instances["1.2.3"]) == 3

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
    def test_pipes_and_sockets_do_not_hang_it(self, tmp_path):
        write_volume(tmp_path)
        os.mkfifo(tmp_path / "pipe")
        assert len(export_of(tmp_path).instances["1.2.3"]) == 3

    def test_a_single_file_is_an_export_too(self, tmp_path):
        file = write(tmp_path / "one.dcm", slice_of())
        assert len(export_of(file).instances["1.2.3"]) == 1

    def test_several_processes_find_the_same(self, tmp_path, monkeypatch):
        monkeypatch.setattr(reading, "ALONE", 2)
        write_volume(tmp_path, 4)
        (tmp_path / "x").write_text("no DICOM")
        export = export_of(tmp_path, jobs=2)
        assert [instance.path.name for instance in export.instances["1.2.3"]] == [f"IM{n}" for n in range(4)]
        assert reasons(export) == {"not a DICOM file": 1}

    def test_nothing_of_the_patient_is_in_the_table(self, tmp_path, capfd):
        export = export_of(write_volume(tmp_path, AccessionNumber="A77", PatientBirthDate="19501231"))
        written = str(rows(identify(export.study("1.2.3")))) + "".join(capfd.readouterr())
        assert not any(secret in written for secret in ("Muster", "P1", "A77", "19501231"))


class TestFile:
    @pytest.mark.parametrize(
        "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
    )
    def test_of_any_encoding(self, tmp_path, syntax):
        found = read_instance(write(tmp_path / "a", slice_of(3.0, PixelPaddingValue=7), syntax))
        assert isinstance(found, Instance)
        assert found.transfer_syntax == syntax
        assert found.header.SeriesDescription == "T1 Schädel"
        assert found.header.PixelPaddingValue == 7
        assert list(found.header.ImagePositionPatient) == [0, 0, 3]

    @pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    def test_without_preamble(self, tmp_path, syntax):
        found = read_instance(write(tmp_path / "a", slice_of(), syntax, bare=True))
        assert isinstance(found, Instance)
        assert found.header.Rows == 4

    def test_compressed(self, tmp_path):
        header = slice_of()
        header.PixelData = b"\xfe\xff\x00\xe0\x00\x00\x00\x00\xfe\xff\x00\xe0\x02\x00\x00\x00ab"
        header["PixelData"].is_undefined_length = True
        header["PixelData"].VR = "OB"
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = JPEG2000Lossless
        dcmwrite(tmp_path / "a", header, enforce_file_format=True)
        found = read_instance(tmp_path / "a")
        assert isinstance(found, Instance)
        assert found.transfer_syntax == JPEG2000Lossless

    @pytest.mark.parametrize(
        ("kind", "name"),
        [
            (SegmentationStorage, "Segmentation Storage"),
            (RTStructureSetStorage, "RT Structure Set Storage"),
            (SecondaryCaptureImageStorage, "Secondary Capture Image Storage"),
            (CTImageStorage, "CT Image Storage"),
            ("1.2.3.4.5", "1.2.3.4.5"),
            ("1.2.840.10008.5.1.4.1.1.88.22", "Enhanced SR Storage"),
        ],
    )
    def test_of_another_kind_is_ignored(self, tmp_path, kind, name):
        write_volume(tmp_path)
        write(tmp_path / "other", slice_of(kind=kind, series="1.9"))
        ignored = export_of(tmp_path).study("1.2.3").ignored
        assert [(one.series_uid, one.reason, one.count) for one in ignored] == [("1.9", f"{name}, not an MR image", 1)]

    def test_without_pixels_is_ignored(self, tmp_path):
        write_volume(tmp_path)
        write(tmp_path / "other", slice_of(), pixels=None)
        assert export_of(tmp_path).study("1.2.3").ignored[0].reason == "no pixel data"

    @pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    def test_that_is_cut_off_is_ignored(self, tmp_path, syntax):
        write_volume(tmp_path)
        file = write(tmp_path / "other", slice_of(), syntax)
        file.write_bytes(file.read_bytes()[:-10])
        assert export_of(tmp_path).study("1.2.3").ignored[0].reason == "pixel data are cut off"

    @pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
    def test_without_a_uid_is_left_out(self, tmp_path, keyword):
        write_volume(tmp_path)
        header = slice_of()
        delattr(header, keyword)
        write(tmp_path / "other", header, bare=True)
        assert reasons(export_of(tmp_path)) == {f"{keyword} is missing": 1}

    @pytest.mark.parametrize("keyword", ["Rows", "Columns"])
    def test_without_a_matrix_is_ignored(self, tmp_path, keyword):
        write_volume(tmp_path)
        write(tmp_path / "other", slice_of(**{keyword: 0}))
        assert export_of(tmp_path).study("1.2.3").ignored[0].reason == "no Rows or Columns"

    def test_foreign_files_are_counted(self, tmp_path):
        write_volume(tmp_path)
        for number in range(3):
            (tmp_path / f"notes{number}.txt").write_text("hello")
        export = export_of(tmp_path)
        assert reasons(export) == {"not a DICOM file": 3}
        assert export.unreadable[0].example.name == "notes0.txt"

    def test_a_value_that_cannot_be_read_is_missing(self, tmp_path):
        file = write(tmp_path / "a", slice_of(RepetitionTime=1234))
        file.write_bytes(file.read_bytes().replace(b"1234", b"12x4"))
        found = read_instance(file)
        assert isinstance(found, Instance)
        assert "RepetitionTime" not in found.header

    def test_the_same_file_twice_counts_once(self, tmp_path):
        write_volume(tmp_path)
        (tmp_path / "copy").write_bytes((tmp_path / "IM0").read_bytes())
        stack = export_of(tmp_path).study("1.2.3").stacks[0]
        assert stack.size == 3
        assert "repeat a SOPInstanceUID" in stack.notes[0]


class TestDicomdir:
    @pytest.fixture
    def medium(self, tmp_path):
        files = FileSet()
        for index in range(3):
            files.add(write(tmp_path / "source" / f"{index}", slice_of(index * 5.0, InstanceNumber=index + 1)))
        files.write(tmp_path / "medium")
        return tmp_path / "medium"

    @pytest.mark.parametrize("name", ["", "DICOMDIR"])
    def test_leads_to_its_files(self, medium, name):
        export = export_of(medium / name)
        assert len(export.instances["1.2.3"]) == 3
        assert (export.warnings, export.unreadable) == ((), ())

    def test_that_names_missing_files_warns(self, medium):
        next(file for file in sorted(medium.rglob("*")) if file.is_file() and file.name != "DICOMDIR").unlink()
        export = export_of(medium)
        assert len(export.instances["1.2.3"]) == 2
        assert "names 3 files, of which 1 are not there" in export.warnings[0]

    def test_that_is_damaged_warns(self, tmp_path):
        write_volume(tmp_path)
        (tmp_path / "DICOMDIR").write_bytes(b"\x00" * 128 + b"DICM" + b"\xff" * 50)
        export = export_of(tmp_path)
        assert len(export.instances["1.2.3"]) == 3


class TestZip:
    @pytest.fixture
    def member(self, tmp_path) -> bytes:
        return write(tmp_path / "source" / "a", slice_of()).read_bytes()

    def zipped(self, path: Path, members: dict[str | zipfile.ZipInfo, bytes], method=zipfile.ZIP_DEFLATED) -> Path:
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return path

    def test_is_unpacked_and_removed(self, tmp_path, member):
        archive = self.zipped(tmp_path / "e.zip", {"a/b/c": member, "notes.txt": b"x"})
        with open_export(archive, progress=False) as export:
            file = export.instances["1.2.3"][0].path
            assert file.is_file()
        assert not file.exists()

    def test_is_removed_after_an_error(self, tmp_path, member, monkeypatch):
        monkeypatch.setattr(reading.tempfile, "tempdir", str(tmp_path / "scratch"))
        (tmp_path / "scratch").mkdir()
        archive = self.zipped(tmp_path / "e.zip", {"a": b"no DICOM"})
        with pytest.raises(StudyError, match=r"e\.zip holds no MR image"):
            export_of(archive)
        assert list((tmp_path / "scratch").iterdir()) == []

    @pytest.mark.parametrize("name", [".", "../a", "/etc/a", "a/../../b", "C:/a", "..\\..\\a", "a\\..\\..\\b"])
    def test_that_points_outside_is_refused(self, tmp_path, member, name):
        archive = self.zipped(tmp_path / "e.zip", {"fine": member, name: member})
        with pytest.raises(StudyError, match="member 2 points outside"):
            reading.unpack(archive, self.empty(tmp_path))
        assert list((tmp_path / "out").iterdir()) == []

    def empty(self, tmp_path: Path) -> Path:
        (tmp_path / "out").mkdir()
        return tmp_path / "out"

    def test_with_a_link_is_refused(self, tmp_path, member):
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive = self.zipped(tmp_path / "e.zip", {"fine": member, link: b"/etc/passwd"})
        with pytest.raises(StudyError, match="member 2 is a link"):
            reading.unpack(archive, self.empty(tmp_path))
        assert list((tmp_path / "out").iterdir()) == []

    def test_that_is_a_bomb_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(reading, "SMALL_BYTES", 2**16)
        archive = self.zipped(tmp_path / "e.zip", {"a": bytes(2**20)})
        with pytest.raises(StudyError, match="times its size; accepted is 100 times"):
            reading.unpack(archive, self.empty(tmp_path))
        assert list((tmp_path / "out").iterdir()) == []

    @pytest.mark.parametrize(
        ("limit", "message"), [("MOST_BYTES", "unpacks to"), ("MOST_MEMBERS", "holds 2 files; accepted are 1")]
    )
    def test_that_is_too_large_is_refused(self, tmp_path, member, monkeypatch, limit, message):
        monkeypatch.setattr(reading, limit, 1)
        with pytest.raises(StudyError, match=message):
            reading.unpack(self.zipped(tmp_path / "e.zip", {"a": member, "b": member}), self.empty(tmp_path))

    def test_that_needs_more_room_than_there_is_is_refused(self, tmp_path, member, monkeypatch):
        monkeypatch.setattr(reading.shutil, "disk_usage", lambda _: _NoRoom)
        with pytest.raises(StudyError, match="GiB left"):
            reading.unpack(self.zipped(tmp_path / "e.zip", {"a": member}), self.empty(tmp_path))

    def test_that_is_encrypted_is_refused(self, tmp_path, member):
        archive = self.zipped(tmp_path / "e.zip", {"a": member})
        content = bytearray(archive.read_bytes())
        for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            content[content.index(signature) + offset] |= 1
        archive.write_bytes(content)
        with pytest.raises(StudyError, match="is encrypted"):
            export_of(archive)

    def test_that_is_cut_off_is_refused(self, tmp_path, member):
        archive = self.zipped(tmp_path / "e.zip", {"a": member})
        archive.write_bytes(archive.read_bytes()[:-30])
        with pytest.raises(StudyError, match="holds no MR image|cannot be unpacked"):
            export_of(archive)

    @pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_a_damaged_member_is_left_out(self, tmp_path, member, method):
        archive = self.zipped(tmp_path / "e.zip", {"a": member, "b": member}, method)
        content = bytearray(archive.read_bytes())
        end = content.index(b"PK\x01\x02")
        content[end - 60 : end - 20] = bytes(40)
        archive.write_bytes(content)
        export = export_of(archive)
        assert len(export.instances["1.2.3"]) == 1
        assert "1 files of the zip are damaged" in export.warnings[0]


class _NoRoom:
    free = 0


class TestFuzz:
    """Whatever a file holds: an instance or a reason, never a traceback, never a hang."""

    @pytest.fixture(scope="class")
    def whole(self, tmp_path_factory) -> bytes:
        return write(tmp_path_factory.mktemp("fuzz") / "a", slice_of()).read_bytes()

    @settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_a_damaged_file(self, tmp_path, whole, data):
        content = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
        for place, value in data.draw(
            st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=12)
        ):
            if place < len(content):
                content[place] = value
        self.read(tmp_path, bytes(content))

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(content=st.binary(max_size=300), start=st.sampled_from([b"", bytes(128) + b"DICM", b"\x08\x00\x05\x00CS"]))
    def test_random_bytes(self, tmp_path, content, start):
        self.read(tmp_path, start + content)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        values=st.dictionaries(
            st.sampled_from(
                ["EchoTime", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "AcquisitionTime"]
            ),
            st.text("0123456789.-e\\x ", max_size=16),
        )
    )
    def test_random_values(self, tmp_path, values):
        header = slice_of()
        for keyword, value in values.items():
            header.add_new(keyword, "LO", value)
        buffer = BytesIO()
        dcmwrite(buffer, header, implicit_vr=True, little_endian=True)
        self.read(tmp_path, buffer.getvalue() + b"\xe0\x7f\x10\x00\x28\x00\x00\x00" + bytes(40))

    def read(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "f").write_bytes(content)
        try:
            export = export_of(tmp_path)
            for uid in export.study_uids:
                rows(identify(export.study(uid)))
        except StudyError as error:
            assert "\n" not in str(error)


def test_reading_needs_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "socket", None)
    assert export_of(write_volume(tmp_path)).study_uids == ("1.2.3",)
