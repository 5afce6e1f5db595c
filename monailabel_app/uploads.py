"""Files that clients send: under names of our own, and deleted in time."""

import re
import shutil
import tempfile
import threading
import time
import uuid
import weakref
from pathlib import Path

from cachetools import TTLCache
from fastapi import UploadFile

from lckd.errors import StudyError

PREFIX = "lckd-upload-"
EXTENSIONS = (".nii.gz", ".nii", ".nrrd")
"""As 3D Slicer sends them; the other formats may refer to further files."""

HEADER_BYTES = 2**20
DETACHED = re.compile(rb"^\s*data ?file\s*:", re.IGNORECASE | re.MULTILINE)


class Upload:
    """A file that a client sent; it goes with this object, or at the end of its ``with``.

    Attributes:
        image: where it lies.

    Args:
        upload: of the request; of its name only the extension counts.

    Raises:
        StudyError: the file is of no accepted kind.
    """

    def __init__(self, upload: UploadFile) -> None:
        name = (upload.filename or "").lower()
        extension = next((ending for ending in EXTENSIONS if name.endswith(ending)), None)
        if extension is None:
            raise StudyError(f"the file sent has an unknown extension; accepted are {', '.join(EXTENSIONS)}")
        if extension == ".nrrd":
            _refuse_detached(upload)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._delete = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.image = str(folder / f"volume{extension}")
        with Path(self.image).open("wb") as written:
            shutil.copyfileobj(upload.file, written)

    def __enter__(self) -> "Upload":
        return self

    def __exit__(self, *error: object) -> None:
        self._delete()


class Sessions:
    """Volumes that were loaded into the viewer by hand: the newest of them, until nobody has asked for a while.

    Args:
        count: most to keep; one more, and the one that was longest unused goes.
        expiry_s: seconds without use.
    """

    def __init__(self, count: int = 32, expiry_s: int = 3600) -> None:
        self.expiry_s = expiry_s
        self._uploads: TTLCache[str, Upload] = TTLCache(count, expiry_s)
        self._lock = threading.Lock()

    def add(self, upload: Upload) -> str:
        """Keep a volume; the session's id."""
        session = uuid.uuid4().hex
        with self._lock:
            self._uploads[session] = upload
        return session

    def get(self, session: str) -> Upload | None:
        """The volume of a session, which begins anew; None if there is none any more."""
        with self._lock:
            upload = self._uploads.pop(session, None)
            if upload:
                self._uploads[session] = upload
        return upload

    def remove(self, session: str) -> None:
        """Forget a volume."""
        with self._lock:
            self._uploads.pop(session, None)

    def values(self) -> list[Upload]:
        """All volumes."""
        with self._lock:
            return list(self._uploads.values())

    def remove_expired(self) -> int:
        """How many have gone; MONAI Label's app asks for it every five minutes."""
        with self._lock:
            return len(self._uploads.expire())


def remove_abandoned(older_than_s: float = 86400) -> None:
    """Delete what a server that was killed has left behind."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if time.time() - folder.stat().st_mtime > older_than_s:
            shutil.rmtree(folder, ignore_errors=True)


def _refuse_detached(upload: UploadFile) -> None:
    """Refuse a NRRD header that has its voxels read from another file: it could name any file of the server."""
    header = re.split(rb"\r?\n\r?\n", upload.file.read(HEADER_BYTES), maxsplit=1)
    upload.file.seek(0)
    if len(header) == 1 or DETACHED.search(header[0]):
        raise StudyError("the NRRD file sent refers to another file or has no end of its header; save it as one file")
