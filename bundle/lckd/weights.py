"""The shipped weights: where they lie, what they are, what to expect of them."""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lckd.errors import StudyError, reason
from lckd.files import write_atomically

BUNDLE = Path(__file__).resolve().parents[1]
"""The bundle's folder: this package lies in it, beside ``configs`` and ``models``."""

WEIGHTS = BUNDLE / "models" / "model.pt"
REFINEMENT_WEIGHTS = BUNDLE / "models" / "refinement.pt"

FACTS = {WEIGHTS.name: "weights", REFINEMENT_WEIGHTS.name: "refinement"}
"""Key of ``metadata.json`` under which the facts of shipped weights stand."""

AVERAGED = "ema"
"""Key of a training checkpoint that holds the averaged weights."""

METADATA = BUNDLE / "configs" / "metadata.json"


def metadata() -> dict[str, Any]:
    """The bundle's ``metadata.json``.

    Raises:
        StudyError: the file is missing or no JSON.
    """
    try:
        return json.loads(METADATA.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StudyError(f"{METADATA} cannot be read ({error}); install the bundle again") from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_weights(network: nn.Module, path: str | Path | None = None, shipped: Path | None = None) -> str:
    """Load weights into ``network``, strictly.

    Args:
        network: receives the weights.
        path: a plain state dict, or a checkpoint of a training; None takes the shipped weights and
            checks their hash against ``metadata.json``.
        shipped: which of the shipped weights; None for the segmenting network's.

    Returns:
        The file's SHA-256.

    Raises:
        StudyError: the file is missing, not a state dict, of another hash or of another architecture.
    """
    shipped = shipped or WEIGHTS
    file = shipped if path is None else Path(path)
    if not file.is_file():
        raise StudyError(f"weights {file} are missing; train them, or install the bundle with its models folder")
    digest = sha256_of(file)
    if path is None:
        expected = metadata().get(FACTS[shipped.name], {}).get("sha256")
        if digest != expected:
            raise StudyError(f"weights {file} have SHA-256 {digest}, metadata.json says {expected}; restore the file")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        network.load_state_dict(state.get(AVERAGED, state), strict=True)
    except Exception as error:  # torch raises a dozen types for a file that is no state dict
        raise StudyError(
            f"weights {file} do not fit this network ({reason(error)}); give the state dict of a training of it"
        ) from error
    return digest


def save_weights(state: Mapping[str, Tensor], path: str | Path) -> str:
    """Write a plain state dict in half precision, atomically.

    Returns:
        The file's SHA-256.
    """
    content, digest = packed(state)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(Path(path), lambda temporary: temporary.write_bytes(content))
    return digest


def packed(state: Mapping[str, Tensor]) -> tuple[bytes, str]:
    """The content of a file of weights in half precision, and its SHA-256."""
    half = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    # Through memory: a file's own name would enter the archive, and the hash with it.
    archive = io.BytesIO()
    torch.save(half, archive)
    return archive.getvalue(), hashlib.sha256(archive.getvalue()).hexdigest()
