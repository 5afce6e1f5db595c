"""Studies and their labels: one id per study, whatever sequences it has; labels are versioned beside the input.

The folder of labels holds the truth, one folder per version; an SQLite file in it is an index of studies and
versions, which any number of processes read and write at once.
"""

import glob
import hashlib
import json
import logging
import re
import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException

from lckd.datalist import Item, find_studies
from lckd.errors import StudyError
from lckd.files import write_json
from lckd.images import read_channels, read_label_map, write_image
from lckd.sequences import LABELS, SEQUENCES, reference_sequence, subset_name

logger = logging.getLogger(__name__)

ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
"""Study ids and label tags; also what keeps every path inside its folder."""

SEPARATOR = "@"
"""Between a study and one of its sequences: ``patient7@t2`` is an image of its own to download."""

SYNONYMS = {
    "edema": "oedema",
    "necrosis": "necrotic core",
    "enhancing": "enhancing tumour",
    "enhancing tumor": "enhancing tumour",
}
"""Names of segments that mean one of our labels."""

SCHEMA_VERSION = 1

SCHEMA = """
CREATE TABLE IF NOT EXISTS studies (id TEXT PRIMARY KEY, item TEXT NOT NULL, sequences TEXT NOT NULL, error TEXT);
CREATE TABLE IF NOT EXISTS labels (
    study TEXT, tag TEXT, version INTEGER, info TEXT NOT NULL, PRIMARY KEY (study, tag, version));
CREATE TABLE IF NOT EXISTS notes (study TEXT PRIMARY KEY, info TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS given (client TEXT PRIMARY KEY, study TEXT NOT NULL, time_s REAL NOT NULL);
"""

WITH_TAG = "EXISTS (SELECT 1 FROM labels WHERE labels.study = studies.id AND labels.tag = ?)"

ABANDONED_S = 24 * 3600.0
"""Seconds after which a label that is still unfinished was left by a process that was killed."""

GIVEN_S = 8 * 3600.0
"""Seconds, a working day, for which a study that one annotator was given is kept from the others."""


class StudyDatastore(Datastore):
    """MONAI Label's view of a folder of studies with any sequences.

    An image id is a study; its image is the file of its reference sequence. New studies and sequences are
    found by a scan in the background.

    Args:
        studies: a folder of study folders, a flat folder whose files share prefixes, or a data list.
        labels: folder of the labels; None takes ``<studies>-labels`` beside the input.
        interval_s: seconds between scans; None never scans again by itself.

    Raises:
        StudyError: the studies do not exist, or the labels' folder cannot be written.
    """

    def __init__(self, studies: str | Path, labels: str | Path | None = None, interval_s: float | None = 30.0) -> None:
        self.studies = Path(studies).expanduser().absolute()
        if not self.studies.exists():
            raise StudyError(f"{self.studies} does not exist; give a folder of studies")
        self.labels = Path(labels) if labels else self.studies.with_name(f"{self.studies.name}-labels")
        try:
            self.labels.mkdir(parents=True, exist_ok=True)
            (self.labels / "cache").mkdir(exist_ok=True)
            self._make_index()
        except (OSError, sqlite3.Error) as error:
            raise StudyError(f"{self.labels} cannot be written ({error}); name another folder for labels") from error
        self._lock = threading.Lock()
        self._find_labels()
        self.refresh()
        if interval_s is not None:
            threading.Thread(target=self._rescan, args=(interval_s,), name="scan", daemon=True).start()

    # ---- studies

    def refresh(self) -> None:
        """Look for new, changed and vanished studies."""
        with self._lock:
            try:
                items = find_studies(self.studies)
            except StudyError as error:
                logger.warning("%s", error)
                items = []
            found = {item["study"]: item for item in items if ID.fullmatch(item["study"])}
            with self._index() as index:
                known = dict(index.execute("SELECT id, item FROM studies"))
                index.executemany("DELETE FROM studies WHERE id = ?", [(study,) for study in known.keys() - found])
                rows = [
                    (study, json.dumps(item), subset_name(sequences_of(item)), item.get("error"))
                    for study, item in found.items()
                ]
                changed = [row for row in rows if known.get(row[0]) != row[1]]
                index.executemany("INSERT OR REPLACE INTO studies VALUES (?, ?, ?, ?)", changed)

    def list_images(self) -> list[str]:
        """Ids of the studies that can be used."""
        with self._index() as index:
            return [row[0] for row in index.execute("SELECT id FROM studies WHERE error IS NULL ORDER BY id")]

    def subsets(self) -> dict[str, str]:
        """The sequences of all studies that can be used, as ``flair+t2``, by id."""
        with self._index() as index:
            return dict(index.execute("SELECT id, sequences FROM studies WHERE error IS NULL"))

    def errors(self) -> dict[str, str]:
        """Why the other studies cannot be used."""
        with self._index() as index:
            return dict(index.execute("SELECT id, error FROM studies WHERE error IS NOT NULL"))

    def item(self, image_id: str) -> Item:
        """The data list's item of a study.

        Raises:
            ImageNotFoundException: there is none of that id, or it cannot be used.
        """
        found = self._item(image_id)
        if found is None:
            raise ImageNotFoundException(
                f"there is no study {_shown(image_id)}; press Next Sample for one that is there"
            )
        if "error" in found:
            raise ImageNotFoundException(f"study {image_id} cannot be used: {found['error']}")
        return found

    def get_image_uri(self, image_id: str) -> str:
        """File of a study's reference sequence; of ``study@t2``, that of its T2."""
        study, _, sequence = str(image_id).partition(SEPARATOR)
        item = self.item(study)
        sequence = sequence or reference_sequence(sequences_of(item))
        if sequence not in sequences_of(item):
            raise ImageNotFoundException(
                f"study {study} has no {_shown(sequence)}; it has {', '.join(sequences_of(item))}"
            )
        return item[sequence] if sequence in item else self._channel_file(item, sequence)

    def get_image(self, image_id: str, params: Any = None) -> Any:
        """An open file of ``get_image_uri``."""
        return Path(self.get_image_uri(image_id)).open("rb")

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """What clients are told of a study: its sequences, labels and notes."""
        study = str(image_id).partition(SEPARATOR)[0]
        sequences = sequences_of(self.item(study))
        name = Path(self.get_image_uri(image_id)).name
        facts = {
            "name": name,
            "sequences": list(sequences),
            "missing": [sequence for sequence in SEQUENCES if sequence not in sequences],
            "reference": reference_sequence(sequences),
            "labels": self.get_labels_by_image_id(study),
        }
        return self._notes(study) | facts

    def update_image_info(self, image_id: str, info: Mapping[str, Any]) -> None:
        """Add to the notes of a study."""
        self.item(image_id)
        with self._index() as index:
            index.execute("BEGIN IMMEDIATE")
            row = index.execute("SELECT info FROM notes WHERE study = ?", (image_id,)).fetchone()
            merged = (json.loads(row[0]) if row else {}) | dict(info)
            index.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (image_id, json.dumps(merged)))

    def scores(self) -> dict[str, float]:
        """The note ``score``, a number, of all studies that have it."""
        with self._index() as index:
            rows = index.execute("SELECT study, json_extract(info, '$.score') FROM notes")
            return {study: score for study, score in rows if score is not None}

    def add_image(self, image_id: str, image_filename: str, image_info: Mapping[str, Any]) -> str:
        """Not offered: studies come from the operator's folder.

        Raises:
            ImageNotFoundException: always.
        """
        raise ImageNotFoundException("studies are not added through the server; put their files into its folder")

    def remove_image(self, image_id: str) -> None:
        """Not offered: the input is never changed.

        Raises:
            ImageNotFoundException: always.
        """
        raise ImageNotFoundException("studies are not removed through the server; take their files out of its folder")

    # ---- labels

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: Mapping[str, Any]) -> str:
        """Keep a label map as the newest version of its tag; earlier versions stay.

        Values are put right by the segments' names, if ``label_info["label_info"]`` gives them as
        ``[{"name": "oedema", "idx": 1}]``: a viewer numbers the segments that are left.

        Returns:
            The label's id, which is the study's.

        Raises:
            StudyError: the file is no label map, or a segment's name is none of ours.
            ImageNotFoundException: there is no such study.
        """
        self.item(image_id)
        label_tag = getattr(label_tag, "value", label_tag)  # MONAI Label's own calls pass an enum
        if not ID.fullmatch(label_tag):
            raise StudyError(f"the tag {_shown(label_tag)} is not accepted; use final or original")
        values, affine = read_label_map(label_filename)
        values = _by_name(values, label_info.get("label_info"))
        # What a person submits was mostly drawn upon the newest run, which a viewer does not say.
        run = None if "params" in label_info else self._notes(image_id).get("run")
        edited = label_info["params"].get("marks", 0) if "params" in label_info else run
        made = "semi-automatic" if edited else "automatic" if "params" in label_info else "manual"
        saved = datetime.now(timezone.utc).isoformat(timespec="seconds")
        info = dict(label_info) | ({"run": run} if run else {}) | {"made": made, "saved": saved}
        folder = self.labels / image_id / label_tag
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f".{uuid.uuid4().hex}"
        unfinished.mkdir()
        try:
            write_image(unfinished / "label.nii.gz", values, affine)
            write_json(unfinished / "info.json", info)
            version = self._claim(unfinished, folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        with self._index() as index:
            row = (image_id, label_tag, version, json.dumps(info))
            index.execute("INSERT OR REPLACE INTO labels VALUES (?, ?, ?, ?)", row)
        logger.info("label %s/%s version %d saved", image_id, label_tag, version)
        return image_id

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        """Per tag the label's id."""
        with self._index() as index:
            return {
                row[0]: image_id
                for row in index.execute("SELECT DISTINCT tag FROM labels WHERE study = ?", (image_id,))
            }

    def get_label_by_image_id(self, image_id: str, tag: str) -> str:
        """The label's id, empty if there is none of that tag."""
        return self.get_labels_by_image_id(image_id).get(tag, "")

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """File of the newest version.

        Raises:
            LabelNotFoundException: there is none.
        """
        return str(self._version_folder(label_id, label_tag) / "label.nii.gz")

    def get_label(self, label_id: str, label_tag: str, params: Any = None) -> Any:
        """An open file of ``get_label_uri``."""
        return Path(self.get_label_uri(label_id, label_tag)).open("rb")

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        """What was saved with the newest version: when, by whom, from which model and sequences."""
        return json.loads((self._version_folder(label_id, label_tag) / "info.json").read_text(encoding="utf-8"))

    def update_label_info(self, label_id: str, label_tag: str, info: Mapping[str, Any]) -> None:
        """Add to what is known of the newest version."""
        folder = self._version_folder(label_id, label_tag)
        merged = self.get_label_info(label_id, label_tag) | dict(info)
        write_json(folder / "info.json", merged)
        with self._index() as index:
            row = (json.dumps(merged), label_id, label_tag, int(folder.name))
            index.execute("UPDATE labels SET info = ? WHERE study = ? AND tag = ? AND version = ?", row)

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Not offered: a version is never lost.

        Raises:
            LabelNotFoundException: always.
        """
        raise LabelNotFoundException("labels are not removed through the server; a newer version replaces them")

    def get_labeled_images(self, label_tag: str | None = None, labels: Sequence[str] | None = None) -> list[str]:
        """Studies with a label of that tag; without one, with a final label."""
        return self._where(WITH_TAG, label_tag)

    def get_unlabeled_images(self, label_tag: str | None = None, labels: Sequence[str] | None = None) -> list[str]:
        """Studies without a label of that tag; without one, without a final label."""
        return self._where(f"NOT {WITH_TAG}", label_tag)

    def label_infos(self, label_tag: str) -> dict[str, dict[str, Any]]:
        """What was saved with the newest version of a tag, of every study that has one."""
        with self._index() as index:
            # SQLite takes the other columns from the row that holds the maximum
            rows = index.execute(
                "SELECT study, info, MAX(version) FROM labels WHERE tag = ? GROUP BY study", (label_tag,)
            )
            return {study: json.loads(info) for study, info, _ in rows}

    def give(self, studies: Sequence[str], client: str) -> str:
        """The first of ``studies`` that no other annotator holds; from now on ``client`` holds it, and no other.

        Where others hold them all, it is the one that was given out longest ago.
        """
        now = time.time()
        with self._index() as index:
            index.execute("BEGIN IMMEDIATE")
            sql = "SELECT study, MAX(time_s) FROM given WHERE client != ? AND time_s > ? GROUP BY study"
            held = dict(index.execute(sql, (client, now - GIVEN_S)))
            study = min(studies, key=lambda name: held.get(name, 0.0))
            index.execute("INSERT OR REPLACE INTO given VALUES (?, ?, ?)", (client, study, now))
        return study

    def datalist(self) -> list[dict[str, Any]]:
        """Items of the studies with a final label, as training takes them; ``image`` is the reference sequence."""
        tag = DefaultLabelTag.FINAL.value
        return [
            self.item(study) | {"label": self.get_label_uri(study, tag), "image": self.get_image_uri(study)}
            for study in self.get_labeled_images()
        ]

    # ---- the rest of MONAI Label's interface

    def name(self) -> str:
        """The folder's name."""
        return self.studies.name

    def set_name(self, name: str) -> None:
        """Nothing: the folder's name is the name."""

    def description(self) -> str:
        """The folder's name."""
        return self.studies.name

    def set_description(self, description: str) -> None:
        """Nothing, likewise."""

    def status(self) -> dict[str, Any]:
        """Numbers of studies, of finished ones, of labels per tag, and of studies that cannot be used."""
        with self._index() as index:
            tags = dict(index.execute("SELECT tag, COUNT(DISTINCT study) FROM labels GROUP BY tag"))
        return {
            "total": len(self.list_images()),
            "completed": len(self.get_labeled_images()),
            "label_tags": tags,
            "unusable": len(self.errors()),
        }

    def json(self) -> dict[str, Any]:
        """Every study with its sequences and labels, each label with the part of its info that viewers read.

        3D Slicer shows an ``original`` label when a study is opened, with the names that it finds under
        ``labels.original.info.params.label_names``.
        """
        newest = """
            SELECT study, tag, MAX(version), json_extract(info, '$.params.label_names') FROM labels GROUP BY study, tag
        """
        with self._index() as index:
            items = {
                study: json.loads(item) for study, item in index.execute("SELECT id, item FROM studies ORDER BY id")
            }
            labels: dict[str, dict[str, Any]] = {}
            for study, tag, version, names in index.execute(newest):
                info = {"params": {"label_names": json.loads(names)}} if names else {}
                labels.setdefault(study, {})[tag] = {"version": version, "info": info}
        return {
            "objects": {
                study: {"sequences": list(sequences_of(item)), "labels": labels.get(study, {})}
                if "error" not in item
                else {"error": item["error"]}
                for study, item in items.items()
            }
        }

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        """Not offered.

        Raises:
            ImageNotFoundException: always.
        """
        raise ImageNotFoundException("the whole data set is not handed out; copy the folders")

    # ---- inside

    def _make_index(self) -> None:
        """Tables of this version; those of another hold nothing that a scan and the labels' folders do not.

        Notes, which only spare work, are lost with them.
        """
        with self._index() as index:
            index.execute("PRAGMA journal_mode = WAL")
            index.execute("BEGIN IMMEDIATE")
            if index.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
                tables = index.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
                for (name,) in tables:
                    index.execute(f'DROP TABLE "{name}"')
            for statement in SCHEMA.split(";"):
                index.execute(statement)
            index.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextmanager
    def _index(self) -> Iterator[sqlite3.Connection]:
        """A connection of this call's own, committed at its end."""
        connection = sqlite3.connect(self.labels / "index.sqlite", timeout=30)
        # The last commits may be lost with the power, not with the process; labels themselves are in folders.
        connection.execute("PRAGMA synchronous = NORMAL")
        try:
            with connection:
                yield connection
        finally:
            connection.close()

    def _item(self, study: str) -> Item | None:
        with self._index() as index:
            row = index.execute("SELECT item FROM studies WHERE id = ?", (study,)).fetchone()
        return json.loads(row[0]) if row else None

    def _notes(self, study: str) -> dict[str, Any]:
        with self._index() as index:
            row = index.execute("SELECT info FROM notes WHERE study = ?", (study,)).fetchone()
        return json.loads(row[0]) if row else {}

    def _where(self, condition: str, tag: str | None) -> list[str]:
        """Ids of the studies that can be used and of which ``condition``, one of ours, holds for a tag."""
        sql = f"SELECT id FROM studies WHERE error IS NULL AND {condition} ORDER BY id"
        with self._index() as index:
            return [row[0] for row in index.execute(sql, (tag or DefaultLabelTag.FINAL.value,))]

    def _version_folder(self, study: str, tag: str) -> Path:
        with self._index() as index:
            sql = "SELECT MAX(version) FROM labels WHERE study = ? AND tag = ?"
            version = index.execute(sql, (study, tag)).fetchone()[0]
        if version is None:
            raise LabelNotFoundException(f"study {_shown(study)} has no label {_shown(tag)}")
        return self.labels / study / tag / f"{version:04d}"

    def _claim(self, unfinished: Path, folder: Path) -> int:
        """Rename a finished version to the next free number; of two processes only one gets it."""
        while True:
            version = 1 + max((int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal()), default=0)
            try:
                unfinished.rename(folder / f"{version:04d}")
            except OSError:
                if not (folder / f"{version:04d}").exists():
                    raise
            else:
                return version

    def _find_labels(self) -> None:
        """Bring the index in line with the folders, e.g. after a crash between the two, or a restored backup."""
        for unfinished in self.labels.glob("*/*/.[0-9a-f]*"):
            if time.time() - unfinished.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(unfinished, ignore_errors=True)
        with self._index() as index:
            index.execute("BEGIN IMMEDIATE")  # before looking, or what another process saves meanwhile would be lost
            rows = []
            for info in self.labels.glob("*/*/[0-9]*/info.json"):
                study, tag, version = info.parts[-4:-1]
                if version.isdecimal() and ID.fullmatch(study) and ID.fullmatch(tag):
                    rows.append((study, tag, int(version), info.read_text(encoding="utf-8")))
            index.execute("DELETE FROM labels")
            index.executemany("INSERT INTO labels VALUES (?, ?, ?, ?)", rows)

    def _rescan(self, interval_s: float) -> None:
        while True:
            time.sleep(interval_s)
            try:
                self.refresh()
            except Exception:
                logger.exception("the studies could not be scanned; the next scan tries again")

    def _channel_file(self, item: Item, sequence: str) -> str:
        """One channel of a 4-D file as a file of its own, for viewers that show one volume."""
        cache, name = self.labels / "cache", f"{item['study']}_{sequence}.nii.gz"
        file = cache / hashlib.sha256(repr(fingerprint(item)).encode()).hexdigest()[:16] / name
        if not file.exists():
            image = read_channels(Path(item["image"]), item["channels"], (sequence,))[sequence]
            file.parent.mkdir(exist_ok=True)
            write_image(file, image.array, image.affine)
            for outdated in set(cache.glob(f"*/{glob.escape(name)}")) - {file}:
                outdated.unlink(missing_ok=True)
        return str(file)


def sequences_of(item: Mapping[str, Any]) -> tuple[str, ...]:
    """The sequences that a data list's item has."""
    return tuple(name for name in SEQUENCES if name in item or name in item.get("channels", ()))


def _by_name(values: np.ndarray, segments: Any) -> np.ndarray:
    """Our label values, of a label map whose values are those of named segments."""
    if not segments:
        unknown = set(np.unique(values).tolist()) - {0, *LABELS.values()}
        if unknown:
            raise StudyError(
                f"the label map holds the values {sorted(unknown)}; accepted are {sorted(LABELS.values())}"
            )
        return values
    named = {segment.get("idx") for segment in segments}
    unnamed = set(np.unique(values).tolist()) - {0} - named
    if unnamed:
        raise StudyError(f"the label map holds the values {sorted(unnamed)}, of no segment; submit all segments")
    result = np.zeros_like(values)
    for segment in segments:
        name = str(segment.get("name", "")).strip().lower()
        value = LABELS.get(SYNONYMS.get(name, name))
        mask = values == segment.get("idx")
        if value is None and mask.any():
            raise StudyError(f"the segment {_shown(name)} is none of {', '.join(LABELS)}; rename it, then submit again")
        if value is not None:
            result[mask] = value
    return result


def _shown(text: Any) -> str:
    """A name from a request, short and on one line."""
    return repr(str(text))[:60]


def fingerprint(item: Item) -> tuple[tuple, ...]:
    """Changes whenever a file of the study does, or what sequence it is taken for."""
    files = [(key, value) for key, value in sorted(item.items()) if key in (*SEQUENCES, "image")]
    stats = [Path(file).stat() for _, file in files]
    channels = tuple(item.get("channels", ()))
    return tuple((*file, stat.st_mtime_ns, stat.st_size, channels) for file, stat in zip(files, stats, strict=True))
