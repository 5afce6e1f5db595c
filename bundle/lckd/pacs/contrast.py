"""Whether a T1 was taken after contrast agent: by tags, names and order of acquisition, and by pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lckd.pacs.rules import Rules, normalized, pattern
from lckd.pacs.study import Stack, acquired, number, text, words

# --- by headers -------------------------------------------------------------------------------------------------------

Contrast = Literal["yes", "no", "unknown"]

BY_TAG_AND_NAME: Final = 0.99
BY_TAG: Final = 0.95
BY_NAME: Final = 0.8
BY_ORDER_AND_TAG: Final = 0.8
"""Confidence where others of the study have a bolus tag, this one has none and is earlier."""

LIKELY: Final = 0.7
"""Confidence from the order of acquisition beside a series that is known to have contrast."""

UNTOLD: Final = 0.5
"""Confidence where nothing in the study says anything; below, evidence is weak or contradicts itself."""

WEAK: Final = 0.4

_BOLUS_TEXTS: Final = (
    "ContrastBolusAgent",
    "ContrastBolusIngredient",
    "ContrastBolusRoute",
    "ContrastBolusAgentSequence",
)
_SAME_TECHNIQUE: Final = {"RepetitionTime": 0.1, "EchoTime": 0.1, "InversionTime": 0.1, "FlipAngle": 0.1}
"""Attributes that two acquisitions of one technique share, and by which fraction they may differ."""


class Ruling(NamedTuple):
    """Whether contrast had been given, how sure that is, and a sentence on why."""

    contrast: Contrast
    confidence: float
    why: str


@dataclass(frozen=True)
class BolusEvidence:
    """What a series itself says about contrast.

    Args:
        stack: the volume.
        tag: keyword of the bolus attribute that is set; None without one, or where the study's tags say nothing.
        named: of ``named_contrast``.
        unknown: words of its description that may speak of contrast, for all that is known.
        is_t1: whether it is T1-weighted.
        is_perfusion: whether contrast is given during it.
    """

    stack: Stack
    tag: str | None
    named: tuple[str, str] | None
    unknown: tuple[str, ...]
    is_t1: bool
    is_perfusion: bool

    @property
    def denied(self) -> bool:
        """Whether its name says that contrast had not been given."""
        return self.named is not None and self.named[0] == "no"

    @property
    def given(self) -> bool:
        """Whether it says that contrast had been given, and nothing else."""
        return (self.tag is not None or self.named is not None) and not self.denied

    @cached_property
    def _place(self) -> tuple[datetime | None, float | None]:
        return acquired(self.stack.header), number(self.stack.header, "SeriesNumber")

    def before(self, other: "BolusEvidence") -> bool:
        """Whether it is known to be the earlier one: by time, unless the series' numbers contradict."""
        (time, series), (other_time, other_series) = self._place, other._place
        if time is None or other_time is None or time >= other_time:
            return False
        return series is None or other_series is None or series <= other_series


@dataclass(frozen=True)
class BolusTimeline:
    """The series of a study, to judge its T1 by what was acquired before and after them.

    Args:
        series: of every stack.
        stamped: bolus tags are on series that cannot have had contrast, so they say nothing.
        study_named: of ``named_contrast`` for the study's description.
    """

    series: Sequence[BolusEvidence]
    stamped: bool = False
    study_named: tuple[str, str] | None = None

    @property
    def tagged(self) -> bool:
        """Whether any series has a bolus tag that means something."""
        return any(each.tag for each in self.series)

    def ruling(self, one: BolusEvidence) -> Ruling:
        """Whether contrast had been given before a T1."""
        others = [other for other in self.series if other.is_t1 and other is not one]
        if one.tag:
            return self._by_tag(one, one.tag, others)
        found = self._by_name(one, *one.named, others) if one.named else self._by_order(one, others)
        stamp = "the bolus tag is on every series, so it says nothing; " if self.stamped else ""
        found = found._replace(why=stamp + found.why)
        if one.unknown and (one.named or not self.tagged):
            why = f"{found.why}, unless '{one.unknown[0]}' in its description says otherwise"
            return found._replace(confidence=min(found.confidence, UNTOLD), why=why)
        return found

    def _by_tag(self, one: BolusEvidence, tag: str, others: Sequence[BolusEvidence]) -> Ruling:
        later = [other for other in others if one.before(other)]
        if one.named and one.denied:
            return Ruling("unknown", WEAK, f"{tag} says that contrast was given, the description '{one.named[1]}'")
        if one.named:
            said = f"{tag} is set, and the description says '{one.named[1]}'"
            return Ruling("yes", BY_TAG_AND_NAME, f"with contrast: {said}")
        if not all(other.given for other in later):
            return Ruling("yes", WEAK, f"{tag} is set, but a later T1 has none")
        before = any(other.given and other.before(one) for other in self.series)
        if later and all(other.tag for other in others) and not before:
            return Ruling("unknown", WEAK, f"{tag} is set, but on every T1, and this is the first")
        return Ruling("yes", BY_TAG, f"with contrast: {tag} is set")

    def _by_name(self, one: BolusEvidence, answer: str, phrase: str, others: Sequence[BolusEvidence]) -> Ruling:
        said = f"description says '{phrase}'"
        if answer == "no":
            if any(other.given and other.before(one) for other in others):
                return Ruling("no", WEAK, f"{said}, but a T1 with contrast was acquired before")
            return Ruling("no", BY_NAME, f"without contrast: {said}")
        if any(other.denied and one.before(other) for other in others):
            return Ruling("yes", WEAK, f"{said}, but a later T1 is said to be without contrast")
        if self.tagged:
            return Ruling("yes", LIKELY, f"with contrast: {said}, though no bolus tag is set")
        return Ruling("yes", BY_NAME, f"with contrast: {said}")

    def _by_order(self, one: BolusEvidence, others: Sequence[BolusEvidence]) -> Ruling:
        alike = [other for other in others if not other.named and same_geometry(one.stack, other.stack)]
        perfusion = [other for other in self.series if other.is_perfusion]
        after_perfusion = any(other.before(one) for other in perfusion)
        if any(other.given and other.before(one) for other in self.series if not other.is_perfusion):
            if self.tagged:
                return Ruling("unknown", WEAK, "acquired after contrast was given, but its own bolus tag is missing")
            return Ruling("yes", LIKELY, "acquired after a series with contrast")
        if any(other.given and one.before(other) for other in others) and not after_perfusion:
            if self.tagged:
                return Ruling("no", BY_ORDER_AND_TAG, "acquired before the first T1 with contrast")
            first = not any(other.before(one) for other in others)
            pair = any(other.given and same_geometry(one.stack, other.stack) for other in others)
            if first or (pair and not any(other.before(one) for other in alike)):
                return Ruling("no", LIKELY, "acquired before the first T1 with contrast")
            return Ruling("unknown", WEAK, "acquired before the first T1 said to have contrast, but not the first T1")
        if after_perfusion:
            return Ruling("yes", WEAK, "acquired after perfusion, which usually means contrast")
        return self._by_likeness(one, others, alike) or self._by_study(one, perfusion)

    def _by_likeness(
        self, one: BolusEvidence, others: Sequence[BolusEvidence], alike: Sequence[BolusEvidence]
    ) -> Ruling | None:
        if any(other.before(one) for other in alike):
            return Ruling("yes", WEAK, "the later of T1 of equal geometry")
        if any(one.before(other) for other in alike):
            return Ruling("no", WEAK, "the first of T1 of equal geometry")
        if any(other.denied and other.before(one) and same_geometry(one.stack, other.stack) for other in others):
            return Ruling("yes", WEAK, "acquired after a T1 of equal geometry that is said to be without contrast")
        return Ruling("unknown", WEAK, "T1 of equal geometry exist, in an order that is not known") if alike else None

    def _by_study(self, one: BolusEvidence, perfusion: Sequence[BolusEvidence]) -> Ruling:
        if self.study_named and self.study_named[0] == "no" and not self.tagged and not self.stamped:
            return Ruling("no", LIKELY, f"without contrast: the study's description says '{self.study_named[1]}'")
        if any(other.tag and one.before(other) for other in perfusion):
            return Ruling("no", LIKELY, "acquired before the contrast of perfusion")
        return Ruling("unknown", UNTOLD, "nothing says whether contrast was given")


def sort_time(stack: Stack) -> float:
    """Seconds since an epoch, or minus infinity where the header has no time."""
    moment = acquired(stack.header)
    return (moment - datetime(1970, 1, 1)).total_seconds() if moment else float("-inf")


def same_geometry(one: Stack, other: Stack) -> bool:
    """Whether two stacks have one plane, slice distance and matrix."""
    same = one.plane == other.plane and abs(one.spacing_mm - other.spacing_mm) < 0.1
    return same and number(one.header, "Rows") == number(other.header, "Rows")


def same_technique(one: Stack, other: Stack) -> bool:
    """Whether two stacks differ by no more than what happened between them."""
    if words(one.header, "ScanningSequence") != words(other.header, "ScanningSequence"):
        return False
    for keyword, fraction in _SAME_TECHNIQUE.items():
        first, second = (number(stack.header, keyword) or 0.0 for stack in (one, other))
        if abs(first - second) > fraction * max(first, second):
            return False
    return True


def given_contrast(stack: Stack, rules: Rules) -> str | None:
    """The bolus attribute that says that something was given; None where none does, or one says that nothing was."""
    header = stack.header
    none = {str(value) for value in rules.contrast["none"]}
    for keyword in _BOLUS_TEXTS:
        written = text(header, keyword)
        if not written:
            continue
        said = normalized(written)
        denied = said in none or (named_contrast(said, rules) or ("yes",))[0] == "no"
        return None if denied else keyword
    for keyword in ("ContrastBolusVolume", "ContrastBolusTotalDose"):
        if (number(header, keyword) or 0) > 0:
            return keyword
    start = text(header, "ContrastBolusStartTime")
    return "ContrastBolusStartTime" if start.strip("0.: ") else None


def named_contrast(description: str, rules: Rules) -> tuple[str, str] | None:
    """``yes`` or ``no`` and the phrase of a normalized text that says so; None where it says neither or both."""
    description = pattern(tuple(rules.contrast["neither"])).sub(" ", description)
    if pattern(tuple(rules.contrast["both"])).search(description):
        return None
    without = pattern(tuple(rules.contrast["without"]))
    negative = without.search(description)
    positive = pattern(tuple(rules.contrast["with"])).search(without.sub(" ", description))
    if negative and not positive:
        return "no", negative[0]
    if positive and not negative:
        return "yes", positive[0]
    return None


# --- by pixels --------------------------------------------------------------------------------------------------------

SMOOTHED_MM: Final = 3.0
"""Deviation of the filter that makes two acquisitions equally sharp."""

RIM_MM: Final = 4.0
"""Depth below the brain's surface that is not compared: there, images differ by what little they are apart."""

TAIL_PERCENT: Final = 0.5
LEAST_VOXELS: Final = 500

ENHANCED: Final = 1.0
NOT_ENHANCED: Final = 0.6
"""Enhancement from which contrast is seen, and up to which it is not.

Seven of eight T1ce of gliomas have 1.9 to 4.4 beside their T1, the eighth, which does not enhance, 0.0; a T1 beside
itself after noise, blur, a shift, coil bias or another contrast curve has -0.6 to 0.3.
"""

Verdict = Literal["confirmed", "contradicted", "unclear"]


def enhancement(t1ce: NDArray, t1: NDArray, brain: NDArray[np.bool_], affine: NDArray) -> float | None:
    """How much more of ``t1ce`` is far brighter than in ``t1`` than is far darker, in interquartile ranges.

    Args:
        t1ce: ``(X, Y, Z)``; on the same grid as ``t1`` and ``brain``.
        t1: of the same head.
        brain: mask.
        affine: ``(4, 4)`` of the grid.

    Returns:
        About 0 where both show the same, above ``ENHANCED`` with contrast, negative if the two were exchanged; None
        where too little can be compared.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    known = brain & (t1ce != 0) & (t1 != 0)
    inner = ndimage.distance_transform_edt(known, sampling=spacing) > RIM_MM
    if inner.sum() < LEAST_VOXELS:
        return None
    first, second = (_standardized(image, known, inner, spacing) for image in (t1ce, t1))
    difference = first - second
    low, middle, high = np.percentile(difference, (TAIL_PERCENT, 50, 100 - TAIL_PERCENT))
    return float((high - middle) - (middle - low))


def verdict(score: float | None) -> Verdict:
    """What an ``enhancement`` says about a T1ce."""
    if score is None or NOT_ENHANCED < score < ENHANCED:
        return "unclear"
    return "confirmed" if score >= ENHANCED else "contradicted"


def _standardized(
    image: NDArray, known: NDArray[np.bool_], inner: NDArray[np.bool_], spacing: NDArray
) -> NDArray[np.float64]:
    """Values in ``inner``, smoothed within ``known``, with median 0 and interquartile range 1."""
    sigma = SMOOTHED_MM / spacing
    weight = ndimage.gaussian_filter(known.astype(np.float32), sigma)
    smooth = ndimage.gaussian_filter(np.where(known, image, 0).astype(np.float32), sigma)
    values = smooth[inner].astype(np.float64) / weight[inner]
    low, middle, high = np.percentile(values, (25, 50, 75))
    return (values - middle) / max(high - low, 1e-9)
