"""The rules that tell series apart: read from YAML, compared with what a stack's header says."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import yaml
from pydicom.dataset import Dataset

from lckd.errors import StudyError, reason
from lckd.pacs.study import Stack, b_value, flat_headers, number, numbers, text, words

# The default lies in the bundle, not in the repository's configs, so that a copied bundle finds it.
RULES: Final = Path(__file__).resolve().parents[2] / "configs" / "pacs" / "series_rules.yaml"
"""The shipped rules."""

OTHER: Final = "other"
"""Stands in the rules for an image that is none of the four sequences."""

SOURCES: Final = ("text", "technique", "physics")

SLICES_OF_A_VOLUME: Final = 10
"""A stack with fewer is no measure of how much of the head the study's others cover."""

_SECTIONS: Final = {
    "low_confidence": float,
    "agreement": float,
    "unsure": float,
    "unknown_word": float,
    "exclude": list,
    "unsure_if": list,
    "whole_head": list,
    "image_types": list,
    "compatible": list,
    "sequences": dict,
    "contrast": dict,
    "known": list,
    "site": dict,
}
_NAMING: Final = ("neither", "without", "with", "both")
_CONTRAST: Final = {"none", "perfusion", *_NAMING}
_RANGES: Final = {
    *("te_ms", "tr_ms", "ti_ms", "flip_degrees", "thickness_mm", "slices", "b_value"),
    *("volumes", "orientations", "echoes", "coverage"),
}
_LINES: Final = {
    *("words", "without", "study_words", "study_without", "image_type", "scanning", "not_scanning"),
    *("variant", "technique", "acquisition_contrast", "angio_flag", "body_part", "has_ti", *_RANGES),
}
_KEYWORDS: Final = {
    "te_ms": "EchoTime",
    "tr_ms": "RepetitionTime",
    "flip_degrees": "FlipAngle",
    "thickness_mm": "SliceThickness",
}
_TOKENS: Final = {
    "image_type": "ImageType",
    "scanning": "ScanningSequence",
    "variant": "SequenceVariant",
    "acquisition_contrast": "AcquisitionContrast",
    "angio_flag": "AngioFlag",
}
_SCHEMA: Final = {
    "exclude": {"reason", "doubt", "any"},
    "unsure_if": {"reason", "any"},
    "sequences": {"sequence", "confidence"},
}


def normalized(written: str) -> str:
    """Text as tokens: lower case, without accents, ``*`` as ``star``, ``+`` as ``plus``."""
    plain = unicodedata.normalize("NFKD", written.lower().replace("ß", "ss").replace("ø", "o"))
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    # A minus that touches what follows only is one: "T1 -C", but not "T1-C".
    plain = re.sub(r"(?<![^\s_])-(?=(c|gd|km|ce)\b)", " minus ", plain)
    plain = re.sub(r"\b(c|gd|km|iv|inj|k)-(?=[\s_)]|$)", r" minus \1 ", plain)
    plain = re.sub(r"\bw/(?=\s|$)", " with ", plain)
    plain = plain.replace("*", "star ").replace("+", " plus ")
    return " ".join(re.findall(r"[^\W_]+", plain))


@cache
def pattern(phrases: tuple[str, ...]) -> re.Pattern[str]:
    """Regular expression for any of ``phrases`` as whole tokens of normalized text."""
    return re.compile(r"(?<!\S)(?:" + "|".join(phrases) + r")(?!\S)")


@dataclass(frozen=True)
class Facts:
    """What is compared with the rules.

    Args:
        stack: the volume.
        text: what tells its series from others, normalized, a site's own words put into ours.
        readings: sentences on those words.
        volumes: stacks of its series with the same orientation and echo time.
        orientations: different planes in its series.
        echoes: different echo times in its series.
        b_value: the series' largest diffusion weighting.
        coverage: how far it reaches along its normal, as a fraction of what is usual in its study.
    """

    stack: Stack
    text: str
    readings: tuple[str, ...] = ()
    volumes: int = 1
    orientations: int = 1
    echoes: int = 1
    b_value: float | None = None
    coverage: float | None = None

    @cached_property
    def header(self) -> Dataset:
        """Of the first slice."""
        return self.stack.header

    @cached_property
    def study_text(self) -> str:
        """The study's description, normalized."""
        return normalized(text(self.header, "StudyDescription"))

    @cached_property
    def image_type(self) -> tuple[str, ...]:
        """Tokens of ImageType in lower case, and what enhanced objects say in attributes of their own."""
        more = words(self.header, "VolumeBasedCalculationTechnique") + words(self.header, "ComplexImageComponent")
        found = (*words(self.header, "ImageType"), *more)
        if text(self.header, "PhotometricInterpretation") == "RGB":
            found = (*found, "RGB")
        return tuple(token.lower() for token in found)

    @cached_property
    def scanning(self) -> tuple[str, ...]:
        """ScanningSequence in lower case; of enhanced objects, what says the same."""
        classic = tuple(word.lower() for word in words(self.header, "ScanningSequence"))
        if classic:
            return classic
        echo = {"SPIN": ("se",), "GRADIENT": ("gr",), "BOTH": ("se", "gr")}
        yes = {"InversionRecovery": "ir", "EchoPlanarPulseSequence": "ep"}
        found = echo.get(text(self.header, "EchoPulseSequence").upper(), ())
        return (*found, *(short for keyword, short in yes.items() if text(self.header, keyword).upper() == "YES"))

    @cached_property
    def variant(self) -> tuple[str, ...]:
        """SequenceVariant in lower case."""
        return tuple(word.lower() for word in words(self.header, "SequenceVariant"))

    @cached_property
    def technique(self) -> str:
        """The name of the pulse sequence in lower case."""
        return (text(self.header, "SequenceName") or text(self.header, "PulseSequenceName")).lower()

    @cached_property
    def acquisition_contrast(self) -> tuple[str, ...]:
        """AcquisitionContrast of an enhanced object, in lower case."""
        return tuple(word.lower() for word in words(self.header, "AcquisitionContrast"))

    @cached_property
    def angio_flag(self) -> tuple[str, ...]:
        """AngioFlag in lower case."""
        return tuple(word.lower() for word in words(self.header, "AngioFlag"))

    @cached_property
    def body_part(self) -> str:
        """BodyPartExamined in lower case."""
        return text(self.header, "BodyPartExamined").lower()

    def number(self, name: str) -> float | None:
        """The number that a range of the rules means."""
        if name in _KEYWORDS:
            return number(self.header, _KEYWORDS[name])
        if name == "ti_ms":
            # Some consoles write 0 where there is no inversion.
            return number(self.header, "InversionTime") or None
        if name == "slices":
            return self.stack.size
        return getattr(self, name)


def facts_of(stacks: Sequence[Stack], rules: "Rules | None" = None) -> list[Facts]:
    """Facts of a study's stacks, those of their series included; ``rules`` may know a site's words."""
    rules = rules or read_rules()
    volumes: Counter[tuple[Any, ...]] = Counter()
    planes: dict[str, set[str]] = defaultdict(set)
    echoes: dict[str, set[float | None]] = defaultdict(set)
    weightings: dict[str, list[float]] = defaultdict(list)
    for stack in stacks:
        uid, echo, weighting = stack.series_uid, number(stack.header, "EchoTime"), b_value(stack.header)
        volumes[uid, stack.plane, echo] += 1
        planes[uid].add(stack.plane)
        echoes[uid].add(echo)
        weightings[uid] += [] if weighting is None else [weighting]
    heights = [_height_mm(stack) if stack.size >= SLICES_OF_A_VOLUME else None for stack in stacks]
    usual = median([height for height in heights if height is not None] or [0.0])
    descriptions = {stack.series_uid: stack.description for stack in stacks}
    # ProtocolName often names the exam, so it counts only where descriptions are missing or were overwritten.
    overwritten = len(descriptions) > 2 and len(set(descriptions.values())) == 1
    return [
        Facts(
            stack,
            *rules.in_our_words(normalized(text(stack.header, "ProtocolName") if overwritten else stack.description)),
            volumes=volumes[stack.series_uid, stack.plane, number(stack.header, "EchoTime")],
            orientations=len(planes[stack.series_uid]),
            echoes=len(echoes[stack.series_uid]),
            b_value=max(weightings[stack.series_uid], default=None),
            coverage=height / usual if height is not None and usual else None,
        )
        for stack, height in zip(stacks, heights, strict=True)
    ]


def _height_mm(stack: Stack) -> float:
    """Distance of the outer slices; decodes two headers, not all."""
    if stack.frames is None:
        ends = [stack.header, stack.instances[-1].header]
    else:
        ends = flat_headers(stack.instances[0], [stack.frames[0], stack.frames[-1]])
    first, last = (np.array(numbers(header, "ImagePositionPatient", 3)) for header in ends)
    return float(abs((last - first) @ stack.orientation[2]))


def source_of(condition: Mapping[str, Any]) -> str:
    """The kind of evidence that a condition is."""
    if "coverage" in condition:
        return "physics"
    if "words" in condition:
        return "text"
    if {"image_type", "acquisition_contrast", "angio_flag", "b_value", "body_part"} & condition.keys():
        return "tag"
    return "technique" if "technique" in condition else "physics"


def evidence(condition: Mapping[str, Any], facts: Facts) -> str | None:
    """What of the stack fulfils ``condition``, in words; None where it does not hold."""
    found: list[str] = []
    for line, wanted in condition.items():
        if line not in _LINES:
            continue
        said = _evidence(line, wanted, facts)
        if said is None:
            return None
        found.append(said)
    return ", ".join(part for part in found if part)


def _evidence(line: str, wanted: Any, facts: Facts) -> str | None:
    if line in _RANGES:
        return _in_range(line, wanted, facts.number(line))
    if line == "words":
        match = pattern(tuple(map(str, wanted))).search(facts.text)
        return f"description says '{match[0]}'" if match else None
    if line == "study_words":
        match = pattern(tuple(map(str, wanted))).search(facts.study_text)
        return f"the study's description says '{match[0]}'" if match else None
    if line in ("without", "study_without"):
        said = facts.text if line == "without" else facts.study_text
        return None if pattern(tuple(map(str, wanted))).search(said) else ""
    if line == "not_scanning":
        return None if set(wanted) & set(facts.scanning) else ""
    if line == "has_ti":
        return "" if (facts.number("ti_ms") is not None) == wanted else None
    if line == "technique":
        said = f"sequence name {facts.technique}" if facts.technique else ""
        return said if re.fullmatch(wanted, facts.technique) else None
    if line == "body_part":
        hit = any(re.fullmatch(str(part), facts.body_part) for part in wanted)
        return f"BodyPartExamined is {facts.body_part}" if hit else None
    tokens = getattr(facts, line)
    hits = [token for token in tokens if any(re.fullmatch(str(choice), token) for choice in wanted)]
    return f"{_TOKENS[line]} has {hits[0].upper()}" if hits else None


def _in_range(line: str, wanted: Sequence[float | None], value: float | None) -> str | None:
    least, most = wanted
    if value is None or (least is not None and value < least) or (most is not None and value > most):
        return None
    name, _, unit = line.partition("_")
    return f"{name.upper() if unit == 'ms' else line.replace('_', ' ')} {value:g}" + (" ms" if unit == "ms" else "")


@dataclass(frozen=True)
class Rules:
    """The rules of ``series_rules.yaml``.

    Attributes:
        site_words: a site's own normalized words -> keys of ``site``, which says what they are read as.
    """

    low_confidence: float
    agreement: float
    unsure: float
    unknown_word: float
    exclude: list[dict[str, Any]]
    unsure_if: list[dict[str, Any]]
    whole_head: list[dict[str, Any]]
    image_types: list[str]
    compatible: list[list[str]]
    sequences: dict[str, list[dict[str, Any]]]
    contrast: dict[str, list[str]]
    known: list[list[str]]
    site: dict[str, str]
    site_words: Mapping[str, str] = field(default_factory=dict)

    def in_our_words(self, described: str) -> tuple[str, tuple[str, ...]]:
        """A normalized description with a site's words read as ours, the longest first, and sentences on them."""
        if not self.site_words:
            return described, ()
        own = pattern(tuple(map(re.escape, sorted(self.site_words, key=len, reverse=True))))
        found = dict.fromkeys(own.findall(described))
        readings = tuple(f"the site's rules say that '{word}' means {self.site_words[word]}" for word in found)
        ours = own.sub(lambda match: self.site[self.site_words[match[0]]], described)
        return " ".join(ours.split()), readings

    @cached_property
    def vocabularies(self) -> dict[str, re.Pattern[str]]:
        """Per sequence a pattern of all words that may stand in its name."""
        naming = [self.contrast[key] for key in _NAMING]
        common = [words for group in (*self.known, *naming) for words in group]
        own: dict[str, list[str]] = {each["sequence"]: [] for rules in self.sequences.values() for each in rules}
        for condition in self.sequences["text"]:
            own[condition["sequence"]] += condition["words"]
        for named, alike in self.compatible:
            own[named] = own[named] + own[alike]
        # Phrases first, lest their first word alone is taken.
        return {
            sequence: pattern(tuple(sorted((*common, *words), key=lambda words: -words.count(" "))))
            for sequence, words in own.items()
        }


@cache
def read_rules(path: str | Path | None = None) -> Rules:
    """Rules from a file; None takes the shipped ones.

    Raises:
        StudyError: the file is missing, no YAML, or a key, range or regular expression in it is wrong.
    """
    file = RULES if path is None else Path(path)
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise StudyError(f"rules {file} cannot be read ({reason(error)}); take series_rules.yaml as a start") from error
    fault = _fault(data)
    if fault:
        raise StudyError(f"rules {file}: {fault}; take series_rules.yaml as a start")
    return Rules(**data)


def _fault(data: Any) -> str | None:
    """What is wrong with the content of a rules file."""
    if not isinstance(data, dict) or data.keys() != _SECTIONS.keys():
        found = sorted(map(str, data)) if isinstance(data, dict) else type(data).__name__
        return f"its keys are {found}; accepted are {sorted(_SECTIONS)}"
    for section, kind in _SECTIONS.items():
        if not isinstance(data[section], kind):
            return f"'{section}' must be a {kind.__name__}"
    if set(data["sequences"]) != set(SOURCES) or set(data["contrast"]) != _CONTRAST:
        return f"'sequences' must have {list(SOURCES)}, 'contrast' {sorted(_CONTRAST)}"
    try:
        for section in ("exclude", "unsure_if"):
            for rule in data[section]:
                _check_keys(rule, _SCHEMA[section])
                for condition in rule["any"]:
                    _check_condition(condition, set())
        for condition in data["whole_head"]:
            _check_condition(condition, set())
        for source in SOURCES:
            for condition in data["sequences"][source]:
                _check_condition(condition, _SCHEMA["sequences"])
        for ours in data["site"].values():
            pattern((ours,))
        for phrases in (*data["contrast"].values(), *data["known"]):
            pattern(tuple(map(str, phrases)))
    except (re.error, TypeError, KeyError, ValueError, AttributeError) as error:
        return f"a rule is wrong ({reason(error)})"
    return None


def _check_keys(rule: Mapping[str, Any], accepted: set[str]) -> None:
    unknown = sorted(str(key) for key in rule.keys() - accepted)
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}; accepted are {', '.join(sorted(accepted))}")


def _check_condition(condition: Mapping[str, Any], more: set[str]) -> None:
    _check_keys(condition, _LINES | more)
    for line, wanted in condition.items():
        if line in _RANGES:
            least, most = wanted
            float(least or 0), float(most or 0)
        elif line == "technique":
            re.compile(wanted)
        elif isinstance(wanted, list):
            pattern(tuple(map(str, wanted)))
