"""A real server process on loopback, for tests that talk to it as viewers do."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import requests

OFFLINE = """
import ipaddress, os, socket

def guarded(call):
    def connect(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not ipaddress.ip_address(address[0]).is_loopback:
            with open(os.environ["LEAKS"], "a") as leaks:
                print(address, file=leaks)
            raise OSError("no network in this test")
        return call(self, address)
    return connect

def resolve(host, *rest, resolved=socket.getaddrinfo, **named):
    if host not in (None, "", "localhost", "127.0.0.1", "::1"):
        with open(os.environ["LEAKS"], "a") as leaks:
            print(host, file=leaks)
        raise OSError("no network in this test")
    return resolved(host, *rest, **named)

socket.getaddrinfo = resolve
socket.socket.connect, socket.socket.connect_ex = guarded(socket.socket.connect), guarded(socket.socket.connect_ex)
"""
"""As ``sitecustomize`` it is in every process of the server: none connects to another machine."""


class Server:
    """A real server process, with a folder of its own for temporary files."""

    def __init__(self, folder: Path, *options: str, token: str = "") -> None:
        self.folder, self.token = folder, token
        self.temporary, self.labels = folder / "tmp", folder / "studies-labels"
        self.temporary.mkdir(exist_ok=True)
        (folder / "offline").mkdir(exist_ok=True)
        (folder / "offline" / "sitecustomize.py").write_text(OFFLINE)
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(folder / "offline"),
            "TMPDIR": str(self.temporary),
            "LEAKS": str(folder / "leaks"),
            "LCKD_TOKEN": token,
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "lckd", "serve", str(folder / "studies"), "--port", "0", *options]
        with (folder / "output").open("w") as output, (folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=log, env=self.environment, start_new_session=True
            )

    def wait(self) -> "Server":
        deadline = time.monotonic() + 120
        while "http://" not in self.output and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        found = re.search(r"http://\S+", self.output)
        assert found, self.log
        self.url = found[0]
        return self

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def ask(self, method: str, path: str, **options) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return requests.request(method, self.url + path, timeout=60, **{"headers": headers, **options})

    def infer(self, image: str, params: object = None, **options) -> requests.Response:
        data = {"params": params if isinstance(params, str) else json.dumps(params or {})}
        return self.ask("POST", "/infer/lckd", params={"image": image, **options}, data=data)

    def uploads(self) -> list[Path]:
        return list(self.temporary.glob("lckd-upload-*/*"))

    def kill(self) -> None:
        """As a crash would end it, with everything it started."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)
