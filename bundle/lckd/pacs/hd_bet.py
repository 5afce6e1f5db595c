"""The brain by HD-BET 2 (Isensee et al. 2019, Hum Brain Mapp 40:4952), run as a command where it is at hand.

A command and not a library: it may live in an environment of its own, and its threads, worker processes and changes of
``sys.stdout`` stay there.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from lckd.errors import StudyError
from lckd.images import Image, read_label_map, write_image
from lckd.pacs.registration import Grid, resample

WEIGHTS: Final = Path("hd-bet_params", "release_2.0.0", "fold_all", "checkpoint_final.pth")
"""In the home folder; where this file is missing, HD-BET downloads it."""

LONGEST_S: Final = 1800.0
"""After this time a run on one image hangs."""


def hd_bet_command() -> str | None:
    """Path of the command, preferably the one beside this Python; None if it or its weights are missing."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return shutil.which("hd-bet", path=path) if (Path.home() / WEIGHTS).is_file() else None


def brain_by_hd_bet(image: Image, command: str, device: str) -> NDArray[np.bool_]:
    """The brain's mask `(X, Y, Z)` on the image's grid.

    Args:
        image: a head.
        command: of ``hd_bet_command``.
        device: ``cpu``, ``cuda`` (also with a number) or ``mps``.

    Raises:
        StudyError: HD-BET failed, or found no brain.
    """
    upright = nib.as_closest_canonical(nib.Nifti1Image(image.array, image.affine))
    with tempfile.TemporaryDirectory(prefix="lckd-") as folder:
        source, result = Path(folder, "head.nii.gz"), Path(folder, "brain.nii.gz")
        write_image(source, np.asarray(upright.dataobj), upright.affine)
        arguments = ["-i", str(source), "-o", str(result), "-device", device, "--save_bet_mask", "--no_bet_image"]
        if not device.startswith("cuda"):
            arguments.append("--disable_tta")  # its authors' advice
        _run([command, *arguments], Path(folder, "messages.txt"))
        written = Path(folder, "brain_bet.nii.gz")
        if not written.is_file():
            raise StudyError("HD-BET wrote no mask")
        labels, affine = read_label_map(written)
    mask = resample(Image((labels > 0).astype(np.float32), affine), None, Grid.of(image), "nearest").array > 0
    if not mask.any():
        raise StudyError("HD-BET found no brain")
    return mask


def _run(command: list[str], messages: Path) -> None:
    with messages.open("wb") as file:  # and no pipe, which worker processes that outlive it would keep open
        try:
            code = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=file, timeout=LONGEST_S).returncode
        except subprocess.TimeoutExpired as error:
            raise StudyError(f"HD-BET did not end within {LONGEST_S / 60:.0f} minutes") from error
        except OSError as error:
            raise StudyError(f"HD-BET cannot be started ({error.strerror})") from error
    if code:
        said = messages.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise StudyError(f"HD-BET failed with exit code {code}{f' ({said[-1].strip()[:160]})' if said else ''}")
