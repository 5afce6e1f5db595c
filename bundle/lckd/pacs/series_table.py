"""The table of what each series is: for the terminal, as JSON and as CSV."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lckd.files import write_atomically, write_json
from lckd.pacs.identification import Decision, Identification
from lckd.pacs.study import Ignored
from lckd.sequences import SEQUENCE_NAMES

COLUMNS: Final = (
    *("study", "series", "stack", "description", "sequence", "contrast", "confidence", "used", "why", "why_not"),
)
UID_END: Final = 12
"""Of a UID, the last characters are shown: the first are the vendor's."""

SHOWN: Final = {
    "series": UID_END,
    "stack": 5,
    "description": 32,
    "sequence": 8,
    "confidence": 10,
    "used": 4,
    "why": 400,
}
"""Columns of the terminal and their widths."""

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "'")


def rows(identification: Identification) -> list[dict[str, Any]]:
    """A row per stack and per ignored series; text without characters that steer a terminal.

    Returns:
        Rows with the keys of ``COLUMNS``; ``sequence`` is empty where a stack is none of the four.
    """
    uid = identification.study.uid
    found = [_decided(uid, decision) for decision in identification.decisions]
    return [*found, *(_ignored(uid, ignored) for ignored in identification.study.ignored)]


def _decided(study: str, decision: Decision) -> dict[str, Any]:
    return {
        "study": printable(study),
        "series": printable(decision.stack.series_uid),
        "stack": decision.stack.number,
        "description": printable(decision.stack.description),
        "sequence": decision.sequence or "",
        "contrast": decision.contrast,
        "confidence": round(decision.confidence, 2),
        "used": decision.used,
        "why": printable("; ".join((*decision.reasons, *decision.stack.notes))),
        "why_not": printable(decision.why_not or ""),
    }


def _ignored(study: str, ignored: Ignored) -> dict[str, Any]:
    return {
        "study": printable(study),
        "series": printable(ignored.series_uid),
        "stack": "",
        "description": printable(ignored.description),
        "sequence": "",
        "contrast": "unknown",
        "confidence": 1.0,
        "used": False,
        "why": printable(f"{ignored.count} files: {ignored.reason}"),
        "why_not": printable(ignored.reason),
    }


def printable(written: str) -> str:
    """Text on one line, without control characters."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in written).split())


def write_table(path: str | Path, table: Sequence[Mapping[str, Any]], columns: Sequence[str] = COLUMNS) -> None:
    """Write rows as ``.json`` or as ``.csv``, by the name of the file, atomically.

    Args:
        path: ends in ``.json`` or ``.csv``.
        table: rows with the keys ``columns``.
        columns: in this order, of a CSV.

    Raises:
        OSError: no permission, or the disk is full.
    """
    file = Path(path)
    if file.suffix.lower() == ".json":
        write_json(file, list(table))
    else:
        write_atomically(file, lambda temporary: _write_csv(temporary, table, columns))


def _write_csv(file: Path, table: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, columns)
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in table)


def _cell(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def shown(identification: Identification) -> str:
    """The table for a terminal, what was chosen first, and below it what has to be reviewed."""
    table = sorted(rows(identification), key=lambda row: not row["used"])
    lines = [_line({name: name for name in SHOWN}), *(_line(_short(row)) for row in table)]
    uids = {row["series"] for row in table}
    lines = [_with_short_uids(line, uids) for line in lines]
    title = f"study {printable(identification.study.uid)}"
    review = [f"review: {printable(question)}" for question in identification.review]
    return "\n".join([title, *lines, *review])


def _short(row: Mapping[str, Any]) -> dict[str, str]:
    why = row["why"] if row["used"] or not row["sequence"] else f"{row['why_not']}; {row['why']}"
    return {
        "series": row["series"][-UID_END:],
        "stack": str(row["stack"]),
        "description": row["description"],
        "sequence": SEQUENCE_NAMES.get(row["sequence"], "-"),
        "confidence": f"{row['confidence']:.2f}",
        "used": "yes" if row["used"] else "no",
        "why": why,
    }


def _with_short_uids(line: str, uids: Iterable[str]) -> str:
    for uid in sorted(uids, key=len, reverse=True):
        line = line.replace(uid, uid[-UID_END:]) if uid else line
    return line


def _line(cells: Mapping[str, str]) -> str:
    return "  ".join(_fitted(cells[name], width) for name, width in SHOWN.items()).rstrip()


def _fitted(written: str, width: int) -> str:
    return written.ljust(width) if len(written) <= width else written[: width - 1] + "…"
