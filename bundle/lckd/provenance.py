"""What a training was made of: seed, code and data."""

import hashlib
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent


def revision() -> str:
    """The git revision of this code, with ``+changes`` where files differ from it; empty outside a repository."""
    try:
        done = [
            subprocess.run(["git", *words], cwd=PACKAGE, capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done[0] + ("+changes" if done[1] else "")


class Provenance:
    """Goes into every checkpoint beside the weights.

    Args:
        seed: of the training.
        data: its data list.
    """

    def __init__(self, seed: int, data: Sequence[Mapping[str, Any]]) -> None:
        studies = sorted(item["study"] for item in data)
        digest = hashlib.sha256("\n".join(studies).encode()).hexdigest()
        self._state: dict[str, Any] = {
            "seed": seed,
            "revision": revision(),
            "studies": len(studies),
            "data_sha256": digest,
        }

    def state_dict(self) -> dict[str, Any]:
        """Seed, git revision, number of studies and the SHA-256 of their sorted ids."""
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to continue: a resumed training writes what it runs on now."""
