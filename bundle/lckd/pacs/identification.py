"""Which stack of a study is which sequence, how sure that is, and why."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from lckd.pacs.contrast import (
    WEAK,
    BolusEvidence,
    BolusTimeline,
    Contrast,
    Ruling,
    given_contrast,
    named_contrast,
    same_technique,
    sort_time,
)
from lckd.pacs.overrides import IGNORE, Overrides, check_against, override_of
from lckd.pacs.rules import (
    OTHER,
    SLICES_OF_A_VOLUME,
    SOURCES,
    Facts,
    Rules,
    evidence,
    facts_of,
    pattern,
    read_rules,
    source_of,
)
from lckd.pacs.study import Stack, Study, text, words
from lckd.sequences import SEQUENCE_NAMES, SEQUENCES

SOURCE_CONFIDENCE: Final = {"tag": 0.95, "technique": 0.9, "text": 0.8, "physics": 0.6}
"""Confidence that a stack is to be left out."""

BY_PIXELS: Final = 0.9
WHOLE_HEAD_MM: Final = 100.0


class Verdict(NamedTuple):
    """What one source says of a stack: its sequence or ``other``, how sure that is, and by what."""

    sequence: str
    confidence: float
    evidence: str


@dataclass(frozen=True)
class Decision:
    """What a stack is.

    Args:
        stack: the volume.
        sequence: ``flair``, ``t1``, ``t1ce`` or ``t2``; None where it is none of them, or excluded.
        contrast: whether contrast had been given, where it matters; else ``unknown``.
        confidence: 0 to 1.
        weighting_confidence: the same, were T1 and T1ce one; None where it is ``confidence``.
        reasons: sentences.
        used: whether it was chosen for its sequence.
        why_not: why it was not used.
        perhaps: sequences it may be all the same, to be asked about if the study has no other stack of them.
    """

    stack: Stack
    sequence: str | None
    contrast: Contrast = "unknown"
    confidence: float = 0.0
    reasons: tuple[str, ...] = ()
    used: bool = False
    why_not: str | None = None
    perhaps: tuple[str, ...] = ()
    weighting_confidence: float | None = None


@dataclass(frozen=True)
class Question:
    """Something that a person should answer before a study is used.

    Args:
        sentence: the question.
        sequences: those whose choice depends on the answer.
        of_contrast: whether nothing but T1 or T1ce is asked.
    """

    sentence: str
    sequences: frozenset[str]
    of_contrast: bool = False


@dataclass(frozen=True)
class Identification:
    """The decisions of a study.

    Args:
        study: the study.
        decisions: per stack, in the study's order.
        questions: what a person should answer; empty where all is clear.
        low_confidence: of the rules.
    """

    study: Study
    decisions: tuple[Decision, ...]
    questions: tuple[Question, ...] = ()
    low_confidence: float = 0.65

    @property
    def chosen(self) -> dict[str, Stack]:
        """The stack of each sequence found, in the order of ``SEQUENCES``."""
        return {sequence: decision.stack for sequence, decision in self.used.items()}

    @property
    def used(self) -> dict[str, Decision]:
        """The decision that chose each sequence found, in the order of ``SEQUENCES``."""
        used = {decision.sequence: decision for decision in self.decisions if decision.used}
        return {sequence: used[sequence] for sequence in SEQUENCES if sequence in used}

    @property
    def review(self) -> tuple[str, ...]:
        """The questions' sentences."""
        return tuple(question.sentence for question in self.questions)

    @property
    def pixels_may_answer(self) -> bool:
        """Whether all that is asked is which of two T1 of one technique is T1ce."""
        if not {"t1", "t1ce"} <= self.used.keys() or not all(question.of_contrast for question in self.questions):
            return False
        return bool(self.questions) and same_technique(self.chosen["t1"], self.chosen["t1ce"])

    def limited_to(self, sequences: Iterable[str]) -> "Identification":
        """Without the questions that do not matter if only ``sequences`` are used."""
        wanted = set(sequences)
        return replace(self, questions=tuple(each for each in self.questions if each.sequences & wanted))

    def confirmed_by_pixels(self) -> "Identification":
        """After the chosen T1ce was seen to be brighter than the T1 in places: questions of contrast are answered."""
        why = "pixels show contrast in the T1ce beside the T1"
        decisions = []
        for decision in self.decisions:
            if decision.used and decision.sequence in ("t1", "t1ce"):
                sure = decision.confidence if decision.weighting_confidence is None else decision.weighting_confidence
                confidence = max(decision.confidence, min(sure, BY_PIXELS))
                contrast: Contrast = "yes" if decision.sequence == "t1ce" else "no"
                decision = replace(decision, contrast=contrast, confidence=confidence, reasons=(*decision.reasons, why))
            decisions.append(decision)
        questions = tuple(question for question in self.questions if not question.of_contrast)
        return replace(self, decisions=tuple(decisions), questions=questions)


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
    facts = facts_of(study.stacks, rules)
    decisions = [_without_contrast(each, rules) for each in facts]
    decisions = _with_contrast(decisions, facts, rules)
    decisions = [
        replace(decision, reasons=(*decision.reasons, *each.readings))
        for decision, each in zip(decisions, facts, strict=True)
    ]
    decisions = [_overridden(decision, overrides) for decision in decisions]
    return _finished(study, decisions, rules.low_confidence)


# --- which sequence ---------------------------------------------------------------------------------------------------


def _without_contrast(facts: Facts, rules: Rules) -> Decision:
    """What a stack is, T1 with and without contrast being one."""
    verdicts = _verdicts(facts, rules)
    for rule in rules.exclude:
        hits = {source_of(each): found for each in rule["any"] if (found := evidence(each, facts)) is not None}
        if hits:
            # A word may mean something else, and some tags are often wrong; two kinds of evidence are trusted.
            doubt = rule.get("doubt", "text" in hits)
            doubtful = doubt == "always" or (doubt and len(hits) == 1)
            perhaps = _named_all_the_same(facts, rules, verdicts) if doubtful else ()
            why = f"{rule['reason']}: {', '.join(hits.values())}"
            return _left_out(facts.stack, why, max(SOURCE_CONFIDENCE[source] for source in hits), perhaps)
    unusual = _unusual_type(facts, rules)
    if unusual and "derived" in facts.image_type[:1]:
        why = f"derived in an unknown way: ImageType has {unusual.upper()}"
        return _left_out(facts.stack, why, SOURCE_CONFIDENCE["text"], _named_all_the_same(facts, rules, verdicts))
    return _combined(facts, rules, verdicts)


def _left_out(stack: Stack, why: str, confidence: float, perhaps: tuple[str, ...]) -> Decision:
    confidence = WEAK if perhaps else confidence
    return Decision(stack, None, "unknown", confidence, (why,), False, why, perhaps)


def _verdicts(facts: Facts, rules: Rules) -> dict[str, Verdict]:
    """What each source says."""
    result = {}
    for source in SOURCES:
        for condition in rules.sequences[source]:
            found = evidence(condition, facts)
            if found is not None:
                result[source] = Verdict(condition["sequence"], float(condition["confidence"]), found)
                break
    return result


def _named_all_the_same(facts: Facts, rules: Rules, verdicts: Mapping[str, Verdict]) -> tuple[str, ...]:
    """The sequence that at least two sources name, if none names another."""
    named = {verdict.sequence for verdict in verdicts.values()}
    if len(verdicts) < 2 or len(named) > 1 or OTHER in named:
        return ()
    if named != {"t1"}:
        return tuple(named)
    told = named_contrast(facts.text, rules)
    if given_contrast(facts.stack, rules) or (told and told[0] == "yes"):
        return ("t1ce",)
    return ("t1",) if told else ("t1", "t1ce")


def _unusual_type(facts: Facts, rules: Rules) -> str | None:
    """A value of ImageType that the rules do not know."""
    known = pattern(tuple(map(str, rules.image_types)))
    return next((token for token in facts.image_type if not known.fullmatch(token)), None)


def _combined(facts: Facts, rules: Rules, verdicts: Mapping[str, Verdict]) -> Decision:
    """The decision from what all sources say."""
    if not verdicts:
        why = "nothing in its header says what it is"
        return Decision(facts.stack, None, "unknown", 0.0, (why,), False, why, SEQUENCES)
    reasons = tuple(f"{_name(said.sequence)} by {source}: {said.evidence}" for source, said in verdicts.items())
    strongest = max(verdicts.values(), key=lambda verdict: verdict.confidence)
    named = {verdict.sequence for verdict in verdicts.values()}
    if any(not _agree(strongest.sequence, sequence, rules) for sequence in named):
        # A description is typed by people; how an image was acquired is written by the machine.
        sequence = next(verdicts[source] for source in ("technique", "physics", "text") if source in verdicts).sequence
        perhaps = tuple(sorted(named - {sequence, OTHER}))
        return _decided(facts.stack, sequence, WEAK, (*reasons, "these contradict each other"), perhaps)
    agreeing = {source: said for source, said in verdicts.items() if said.sequence == strongest.sequence}
    confidence = min(0.99, strongest.confidence + rules.agreement * (len(agreeing) - 1))
    weak = _weaknesses(facts, rules, agreeing)
    unknown = _unknown_words(facts, rules, strongest.sequence)
    strange = [f"its description has '{word}', which no rule knows" for word in unknown]
    if strange and not weak:
        confidence -= rules.unknown_word
    if weak or (strange and not _certain_place(facts, rules, agreeing)):
        confidence = min(confidence, rules.unsure)
    return _decided(facts.stack, strongest.sequence, confidence, (*reasons, *weak, *strange))


def _weaknesses(facts: Facts, rules: Rules, agreeing: Mapping[str, Verdict]) -> list[str]:
    """Why a decision is not to be trusted although nothing contradicts it."""
    found = []
    if "text" not in agreeing:
        found.append("its description does not say so")
    elif len(agreeing) == 1:
        found.append("its description alone says so")
    unusual = _unusual_type(facts, rules)
    if unusual:
        found.append(f"ImageType has {unusual.upper()}, which no rule knows")
    for rule in rules.unsure_if:
        hits = [said for condition in rule["any"] if (said := evidence(condition, facts)) is not None]
        found += [f"{rule['reason']}: {hits[0]}"] if hits else []
    return found


def _unknown_words(facts: Facts, rules: Rules, sequence: str) -> list[str]:
    """Words that are in no vocabulary of a name of ``sequence``."""
    return rules.vocabularies[sequence].sub(" ", facts.text).split()


def _certain_place(facts: Facts, rules: Rules, agreeing: Mapping[str, Verdict]) -> bool:
    """Whether it shows the whole head in a way that is typical of its sequence, whatever an unknown word means."""
    typical = "technique" in agreeing or agreeing["physics"].confidence >= SOURCE_CONFIDENCE["physics"]
    return typical and any(evidence(condition, facts) is not None for condition in rules.whole_head)


def _decided(
    stack: Stack, sequence: str, confidence: float, reasons: tuple[str, ...], perhaps: tuple[str, ...] = ()
) -> Decision:
    if sequence == OTHER:
        why = "proton density or another weighting: " + "; ".join(reasons)
        return Decision(stack, None, "unknown", confidence, reasons, False, why, perhaps)
    return Decision(stack, sequence, "unknown", confidence, reasons, perhaps=perhaps)


def _agree(named: str, looks: str, rules: Rules) -> bool:
    return named == looks or [named, looks] in rules.compatible


def _name(sequence: str | None) -> str:
    return SEQUENCE_NAMES.get(sequence or "", "none of the four")


# --- T1 or T1ce -------------------------------------------------------------------------------------------------------


def _with_contrast(decisions: Sequence[Decision], facts: Sequence[Facts], rules: Rules) -> list[Decision]:
    """T1 told into T1 and T1ce, by tags, names and order."""
    tags = [given_contrast(each.stack, rules) for each in facts]
    stamped = _stamped(decisions, tags)
    perfusion = pattern(tuple(rules.contrast["perfusion"]))
    series = [
        BolusEvidence(
            each.stack,
            None if stamped else tag,
            named_contrast(each.text, rules),
            tuple(_unknown_words(each, rules, "t1")),
            decision.sequence == "t1",
            perfusion.search(each.text) is not None,
        )
        for decision, each, tag in zip(decisions, facts, tags, strict=True)
    ]
    timeline = BolusTimeline(series, stamped, named_contrast(facts[0].study_text, rules) if facts else None)
    ruled = [
        _with_ruling(decision, timeline.ruling(each)) if each.is_t1 else decision
        for decision, each in zip(decisions, series, strict=True)
    ]
    return [
        replace(decision, perhaps=(*decision.perhaps, "t1")) if _done_again(place, ruled, series, facts) else decision
        for place, decision in enumerate(ruled)
    ]


def _done_again(
    place: int, decisions: Sequence[Decision], series: Sequence[BolusEvidence], facts: Sequence[Facts]
) -> bool:
    """Whether a T1ce without a tag has its name again after series of another kind, as if it had been too early."""
    own = series[place]
    if decisions[place].sequence != "t1ce" or own.tag is not None:
        return False
    later = [
        (d.sequence, each, f.text) for d, each, f in zip(decisions, series, facts, strict=True) if own.before(each)
    ]
    repeats = [each for sequence, each, name in later if sequence == "t1ce" and name == facts[place].text]
    between = [each for sequence, each, _ in later if sequence not in ("t1", "t1ce")]
    return any(other.before(repeat) for repeat in repeats for other in between)


def _stamped(decisions: Sequence[Decision], tags: Sequence[str | None]) -> bool:
    """Whether bolus tags say nothing: every volume has one, or others than T1 and every T1 or the very first series."""
    pairs = list(zip(decisions, tags, strict=True))
    if all(tag for decision, tag in pairs if decision.stack.size >= SLICES_OF_A_VOLUME):
        return any(tags)
    if all(decision.sequence == "t1" for decision, tag in pairs if tag):
        return False
    _, first = min(pairs, key=lambda pair: sort_time(pair[0].stack))
    return first is not None or all(tag for decision, tag in pairs if decision.sequence == "t1")


def _with_ruling(decision: Decision, ruling: Ruling) -> Decision:
    return replace(
        decision,
        sequence="t1ce" if ruling.contrast == "yes" else "t1",
        contrast=ruling.contrast,
        confidence=min(decision.confidence, ruling.confidence),
        weighting_confidence=decision.confidence,
        reasons=(*decision.reasons, ruling.why),
    )


# --- a person's word --------------------------------------------------------------------------------------------------


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
            perhaps=(),
            why_not="ignored by override",
        )
    contrast: Contrast = "yes" if said == "t1ce" else "no" if said == "t1" else "unknown"
    return Decision(decision.stack, said, contrast, 1.0, (f"{_name(said)} by override",))


# --- one stack per sequence -------------------------------------------------------------------------------------------


def _finished(study: Study, decisions: Sequence[Decision], low: float) -> Identification:
    """Choose one stack per sequence, and ask what has to be asked."""
    candidates: dict[str, list[Decision]] = defaultdict(list)
    for decision in decisions:
        if decision.sequence:
            candidates[decision.sequence].append(decision)
    results = {_key(d.stack): replace(d, used=False) for d in decisions}
    questions: list[Question] = []
    for sequence in SEQUENCES:
        ranked = sorted(candidates[sequence], key=lambda d: _rank(d, low), reverse=True)
        if not ranked:
            continue
        best = ranked[0]
        results[_key(best.stack)] = replace(best, used=True, why_not=None)
        for loser in ranked[1:]:
            results[_key(loser.stack)] = replace(loser, used=False, why_not=_why_not(loser, best, low))
        questions += _questions(sequence, ranked, low)
    finished = tuple(results[_key(decision.stack)] for decision in decisions)
    questions += _doubts(finished, {sequence for sequence in SEQUENCES if candidates[sequence]}, low)
    return Identification(study, finished, tuple(questions), low)


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


def _key(stack: Stack) -> tuple[str, int]:
    return stack.series_uid, stack.number


def _shown(stack: Stack) -> str:
    return f"{stack.series_uid} stack {stack.number}"


def _questions(sequence: str, ranked: Sequence[Decision], low: float) -> Iterable[Question]:
    best = ranked[0]
    if best.confidence < low:
        yield Question(
            f"{SEQUENCE_NAMES[sequence]}: series {_shown(best.stack)} has a confidence of {best.confidence:.2f} "
            f"({', '.join(best.reasons)}); confirm it or name the right series in an override file",
            frozenset((sequence, *_perhaps(best, low))),
            of_contrast=best.weighting_confidence is not None and best.weighting_confidence >= low,
        )
    if len(ranked) > 1 and _rank(ranked[1], low) == _rank(best, low):
        yield Question(
            f"{SEQUENCE_NAMES[sequence]}: series {_shown(best.stack)} and {_shown(ranked[1].stack)} are equal in "
            "everything; name one in an override file",
            frozenset((sequence,)),
        )


def _doubts(decisions: Sequence[Decision], found: set[str], low: float) -> Iterable[Question]:
    """Stacks left out that may be a sequence of which the study has no other."""
    missing = [sequence for sequence in SEQUENCES if sequence not in found]
    for decision in decisions:
        may_be = [sequence for sequence in missing if sequence in _perhaps(decision, low)]
        if may_be and not decision.used:
            yield Question(
                f"{' or '.join(_name(sequence) for sequence in may_be)} was not found; series "
                f"{_shown(decision.stack)} may be it, but was left out ({decision.why_not}); "
                "name it in an override file, or set it to 'ignore'",
                frozenset(may_be),
            )


def _perhaps(decision: Decision, low: float) -> Sequence[str]:
    """What a stack may be besides what it was decided to be."""
    if decision.sequence in ("t1", "t1ce") and decision.confidence < low:
        return ("t1", "t1ce", *decision.perhaps)
    return decision.perhaps
