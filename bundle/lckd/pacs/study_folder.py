"""The folder of a study's results: named without its patient, made as a draft, and never half of one run."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from lckd.errors import StudyError
from lckd.files import write_json

MANIFEST: Final = "manifest.json"
_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)+")
_LONGEST_UID: Final = 64


def safe_name(study_uid: str) -> str:
    """Name of a study's folder: its UID where that is one, else a hash of it, since it may be anything."""
    if len(study_uid) <= _LONGEST_UID and _UID.fullmatch(study_uid):
        return study_uid
    return f"study-{hashlib.sha256(study_uid.encode()).hexdigest()[:16]}"


class StudyFolder:
    """Where the results of one study go.

    Args:
        output: folder of all studies.
        study_uid: StudyInstanceUID.
    """

    def __init__(self, output: Path, study_uid: str) -> None:
        self.name = safe_name(study_uid)
        self.path = output / self.name

    def finished(self, fingerprint: str) -> dict[str, Any] | None:
        """The manifest of an earlier run on the same input with the same options, if it finished; else None."""
        manifest = self._manifest()
        same = manifest.get("finished") is True and manifest.get("fingerprint") == fingerprint
        return manifest if same and all((self.path / file).is_file() for file in manifest["files"]) else None

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A folder to write to; removed at the end, if it was not published.

        Raises:
            StudyError: the study's folder holds something else.
        """
        if self.path.exists() and not self._manifest() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise StudyError(f"{self.path} exists and is no result of this command; choose another --output")
        parent = self.path.with_name(f".{self.name}.draft")
        shutil.rmtree(parent, ignore_errors=True)  # of a run that was killed
        folder = parent / self.name
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(parent, ignore_errors=True)

    def publish(self, draft: Path, manifest: Mapping[str, Any]) -> None:
        """Put the files of ``draft`` in place; those of an earlier run go, those of others stay.

        Args:
            draft: of ``draft``.
            manifest: written last, with the files' names.

        Raises:
            OSError: no permission, or the disk is full; the manifest then says that the study is unfinished.
        """
        before = self._manifest()
        files = sorted(file.name for file in draft.iterdir())
        complete = {**manifest, "files": files}
        if not before:
            write_json(draft / MANIFEST, complete)
            if self.path.exists():
                self.path.rmdir()  # empty, or ``draft`` would have refused it
            draft.rename(self.path)
            return
        owned = {*files, *before.get("files", ())}
        write_json(self.path / MANIFEST, {**before, "finished": False, "files": sorted(owned)})
        for name in files:
            (draft / name).replace(self.path / name)
        for name in owned - set(files):
            (self.path / Path(name).name).unlink(missing_ok=True)
        write_json(self.path / MANIFEST, complete)

    def _manifest(self) -> dict[str, Any]:
        """What is in the way or what was made before; empty where there is no manifest."""
        try:
            found = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) and {"fingerprint", "files"} <= found.keys() else {}
