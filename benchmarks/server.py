"""How long the label server takes, and whether it keeps eight clients at once apart.

    python benchmarks/server.py                 # simulated studies, a server of its own on this machine
    python benchmarks/server.py --minutes 5

Prints start-up, first and kept inference by number of sequences, clicks, /info alone and during an inference, and what
eight clients got in a minute: every answer is compared with the one that the study gave when nobody else asked.
"""

import argparse
import hashlib
import random
import statistics
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
from monailabel.client.client import MONAILabelClient

from lckd.benchmark_server import serving
from lckd.errors import sentences
from lckd.simulation import simulate_study, write_study

STUDIES = {"four": ("flair", "t1", "t1ce", "t2"), "two": ("flair", "t2"), "one": ("t1",)}
CLIENTS = 8


def infer(
    url: str, study: str, folder: str, model: str = "lckd", points: dict | None = None
) -> tuple[str, dict, float]:
    """Hash of the label map, the report and the seconds of one request by the stock client."""
    began = time.perf_counter()
    file, report = MONAILabelClient(url, folder).infer(model, study, dict(points or {}))
    seconds = time.perf_counter() - began
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    Path(file).unlink()
    return digest, report, seconds


def info_ms(url: str, count: int = 30) -> list[float]:
    """Milliseconds of requests of /info/, each over a connection of its own, as the viewer does."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        requests.get(f"{url}/info/", timeout=60).raise_for_status()
        times.append(1000 * (time.perf_counter() - began))
        time.sleep(0.02)
    return times


def work(url: str, folder: str, expected: dict[str, str], until: float, seed: int) -> Counter:
    """What one annotator does until then; counts answers, errors and answers of another study."""
    chance, counts = random.Random(seed), Counter()
    client = MONAILabelClient(url, folder, f"annotator {seed}")
    while time.monotonic() < until:
        study = chance.choice(list(expected))
        try:
            action = chance.choice(["info", "next sample", "infer", "infer", "datastore"])
            if action == "infer":
                digest, report, _ = infer(url, study, folder)
                counts["mixed up"] += (digest, report["study"]) != (expected[study], study)
            elif action == "next sample":
                client.next_sample("first", {})
            else:
                getattr(client, action)()
            counts[action] += 1
        except Exception as error:
            counts[f"error: {error}"[:80]] += 1
    return counts


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="of eight clients at once")
    parser.add_argument("--threads", type=int, default=2, help="of the server")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study = simulate_study(seed=0)
        for name, sequences in STUDIES.items():
            write_study(study, Path(folder) / "studies" / name, study_id=name, sequences=sequences, label=False)
        began = time.perf_counter()
        with serving(Path(folder) / "studies", options.threads) as url:
            started_s = time.perf_counter() - began
            print(f"start-up {started_s:.1f} s; /info/ {statistics.median(info_ms(url)):.0f} ms (median)")
            expected = {}
            for name in STUDIES:
                digest, _, first_s = infer(url, name, folder)
                expected[name], _, kept_s = infer(url, name, folder)
                assert digest == expected[name]
                print(f"inference of {len(STUDIES[name])} sequences: first {first_s:.1f} s, kept {kept_s:.1f} s")
                places = [[[60 + 4 * number, 90, 70]] for number in range(7)]
                clicks = [infer(url, name, folder, "lckd_clicks", {"edema": place})[2] for place in places]
                print(f"a click: {statistics.median(clicks):.2f} s (median), {max(clicks):.2f} s (worst)")
            busy = threading.Thread(target=lambda: [infer(url, name, folder) for name in STUDIES])
            busy.start()
            times = info_ms(url)
            busy.join()
            print(f"/info/ during inferences: {statistics.median(times):.0f} ms (median), {max(times):.0f} ms (worst)")
            until = time.monotonic() + 60 * options.minutes
            with ThreadPoolExecutor(CLIENTS) as clients:
                tasks = [clients.submit(work, url, folder, expected, until, seed) for seed in range(CLIENTS)]
            total = sum((task.result() for task in tasks), Counter())
            print(f"{CLIENTS} clients: {dict(total)}")


if __name__ == "__main__":
    with sentences():
        main()
