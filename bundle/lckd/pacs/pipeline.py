"""One study from its series to its results: convert, co-register, extract the brain, segment, write."""

import hashlib
import json
import platform
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import highdicom
import monai
import numpy as np
import pydicom
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from lckd import __version__
from lckd.errors import StudyError
from lckd.files import write_json
from lckd.images import Image, write_image
from lckd.outputs import StudyWriter
from lckd.pacs.brain_extraction import BrainMask, extract_brain
from lckd.pacs.contrast import enhancement, verdict
from lckd.pacs.conversion import read_stack
from lckd.pacs.dicom_rtstruct import WrittenRtstruct, write_rtstruct
from lckd.pacs.dicom_seg import Algorithm, WrittenSeg, write_dicom_seg
from lckd.pacs.hd_bet import hd_bet_command
from lckd.pacs.html_report import write_html
from lckd.pacs.identification import Identification
from lckd.pacs.measurements import diameters_mm
from lckd.pacs.registration import Grid, Registration, register, resample
from lckd.pacs.series_table import printable, rows
from lckd.pacs.site_words import SiteWords
from lckd.pacs.study import Stack
from lckd.pacs.study_folder import StudyFolder
from lckd.segmentation import Segmentation, Segmenter, timed
from lckd.sequences import SEQUENCE_NAMES, SEQUENCES, reference_sequence, subset_name

DICOM_NAMES: Final = {"dicom_seg": "DICOM SEG", "rtstruct": "RTSTRUCT"}
"""Results that are meant for a PACS, per entry of the report."""

DICOM_FILES: Final = {"dicom_seg": "seg.dcm", "rtstruct": "rtstruct.dcm"}

State = Literal["done", "skipped", "incomplete", "review", "failed"]
"""``skipped``: finished earlier. ``incomplete``: all but a DICOM result. ``review``: a person has to answer first."""


@dataclass(frozen=True)
class Options:
    """What a study's result depends on besides its files and the weights.

    Attributes:
        sequences: use only these.
        seg_type: ``binary`` or ``labelmap``.
        mask: file of a brain mask on any grid of the reference series' world; None finds the brain.
        accept_low_confidence: use a study that asks for review.
        rtstruct: write contours for radiotherapy, too.
    """

    sequences: tuple[str, ...] = SEQUENCES
    seg_type: str = "binary"
    mask: Path | None = None
    accept_low_confidence: bool = False
    rtstruct: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a study.

    Attributes:
        study: StudyInstanceUID.
        state: see ``State``.
        step: that failed or asks for review; empty otherwise.
        reasons: sentences on why.
        folder: of the results, if there are any.
        report: content of ``report.json``, likewise.
        seconds: that the study took.
        table: rows of ``series_table.rows``.
    """

    study: str
    state: State
    step: str = ""
    reasons: tuple[str, ...] = ()
    folder: Path | None = None
    report: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    table: tuple[Mapping[str, Any], ...] = ()


class ReviewError(StudyError):
    """A person has to decide something first.

    Args:
        questions: sentences.
    """

    def __init__(self, questions: tuple[str, ...]) -> None:
        super().__init__("; ".join(questions))
        self.questions = questions


class Steps:
    """What is being done, and how long each step took.

    Args:
        tell: called with each step's name as it begins.
    """

    def __init__(self, tell: Callable[[str], None] = lambda step: None) -> None:
        self.current, self.timings_s, self._tell = "identify", {}, tell  # type: tuple[str, dict[str, float], Any]

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """A step; its name stays the current one if it fails."""
        self.current = name
        self._tell(name)
        with timed(self.timings_s, name):
            yield


@dataclass
class _Prepared:
    """A study before segmentation.

    Attributes:
        identification: after what pixels answered.
        stacks: per sequence in use.
        images: on the reference's grid, whole heads.
        registrations: per sequence other than the reference.
        left_out: per sequence that was found but is not used, why.
        brain: on the same grid.
        contrast: evidence from pixels.
        warnings: for the user.
    """

    identification: Identification
    stacks: dict[str, Stack]
    images: dict[str, Image]
    registrations: dict[str, Registration]
    left_out: dict[str, str]
    brain: BrainMask
    contrast: dict[str, Any] | None
    warnings: list[str]

    @property
    def reference(self) -> str:
        return reference_sequence(tuple(self.images))


class StudyPipeline:
    """Takes identified studies to results, one after the other.

    Args:
        segmenter: with its weights.
        output: folder of all studies' folders.
        options: what the user asked for.
        tell: called with each step's name as it begins.
        site: words by which the studies were identified, for the manifest.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        output: Path,
        options: Options | None = None,
        tell: Callable[[str], None] = lambda step: None,
        site: SiteWords | None = None,
    ) -> None:
        self.segmenter, self.output, self.options, self._tell = segmenter, output, options or Options(), tell
        self._site = site or SiteWords()

    def __call__(self, identification: Identification) -> Outcome:
        """Process a study; whatever goes wrong with it is in the outcome."""
        started, steps = time.perf_counter(), Steps(self._tell)
        identification = identification.limited_to(self.options.sequences)
        outcome = attempted(identification.study.uid, steps, lambda: self._run(identification, steps))
        table = outcome.table or tuple(rows(identification))
        return replace(outcome, seconds=round(time.perf_counter() - started, 1), table=table)

    def _run(self, identification: Identification, steps: Steps) -> Outcome:
        options, study = self.options, identification.study.uid
        unanswered = identification.review and not options.accept_low_confidence
        comparable = identification.pixels_may_answer and {"t1", "t1ce"} <= set(options.sequences)
        if unanswered and not comparable:
            raise ReviewError(identification.review)
        stacks = {name: stack for name, stack in identification.chosen.items() if name in options.sequences}
        if not stacks:
            raise StudyError(_nothing_found(identification, options))
        folder = StudyFolder(self.output, study)
        with steps("compare with earlier results"):
            fingerprint = self._fingerprint(stacks, accepted=bool(identification.review) and not unanswered)
            manifest = folder.finished(fingerprint)
        if manifest:
            return Outcome(study, "skipped", folder=folder.path, report=_earlier_report(folder.path))
        with folder.draft() as draft:
            prepared = self._prepared(identification, stacks, steps)
            segmentation = self._segmented(prepared, draft, steps)
            report = self._written(prepared, segmentation, draft, steps)
            faults = _faults({key: report[key] for key in DICOM_NAMES if key in report})
            facts = {"study": study, "finished": not faults, "fingerprint": fingerprint}
            folder.publish(draft, facts | self._manifest(prepared, report, steps))
        table = tuple(report["identification"])
        if faults:
            step = " and ".join(DICOM_NAMES[key] for key in faults)
            return Outcome(study, "incomplete", step, tuple(faults.values()), folder.path, report, table=table)
        return Outcome(study, "done", folder=folder.path, report=report, table=table)

    # --- steps ---

    def _prepared(self, identification: Identification, stacks: Mapping[str, Stack], steps: Steps) -> _Prepared:
        warnings: list[str] = []
        left_out: dict[str, str] = {}
        with steps("convert"):
            converted = _converted(stacks, left_out)
        reference = reference_sequence(tuple(converted))
        with steps("co-register"):
            registrations = _registered(converted, reference)
            images = _aligned(converted, reference, registrations, left_out)
        with steps("extract the brain"):
            brain = extract_brain(images, reference, self.options.mask, device=str(self.segmenter.device))
        warnings += [f"{SEQUENCE_NAMES[name]}: {text}" for name in images for text in converted[name].warnings]
        warnings += [f"{SEQUENCE_NAMES[name]} was left out: {why}" for name, why in left_out.items()]
        warnings += brain.warnings
        used = {name: stacks[name] for name in images}
        contrast = _pixel_contrast(images, brain)
        identification = _answered_by_pixels(identification, contrast, self.options, warnings)
        warnings = [f"used without review: {question}" for question in identification.review] + warnings
        return _Prepared(identification, used, images, registrations, left_out, brain, contrast, warnings)

    def _segmented(self, prepared: _Prepared, draft: Path, steps: Steps) -> Segmentation:
        item: dict[str, Any] = {"study": draft.name, "notes": ()}
        with steps("write images"):
            for name, image in prepared.images.items():
                item[name] = draft / f"{draft.name}_{name}.nii.gz"
                write_image(item[name], np.where(prepared.brain.mask, image.array, np.float32(0)), image.affine)
        with steps("segment"):
            return self.segmenter(item)

    def _written(self, prepared: _Prepared, segmentation: Segmentation, draft: Path, steps: Steps) -> dict[str, Any]:
        """Write everything but the manifest, and return the report."""
        label_map = segmentation.label_map.numpy()
        whole_head = prepared.images[prepared.reference]
        results = self._dicom_results(label_map, whole_head.affine, prepared, segmentation.report, draft, steps)
        warnings = [f"no {DICOM_NAMES[key]} was written: {fault}" for key, fault in _faults(results).items()]
        warnings += [*prepared.warnings, *segmentation.report["warnings"]]
        # once, since both copy from one source
        warnings += dict.fromkeys(warning for facts in results.values() for warning in facts["warnings"])
        report = segmentation.report | {
            "warnings": [printable(warning) for warning in warnings],
            "diameters_mm": diameters_mm(label_map, whole_head.affine),
            "series": _series_facts(prepared, self.options),
            "co_registration": {name: _registration_facts(r) for name, r in prepared.registrations.items()},
            "brain_extraction": {"method": prepared.brain.method, "volume_ml": round(prepared.brain.volume_ml, 1)},
            "contrast_by_pixels": prepared.contrast,
            **results,
            "identification": rows(prepared.identification),
        }
        with steps("write"):
            shown = torch.from_numpy(np.ascontiguousarray(whole_head.array))
            StudyWriter(draft.parent)(replace(segmentation, report=report, reference=shown))
            report["steps_s"] = dict(steps.timings_s)
            write_json(draft / "report.json", report)
            write_html(report, (draft / "preview.png").read_bytes(), draft / "report.html")
        return report

    def _dicom_results(
        self,
        label_map: NDArray[np.uint8],
        affine: NDArray,
        prepared: _Prepared,
        report: Mapping[str, Any],
        draft: Path,
        steps: Steps,
    ) -> dict[str, dict[str, Any]]:
        """Write what is meant for a PACS, and return what became of each."""
        parameters = {"sequences": subset_name(tuple(prepared.images)), "weights sha256": report["weights"]["sha256"]}
        arguments: tuple[Any, ...] = (label_map, affine, prepared.stacks[prepared.reference])
        algorithm, seg_type = Algorithm(parameters=parameters), self.options.seg_type
        writers: dict[str, Callable[..., WrittenSeg | WrittenRtstruct]] = {
            "dicom_seg": partial(write_dicom_seg, *arguments, algorithm=algorithm, seg_type=seg_type)
        }
        if self.options.rtstruct:
            writers["rtstruct"] = partial(write_rtstruct, *arguments, algorithm=algorithm)
        results = {}
        for key, write in writers.items():
            with steps(f"write {DICOM_NAMES[key]}"):
                results[key] = _written_to(draft / DICOM_FILES[key], write)
        results["dicom_seg"]["type"] = seg_type
        return results

    # --- facts ---

    def _fingerprint(self, stacks: Mapping[str, Stack], accepted: bool) -> str:
        """Of everything that the result depends on."""
        options, digest = self.options, hashlib.sha256()
        facts = {
            "version": __version__,
            "weights": self.segmenter.weights["sha256"],
            "precision": str(self.segmenter.dtype),
            "seg_type": options.seg_type,
            "rtstruct": options.rtstruct,
            "accepted": accepted,
            "mask": None if options.mask is None else hashlib.sha256(options.mask.read_bytes()).hexdigest(),
            "hd_bet": hd_bet_command() is not None,
            "stacks": {name: [stack.series_uid, stack.number, stack.frames] for name, stack in stacks.items()},
        }
        digest.update(json.dumps(facts, sort_keys=True).encode())
        for stack in stacks.values():
            for instance in stack.instances:
                digest.update(instance.path.read_bytes())
        return digest.hexdigest()

    def _manifest(self, prepared: _Prepared, report: Mapping[str, Any], steps: Steps) -> dict[str, Any]:
        return {
            "software": _versions(),
            "weights": report["weights"],
            "device": report["device"],
            "precision": report["precision"],
            "options": {
                "sequences": list(self.options.sequences),
                "seg_type": self.options.seg_type,
                "rtstruct": self.options.rtstruct,
                "mask": self.options.mask is not None,
                "accept_low_confidence": self.options.accept_low_confidence,
            },
            "site_rules": {"file": self._site.file, "sha256": self._site.sha256} if self._site.file else None,
            "reference": prepared.reference,
            "series": report["series"],
            "transforms": {name: r.transform.round(6).tolist() for name, r in prepared.registrations.items()},
            "timings_s": steps.timings_s,
            "warnings": report["warnings"],
            "disclaimer": report["disclaimer"],
        }


def attempted(study: str, steps: Steps, run: Callable[[], Outcome]) -> Outcome:
    """What ``run`` returns, or the outcome of its failure."""
    try:
        return run()
    except ReviewError as error:
        return Outcome(study, "review", steps.current, error.questions)
    except StudyError as error:
        return Outcome(study, "failed", steps.current, (str(error),))
    except OSError as error:
        sentence = (
            f"a file cannot be read or written ({error.strerror or type(error).__name__}); check space and access"
        )
        return Outcome(study, "failed", steps.current, (sentence,))
    except Exception as error:  # a defect of ours must not cost the user the studies that follow
        return Outcome(study, "failed", steps.current, (_defect(error),))


def _written_to(path: Path, write: Callable[[Path], WrittenSeg | WrittenRtstruct]) -> dict[str, Any]:
    """Write a result; its failure is a fact of the report, since the other files are worth having without it."""
    facts: dict[str, Any] = {"file": None, "error": None, "not_detected": [], "warnings": []}
    try:
        written = write(path)
    except StudyError as error:
        return facts | {"error": str(error)}
    except Exception as error:
        return facts | {"error": _defect(error)}
    return facts | {
        "file": written.path.name if written.path else None,
        "series_uid": written.series_uid,
        "not_detected": list(written.not_detected),
        "warnings": list(written.warnings),
    }


def _faults(results: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Per result that could not be written why."""
    return {key: facts["error"] for key, facts in results.items() if facts["error"]}


def _defect(error: Exception) -> str:
    """A sentence on a defect of ours: where it is, but not the message, which may quote a patient's header."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "lckd" in Path(frame.filename).parts]
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"unexpected {type(error).__name__}{place}; please report it"


def _nothing_found(identification: Identification, options: Options) -> str:
    found = ", ".join(SEQUENCE_NAMES[name] for name in identification.chosen)
    if found:
        return f"the study has {found}, of which --sequences allows none; name one of them"
    return (
        f"none of the study's {len(identification.decisions)} series is {' or '.join(SEQUENCE_NAMES.values())}; "
        "look at the table of --dry-run, and name series in an override file"
    )


def _earlier_report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def _converted(stacks: Mapping[str, Stack], left_out: dict[str, str]) -> dict[str, Image]:
    images = {}
    for name, stack in stacks.items():
        try:
            images[name] = read_stack(stack)
        except StudyError as error:
            left_out[name] = str(error)
    if not images:
        raise StudyError("; ".join(left_out.values()))
    return images


def _registered(images: Mapping[str, Image], reference: str) -> dict[str, Registration]:
    others = [name for name in images if name != reference]
    # ITK gives up the interpreter's lock, and a registration runs on one thread
    with ThreadPoolExecutor(max(1, min(len(others), torch.get_num_threads()))) as pool:
        found = pool.map(lambda name: register(images[name], images[reference]), others)
        return dict(zip(others, found, strict=True))


def _aligned(
    images: Mapping[str, Image],
    reference: str,
    registrations: Mapping[str, Registration],
    left_out: dict[str, str],
) -> dict[str, Image]:
    """Images on the reference's grid, without those whose registration was not accepted."""
    grid = Grid.of(images[reference])
    result = {}
    for name, image in images.items():
        if name == reference:
            result[name] = image
        elif registrations[name].accepted:
            result[name] = resample(image, registrations[name], grid)
        else:
            why = registrations[name].reason
            left_out[name] = f"it could not be co-registered with {SEQUENCE_NAMES[reference]}: {why}"
    return result


def _pixel_contrast(images: Mapping[str, Image], brain: BrainMask) -> dict[str, Any] | None:
    """Whether T1ce looks like one beside T1; None without both."""
    if not {"t1", "t1ce"} <= images.keys():
        return None
    score = enhancement(images["t1ce"].array, images["t1"].array, brain.mask, brain.affine)
    return {"verdict": verdict(score), "enhancement": None if score is None else round(score, 2)}


def _answered_by_pixels(
    identification: Identification, contrast: Mapping[str, Any] | None, options: Options, warnings: list[str]
) -> Identification:
    """The identification after T1ce was compared with T1.

    Raises:
        ReviewError: the pixels contradict headers of low confidence, or leave open what was asked.
    """
    said = contrast["verdict"] if contrast else None
    if said == "confirmed" and identification.pixels_may_answer:
        identification = identification.confirmed_by_pixels()
    if said == "contradicted":
        sentence = (
            "the T1ce is not brighter than the T1 anywhere: it may be without contrast, the two may be exchanged, or "
            "nothing enhances; look at both"
        )
        confidence = min(identification.used[name].confidence for name in ("t1", "t1ce"))
        if confidence < identification.low_confidence and not options.accept_low_confidence:
            raise ReviewError((f"{sentence}, and name them in an override file",))
        warnings.append(sentence)
    if identification.review and not options.accept_low_confidence:
        raise ReviewError(identification.review)
    return identification


def _series_facts(prepared: _Prepared, options: Options) -> dict[str, dict[str, Any]]:
    """Per sequence which series is used and why, or why none is."""
    facts: dict[str, dict[str, Any]] = {}
    for name in SEQUENCES:
        decision = prepared.identification.used.get(name)
        if decision is None:
            facts[name] = {"used": False, "why_not": "not found in the study"}
            continue
        facts[name] = {
            "used": name in prepared.images,
            "why_not": None,
            "series_uid": printable(decision.stack.series_uid),
            "stack": decision.stack.number,
            "description": printable(decision.stack.description),
            "confidence": round(decision.confidence, 2),
            "reasons": [printable(text) for text in decision.reasons],
        }
        if name not in options.sequences:
            facts[name]["why_not"] = "not asked for"
        elif name in prepared.left_out:
            facts[name]["why_not"] = printable(prepared.left_out[name])
    return facts


def _registration_facts(registration: Registration) -> dict[str, Any]:
    return {
        "accepted": registration.accepted,
        "reason": registration.reason,
        "rotation_degrees": round(registration.rotation_degrees, 2),
        "mutual_information": [round(registration.metric_before, 3), round(registration.metric_after, 3)],
        "overlap": round(registration.overlap, 3),
        "seconds": round(registration.seconds, 1),
    }


def _versions() -> dict[str, str]:
    modules = (torch, monai, pydicom, highdicom, np)
    return {
        "lckd": __version__,
        "python": platform.python_version(),
        "SimpleITK": sitk.Version_VersionString(),
        **{module.__name__: str(module.__version__) for module in modules},
    }
