"""An export's studies, one after the other or several at a time; one that fails stops none of the others."""

import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from queue import Queue
from typing import Any, Final

import torch
from tqdm import tqdm

from lckd.errors import StudyError
from lckd.pacs.identification import Identification, identify
from lckd.pacs.overrides import Overrides
from lckd.pacs.pipeline import DICOM_FILES, Options, Outcome, State, Steps, StudyPipeline, attempted
from lckd.pacs.reading import Export, quiet
from lckd.pacs.rules import Rules, read_rules
from lckd.pacs.sending import Send, send_all
from lckd.pacs.series_table import printable, rows, shown, write_table
from lckd.pacs.site_words import SiteWords
from lckd.report import summary_line
from lckd.segmentation import Segmenter
from lckd.sequences import REGIONS, SEQUENCES, subset_name

FINE, FAILED, REVIEW = 0, 1, 3
"""Exit codes; 2 is a user's mistake, as everywhere in this command."""

COLUMNS: Final = (
    *("study", "state", "step", "reason", "used", "missing", "reference"),
    *(f"{region}_ml" for region in REGIONS),
    *("warnings", "sent", "seconds", "folder"),
)


@dataclass(frozen=True)
class Settings:
    """What a process needs to work on studies.

    Attributes:
        output: folder of the results.
        options: of the pipeline.
        overrides: of ``read_overrides``.
        site: a site's own words.
        weights: other than the shipped ones.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        jobs: processes that share the machine.
    """

    output: Path
    options: Options = field(default_factory=Options)
    overrides: Overrides = field(default_factory=dict)
    site: SiteWords = field(default_factory=SiteWords)
    weights: str | None = None
    device: str = "auto"
    precision: str = "auto"
    jobs: int = 1


class Worker:
    """Takes a study of an export to its results.

    Args:
        settings: of the run.
        tell: called with each step's name as it begins.
    """

    def __init__(self, settings: Settings, tell: Callable[[str], None] = lambda step: None) -> None:
        self._overrides, self._tell, self._rules = settings.overrides, tell, _rules_with(settings.site)
        segmenter = Segmenter(weights=settings.weights, device=settings.device, precision=settings.precision)
        self._pipeline = StudyPipeline(segmenter, settings.output, settings.options, tell, settings.site)

    def __call__(self, export: Export, study: str) -> Outcome:
        """Process ``study``."""
        with quiet():
            identified = _identified(export, study, self._rules, self._overrides, self._tell)
            return identified if isinstance(identified, Outcome) else self._pipeline(identified)


def dry_run(
    export: Export, overrides: Overrides, sequences: tuple[str, ...] = SEQUENCES, site: SiteWords | None = None
) -> list[Outcome]:
    """Say for every study which series would be used and why, were only ``sequences`` used; nothing is computed."""
    rules = _rules_with(site or SiteWords())
    outcomes = []
    for study in _all_studies(export):
        with quiet():
            identified = _identified(export, study, rules, overrides)
            if isinstance(identified, Outcome):
                outcomes.append(identified)
                tqdm.write(f"study {printable(study)}: FAILED: {'; '.join(identified.reasons)}")
                continue
            identified = identified.limited_to(sequences)
            state: State = "review" if identified.review else "done" if identified.chosen else "failed"
            reasons = identified.review or (() if identified.chosen else ("no sequence was found",))
            outcomes.append(
                Outcome(study, state, "identify" if reasons else "", reasons, table=tuple(rows(identified)))
            )
            tqdm.write(shown(identified) + "\n")
    return outcomes


def run(export: Export, settings: Settings) -> list[Outcome]:
    """Process every study, with progress.

    Raises:
        StudyError: the weights, the device or the output folder cannot be used.
    """
    studies = _all_studies(export)
    jobs = min(settings.jobs, len(studies))
    outcomes = []
    with tqdm(total=len(studies), unit="study") as bar:
        for outcome in (_in_turn if jobs < 2 else _in_parallel)(export, studies, replace(settings, jobs=jobs), bar):
            outcomes.append(outcome)
            _tell_outcome(outcome)
            bar.update()
    return sorted(outcomes, key=lambda outcome: studies.index(outcome.study))


def exit_code(outcomes: Iterable[Outcome], sent: Mapping[str, str]) -> int:
    """The worst that happened."""
    states = {outcome.state for outcome in outcomes}
    if states & {"failed", "incomplete"} or any(result != "sent" for result in sent.values()):
        return FAILED
    return REVIEW if "review" in states else FINE


def send_results(outcomes: Iterable[Outcome], senders: Sequence[Send]) -> dict[str, str]:
    """Send what is meant for a PACS of every study that has it, also of those that an earlier run finished."""
    files = {
        each.study: [each.folder / name for name in DICOM_FILES.values() if (each.folder / name).is_file()]
        for each in outcomes
        if each.state in ("done", "skipped", "incomplete") and each.folder
    }
    files = {study: found for study, found in files.items() if found}
    sent = send_all(files, senders)
    for study, result in sent.items():
        tqdm.write(f"{printable(study)}: {result if result == 'sent' else f'NOT SENT: {result}'}", file=sys.stderr)
    return sent


def write_summary(folder: Path, outcomes: Sequence[Outcome], sent: Mapping[str, str]) -> None:
    """Write ``summary.csv`` and ``summary.json``, a row per study, and ``series.csv`` and ``.json``, one per series.

    Raises:
        StudyError: they cannot be written.
    """
    summary = [_summary_row(outcome, sent.get(outcome.study, "")) for outcome in outcomes]
    table = [row for outcome in outcomes for row in outcome.table]
    try:
        for ending in ("json", "csv"):
            write_table(folder / f"summary.{ending}", summary, COLUMNS)
            write_table(folder / f"series.{ending}", table)
    except OSError as error:
        raise StudyError(f"{folder} cannot be written ({error.strerror or error}); free space") from error


def closing_sentence(outcomes: Sequence[Outcome], sent: Mapping[str, str]) -> str:
    """How many studies ended how."""
    counts = Counter(outcome.state for outcome in outcomes)
    parts = [f"{count} {state}" for state, count in counts.items()]
    parts += [f"{sum(result == 'sent' for result in sent.values())} of {len(sent)} sent"] if sent else []
    return f"{len(outcomes)} studies: {', '.join(parts)}"


def _rules_with(site: SiteWords) -> Rules:
    return replace(read_rules(), site_words=site.meanings)


def _all_studies(export: Export) -> list[str]:
    return sorted({*export.study_uids, *export.refused})


def _part(export: Export, study: str) -> Export:
    """The part of an export that one study needs; another process gets no more."""
    return Export(
        {study: export.instances.get(study, ())},
        {study: export.ignored.get(study, ())},
        {study: export.refused[study]} if study in export.refused else {},
    )


def _identified(
    export: Export,
    study: str,
    rules: Rules,
    overrides: Overrides,
    tell: Callable[[str], None] = lambda step: None,
) -> Identification | Outcome:
    """The identification, or the outcome of its failure."""
    found: list[Identification] = []

    def run() -> Outcome:
        found.append(identify(export.study(study), rules, overrides))
        return Outcome(study, "done")

    outcome = attempted(study, Steps(tell), run)
    return found[0] if found else outcome


# --- processes --------------------------------------------------------------------------------------------------------


def _in_turn(export: Export, studies: Sequence[str], settings: Settings, bar: tqdm) -> Iterator[Outcome]:
    worker = Worker(settings, bar.set_postfix_str)
    for study in studies:
        yield worker(export, study)


def _in_parallel(export: Export, studies: Sequence[str], settings: Settings, bar: tqdm) -> Iterator[Outcome]:
    Worker(settings)  # so that a wrong option is told here, and not by every process
    idle: Queue[_Process] = Queue()
    for _ in range(settings.jobs):
        idle.put(_Process(settings))

    def work(study: str) -> Outcome:
        process = idle.get()
        try:
            return process(_part(export, study), study)
        finally:
            idle.put(process)

    with ThreadPoolExecutor(settings.jobs) as threads:
        try:
            for future in as_completed([threads.submit(work, study) for study in studies]):
                yield future.result()
        finally:  # what has not begun when the user stops the run does not begin
            threads.shutdown(wait=True, cancel_futures=True)
            while not idle.empty():
                idle.get().stop()


class _Process:
    """A worker in a process of its own, so that one that the system ends costs one study."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool = self._started()

    def __call__(self, export: Export, study: str) -> Outcome:
        """Process ``study``."""
        try:
            return self._pool.submit(_work, export, study).result()
        except BrokenProcessPool:
            self.stop()
            self._pool = self._started()
            why = "its process was ended by the system, probably for lack of memory; use fewer --jobs"
            return Outcome(study, "failed", "run", (why,))

    def stop(self) -> None:
        self._pool.shutdown()

    def _started(self) -> ProcessPoolExecutor:
        # Not forked: the parent may hold threads of torch, and a fork of those can hang.
        return ProcessPoolExecutor(1, get_context("spawn"), _start, (self._settings,))


_workers: list[Worker] = []
"""The worker of this process, if it is one of several."""


def _start(settings: Settings) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent says that the user stopped the run
    torch.set_num_threads(max(1, torch.get_num_threads() // settings.jobs))
    _workers.append(Worker(settings))


def _work(export: Export, study: str) -> Outcome:
    return _workers[0](export, study)


# --- words ------------------------------------------------------------------------------------------------------------


def _tell_outcome(outcome: Outcome) -> None:
    """For the terminal: results to stdout, what is wrong to stderr."""
    if outcome.report:
        earlier = " (finished earlier)" if outcome.state == "skipped" else ""
        tqdm.write(f"{summary_line(outcome.report)}{earlier}\n  -> {outcome.folder}")
        for warning in outcome.report["warnings"]:
            tqdm.write(f"  warning: {warning}", file=sys.stderr)
    else:
        kind = {"review": "REVIEW", "failed": "FAILED"}[outcome.state]
        for why in outcome.reasons:
            tqdm.write(f"{printable(outcome.study)}: {kind}: {outcome.step}: {printable(why)}", file=sys.stderr)


def _summary_row(outcome: Outcome, sent: str) -> dict[str, Any]:
    report = outcome.report
    sequences = report.get("sequences", {})
    volumes = report.get("volumes_ml", {}).get("regions", {})
    return {
        "study": printable(outcome.study),
        "state": outcome.state,
        "step": outcome.step,
        "reason": printable("; ".join(outcome.reasons)),
        "used": subset_name(tuple(sequences.get("used", ()))),
        "missing": subset_name(tuple(sequences.get("missing", ()))),
        "reference": sequences.get("reference", ""),
        **{f"{region}_ml": volumes.get(region, "") for region in REGIONS},
        "warnings": len(report.get("warnings", ())),
        "sent": sent,
        "seconds": outcome.seconds,
        "folder": outcome.folder.name if outcome.folder else "",
    }
