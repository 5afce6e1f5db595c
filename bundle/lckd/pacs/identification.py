"""Which stack of a study is which sequence, how sure that is, and why."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from lckd.errors import StudyError
from lckd.pacs.overrides import IGNORE, Overrides, check_against, override_of
from lckd.pacs.rules import (
    OTHER,
    SOURCES,
    Facts,
    Rules,
    evidence,
    facts_of,
    given_contrast,
    named_contrast,
    normalized,
    pattern,
    read_rules,
    sort_time,
    source_of,
)
from lckd.pacs.study import Stack, Study, number, text, words
from lckd.sequences import SEQUENCE_NAMES, SEQUENCES

Contrast = Literal["yes", "no", "unknown"]

SOURCE_CONFIDENCE: Final = {"tag": 0.95, "technique": 0.9, "text": 0.8, "physics": 0.6}
CONTRADICTED: Final = 0.4
"""Confidence where two sources say different things."""

BY_ORDER: Final = 0.4
LIKELY_ORDER: Final = 0.7
"""Confidence in contrast from the order of acquisition: alone, and beside a series that is known to have it."""

UNTOLD: Final = 0.5
"""Confidence that a T1 is without contrast where nothing in the study says anything."""

BY_PIXELS: Final = 0.9
WHOLE_HEAD_MM: Final = 100.0


@dataclass(frozen=True)
class Decision:
    """What a stack is.

    Args:
        stack: the volume.
        sequence: ``flair``, ``t1``, ``t1ce`` or ``t2``; None where it is none of them, or excluded.
        contrast: whether contrast had been given, where it matters; else ``unknown``.
        confidence: 0 to 1.
        reasons: sentences.
        used: whether it was chosen for its sequence.
        why_not: why it was not used.
        doubt: the sequence it may be all the same, to be asked about if the study has no other stack of it.
    """

    stack: Stack
    sequence: str | None
    contrast: Contrast = "unknown"
    confidence: float = 0.0
    reasons: tuple[str, ...] = ()
    used: bool = False
    why_not: str | None = None
    doubt: str | None = None


@dataclass(frozen=True)
class Identification:
    """The decisions of a study.

    Args:
        study: the study.
        decisions: per stack, in the study's order.
        review: sentences that a person should answer before the study is used; empty where all is clear.
        low_confidence: of the rules.
    """

    study: Study
    decisions: tuple[Decision, ...]
    review: tuple[str, ...] = ()
    low_confidence: float = 0.65

    @property
    def chosen(self) -> dict[str, Stack]:
        """The stack of each sequence found, in the order of ``SEQUENCES``."""
        used = {decision.sequence: decision.stack for decision in self.decisions if decision.used}
        return {sequence: used[sequence] for sequence in SEQUENCES if sequence in used}


def identify(study: Study, rules: Rules | None = None, overrides: Overrides | None = None) -> Identification:
    """Decide for every stack of ``study`` what it is, and choose one per sequence.

    Args:
        study: of one patient.
        rules: None takes the shipped ones.
        overrides: of ``read_overrides``; what a person decided goes first.

    Raises:
        StudyError: an override does not fit this study.
    """
    rules, overrides = rules or read_rules(), overrides or {}
    check_against(study, overrides)
    facts = facts_of(study.stacks)
    decisions = [_without_contrast(each, rules) for each in facts]
    decisions = _with_contrast(decisions, facts, rules, _text_of(study))
    decisions = [_overridden(decision, overrides) for decision in decisions]
    return _finished(study, decisions, rules.low_confidence)


def _text_of(study: Study) -> str:
    """What the study's description says, normalized."""
    return normalized(text(study.stacks[0].header, "StudyDescription")) if study.stacks else ""


def _without_contrast(facts: Facts, rules: Rules) -> Decision:
    """What a stack is, T1 with and without contrast being one."""
    verdicts = _verdicts(facts, rules)
    for rule in rules.exclude:
        for condition in rule["any"]:
            found = evidence(condition, facts)
            if found is not None:
                return _excluded(facts, rules, rule, source_of(condition), found, verdicts)
    unusual = _unusual_derivation(facts, rules)
    if unusual:
        why = f"derived in an unknown way: ImageType has {unusual.upper()}"
        return Decision(facts.stack, None, "unknown", 0.8, (why,), False, why, _doubt(facts, rules, verdicts))
    return _combined(facts, rules, verdicts)


def _verdicts(facts: Facts, rules: Rules) -> dict[str, tuple[str, float, str]]:
    """What each source says: sequence, confidence and evidence."""
    result = {}
    for source in SOURCES:
        for condition in rules.sequences[source]:
            found = evidence(condition, facts)
            if found is not None:
                result[source] = (condition["sequence"], float(condition["confidence"]), found)
                break
    return result


def _excluded(
    facts: Facts,
    rules: Rules,
    rule: Mapping[str, Any],
    source: str,
    found: str,
    verdicts: Mapping[str, tuple[str, float, str]],
) -> Decision:
    why = f"{rule['reason']}: {found}"
    doubt = _doubt(facts, rules, verdicts) if rule.get("doubt") else None
    return Decision(facts.stack, None, "unknown", SOURCE_CONFIDENCE[source], (why,), False, why, doubt)


def _doubt(facts: Facts, rules: Rules, verdicts: Mapping[str, tuple[str, float, str]]) -> str | None:
    """The sequence that at least two sources name, if none names another."""
    named = [sequence for sequence, _, _ in verdicts.values()]
    if len(named) < 2 or len(set(named)) > 1 or named[0] == OTHER:
        return None
    if named[0] != "t1":
        return named[0]
    told = named_contrast(facts.text, rules)
    if given_contrast(facts.stack, rules) or (told and told[0] == "yes"):
        return "t1ce"
    return "t1" if told else "t1 or t1ce"


def _unusual_derivation(facts: Facts, rules: Rules) -> str | None:
    if "derived" not in facts.image_type[:1]:
        return None
    return next((token for token in facts.image_type if token not in rules.accepted_derived), None)


def _combined(facts: Facts, rules: Rules, verdicts: Mapping[str, tuple[str, float, str]]) -> Decision:
    if not verdicts:
        why = "nothing in its header says what it is"
        return Decision(facts.stack, None, "unknown", 0.0, (why,), False, why, "any")
    reasons = tuple(f"{_name(sequence)} by {source}: {found}" for source, (sequence, _, found) in verdicts.items())
    strongest = max(verdicts.values(), key=lambda verdict: verdict[1])
    against = [verdict for verdict in verdicts.values() if not _agree(strongest[0], verdict[0], rules)]
    if against:
        # A description is typed by people; how an image was acquired is written by the machine.
        sequence = next(verdicts[source][0] for source in ("technique", "physics", "text") if source in verdicts)
        return _decided(facts.stack, sequence, CONTRADICTED, (*reasons, "these contradict each other"), strongest[0])
    agreeing = sum(verdict[0] == strongest[0] for verdict in verdicts.values()) - 1
    return _decided(facts.stack, strongest[0], min(0.99, strongest[1] + rules.agreement * agreeing), reasons)


def _decided(
    stack: Stack, sequence: str, confidence: float, reasons: tuple[str, ...], doubt: str | None = None
) -> Decision:
    if sequence == OTHER:
        why = "proton density or another weighting: " + "; ".join(reasons)
        return Decision(stack, None, "unknown", confidence, reasons, False, why, None if doubt == OTHER else doubt)
    return Decision(stack, sequence, "unknown", confidence, reasons)


def _agree(named: str, looks: str, rules: Rules) -> bool:
    return named == looks or [named, looks] in rules.compatible


def _name(sequence: str | None) -> str:
    return SEQUENCE_NAMES.get(sequence or "", "none of the four")


@dataclass(frozen=True)
class _Evidence:
    """What says of a T1 whether contrast had been given."""

    stack: Stack
    tag: str | None
    named: tuple[str, str] | None
    words: str

    @property
    def time(self) -> float:
        return sort_time(self.stack)


def _with_contrast(
    decisions: Sequence[Decision], facts: Sequence[Facts], rules: Rules, study_text: str
) -> list[Decision]:
    """T1 told into T1 and T1ce, by tags, names and order."""
    tags = [given_contrast(each.stack, rules) for each in facts]
    stamped = _stamped(decisions, tags)
    t1 = [
        _Evidence(each.stack, None if stamped else tag, named_contrast(each.text, rules), each.text)
        for decision, each, tag in zip(decisions, facts, tags, strict=True)
        if decision.sequence == "t1"
    ]
    others_tagged = any(tags) and not stamped
    named = named_contrast(study_text, rules)
    perfusion = [
        sort_time(each.stack) for each in facts if pattern(tuple(rules.contrast["perfusion"])).search(each.text)
    ]
    rulings = {
        (each.stack.series_uid, each.stack.number): _judged(each, t1, stamped, others_tagged, named, perfusion)
        for each in t1
    }
    return [
        _with_ruling(decision, *rulings[key]) if (key := _key(decision.stack)) in rulings else decision
        for decision in decisions
    ]


def _key(stack: Stack) -> tuple[str, int]:
    return stack.series_uid, stack.number


def _stamped(decisions: Sequence[Decision], tags: Sequence[str | None]) -> bool:
    """Whether bolus tags say nothing: others than T1 have one, and so has every T1, or the very first series."""
    tagged = [decision for decision, tag in zip(decisions, tags, strict=True) if tag]
    if all(decision.sequence == "t1" for decision in tagged):
        return False
    first = min(range(len(tags)), key=lambda index: sort_time(decisions[index].stack))
    untagged_t1 = any(decision.sequence == "t1" and not tag for decision, tag in zip(decisions, tags, strict=True))
    return tags[first] is not None or not untagged_t1


def _judged(
    one: _Evidence,
    t1: Sequence[_Evidence],
    stamped: bool,
    others_tagged: bool,
    study_named: tuple[str, str] | None,
    perfusion: Sequence[float],
) -> tuple[Contrast, float, str]:
    """Contrast, confidence and a sentence."""
    if one.tag and one.named and one.named[0] == "no":
        return "unknown", CONTRADICTED, f"{one.tag} says that contrast was given, the description '{one.named[1]}'"
    if one.tag:
        agreeing = 0.04 if one.named else 0.0
        early = [other for other in t1 if other.tag is None and other.time > one.time]
        if early and not one.named:
            return "yes", CONTRADICTED, f"{one.tag} is set, but a later T1 has none"
        if not one.named and _first_of_tagged_pair(one, t1):
            return (
                "unknown",
                CONTRADICTED,
                f"{one.tag} is set, but on a later T1 of equal geometry too, and on every T1",
            )
        return "yes", 0.95 + agreeing, f"with contrast: {one.tag} is set" + _also(one.named)
    if one.named:
        if one.named[0] == "yes" and others_tagged:
            return "yes", LIKELY_ORDER, f"with contrast: description says '{one.named[1]}', though no bolus tag is set"
        answer: Contrast = "yes" if one.named[0] == "yes" else "no"
        return answer, 0.8, f"{_with(answer)} contrast: description says '{one.named[1]}'"
    return _judged_by_order(one, t1, stamped, others_tagged, study_named, perfusion)


def _first_of_tagged_pair(one: _Evidence, t1: Sequence[_Evidence]) -> bool:
    """Whether it may be the image before contrast of a pair that is tagged alike."""
    later = [other for other in t1 if other.time > one.time and _same_geometry(one.stack, other.stack)]
    return bool(later) and all(other.tag for other in t1)


def _also(named: tuple[str, str] | None) -> str:
    return f", and the description says '{named[1]}'" if named else ""


def _with(answer: Contrast) -> str:
    return "with" if answer == "yes" else "without"


def _judged_by_order(
    one: _Evidence,
    t1: Sequence[_Evidence],
    stamped: bool,
    others_tagged: bool,
    study_named: tuple[str, str] | None,
    perfusion: Sequence[float],
) -> tuple[Contrast, float, str]:
    stamp = "the bolus tag is on every series, so it says nothing; " if stamped else ""
    before = [other for other in t1 if other.time < one.time]
    known = [other for other in t1 if other.tag or (other.named and other.named[0] == "yes")]
    if "plus" in one.words.split() or "minus" in one.words.split():
        return "unknown", CONTRADICTED, "its description has a '+' or '-' of unknown meaning"
    if known and one.time < min(other.time for other in known):
        if not others_tagged and any(_same_geometry(one.stack, other.stack) and not other.named for other in before):
            return (
                "unknown",
                BY_ORDER,
                f"{stamp}acquired before the first T1 with contrast, but after one that is alike",
            )
        return "no", LIKELY_ORDER + (0.1 if others_tagged else 0), f"{stamp}acquired before the first T1 with contrast"
    if known and one.time > min(other.time for other in known):
        if others_tagged:
            return "unknown", CONTRADICTED, "acquired after a T1 with contrast, but its own bolus tag is missing"
        return "yes", LIKELY_ORDER, f"{stamp}acquired after a T1 with contrast"
    if perfusion and one.time > min(perfusion) > float("-inf"):
        return "yes", BY_ORDER, f"{stamp}acquired after perfusion, which usually means contrast"
    alike = [other for other in t1 if other is not one and _same_geometry(one.stack, other.stack) and not other.named]
    if any(other.time < one.time for other in alike):
        return "yes", BY_ORDER, f"{stamp}the later of T1 of equal geometry"
    if any(other.time > one.time for other in alike):
        return "no", BY_ORDER, f"{stamp}the first of T1 of equal geometry"
    if any(other.named and other.named[0] == "no" and _same_geometry(one.stack, other.stack) for other in before):
        return "yes", BY_ORDER, f"{stamp}acquired after a T1 of equal geometry that is said to be without contrast"
    if alike:
        return "unknown", BY_ORDER, f"{stamp}T1 of equal geometry and time exist"
    if study_named and study_named[0] == "no" and not others_tagged and not stamped:
        return "no", LIKELY_ORDER, f"without contrast: the study's description says '{study_named[1]}'"
    if perfusion and one.time < min(perfusion):
        return "no", LIKELY_ORDER, f"{stamp}acquired before perfusion"
    return "unknown", UNTOLD, f"{stamp}nothing says whether contrast was given"


def _same_geometry(one: Stack, other: Stack) -> bool:
    same = one.plane == other.plane and abs(one.spacing_mm - other.spacing_mm) < 0.1
    return same and number(one.header, "Rows") == number(other.header, "Rows")


def _with_ruling(decision: Decision, contrast: Contrast, confidence: float, why: str) -> Decision:
    return replace(
        decision,
        sequence="t1ce" if contrast == "yes" else "t1",
        contrast=contrast,
        confidence=min(decision.confidence, confidence),
        reasons=(*decision.reasons, why),
    )


def with_pixel_ruling(identification: Identification, stack: Stack, contrast: Literal["yes", "no"]) -> Identification:
    """The identification after pixels showed whether a T1 is contrast-enhanced; the choice is made anew.

    Raises:
        StudyError: ``stack`` is no T1 of this study.
    """
    before = {_key(decision.stack): decision for decision in identification.decisions}.get(_key(stack))
    if before is None or before.sequence not in ("t1", "t1ce"):
        raise StudyError(f"series {stack.series_uid} stack {stack.number} is no T1, so contrast cannot be ruled on")
    confirmed = before.contrast == contrast
    told = before.contrast == "unknown" or before.confidence < identification.low_confidence
    after = replace(
        before,
        sequence="t1ce" if contrast == "yes" else "t1",
        contrast=contrast,
        confidence=max(before.confidence, BY_PIXELS) if confirmed or told else CONTRADICTED,
        reasons=(
            *before.reasons,
            f"pixels show {_with(contrast)} contrast" + ("" if confirmed or told else ", which contradicts the header"),
        ),
    )
    decisions = [after if decision is before else decision for decision in identification.decisions]
    return _finished(identification.study, decisions, identification.low_confidence)


def _overridden(decision: Decision, overrides: Overrides) -> Decision:
    """The decision that a person took instead, if any."""
    said = override_of(decision.stack, overrides)
    if said is None:
        return decision
    if said == IGNORE:
        return replace(
            decision,
            sequence=None,
            confidence=1.0,
            reasons=("ignored by override",),
            doubt=None,
            why_not="ignored by override",
        )
    contrast: Contrast = "yes" if said == "t1ce" else "no" if said == "t1" else "unknown"
    return Decision(decision.stack, said, contrast, 1.0, (f"{_name(said)} by override",))


def _finished(study: Study, decisions: Sequence[Decision], low: float) -> Identification:
    """Choose one stack per sequence, and ask what has to be asked."""
    candidates: dict[str, list[Decision]] = defaultdict(list)
    for decision in decisions:
        if decision.sequence:
            candidates[decision.sequence].append(decision)
    results = {_key(d.stack): replace(d, used=False) for d in decisions}
    review: list[str] = []
    for sequence in SEQUENCES:
        ranked = sorted(candidates[sequence], key=lambda d: _rank(d, low), reverse=True)
        if not ranked:
            continue
        best = ranked[0]
        results[_key(best.stack)] = replace(best, used=True, why_not=None)
        for loser in ranked[1:]:
            results[_key(loser.stack)] = replace(loser, used=False, why_not=_why_not(loser, best, low))
        review += _questions(sequence, ranked, low)
    finished = tuple(results[_key(decision.stack)] for decision in decisions)
    review += _doubts(finished, {sequence for sequence in SEQUENCES if candidates[sequence]}, low)
    return Identification(study, finished, tuple(review), low)


_CRITERIA: Final = (
    "decided with more confidence",
    "an original image",
    "covers the whole head",
    "complete and evenly spaced",
    "3-D or of thinner slices",
    "axial or 3-D",
    "of finer spacing",
    "acquired later",
)
"""What each place of ``_rank`` means, of the winner."""


def _rank(decision: Decision, low: float) -> tuple[float, ...]:
    stack = decision.stack
    volume = text(stack.header, "MRAcquisitionType").upper() == "3D"
    return (
        2 if decision.confidence == 1 else decision.confidence >= low,
        "DERIVED" not in words(stack.header, "ImageType"),
        stack.extent_mm >= WHOLE_HEAD_MM,
        stack.uniform,
        volume or stack.spacing_mm <= 2,
        volume or stack.plane == "axial",
        -round(stack.spacing_mm, 1),
        sort_time(stack),
    )


def _why_not(loser: Decision, best: Decision, low: float) -> str:
    pairs = zip(_CRITERIA, _rank(loser, low), _rank(best, low), strict=True)
    better = next((criterion for criterion, one, other in pairs if one != other), "equal in everything: see review")
    return f"series {_shown(best.stack)} is {better}" if better != _CRITERIA[2] else f"{_shown(best.stack)} {better}"


def _shown(stack: Stack) -> str:
    return f"{stack.series_uid} stack {stack.number}"


def _questions(sequence: str, ranked: Sequence[Decision], low: float) -> Iterable[str]:
    best = ranked[0]
    if best.confidence < low:
        yield (
            f"{SEQUENCE_NAMES[sequence]}: series {_shown(best.stack)} has a confidence of {best.confidence:.2f} "
            f"({best.reasons[-1]}); confirm it or name the right series in an override file"
        )
    if len(ranked) > 1 and _rank(ranked[1], low) == _rank(best, low):
        yield (
            f"{SEQUENCE_NAMES[sequence]}: series {_shown(best.stack)} and {_shown(ranked[1].stack)} are equal in "
            "everything; name one in an override file"
        )


def _doubts(decisions: Sequence[Decision], found: set[str], low: float) -> Iterable[str]:
    """Stacks left out that may be a sequence of which the study has no other."""
    missing = [sequence for sequence in SEQUENCES if sequence not in found]
    for decision in decisions:
        may_be = [sequence for sequence in missing if sequence in _perhaps(decision, low)]
        if may_be and not decision.used:
            yield (
                f"{' or '.join(_name(sequence) for sequence in may_be)} was not found; series "
                f"{_shown(decision.stack)} may be it, but was left out ({decision.why_not}); "
                "name it in an override file, or set it to 'ignore'"
            )


def _perhaps(decision: Decision, low: float) -> Sequence[str]:
    """What a stack may be besides what it was decided to be."""
    if decision.doubt == "any":
        return SEQUENCES
    if decision.sequence in ("t1", "t1ce") and decision.confidence < low:
        return ("t1", "t1ce")
    return (decision.doubt or "").split(" or ")
