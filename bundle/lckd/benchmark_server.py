"""Round trips of the label server, as a stock client sees them: started, asked and stopped on this machine."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from monailabel.client.client import MONAILabelClient
from tqdm import tqdm

from lckd.contenders import spread
from lckd.errors import StudyError


@contextmanager
def serving(studies: Path, threads: int) -> Iterator[str]:
    """A server of its own process on ``studies``; gives its address once it answers.

    Raises:
        StudyError: it did not start.
    """
    command = [sys.executable, "-m", "lckd", "serve", str(studies), "--port", "0"]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    try:
        yield _address(process)
    finally:
        process.terminate()
        process.wait(30)


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    url = next((found[0] for line in process.stdout if (found := re.search(r"http://\S+", line))), None)
    while url is not None and process.poll() is None:
        try:
            requests.get(f"{url}/healthz", timeout=5)
        except requests.ConnectionError:
            time.sleep(0.05)
        else:
            return url
    raise StudyError("the label server did not start; lckd serve STUDIES says why")


def infer_s(client: MONAILabelClient, study: str, model: str = "lckd", points: dict[str, Any] | None = None) -> float:
    """Seconds until the label map of a request is on the client's disk."""
    start = time.perf_counter()
    file, _ = client.infer(model, study, dict(points or {}))
    seconds = time.perf_counter() - start
    Path(file).unlink()
    return seconds


def round_trips(
    folder: Path, studies: Sequence[str], centre: tuple[int, int, int], threads: int, runs: int
) -> dict[str, Any]:
    """Seconds of requests by a stock client.

    Args:
        folder: of study folders; nothing else writes into it.
        studies: names of those that are asked for.
        centre: voxel around which is clicked.
        threads: of the server.
        runs: of each figure but the first request, which there is one of.

    Returns:
        ``start_s``, and for each of ``studies`` its ``first_s`` and median, smallest and largest seconds of ``again``,
        when the server has kept it, and of ``click``.
    """
    x, y, z = centre
    clicks = [{"edema": [[x + 2 * number, y, z]]} for number in range(runs)]
    result: dict[str, Any] = {"studies": {}}
    start = time.perf_counter()
    with serving(folder, threads) as url:
        result["start_s"] = round(time.perf_counter() - start, 3)
        client = MONAILabelClient(url, str(folder.parent))
        for study in tqdm(studies, desc="server", unit="study"):
            result["studies"][study] = {
                "first_s": round(infer_s(client, study), 4),
                "again": spread([infer_s(client, study) for _ in range(runs)]),
                "click": spread([infer_s(client, study, "lckd_clicks", click) for click in clicks]),
            }
    return result
