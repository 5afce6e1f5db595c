"""A real Orthanc, for tests that send to a PACS and query it."""

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
import requests

DICOM_WEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Orthanc:
    """A real PACS on loopback; skips where it is not installed."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("Orthanc", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None or not DICOM_WEB.is_file():
            pytest.skip("Orthanc is not installed (apt-get install orthanc orthanc-dicomweb)")
        self.dicom, self.http = free_port(), free_port()
        settings = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "HttpPort": self.http,
            "DicomPort": self.dicom,
            "DicomAet": "ARCHIVE",
            "DicomAlwaysAllowStore": True,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {"reader": "word"},
            "Plugins": [str(DICOM_WEB)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail((folder / "log").read_text()[-2000:])
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            return self.get("/system").ok
        except requests.ConnectionError:
            return False

    def get(self, path: str) -> requests.Response:
        return requests.get(f"http://127.0.0.1:{self.http}{path}", auth=("reader", "word"), timeout=20)

    def series(self) -> list[dict]:
        return [self.get(f"/series/{name}").json() for name in self.get("/series").json()]

    def empty(self) -> "Orthanc":
        for name in self.get("/studies").json():
            requests.delete(f"http://127.0.0.1:{self.http}/studies/{name}", auth=("reader", "word"), timeout=20)
        return self

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)
