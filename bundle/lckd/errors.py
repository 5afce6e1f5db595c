"""What went wrong with a user's input, in one sentence."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class StudyError(Exception):
    """A study, an image or an option cannot be used.

    The message is one sentence for the user: what was found, what is accepted, what to do.
    """


@contextmanager
def sentences() -> Iterator[None]:
    """End the process with the sentence of a ``StudyError`` and exit code 2, without a traceback."""
    try:
        yield
    except StudyError as error:
        print(f"lckd: {error}", file=sys.stderr)
        sys.exit(2)


def told(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call ``function`` inside ``sentences``; for configs, which cannot hold a ``with``."""
    with sentences():
        return function(*args, **kwargs)


def reason(error: BaseException) -> str:
    """The last line of a library's message, which says most, shortened; its type where it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:160] if lines else type(error).__name__
