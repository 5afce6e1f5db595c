"""The command ``lckd pacs``: what the user asked for, checked before anything is read."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout
from tqdm import tqdm

from lckd.errors import StudyError
from lckd.pacs.batch import Settings, closing_sentence, dry_run, exit_code, run, send_results, write_summary
from lckd.pacs.dicom_seg import SEG_TYPES
from lckd.pacs.overrides import check_overrides, read_overrides
from lckd.pacs.pipeline import Options
from lckd.pacs.reading import DICOMDIR, Export, open_export
from lckd.pacs.sending import Send, parse_peer, store_to, stow_to
from lckd.pacs.site_words import SiteWords, read_site_words
from lckd.sequences import SEQUENCES, parse_subset

LOCK: Final = ".lock"
"""File in the output folder that a run holds; it stays there, free, when the run has ended in whatever way."""


def run_pacs(
    export: str,
    *,
    output: str | None,
    dry: bool,
    override: str | None,
    rules: str | None,
    accept_low_confidence: bool,
    sequences: str | None,
    mask: str | None,
    seg_type: str,
    rtstruct: bool,
    jobs: int,
    device: str,
    precision: str,
    weights: str | None,
    send: str | None,
    stow: str | None,
) -> int:
    """Process an export, or only say what would be done; the arguments are those of the verb.

    Returns:
        The exit code.

    Raises:
        StudyError: a user's mistake.
    """
    if seg_type not in SEG_TYPES:
        raise StudyError(f"--seg-type is {seg_type!r}; accepted are {', '.join(SEG_TYPES)}")
    if mask is not None and not Path(mask).is_file():
        raise StudyError(f"--mask {mask} does not exist; give a NIfTI file of the brain")
    if dry and (send or stow):
        raise StudyError("--dry-run makes nothing to send; leave out --send and --stow, or --dry-run")
    subset = SEQUENCES if sequences is None else parse_subset(sequences)
    options = Options(subset, seg_type, None if mask is None else Path(mask), accept_low_confidence, rtstruct)
    overrides = read_overrides(override) if override else {}
    site = read_site_words(rules) if rules else SiteWords()
    senders = _senders(send, stow)
    folder = _checked_output(output, export, dry)
    settings = Settings(folder or Path(), options, overrides, site, weights, device, precision, jobs)
    with _held(folder):
        with open_export(export) as opened:
            _tell_left_out(opened)
            check_overrides(overrides, opened.series_uids)
            if mask and len(opened.instances) > 1:
                raise StudyError(
                    f"--mask is of one study, but the export holds {len(opened.instances)}; give one of them"
                )
            outcomes = dry_run(opened, overrides, subset, site) if dry else run(opened, settings)
        sent = send_results(outcomes, senders) if senders else {}
        if folder is not None:
            write_summary(folder, outcomes, sent)
    tqdm.write(closing_sentence(outcomes, sent))
    return exit_code(outcomes, sent)


def _senders(send: str | None, stow: str | None) -> Sequence[Send]:
    senders = [store_to(parse_peer(send))] if send else []
    return [*senders, stow_to(stow)] if stow else senders


def _tell_left_out(export: Export) -> None:
    for warning in export.warnings:
        tqdm.write(f"warning: {warning}", file=sys.stderr)
    for left in export.unreadable:
        tqdm.write(f"left out: {left.count} x {left.reason}", file=sys.stderr)


def _checked_output(output: str | None, export: str, dry: bool) -> Path | None:
    """The output folder, made if it is missing; None if none was given and none is needed.

    Raises:
        StudyError: it is missing, lies in the export, or cannot be written.
    """
    if output is None:
        if dry:
            return None
        raise StudyError("pacs needs --output FOLDER; only --dry-run does without")
    folder, source = Path(output).expanduser().resolve(), Path(export).expanduser().resolve()
    if source.name.lower() == DICOMDIR and source.is_file():
        source = source.parent  # all of which is read
    if folder == source or source in folder.parents:
        raise StudyError(f"--output {output} lies in the export; results there would be read as part of it next time")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"output folder {output} cannot be made ({error.strerror})") from error
    if not os.access(folder, os.W_OK):
        raise StudyError(f"output folder {output} cannot be written; choose another with --output")
    return folder


@contextmanager
def _held(folder: Path | None) -> Iterator[None]:
    """Keep other runs out of the output folder; the system lets go of it when this process ends, however it ends.

    Raises:
        StudyError: another run is using it.
    """
    if folder is None:
        yield
        return
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise StudyError(
            f"another run is writing to {folder}; wait for its end, or choose another folder with --output"
        ) from error
    except OSError as error:  # some network drives know no locks
        why = error.strerror or type(error).__name__
        tqdm.write(f"warning: {folder} cannot be locked ({why}); start no other run on it", file=sys.stderr)
    try:
        yield
    finally:
        lock.release()
