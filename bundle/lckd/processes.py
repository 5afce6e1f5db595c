"""A command as a fresh process: its seconds, its peak memory and what it said."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lckd.errors import StudyError

LAUNCHER: Final = """
import os, sys, time
began = time.perf_counter()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(child, 0)
print()
print(time.perf_counter() - began, usage.ru_maxrss, os.waitstatus_to_exitcode(status))
"""
"""Starts, waits and measures. Linux counts what the starting process held to the peak of what it starts (``exec`` keeps
the larger), so that this tiny process has to stand between a benchmark with images in its memory and the command."""

RSS_BYTES: Final = 1 if sys.platform == "darwin" else 1024
"""Unit of ``ru_maxrss``."""


@dataclass(frozen=True)
class Finished:
    """A process that ended well.

    Attributes:
        seconds: from its start to its end.
        peak_mb: most main memory it held, in 10^6 bytes; that of its own children not included.
        said: its standard output.
    """

    seconds: float
    peak_mb: float
    said: str


def run_python(arguments: Sequence[str], threads: int) -> Finished:
    """Run ``python ARGUMENTS`` with ``threads`` threads and wait for it.

    Raises:
        StudyError: it failed; with the last line it said.
    """
    command = [sys.executable, "-I", "-S", "-c", LAUNCHER, sys.executable, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    *said, measured = done.stdout.splitlines() or [""]
    if done.returncode or not measured or measured.split()[2] != "0":
        last = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        raise StudyError(f"the measured command failed: python {' '.join(arguments)}: {last}")
    seconds, peak = (float(figure) for figure in measured.split()[:2])
    return Finished(seconds, peak * RSS_BYTES / 1e6, "\n".join(said).strip())
