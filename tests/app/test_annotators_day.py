"""What happens in a day, against a real server, with the client that 3D Slicer's extension carries."""

import threading
import time
from pathlib import Path

import lib.training as training
import nibabel as nib
import numpy as np
import pytest
import requests
from lib.datastore import StudyDatastore
from monailabel.client.client import MONAILabelClient
from monailabel_app.guard import user_line
from server_process import Server

from lckd.images import write_image
from lckd.simulation import write_study

SUBSETS = [("flair", "t1", "t1ce", "t2"), ("t1ce",), ("flair", "t2"), ("t1", "t2")]
PASSWORD = "correct horse"


def names_of(section: str) -> list[str]:
    """Two studies whose ids put them there."""
    return [name for name in map("study{}".format, range(50)) if training.section_of(name, 0.25) == section][:2]


@pytest.fixture
def server(small_study, tmp_path):
    """A server with a login, on four studies of which two can train and two can validate."""
    names = [name for pair in zip(names_of("train"), names_of("val"), strict=True) for name in pair]
    for name, sequences in zip(sorted(names), SUBSETS, strict=True):
        write_study(small_study, tmp_path / "studies" / name, study_id=name, sequences=sequences, label=False)
    users = tmp_path / "users.txt"
    users.write_text(user_line("anna", PASSWORD) + "\n")
    server = Server(tmp_path, "--users", str(users)).wait()
    yield server
    server.stop()


def logged_in(server: Server, folder: Path) -> MONAILabelClient:
    client = MONAILabelClient(server.url, str(folder), "user-xyz")
    assert client.auth_enabled()
    client.update_auth(client.auth_token("anna", PASSWORD))
    assert client.auth_valid_token()
    return client


def run(client: MONAILabelClient, path: str, **options) -> None:
    """Start a task of the server's and wait for its end."""
    headers = {"Authorization": client._headers["Authorization"]}
    requests.post(client._server_url.rstrip("/") + path, headers=headers, timeout=60, **options).raise_for_status()
    status = client._server_url.rstrip("/") + path.rpartition("/")[0] + "/" * (not path.startswith("/batch"))
    deadline = time.monotonic() + 300
    while (task := requests.get(status, headers=headers, timeout=60).json())["status"] in ("SUBMITTED", "RUNNING"):
        assert time.monotonic() < deadline, task
        time.sleep(0.2)
    assert task["status"] == "DONE", task


@pytest.mark.slow
def test_an_annotator_s_day(server, small_study, tmp_path):
    client = logged_in(server, tmp_path)
    info = client.info()
    assert next(iter(info["models"])) == "lckd" and {"first", "missing", "uncertainty"} <= info["strategies"].keys()
    studies = sorted(client.datastore()["objects"])

    # overnight: proposals for all studies, which the viewer shows when it opens one
    run(client, "/batch/infer/lckd", json={"device": "cpu"})
    assert all("original" in study["labels"] for study in client.datastore()["objects"].values())

    truth = tmp_path / "truth.nii.gz"
    write_image(truth, small_study.label_map, small_study.affine)
    for study, sequences in zip(studies, SUBSETS, strict=True):
        sample = client.next_sample("first", {})
        assert sample["id"] == study  # and none that is finished
        result, facts = client.infer("lckd", study, {})
        assert facts["sequences"]["used"] == list(sequences)
        assert nib.load(result).shape == small_study.label_map.shape
        segments = [{"name": name, "idx": value} for name, value in facts["label_names"].items()]
        client.save_label(study, str(truth), params={"label_info": segments})
        saved = nib.load(client.download_label(study, "final"))
        np.testing.assert_array_equal(np.asarray(saved.dataobj), small_study.label_map)
    assert not client.next_sample("first", {}).get("id")

    # a volume from elsewhere
    volume = tmp_path / "somebody_flair.nii.gz"
    write_image(volume, small_study.images["flair"], small_study.affine)
    # As the extension does for every call: a client with a login keeps the content type of its last upload.
    client = logged_in(server, tmp_path)
    session = client.create_session(str(volume))["session_id"]
    assert client.infer("lckd", "somebody_flair", {}, session_id=session)[1]["sequences"]["used"] == ["flair"]

    run(client, "/scoring/dice")
    dice = StudyDatastore(server.folder / "studies", interval_s=None).get_label_info(studies[0], "final")["dice"]
    assert dice.keys() == {"et", "wt", "tc"}

    run(client, "/train/lckd", json={"iterations": 2, "device": "cpu"})
    trained = client.info()["train_stats"]["lckd"]
    assert "before" in trained["message"] and trained["epoch"] == trained["total_epochs"]
    assert client.infer("lckd", studies[0], {})[1]["label_names"]


@pytest.mark.slow
def test_a_server_that_is_killed_while_labels_are_saved_loses_none(small_study, tmp_path):
    write_study(small_study, tmp_path / "studies" / "a", study_id="a", label=False)
    sent = tmp_path / "label.nii.gz"
    write_image(sent, small_study.label_map, small_study.affine)
    acknowledged: list[int] = []

    def save_without_end(server: Server) -> None:
        for number in range(100_000):
            try:
                saved = server.ask("PUT", f"/datastore/label?image=a&tag=t{number % 3}", files={"label": _file(sent)})
            except requests.ConnectionError:
                return
            acknowledged.append(number) if saved.ok else None

    for after_s in (0.4, 0.7, 1.0):
        server = Server(tmp_path).wait()
        before = len(acknowledged)
        annotators = [threading.Thread(target=save_without_end, args=(server,)) for _ in range(3)]
        for annotator in annotators:
            annotator.start()
        time.sleep(after_s)
        server.kill()
        for annotator in annotators:
            annotator.join()
        assert len(acknowledged) > before
    datastore = StudyDatastore(tmp_path / "studies", interval_s=None)
    versions = sorted(datastore.labels.glob("a/t?/[0-9]*"))
    assert len(versions) >= len(acknowledged)  # what was saved and not yet told is there, too
    for version in versions:
        np.testing.assert_array_equal(np.asarray(nib.load(version / "label.nii.gz").dataobj), small_study.label_map)
    for tag in datastore.get_labels_by_image_id("a"):
        newest = max(version.name for version in versions if version.parent.name == tag)
        assert Path(datastore.get_label_uri("a", tag)).parent.name == newest
    server = Server(tmp_path).wait()
    assert server.infer("a", output="json").ok
    server.stop()


def _file(path: Path) -> tuple[str, bytes]:
    return path.name, path.read_bytes()
