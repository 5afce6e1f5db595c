"""Versions of the weights: fine-tuned ones beside those the server was started with, and which of them is in use."""

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import Tensor

from lckd.errors import StudyError, reason
from lckd.files import write_json
from lckd.weights import WEIGHTS, metadata, save_weights, sha256_of

BASE = "base"
"""Name of the weights that the server was started with: the shipped ones, unless the operator gave others."""


@dataclass(frozen=True)
class Version:
    """Weights and what is known of them.

    Args:
        name: ``base``, or a number of four digits.
        weights: their file; None for the shipped ones.
        facts: ``sha256``; of a fine-tuned version also what ``WeightsVersions.add`` was given.
    """

    name: str
    weights: Path | None
    facts: Mapping[str, Any]

    @property
    def file(self) -> Path:
        """The file, also of the shipped weights."""
        return self.weights or WEIGHTS

    def check(self) -> None:
        """Refuse a file that is not the one the facts are about.

        Raises:
            StudyError: the file is missing, or its hash is another one.
        """
        if not self.file.is_file():
            raise StudyError(f"weights {self.file} are missing; restore the file")
        digest = sha256_of(self.file)
        if digest != self.facts["sha256"]:
            raise StudyError(
                f"weights {self.file} have SHA-256 {digest}, their facts say {self.facts['sha256']}; restore the file, "
                "or remove in_use.json two folders above to go back to the weights that the server was started with"
            )

    def told(self) -> dict[str, Any]:
        """What a report says of the version; of a fine-tuned one also its mean Dice on its validation studies."""
        named = {"version": self.name, "file": self.file.name}  # without its folder: reports leave the server
        validation = self.facts.get("validation")
        if validation is None:
            return named
        return named | {
            "validation_dice": validation["after"]["mean_dice"],
            "validation_studies": len(validation["studies"]),
        }


class WeightsVersions:
    """The versions in a folder; any number of processes read and one at a time changes them.

    A version is a folder ``0001`` with ``weights.pt`` and ``facts.json``; none is ever changed or removed.
    ``in_use.json`` says which one is in use and for which base: a server that is started with other weights uses
    those, not what was once made of others.

    Args:
        folder: of the versions.
        base: file of the weights that the server was started with; None for the shipped ones.
    """

    def __init__(self, folder: Path, base: str | Path | None = None) -> None:
        self.folder = folder
        self.base = _base(None if base is None else Path(base))

    def names(self) -> list[str]:
        """All versions, the base first."""
        facts = self.folder.glob("*/facts.json")
        return [BASE, *sorted(file.parent.name for file in facts if file.parent.name.isdecimal())]

    def version(self, name: str) -> Version:
        """The version of that name.

        Raises:
            StudyError: there is none.
        """
        if name == BASE:
            return self.base
        if name not in self.names():
            raise StudyError(
                f"there is no version {name[:40]!r} of the weights; accepted are {', '.join(self.names())}"
            )
        folder = self.folder / name
        return Version(name, folder / "weights.pt", _read(folder / "facts.json"))

    def in_use(self) -> Version:
        """The version in use; as cheap as reading two small files, so that every inference can ask.

        Raises:
            StudyError: it is missing.
        """
        pointer = self.folder / "in_use.json"
        if not pointer.is_file():
            return self.base
        chosen = _read(pointer)
        return self.version(chosen["version"]) if chosen["base"] == self.base.facts["sha256"] else self.base

    def use(self, version: Version) -> None:
        """Use this one from the next inference on.

        Raises:
            StudyError: its file is not the one its facts are about.
        """
        version.check()
        self.folder.mkdir(exist_ok=True)
        write_json(self.folder / "in_use.json", {"version": version.name, "base": self.base.facts["sha256"]})

    def roll_back(self) -> Version:
        """Use the weights from which those in use were made, and return them.

        Raises:
            StudyError: the base is in use.
        """
        now = self.in_use()
        if now.name == BASE:
            raise StudyError("the weights that the server was started with are in use; there is nothing to go back to")
        before = self.version(now.facts["parent"])
        self.use(before)
        return before

    def add(self, state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Version:
        """Keep weights as the next version, which is not in use yet; inside ``changing``.

        Args:
            state: state dict of the network.
            facts: ``parent``, a version's name; ``validation``: ``studies``, ``before`` and ``after``; and more.
        """
        unfinished = self.folder / f".{uuid.uuid4().hex}"
        digest = save_weights(state, unfinished / "weights.pt")
        write_json(unfinished / "facts.json", {"sha256": digest, **facts})
        taken = [int(entry.name) for entry in self.folder.iterdir() if entry.name.isdecimal()]
        name = f"{max(taken, default=0) + 1:04d}"
        unfinished.rename(self.folder / name)
        return self.version(name)

    def made_by(self, run: str) -> Version | None:
        """The version whose fact ``run`` is this one, if there is one."""
        versions = map(self.version, self.names())
        return next((version for version in versions if version.facts.get("run") == run), None)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """While inside, no other process trains or changes what is in use; freed by the system if this one is killed.

        Raises:
            StudyError: another process is inside.
        """
        self.folder.mkdir(exist_ok=True)
        try:
            held = FileLock(self.folder / "lock").acquire(timeout=0)
        except Timeout as error:
            raise StudyError("a training is running already; wait for its end, or stop it") from error
        with held:
            for unfinished in self.folder.glob(".*/"):  # of a process that was killed
                shutil.rmtree(unfinished)
            yield


def _base(weights: Path | None) -> Version:
    if weights is None:
        return Version(BASE, None, {"sha256": metadata().get("weights", {}).get("sha256", "")})
    return Version(BASE, weights, {"sha256": sha256_of(weights) if weights.is_file() else ""})  # check() refuses it


def _read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StudyError(f"{file} cannot be read ({reason(error)}); restore it") from error
