"""A site's own words for its series, read from a file: literal words, no expressions that could be wrong or hang."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from lckd.errors import StudyError, reason
from lckd.pacs.rules import normalized, read_rules

_EXPRESSIONS: Final = (".*", ".+", *"\\^$[]{}|?")
"""What a word holds only if a regular expression was meant."""


@dataclass(frozen=True)
class SiteWords:
    """A site's words.

    Attributes:
        file: name without folder; None where there is no file.
        sha256: of its content.
        meanings: normalized word -> key of the rules' ``site``.
    """

    file: str | None = None
    sha256: str = ""
    meanings: Mapping[str, str] = field(default_factory=dict)


def read_site_words(path: str | Path) -> SiteWords:
    """Read a site's words from YAML, ``{t1ce: [hirn nach spritze], ignore: [planung]}``.

    Raises:
        StudyError: the file cannot be read, has an unknown key, or something else than words that mean one thing.
    """
    file, accepted = Path(path), ", ".join(read_rules().site)
    how = f"accepted are lists of words under {accepted}"
    try:
        content = file.read_bytes()
        data = yaml.load(content.decode("utf-8-sig"), _TextLoader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise StudyError(f"rules {file} cannot be read ({reason(error)}); {how}") from error
    if not isinstance(data, dict):
        raise StudyError(f"rules {file} hold no mapping but a {_kind(data)}; {how}")
    meanings: dict[str, str] = {}
    for key, words in data.items():
        if key not in read_rules().site:
            raise StudyError(f"rules {file} have the key {key!r}; accepted are {accepted}")
        if not isinstance(words, list):
            raise StudyError(f"rules {file} have a {_kind(words)} under '{key}'; accepted is a list, as in [one, two]")
        for word in words:
            plain = _plain(file, key, word)
            if plain in meanings:
                raise StudyError(f"rules {file} name {word!r} under '{meanings[plain]}' and '{key}'; keep one")
            meanings[plain] = key
    return SiteWords(file.name, hashlib.sha256(content).hexdigest(), meanings)


def _plain(file: Path, key: str, word: Any) -> str:
    """The word as it is compared."""
    if not isinstance(word, str):
        raise StudyError(f"rules {file} have a {_kind(word)} in the list under '{key}'; accepted are words, quoted")
    if any(sign in word for sign in _EXPRESSIONS):
        raise StudyError(
            f"rules {file} have {word!r} under '{key}', which looks like a regular expression; words are taken as they "
            "are, so write out each"
        )
    plain = normalized(word)
    if not plain:
        raise StudyError(f"rules {file} have {word!r} under '{key}'; accepted are words with a letter or digit")
    return plain


def _kind(value: Any) -> str:
    return "mapping" if isinstance(value, dict) else "list" if isinstance(value, list) else "single value"


class _TextLoader(yaml.BaseLoader):
    """Makes nothing but text, lists and mappings, and refuses a key that is there twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key.value, str)]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise ValueError(f"'{twice}' is there twice")
        return super().construct_mapping(node, deep)
