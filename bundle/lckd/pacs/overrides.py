"""What a person decided about series, read from a file."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from lckd.errors import StudyError, reason
from lckd.pacs.study import Stack, Study
from lckd.sequences import SEQUENCES, sequence_of

IGNORE: Final = "ignore"

Overrides = Mapping[tuple[str, int | None], str]
"""(SeriesInstanceUID, stack, or None for the whole series) -> a sequence or ``ignore``."""

_ACCEPTED: Final = f"accepted are {', '.join(SEQUENCES)} and {IGNORE}"
_HOW: Final = "write one 'SeriesInstanceUID: sequence' or 'SeriesInstanceUID#stack: sequence' per line"


def read_overrides(path: str | Path) -> Overrides:
    """Read an override file.

    Args:
        path: YAML or JSON, ``{"1.2.3": "t1ce", "1.2.4#2": "ignore"}``; or CSV with the columns ``series``,
            ``sequence`` and, where needed, ``stack``.

    Raises:
        StudyError: the file cannot be read, names an unknown sequence, or a series twice.
    """
    file = Path(path)
    try:
        content = file.read_text(encoding="utf-8-sig")
        pairs = list(_csv_pairs(content) if file.suffix.lower() == ".csv" else _pairs(file, content))
    except (OSError, ValueError, KeyError, yaml.YAMLError, csv.Error) as error:
        raise StudyError(f"overrides {file} cannot be read ({reason(error)}); {_HOW}") from error
    result: dict[tuple[str, int | None], str] = {}
    for name, said in pairs:
        key = _key(file, name)
        if key in result:
            raise StudyError(f"overrides {file} name series {name!r} twice; keep one")
        result[key] = _sequence(file, name, said)
    return result


def _pairs(file: Path, content: str) -> Iterable[tuple[str, str]]:
    data: Any = _json(content) if file.suffix.lower() == ".json" else yaml.load(content, _StrictLoader)
    if not isinstance(data, dict):
        raise ValueError(f"it holds a {type(data).__name__}, not a mapping")
    return ((str(name), str(said)) for name, said in data.items())


def _json(content: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            raise ValueError("a series is named twice")
        return dict(pairs)

    return json.loads(content, object_pairs_hook=unique)


class _StrictLoader(yaml.SafeLoader):
    """Keeps keys and values as text, and refuses a key that is there twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        if len(set(names)) < len(names):
            raise ValueError("a series is named twice")
        return {key.value: value.value for key, value in node.value}


def _csv_pairs(content: str) -> Iterable[tuple[str, str]]:
    rows = csv.DictReader(io.StringIO(content))
    if not {"series", "sequence"} <= set(rows.fieldnames or ()):
        raise ValueError(f"its columns are {rows.fieldnames}; 'series' and 'sequence' are needed")
    for row in rows:
        stack = (row.get("stack") or "").strip()
        said = (row["sequence"] or "").strip()
        if said:
            yield (row["series"] or "") + (f"#{stack}" if stack else ""), said


def _key(file: Path, name: str) -> tuple[str, int | None]:
    uid, marked, stack = name.strip().partition("#")
    if not uid or (marked and not stack.isdecimal()):
        raise StudyError(f"overrides {file} name {name!r}, which is no series; {_HOW}")
    return uid, int(stack) if marked else None


def _sequence(file: Path, name: str, said: str) -> str:
    wanted = IGNORE if said.strip().lower() == IGNORE else sequence_of(said)
    if wanted is None:
        raise StudyError(f"overrides {file} call series {name} {said!r}; {_ACCEPTED}")
    return wanted


def check_overrides(overrides: Overrides, series_uids: Iterable[str]) -> None:
    """Refuse overrides of series that an export does not hold.

    Raises:
        StudyError: one is unknown.
    """
    known = set(series_uids)
    unknown = sorted({uid for uid, _ in overrides} - known)
    if unknown:
        raise StudyError(
            f"overrides name series {unknown[0]}, which the export does not hold among its {len(known)} MR series; "
            "take the UID from the table of --dry-run"
        )


def check_against(study: Study, overrides: Overrides) -> None:
    """Refuse overrides that cannot hold for ``study``.

    Raises:
        StudyError: a stack does not exist, a series has several, or two are named for one sequence.
    """
    counts: dict[str, int] = {}
    for stack in study.stacks:
        counts[stack.series_uid] = max(counts.get(stack.series_uid, 0), stack.number)
    named: dict[str, str] = {}
    for (uid, number), said in overrides.items():
        if uid not in counts:
            continue
        if number is not None and not 1 <= number <= counts[uid]:
            raise StudyError(
                f"overrides name stack {number} of series {uid}, which has {counts[uid]}; take one of them"
            )
        if said == IGNORE:
            continue
        if number is None and counts[uid] > 1:
            raise StudyError(
                f"overrides call series {uid} {said}, but it has {counts[uid]} stacks; write '{uid}#1' or another"
            )
        if said in named:
            raise StudyError(f"overrides name series {named[said]} and {uid} as {said} of one study; keep one")
        named[said] = uid


def override_of(stack: Stack, overrides: Overrides) -> str | None:
    """What the overrides say about ``stack``: a sequence, ``ignore`` or None."""
    return overrides.get((stack.series_uid, stack.number), overrides.get((stack.series_uid, None)))
