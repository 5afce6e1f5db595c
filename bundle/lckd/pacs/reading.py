"""An export to an index of its studies: folder, zip or DICOMDIR, by header only."""

import logging
import lzma
import os
import shutil
import stat
import struct
import tempfile
import warnings
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from pydicom import config, dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, MRImageStorage
from tqdm import tqdm

from lckd.errors import StudyError, reason
from lckd.pacs.study import (
    ENHANCED_CLASSES,
    TAGS,
    Ignored,
    Instance,
    Study,
    build_study,
    count_patients,
    number,
    patient_key,
    text,
)

MOST_BYTES: Final = 256 * 2**30
"""Largest content of a zip."""

MOST_RATIO: Final = 100
"""Largest content of a zip, as a multiple of the zip's size; MR images shrink to a tenth at best."""

SMALL_BYTES: Final = 64 * 2**20
"""Below this a zip's ratio does no harm."""

MOST_MEMBERS: Final = 4_000_000

ALONE: Final = 2000
"""Fewer files than this are read sooner than other processes start."""

_IDENTITY_TAGS: Final = (0x00100020, 0x00100021)
DICOMDIR: Final = "dicomdir"
"""The name of a medium's catalogue in lower case."""

_DAMAGED: Final = (zipfile.BadZipFile, EOFError, NotImplementedError, zlib.error, lzma.LZMAError)
"""What the decoders of a zip raise for a member that is damaged, or compressed in a way they do not know."""
_PIXEL_TAGS: Final = {(0x7FE0, element) for element in (0x0008, 0x0009, 0x0010)}
_UNDEFINED: Final = 0xFFFFFFFF


@dataclass(frozen=True)
class Unreadable:
    """Files that are no DICOM object with a place in a study.

    Args:
        reason: why, in words that hold nothing of the file's content.
        count: number of files.
        example: one of them; a path may name a patient, so it is no text for a report.
    """

    reason: str
    count: int
    example: Path


@dataclass(frozen=True)
class Export:
    """What an export holds.

    Args:
        instances: of MR images, per StudyInstanceUID.
        ignored: what else belongs to these studies, per StudyInstanceUID.
        refused: sentence per StudyInstanceUID of a study that cannot be used.
        unreadable: files left out.
        warnings: sentences about the export as a whole.
    """

    instances: Mapping[str, tuple[Instance, ...]]
    ignored: Mapping[str, tuple[Ignored, ...]] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    unreadable: tuple[Unreadable, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def series_uids(self) -> set[str]:
        """All its series of MR images, to check an override file against."""
        return {instance.series_uid for members in self.instances.values() for instance in members}

    @property
    def study_uids(self) -> tuple[str, ...]:
        """The studies that can be built."""
        return tuple(uid for uid in self.instances if uid not in self.refused)

    def study(self, uid: str) -> Study:
        """Build a study; one at a time, since its stacks hold more than the index.

        Raises:
            StudyError: it is refused, or the export has no such study.
        """
        if uid in self.refused:
            raise StudyError(self.refused[uid])
        if uid not in self.instances:
            raise StudyError(f"the export holds no study {uid}; it holds {', '.join(self.study_uids) or 'none'}")
        with quiet():
            return build_study(uid, self.instances[uid], self.ignored.get(uid, ()))


@contextmanager
def open_export(path: str | Path, progress: bool = True, jobs: int | None = None) -> Iterator[Export]:
    """Index an export; what a zip was unpacked to is removed at the end.

    Args:
        path: a folder, a zip, a DICOMDIR (its folder is read), or one DICOM file.
        progress: show a bar.
        jobs: processes; None takes one per core, at most 8.

    Raises:
        StudyError: the path does not exist, the zip is unsafe or broken, or no MR image is in it.
    """
    place = Path(path)
    if place.is_dir():
        yield _indexed(place, list(_files(place)), progress, jobs)
    elif not place.is_file():
        raise StudyError(f"{place} does not exist; give a folder, a .zip or a DICOMDIR of a PACS export")
    elif place.name.lower() == DICOMDIR:
        yield _indexed(place.parent, list(_files(place.parent)), progress, jobs)
    elif zipfile.is_zipfile(place):
        with tempfile.TemporaryDirectory(prefix="lckd-", ignore_cleanup_errors=True) as folder:
            notes = unpack(place, Path(folder))
            export = _indexed(Path(folder), list(_files(Path(folder))), progress, jobs, place)
            yield Export(export.instances, export.ignored, export.refused, export.unreadable, export.warnings + notes)
    else:
        yield _indexed(place, [place], progress, jobs)


def _files(folder: Path) -> Iterator[Path]:
    """Regular files below ``folder``; links to folders are not followed, since they can be circles."""
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            elif entry.is_file():
                yield Path(entry.path)
        except OSError:  # a folder without permission must not hide the others
            continue


def unpack(archive: Path, folder: Path) -> tuple[str, ...]:
    """Check a zip as a whole, then unpack it.

    Returns:
        Sentences about members that could not be unpacked.

    Raises:
        StudyError: the zip is no zip, encrypted, or one that could harm; nothing was written.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            _check_members(archive, members)
            _check_sizes(archive, members, folder)
            damaged = sum(not _unpacked(opened, member, folder) for member in members)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise StudyError(f"{archive} cannot be unpacked ({reason(error)}); export it again") from error
    return (f"{damaged} files of the zip are damaged and were left out",) if damaged else ()


def _check_members(archive: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    names = Counter(member.filename for member in members)
    for member in members:
        name = PurePosixPath(member.filename.replace("\\", "/"))
        kind = stat.S_IFMT(member.external_attr >> 16)
        if (
            not name.parts
            or name.is_absolute()
            or ".." in name.parts
            or ":" in name.parts[0]
            or "\0" in member.orig_filename
        ):
            fault = "points outside the folder it is unpacked to"
        elif kind not in (0, stat.S_IFREG):
            fault = "is a link or a device"
        elif member.flag_bits & 1:
            fault = "is encrypted"
        elif names[member.filename] > 1:
            fault = "is there twice"
        else:
            continue
        raise StudyError(f"{archive}: member {members.index(member) + 1} {fault}; give a plain zip of DICOM files")


def _check_sizes(archive: Path, members: Sequence[zipfile.ZipInfo], folder: Path) -> None:
    total = sum(member.file_size for member in members)
    ratio = total / max(archive.stat().st_size, 1)
    free = shutil.disk_usage(folder).free
    if len(members) > MOST_MEMBERS:
        fault = f"holds {len(members)} files; accepted are {MOST_MEMBERS}"
    elif total > MOST_BYTES:
        fault = f"unpacks to {total / 2**30:.0f} GiB; accepted are {MOST_BYTES / 2**30:.0f} GiB"
    elif total > SMALL_BYTES and ratio > MOST_RATIO:
        fault = f"unpacks to {ratio:.0f} times its size; accepted is {MOST_RATIO} times"
    elif total > free:
        fault = f"unpacks to {total / 2**30:.1f} GiB, but {folder} has {free / 2**30:.1f} GiB left"
    else:
        return
    raise StudyError(f"{archive} {fault}; unpack it yourself and give the folder")


def _unpacked(opened: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> bool:
    target = folder.joinpath(*PurePosixPath(member.filename.replace("\\", "/")).parts)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with opened.open(member) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)
    except (*_DAMAGED, OSError) as error:
        # The disk's errors have a number; damage found by bz2 has none. Of two names that clash the second is left out.
        if getattr(error, "errno", None) and not isinstance(error, NotADirectoryError | IsADirectoryError):
            raise
        target.unlink(missing_ok=True)
        return False
    return True


@dataclass(frozen=True)
class _Left:
    """A file that is not read further, and why; with its study and series where it has them."""

    reason: str
    study_uid: str = ""
    series_uid: str = ""
    description: str = ""
    patient: tuple[str, str] = ("", "")


def _indexed(root: Path, files: list[Path], progress: bool, jobs: int | None, shown: Path | None = None) -> Export:
    catalogues = [file for file in files if file.name.lower() == DICOMDIR]
    images = [file for file in files if file.name.lower() != DICOMDIR]
    index = _Index()
    bar = tqdm(total=len(images), desc="reading headers", unit="file", disable=not progress, leave=False)
    with bar, quiet():
        for file, found in zip(images, _read_all(images, jobs), strict=True):
            index.add(file, found)
            bar.update()
        export = index.finished(tuple(_missing_warnings(catalogues, files)))
    if not export.instances:
        why = "; ".join(f"{left.count} x {left.reason}" for left in export.unreadable[:3])
        raise StudyError(f"{shown or root} holds no MR image ({why or 'it is empty'}); give a DICOM export of a study")
    return export


def _read_all(files: list[Path], jobs: int | None) -> Iterator[Instance | _Left]:
    workers = min(os.cpu_count() or 1, 8) if jobs is None else jobs
    if workers < 2 or len(files) < ALONE:
        yield from map(_read_quietly, files)
        return
    # Not forked: the parent may hold threads of torch, and a fork of those can hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_read_quietly, files, chunksize=100)


def _read_quietly(file: Path) -> Instance | _Left:
    with quiet():
        return read_instance(file)


def read_instance(file: Path) -> Instance | _Left:
    """The header of a file, or why it is no MR image."""
    try:
        with file.open("rb") as opened:
            if not _looks_like_dicom(opened):
                return _Left("not a DICOM file")
            header = dcmread(opened, stop_before_pixels=True, force=True, specific_tags=[*TAGS, *_IDENTITY_TAGS])
            pixels = _pixel_fault(opened, header)
            return _judged(file, header, pixels)
    except OSError as error:
        return _Left(f"cannot be read ({error.strerror or type(error).__name__})")
    except Exception:  # pydicom raises any type for a damaged file, and its text may quote the content
        return _Left("damaged DICOM header")


def _looks_like_dicom(opened: BinaryIO) -> bool:
    """Whether the preamble, or where there is none the first element, is DICOM's."""
    start = opened.read(132)
    opened.seek(0)
    if start[128:] == b"DICM":
        return True
    if len(start) < 16:
        return False
    little, big = struct.unpack("<HH", start[:4]), struct.unpack(">HH", start[:4])
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    length = min(struct.unpack(f"{order}L", start[4:8])[0] for order in "<>")
    return any(group in (0x0002, 0x0008) and element < 0x0100 for group, element in (little, big)) and (
        explicit or length < 256
    )


def _pixel_fault(opened: BinaryIO, header: FileDataset) -> str:
    """Why the pixel data after the header cannot be used; empty where it can."""
    if text(header.file_meta, "TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        return ""
    implicit, little = header.original_encoding
    order = "<" if little else ">"
    start = opened.read(12)
    if len(start) < 12 or struct.unpack(f"{order}HH", start[:4]) not in _PIXEL_TAGS:
        return "no pixel data"
    length = struct.unpack(f"{order}L", start[4:8] if implicit else start[8:12])[0]
    if length == _UNDEFINED:
        return ""
    remaining = os.fstat(opened.fileno()).st_size - opened.tell() + (4 if implicit else 0)
    sides = [number(header, keyword) or 1 for keyword in ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames")]
    expected = sides[0] * sides[1] * sides[2] * sides[3] * (number(header, "BitsAllocated") or 8) / 8
    return "pixel data are cut off" if min(remaining, length) < expected else ""


def _judged(file: Path, header: FileDataset, pixels: str) -> Instance | _Left:
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        if not text(header, keyword):
            return _Left(f"{keyword} is missing" if len(header) else "damaged DICOM header")
    kind = text(header, "SOPClassUID")
    fault = pixels
    if kind not in (MRImageStorage, *ENHANCED_CLASSES):
        fault = f"{UID(kind).name if UID(kind).is_valid else 'an unknown SOP class'}, not an MR image"
    elif not number(header, "Rows") or not number(header, "Columns"):
        fault = "no Rows or Columns"
    elif kind == MRImageStorage and (number(header, "NumberOfFrames") or 1) > 1:
        fault = "several frames in an object of the class for one"
    patient = patient_key(header)
    if not fault:
        return Instance(file, header, text(header.file_meta, "TransferSyntaxUID"), patient)
    uids = text(header, "StudyInstanceUID"), text(header, "SeriesInstanceUID")
    return _Left(fault, *uids, text(header, "SeriesDescription"), patient)


class _Index:
    """What was found so far."""

    def __init__(self) -> None:
        self._instances: dict[str, list[Instance]] = defaultdict(list)
        self._ignored: dict[str, Counter[tuple[str, str, str]]] = defaultdict(Counter)
        self._unreadable: dict[str, Unreadable] = {}
        self._patients: dict[str, set[tuple[str, str]]] = defaultdict(set)

    def add(self, file: Path, found: Instance | _Left) -> None:
        if found.study_uid:
            self._patients[found.study_uid].add(found.patient)
        if isinstance(found, Instance):
            self._instances[found.study_uid].append(found)
        elif found.study_uid:
            self._ignored[found.study_uid][found.series_uid, found.description, found.reason] += 1
        else:
            before = self._unreadable.get(found.reason)
            self._unreadable[found.reason] = Unreadable(
                found.reason, before.count + 1 if before else 1, before.example if before else file
            )

    def finished(self, notes: tuple[str, ...]) -> Export:
        refused = {
            uid: f"study {uid} holds {count_patients(patients)} different PatientID; accepted is one patient per "
            "study, so export the patients separately"
            for uid, patients in self._patients.items()
            if count_patients(patients) > 1 and uid in self._instances
        }
        ignored = {
            uid: tuple(Ignored(*key, count) for key, count in counter.items()) for uid, counter in self._ignored.items()
        }
        others = sum(uid not in self._instances for uid in ignored)
        if others:
            notes = (*notes, f"{others} studies hold no MR image and were left out")
        instances = {uid: tuple(members) for uid, members in sorted(self._instances.items())}
        return Export(instances, ignored, refused, tuple(self._unreadable.values()), notes)


def _missing_warnings(catalogues: Iterable[Path], files: Sequence[Path]) -> Iterator[str]:
    """A sentence per DICOMDIR that names files that are not there."""
    present = {str(file).lower() for file in files}
    for catalogue in catalogues:
        try:
            records = dcmread(catalogue, force=True).get("DirectoryRecordSequence") or []
            named = [record.get("ReferencedFileID") for record in records]
        except Exception:  # as in ``read_instance``
            yield "a DICOMDIR is damaged; the files beside it were read without it"
            continue
        paths = [[name] if isinstance(name, str) else list(name) for name in named if name]
        missing = sum(str(catalogue.parent.joinpath(*map(str, path))).lower() not in present for path in paths)
        if missing:
            yield f"the DICOMDIR names {len(paths)} files, of which {missing} are not there; copy the whole medium"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom, whose warnings quote values of the header."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    mode = config.settings.reading_validation_mode
    logger.setLevel(logging.CRITICAL)
    config.settings.reading_validation_mode = config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        config.settings.reading_validation_mode = mode
