"""The order of sequences, regions and label values, and the names files use for them."""

import itertools
import re
from typing import Final

from lckd.errors import StudyError

SEQUENCES: Final = ("flair", "t1", "t1ce", "t2")
SEQUENCE_NAMES: Final = {"flair": "FLAIR", "t1": "T1", "t1ce": "T1ce", "t2": "T2"}
REGIONS: Final = ("et", "wt", "tc")
REGION_NAMES: Final = {"et": "enhancing tumour", "wt": "whole tumour", "tc": "tumour core"}

LABELS: Final = {"necrotic core": 1, "oedema": 2, "enhancing tumour": 3}
"""Label values of every label map that leaves this package."""

BRATS_VALUES: Final = {1: 1, 2: 2, 3: 4}
"""Our label value -> the value BraTS 2018-2021 files hold."""

REGION_LABELS: Final = {"et": (3,), "wt": (1, 2, 3), "tc": (1, 3)}
"""The label values that make up each region; ET lies in TC lies in WT."""

REFERENCE_ORDER: Final = ("t1ce", "flair", "t2", "t1")
"""The first available of these is the reference sequence, whose grid the outputs use."""

ALIASES: Final = {
    "flair": ("flair", "fla", "t2f", "t2flair"),
    "t1": ("t1", "t1n", "t1w"),
    "t1ce": ("t1ce", "t1c", "t1gd", "ct1", "t1wce", "t1post"),
    "t2": ("t2", "t2w"),
}
"""Names that files and channels use (BraTS 2018-2023, MSD, UCSF and clinical habits)."""

LABEL_ALIASES: Final = ("seg", "segmentation", "label")

FOREIGN_WORDS: Final = ("star", "map", "mask", "swi", "dwi", "adc", "dsc", "dce", "perfusion")
"""Words that make a file something else than the sequence it also names: ``t2_star``, ``t1_map``, ``t1_mask``."""

SUBSETS: Final = tuple(
    subset for size in range(1, len(SEQUENCES) + 1) for subset in itertools.combinations(SEQUENCES, size)
)
"""The 15 non-empty subsets of the sequences, smallest first."""

_BY_ALIAS: Final = {alias: sequence for sequence, aliases in ALIASES.items() for alias in aliases}


def sequence_of(name: str) -> str | None:
    """Sequence that a channel's or option's ``name`` stands for, or None if it stands for none."""
    return _BY_ALIAS.get(re.sub(r"[^a-z0-9]", "", name.lower()))


def parse_subset(names: str | tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """The subset that ``names`` means, in the order of ``SEQUENCES``.

    Args:
        names: sequence names or aliases; a string separates them by ``+`` or ``,``.

    Raises:
        StudyError: a name is unknown or none is given.
    """
    parts = [part for part in re.split(r"[+,\s]+", names) if part] if isinstance(names, str) else list(names)
    found = {part: sequence_of(part) for part in parts}
    unknown = [part for part, sequence in found.items() if sequence is None]
    if unknown or not parts:
        raise StudyError(
            f"unknown sequence {', '.join(map(repr, unknown)) or '(none given)'}; "
            f"accepted are {', '.join(SEQUENCES)}, joined by '+'"
        )
    return tuple(sequence for sequence in SEQUENCES if sequence in found.values())


def subset_name(subset: tuple[str, ...]) -> str:
    """``("flair", "t2")`` as ``flair+t2``."""
    return "+".join(subset)


def reference_sequence(subset: tuple[str, ...]) -> str:
    """The sequence of ``subset`` whose grid the outputs use."""
    return next(sequence for sequence in REFERENCE_ORDER if sequence in subset)
