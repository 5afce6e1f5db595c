"""Files to a data list: BraTS, MSD and plain folders, explicit files, 4-D files and JSON lists.

An item is a dictionary, by name, never by position: ``{"study": "id", "flair": "/a.nii.gz", "t1ce": ...,
"label": "/seg.nii.gz"}``, or of a 4-D file ``{"study": "id", "image": "/a.nii.gz", "channels": [...]}``.
``notes`` are sentences about how its files were chosen. A study that cannot be used is
``{"study": "id", "error": "why"}``, so that it does not stop the others.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lckd.errors import StudyError, reason
from lckd.images import EXTENSIONS, extension_of
from lckd.sequences import ALIASES, FOREIGN_WORDS, LABEL_ALIASES, SEQUENCES, sequence_of

Item = dict[str, Any]

OWN_OUTPUTS = re.compile(r"^(segmentation|probabilities_(et|wt|tc))\.nii\.gz$")
"""What this package writes into a study's folder of results, which is no input."""

SECTIONS = {"train": ("train", "training"), "val": ("val", "validation"), "test": ("test", "testing")}
"""What the sections of a data list are called, MONAI's and MSD's names among them."""

DEEPEST = 4
"""Levels of folders that are searched, so that a link to a folder above ends."""


def find_studies(path: str | Path, channels: Sequence[str] | None = None, section: str | None = None) -> list[Item]:
    """The studies under ``path``.

    Args:
        path: one study folder, a folder of study folders, a flat folder of files that share prefixes, a
            data list ``.json``, or a 4-D image.
        channels: names of a 4-D image's channels, in order; a ``.json`` beside it with the key
            ``channels`` says the same.
        section: of a data list with sections, e.g. ``test``; None takes all.

    Raises:
        StudyError: the path does not exist, or there is no study in it.
    """
    place = _existing(path)
    if place.is_dir():
        items = _in_folder(place)
    elif place.suffix == ".json":
        items = _in_json(place, section)
    else:
        items = [_four_dimensional(place, channels)]
    if not items:
        raise StudyError(f"{place} holds no sequence; accepted are files named by {_accepted()}")
    refuse_equal_ids(items)
    return items


def find_split(dataset_dir: str | Path, split: str) -> list[Item]:
    """The studies of a split: the folder ``split`` of ``dataset_dir``, or that section of a data list.

    Raises:
        StudyError: there are none, or one cannot be used.
    """
    place = Path(dataset_dir)
    items = find_studies(place, section=split) if place.suffix == ".json" else find_studies(place / split)
    for item in items:
        if "error" in item:
            raise StudyError(item["error"])
    return items


def study_from_files(files: Mapping[str, str | Path], study: str | None = None) -> Item:
    """Item of explicitly named files.

    Args:
        files: path per sequence, by name or alias.
        study: id; None takes the folder's name.

    Raises:
        StudyError: a name is unknown, two mean one sequence, a file does not exist, or none is given.
    """
    unknown = [name for name in files if sequence_of(name) is None]
    if unknown or not files:
        raise StudyError(
            f"unknown sequence {', '.join(unknown) or '(none given)'}; accepted are {', '.join(SEQUENCES)}"
        )
    named = [(sequence_of(name), _existing(path)) for name, path in files.items()]
    for _, file in named:
        if not file.is_file():
            raise StudyError(f"{file} is no file; give an image")
    return {"study": study_id(study or named[0][1].parent.name or "study"), **_by_sequence(named)}


def study_id(name: str) -> str:
    """``name`` as a safe folder name: letters, digits, ``.``, ``_`` and ``-``, not starting with a dot."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".") or "study"


def kind_of_file(file: Path) -> str | None:
    """Sequence, or ``label``, that a file's name says it holds; None if it says neither.

    The name is cut at everything that is no letter or digit. A word that names a sequence and the next
    may be one alias together (``t1_ce``, ``t2-flair``), which then counts instead of the word.

    Raises:
        StudyError: the name holds two sequences, as in ``flair_to_t1`` or ``t1_flair``, which is not guessed.
    """
    return _one_kind(file, _kinds_and_prefix(file)[0])


def _one_kind(file: Path, kinds: tuple[str, ...]) -> str | None:
    if len(kinds) > 1:
        raise StudyError(f"{file} names {' and '.join(kinds)}; rename it, or say which it is as in --{kinds[0]} FILE")
    return kinds[0] if kinds else None


def _kinds_and_prefix(file: Path) -> tuple[tuple[str, ...], str]:
    """All that a file's name says it holds, and what precedes that: the same for all files of a study."""
    ending = extension_of(file)
    if ending is None or file.name.startswith(".") or OWN_OUTPUTS.match(file.name):
        return (), ""
    matches = list(re.finditer(r"[a-z0-9]+", file.name[: -len(ending)].lower()))
    words = [match.group() for match in matches]
    if words and words[-1] in LABEL_ALIASES:
        return ("label",), _before(file, matches[-1])
    if set(words) & set(FOREIGN_WORDS):
        return (), ""
    found: dict[str, int] = {}
    position = 0
    while position < len(words):
        # Only after a name may a word belong to it: the c of c_t1.nii.gz is a patient, not contrast.
        single = sequence_of(words[position])
        pair = sequence_of("".join(words[position : position + 2])) if single and position + 1 < len(words) else None
        if sequence := pair or single:
            found[sequence] = position
        position += 2 if pair else 1
    return tuple(found), _before(file, matches[min(found.values())]) if found else ""


def _before(file: Path, match: re.Match[str]) -> str:
    return re.sub(r"[^A-Za-z0-9]+$", "", file.name[: match.start()])


def _existing(path: str | Path) -> Path:
    """``path`` made absolute."""
    try:
        place = Path(path).expanduser().absolute()
        if place.exists():
            return place
    except (OSError, RuntimeError) as error:  # no permission, a name too long, ~ of nobody
        raise StudyError(f"{path} cannot be looked up ({reason(error)}); check the path and its permissions") from error
    raise StudyError(f"{place} does not exist; give a study folder, a folder of studies, a data list or an image")


def _in_folder(folder: Path, depth: int = 0) -> list[Item]:
    """The studies of a folder's own images; where they are no study, those of its folders."""
    try:
        entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
        files = [entry for entry in entries if extension_of(entry) and entry.is_file()]
        folders = [entry for entry in entries if entry.is_dir()]
    except OSError as error:
        return [_failed(folder, f"{folder} cannot be read ({error.strerror}); check its permissions")]
    files = [file for file in files if not OWN_OUTPUTS.match(file.name)]
    own = _in_flat_folder(folder, files)
    if depth == DEEPEST or any("error" not in item for item in own):
        folders = []
    here = folder.resolve()
    below = [
        item
        for entry in folders
        if not here.is_relative_to(entry.resolve())  # a link to a folder above
        for item in _in_folder(entry, depth + 1)
    ]
    if files and not own and not below:
        names = ", ".join(file.name for file in files[:6])
        return [_failed(folder, f"{folder} holds no sequence, only {names}; accepted are files named by {_accepted()}")]
    return own + below


def _in_flat_folder(folder: Path, files: list[Path]) -> list[Item]:
    """One study, or several whose files differ in what precedes the sequence's name; none if no name holds one."""
    groups: dict[str, list[tuple[tuple[str, ...], Path]]] = {}
    notes = []
    for file in files:
        kinds, prefix = _kinds_and_prefix(file)
        if kinds:
            groups.setdefault(prefix, []).append((kinds, file))
        else:
            notes.append(f"{file.name} was ignored: its name holds no sequence")
    named = [kind for group in groups.values() for kinds, _ in group for kind in kinds]
    if set(named) <= {"label"}:
        return []
    if (
        len(groups) > 1
        and len(set(named)) < len(named)
        and all(any(kinds != ("label",) for kinds, _ in group) for group in groups.values())
    ):
        items = [_study(study_id(prefix or folder.name), group) for prefix, group in sorted(groups.items())]
    else:
        items = [_study(study_id(folder.name), [pair for group in groups.values() for pair in group])]
        beginnings = [prefix for prefix, group in groups.items() if any(kinds != ("label",) for kinds, _ in group)]
        if len(beginnings) > 1:
            notes.append(
                f"files whose names begin differently ({', '.join(map(repr, beginnings))}) were taken for one study"
            )
    return [{**item, "notes": notes} if notes and len(items) == 1 else item for item in items]


def _study(study: str, group: Iterable[tuple[tuple[str, ...], Path]]) -> Item:
    try:
        return {"study": study, **_by_sequence((_one_kind(file, kinds), file) for kinds, file in group)}
    except StudyError as error:
        return {"study": study, "error": str(error)}


def _failed(folder: Path, sentence: str) -> Item:
    return {"study": study_id(folder.name), "error": sentence}


def _by_sequence(named: Iterable[tuple[str | None, Path]]) -> dict[str, str]:
    files: dict[str, str] = {}
    for kind, file in named:
        if kind is None:
            continue
        if kind in files:
            raise StudyError(f"two files for {kind}: {files[kind]} and {file}; keep one")
        files[kind] = str(file)
    return {kind: files[kind] for kind in (*SEQUENCES, "label") if kind in files}


def _four_dimensional(file: Path, channels: Sequence[str] | None) -> Item:
    ending = extension_of(file)
    if ending is None:
        raise StudyError(f"{file} has an unknown extension; accepted are {', '.join(EXTENSIONS)} and .json")
    sidecar = file.with_name(file.name[: -len(ending)] + ".json")
    if channels is None and sidecar.is_file():
        content = _load_json(sidecar)
        channels = content.get("channels") if isinstance(content, dict) else None
    if not channels:
        kind = kind_of_file(file)
        if kind in SEQUENCES:
            return study_from_files({kind: file})
        raise StudyError(
            f"{file} does not say which sequences it holds; name its channels in order, as in "
            f"--channels flair,t1,t1ce,t2, or in {sidecar.name}"
        )
    return {"study": study_id(file.name[: -len(ending)]), "image": str(file), "channels": _channels(file, channels)}


def _channels(file: Path, channels: Any) -> list[str]:
    if isinstance(channels, str):
        channels = channels.split(",")
    if not isinstance(channels, Sequence):
        raise StudyError(f"{file} has the channels {channels!r}; accepted is a list of names, in order")
    names = [sequence_of(str(name)) for name in channels]
    known = [name for name in names if name is not None]
    if len(known) < len(names) or len(set(known)) < len(known):
        raise StudyError(
            f"{file} has the channels {', '.join(map(str, channels))}; accepted are {', '.join(SEQUENCES)}, each once"
        )
    return known


def _in_json(file: Path, section: str | None) -> list[Item]:
    content = _load_json(file)
    if isinstance(content, list):
        content = {section or "test": content}  # without sections, all are what was asked for
    if not isinstance(content, dict):
        raise StudyError(f'{file} holds no list; accepted is [{{"flair": "a.nii.gz", ...}}, ...]')
    named = content.get("channel_names") or content.get("modality")
    channels = None
    if isinstance(named, dict) and all(str(key).isdecimal() for key in named):
        channels = [named[key] for key in sorted(named, key=int)]
    parts = {name: part for name, part in content.items() if _is_section(name, part)}
    names = parts.keys() if section is None else SECTIONS.get(section, (section,))
    if not any(name in parts for name in names):
        raise StudyError(f"{file} has no {section or 'list of studies'}; it has {', '.join(content) or 'nothing'}")
    entries = [entry for name, part in parts.items() if name in names for entry in part]
    return [_entry(file, number, entry, channels) for number, entry in enumerate(entries)]


def _is_section(name: str, part: Any) -> bool:
    """Whether ``part`` of a data list is studies, not a list of words such as authors; MSD's tests are paths."""
    known = any(name in names for names in SECTIONS.values())
    return isinstance(part, list) and (known or not all(isinstance(entry, str) for entry in part))


def _entry(file: Path, number: int, entry: Any, channels: Sequence[str] | None) -> Item:
    study = f"{file.stem}_{number}"
    try:
        if isinstance(entry, str):
            entry = {"image": entry}
        if not isinstance(entry, dict):
            raise StudyError(f'entry {number} is no object; accepted is {{"flair": "a.nii.gz", ...}}')
        paths = {
            key: str((file.parent / value).absolute())
            for key, value in entry.items()
            if key not in ("study", "channels") and isinstance(value, str)
        }
        study = study_id(str(entry.get("study") or Path(next(iter(paths.values()), study)).name.split(".")[0]))
        label = {"label": paths.pop("label")} if "label" in paths else {}
        if "image" in paths:
            return {
                **_four_dimensional(Path(paths["image"]), entry.get("channels") or channels),
                "study": study,
                **label,
            }
        return {**study_from_files(paths, study), **label}
    except StudyError as error:
        return {"study": study, "error": f"{file}: {error}"}


def _load_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StudyError(f"{file} is no readable JSON ({reason(error)}); repair it") from error


def refuse_equal_ids(items: list[Item]) -> None:
    """Give every study but the first of one name an ``error``."""
    seen: set[str] = set()
    for item in items:
        if item["study"] in seen:
            item["error"] = (
                f"two studies are called {item['study']}; rename one, or their results would overwrite each other"
            )
        seen.add(item["study"])


def _accepted() -> str:
    return "; ".join(f"{sequence}: {' '.join(aliases)}" for sequence, aliases in ALIASES.items())
