"""Files to a data list: BraTS, MSD and plain folders, explicit files, 4-D files and JSON lists.

An item is a dictionary, by name, never by position: ``{"study": "id", "flair": "/a.nii.gz", "t1ce": ...,
"label": "/seg.nii.gz"}``, or of a 4-D file ``{"study": "id", "image": "/a.nii.gz", "channels": [...]}``.
``ignored`` lists image files of its folder whose names say nothing. A study that cannot be used is
``{"study": "id", "error": "why"}``, so that it does not stop the others.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lckd.errors import StudyError
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
    place = Path(path).expanduser().absolute()
    if not place.exists():
        raise StudyError(f"{place} does not exist; give a study folder, a folder of studies, a data list or an image")
    if place.is_dir():
        items = _in_folder(place)
    elif place.suffix == ".json":
        items = _in_json(place, section)
    else:
        items = [_four_dimensional(place, channels)]
    if not items:
        raise StudyError(f"{place} holds no sequence; accepted are files named by {_accepted()}")
    _refuse_equal_ids(items)
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
    paths = {name: Path(path).expanduser().absolute() for name, path in files.items()}
    unknown = [name for name in paths if sequence_of(name) is None]
    if unknown or not paths:
        raise StudyError(
            f"unknown sequence {', '.join(unknown) or '(none given)'}; accepted are {', '.join(SEQUENCES)}"
        )
    for file in paths.values():
        if not file.is_file():
            raise StudyError(f"{file} does not exist or is no file; check the path")
    named = [(sequence_of(name), file) for name, file in paths.items()]
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
    return _kind_and_prefix(file)[0]


def _kind_and_prefix(file: Path) -> tuple[str | None, str]:
    """What ``kind_of_file`` says, and what precedes that word: the same for all files of a study."""
    ending = extension_of(file)
    if ending is None or file.name.startswith(".") or OWN_OUTPUTS.match(file.name):
        return None, ""
    matches = list(re.finditer(r"[a-z0-9]+", file.name[: -len(ending)].lower()))
    words = [match.group() for match in matches]
    if words and words[-1] in LABEL_ALIASES:
        return "label", _before(file, matches[-1])
    if set(words) & set(FOREIGN_WORDS):
        return None, ""
    found: dict[str, int] = {}
    position = 0
    while position < len(words):
        # Only after a name may a word belong to it: the c of c_t1.nii.gz is a patient, not contrast.
        single = sequence_of(words[position])
        pair = sequence_of("".join(words[position : position + 2])) if single and position + 1 < len(words) else None
        if sequence := pair or single:
            found[sequence] = position
        position += 2 if pair else 1
    if len(found) > 1:
        raise StudyError(
            f"{file} names {' and '.join(found)}; rename it, or say which it is as in --{next(iter(found))} FILE"
        )
    for sequence, place in found.items():
        return sequence, _before(file, matches[place])
    return None, ""


def _before(file: Path, match: re.Match[str]) -> str:
    return re.sub(r"[^A-Za-z0-9]+$", "", file.name[: match.start()])


def _in_folder(folder: Path, depth: int = 0) -> list[Item]:
    """The studies of a folder's own images; where they are no study, those of its folders."""
    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    files = [entry for entry in entries if entry.is_file() and extension_of(entry)]
    own = _in_flat_folder(folder, files) if files else []
    if any("error" not in item for item in own) or depth == DEEPEST:
        return own
    below = [item for entry in entries if entry.is_dir() for item in _in_folder(entry, depth + 1)]
    return below or own


def _in_flat_folder(folder: Path, files: list[Path]) -> list[Item]:
    """One study, or several whose files differ in what precedes the sequence's name."""
    groups: dict[str, list[tuple[str | None, Path]]] = {}
    ignored = []
    try:
        for file in files:
            kind, prefix = _kind_and_prefix(file)
            if kind is not None:
                groups.setdefault(prefix, []).append((kind, file))
            elif not OWN_OUTPUTS.match(file.name):
                ignored.append(file.name)
    except StudyError as error:
        return [{"study": study_id(folder.name), "error": str(error)}]
    kinds = [kind for group in groups.values() for kind, _ in group]
    if (
        len(groups) > 1
        and len(set(kinds)) < len(kinds)
        and all(any(k != "label" for k, _ in g) for g in groups.values())
    ):
        return [_study(study_id(prefix or folder.name), group, folder) for prefix, group in sorted(groups.items())]
    item = _study(study_id(folder.name), [pair for group in groups.values() for pair in group], folder)
    return [{**item, "ignored": ignored} if ignored else item]


def _study(study: str, named: Iterable[tuple[str | None, Path]], folder: Path) -> Item:
    try:
        item: Item = {"study": study, **_by_sequence(named)}
        if not any(sequence in item for sequence in SEQUENCES):
            names = ", ".join(sorted(file.name for file in folder.iterdir())[:6])
            raise StudyError(f"{folder} holds no sequence, only {names}; accepted are files named by {_accepted()}")
    except StudyError as error:
        return {"study": study, "error": str(error)}
    return item


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
        channels = _load_json(sidecar).get("channels")
    if not channels:
        kind = kind_of_file(file)
        if kind in SEQUENCES:
            return study_from_files({kind: file})
        raise StudyError(
            f"{file} does not say which sequences it holds; name its channels in order, as in "
            f"--channels flair,t1,t1ce,t2, or in {sidecar.name}"
        )
    return {"study": study_id(file.name[: -len(ending)]), "image": str(file), "channels": _channels(file, channels)}


def _channels(file: Path, channels: Sequence[str]) -> list[str]:
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
        content = {section or "studies": content}
    if not isinstance(content, dict):
        raise StudyError(f'{file} holds no list; accepted is [{{"flair": "a.nii.gz", ...}}, ...]')
    named = content.get("channel_names") or content.get("modality")
    channels = None
    if isinstance(named, dict) and all(str(key).isdecimal() for key in named):
        channels = [named[key] for key in sorted(named, key=int)]
    names = SECTIONS.get(section or "", (section,))
    entries = [
        entry
        for name, part in content.items()
        if (section is None or name in names) and isinstance(part, list)
        for entry in part
    ]
    return [_entry(file, number, entry, channels) for number, entry in enumerate(entries)]


def _entry(file: Path, number: int, entry: Any, channels: Sequence[str] | None) -> Item:
    study = f"{file.stem}_{number}"
    try:
        if not isinstance(entry, dict):
            raise StudyError(f'{file}: entry {number} is no object; accepted is {{"flair": "a.nii.gz", ...}}')
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
    except (OSError, ValueError) as error:
        raise StudyError(f"{file} is no readable JSON ({error}); repair it") from error


def _refuse_equal_ids(items: list[Item]) -> None:
    seen: set[str] = set()
    for item in items:
        if item["study"] in seen:
            item["error"] = (
                f"two studies are called {item['study']}; rename one, or their results would overwrite each other"
            )
        seen.add(item["study"])


def _accepted() -> str:
    return "; ".join(f"{sequence}: {' '.join(aliases)}" for sequence, aliases in ALIASES.items())
