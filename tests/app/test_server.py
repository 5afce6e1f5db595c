import http.client
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import requests
from monailabel.client.client import MONAILabelClient, MONAILabelClientException
from monailabel.config import settings
from monailabel_app.guard import user_line
from monailabel_app.server import SETTINGS, routes
from server_process import Server

from lckd.__main__ import main
from lckd.images import write_image
from lckd.simulation import write_study

TOKEN, PASSWORD = "a-token-of-the-operator", "correct horse"


@pytest.fixture(scope="module")
def servers(small_study, tmp_path_factory):
    """Two servers, without and with login, that start at the same time."""
    started = {}
    for name in ("open", "login"):
        folder = tmp_path_factory.mktemp(name)
        for study, sequences in {"a": ("flair", "t1", "t1ce", "t2"), "b": ("flair", "t2"), "c": ("t1",)}.items():
            write_study(small_study, folder / "studies" / study, study_id=study, sequences=sequences, label=False)
        if name == "open":
            (folder / "studies" / "broken").mkdir()
            (folder / "studies" / "broken" / "broken_flair_t1.nii.gz").touch()
            started[name] = Server(folder, "--upload_mb", "1")
        else:
            users = folder / "users.txt"
            users.write_text(f"# who may annotate\n{user_line('anna', PASSWORD)}\n")
            started[name] = Server(folder, "--users", str(users), token=TOKEN)
    yield {name: server.wait() for name, server in started.items()}
    for server in started.values():
        server.stop()


@pytest.fixture
def server(servers) -> Server:
    return servers["open"]


@pytest.fixture
def guarded(servers) -> Server:
    return servers["login"]


@pytest.fixture(scope="module")
def volume(small_study, tmp_path_factory) -> Path:
    """One sequence outside the studies, under a name that says nothing."""
    file = tmp_path_factory.mktemp("outside") / "secret.nii.gz"
    write_image(file, small_study.images["flair"], small_study.affine)
    return file


@pytest.fixture(scope="module")
def label_map(small_study, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("label") / "label.nii.gz"
    write_image(file, small_study.label_map, small_study.affine)
    return file


def sentence(response: requests.Response, status: int = 400) -> str:
    """The one sentence of an error, which names no folder of the server."""
    assert response.status_code == status, response.text
    assert response.json().keys() == {"detail"}
    told = response.json()["detail"]
    assert "Traceback" not in told and "\n" not in told and not re.search(r"/\w+/\w+", told)
    return told


def files_below(folder: Path) -> set[Path]:
    return {file for file in folder.rglob("*") if file.is_file() and "sqlite" not in file.name}


# ---- what works


def test_the_start_says_what_is_served_and_where(server):
    assert "studies:   3 found" in server.output
    assert re.search(r"model: +lckd [\d.]+, weights \w+ [0-9a-f]{12}, on (cpu|cuda)", server.output)
    assert server.url.startswith("http://127.0.0.1:")
    assert server.ask("GET", "/healthz").json()["status"] == "ok"


def test_the_stock_client_goes_through_a_study(server, label_map, tmp_path):
    client = MONAILabelClient(server.url, str(tmp_path), "user-xyz")
    assert not client.auth_enabled()
    assert next(iter(client.info()["models"])) == "lckd"
    sample = client.next_sample("first", {})
    assert sample["id"] == "a" and Path(sample["path"]).is_file()  # the same machine
    result, params = client.infer("lckd", "a", {"sequences": "flair+t2", "result_extension": ".nrrd"})
    assert set(np.unique(nib.load(result).dataobj)) <= {0, 1, 2, 3}
    assert params["sequences"]["used"] == ["flair", "t2"] and not params["warnings"]
    assert params["label_names"] == {"necrosis": 1, "edema": 2, "enhancing tumour": 3}
    segments = [{"name": name, "idx": value} for name, value in params["label_names"].items()]
    client.save_label("a", str(label_map), params={"label_info": segments})
    assert Path(client.download_label("a", "final")).is_file()
    assert client.datastore()["objects"].keys() >= {"a", "b", "c"}
    assert client.next_sample("first", {})["id"] == "b"


def test_a_hand_loaded_volume_is_a_session(server, volume, tmp_path):
    client = MONAILabelClient(server.url, str(tmp_path))
    session = client.create_session(str(volume))["session_id"]
    assert client.get_session(session)
    _, params = client.infer("lckd", "Doe_John_t2", {}, session_id=session)
    assert params["sequences"]["used"] == ["t2"]  # as the viewer's name of it says
    client.remove_session(session)
    assert not client.get_session(session)  # which makes 3D Slicer send the volume again
    assert not server.uploads()
    _, params = client.infer("lckd", "", {"this volume is": "flair"}, file=str(volume))
    assert params["sequences"]["used"] == ["flair"] and not server.uploads()


def test_info_is_answered_during_an_inference(server):
    def waited_s() -> float:
        start = time.perf_counter()
        assert server.ask("GET", "/info/").ok
        return time.perf_counter() - start

    idle = statistics.median(waited_s() for _ in range(5))
    running = threading.Thread(target=lambda: [server.infer("a", {"flips": True}) for _ in range(3)])
    running.start()
    busy = []
    while running.is_alive():
        busy.append(waited_s())
    assert len(busy) > 5 and statistics.median(busy) < 0.05 + 3 * idle  # idle is a few ms, unless tests run beside


def test_requests_are_served_in_the_order_they_came(server):
    done = []
    threads = [
        threading.Thread(target=lambda number=number: (server.infer("a", {"flips": True}), done.append(number)))
        for number in range(5)
    ]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    assert done == sorted(done)


def test_batch_inference_runs_in_a_process_of_its_own(server):
    smuggled = {"images": ["/etc"], "model": "other", "gpus": "7", "bundle_path": "/tmp", "precision": "fp32"}
    started = server.ask("POST", "/batch/infer/lckd?images=all", json=smuggled)
    wanted = {"model": "lckd", "images": "all", "precision": "fp32"}
    assert started.json()["request"] in (wanted, wanted | {"gpus": "all"})  # which MONAI Label adds
    await_status(server, "RUNNING")
    assert "already running" in sentence(server.ask("POST", "/batch/infer/lckd"), 409)
    await_status(server, "DONE")
    assert "original" in server.ask("GET", "/datastore/image/info?image=c").json()["labels"]
    assert "batch" in server.log


def await_status(server: Server, status: str) -> None:
    deadline = time.monotonic() + 120
    while (task := server.ask("GET", "/batch/infer").json())["status"] != status:
        assert task["status"] in ("SUBMITTED", "RUNNING") and time.monotonic() < deadline, task
        time.sleep(0.1)


# ---- holes of MONAI Label 0.8.5


@pytest.mark.parametrize("tag", ["../../../evil", "/tmp/evil", "a/b", "..", "\x00"])
def test_a_tag_is_no_path(server, label_map, tag):
    before = files_below(server.folder.parent)
    with label_map.open("rb") as label:
        reply = server.ask("PUT", "/datastore/label", params={"image": "a", "tag": tag}, files={"label": label})
    assert "tag" in sentence(reply)
    assert files_below(server.folder.parent) == before


@pytest.mark.parametrize("image", ["../../evil", "/tmp/evil", "a/../../evil", "nobody", ".."])
def test_an_image_id_is_no_path_to_write_to(server, label_map, image):
    before = files_below(server.folder.parent)
    with label_map.open("rb") as label:
        reply = server.ask("PUT", "/datastore/label", params={"image": image}, files={"label": label})
    assert "no study" in sentence(reply, 404)
    assert files_below(server.folder.parent) == before


def test_the_name_of_an_upload_decides_nothing(server, label_map, volume):
    before = files_below(server.folder.parent)
    for name in ("../../../evil.nii.gz", "/tmp/evil.nii.gz", "..\\evil.nii.gz"):
        reply = server.ask("PUT", "/session/", files={"files": (name, volume.read_bytes())})
        assert [file.name for file in server.uploads()] == ["volume.nii.gz"]
        server.ask("DELETE", f"/session/{reply.json()['session_id']}")
        reply = server.ask("PUT", "/datastore/label?image=c", files={"label": (name, label_map.read_bytes())})
        assert reply.ok
    written = files_below(server.folder.parent) - before
    assert all(file.is_relative_to(server.labels / "c" / "final") for file in written)


def test_no_file_but_a_study_s_is_an_image(server, volume):
    shutil.copy(volume, server.folder / "outside.nii.gz")
    for image in (str(volume), "../outside.nii.gz", "/etc/passwd", "a@../../outside", "a\x00", "file:///etc/passwd"):
        for reply in (
            server.infer(image),
            server.ask("GET", "/datastore/image", params={"image": image}),
            server.ask("GET", "/datastore/image/info", params={"image": image}),
            server.ask("GET", "/datastore/label", params={"label": image, "tag": "final"}),
            server.ask("GET", "/datastore/label/info", params={"label": image, "tag": "../final"}),
        ):
            sentence(reply, 404)
    sentence(server.infer("", session_id="../../outside"), 404)
    sentence(server.infer("", session_id=str(volume)), 404)
    assert server.ask("GET", "/session/..%2f..%2foutside").status_code in (200, 404)


def test_params_replace_nothing_and_are_no_code(server, volume, tmp_path):
    evil = f"__import__('pathlib').Path('{tmp_path}/evil').touch()"
    smuggled = {"image": str(volume), "session_image": str(volume), "study": {"t1": str(volume)}, "model": "other"}
    smuggled |= {"session": {"image": str(volume)}, "label": "/etc/passwd", "label_tag": "../evil", "save_label": True}
    smuggled |= {"displayable_configs": {evil: evil}, evil: evil, "device": ["auto", evil]}
    reply = server.infer("b", smuggled, output="json").json()
    assert reply["sequences"]["used"] == ["flair", "t2"]
    assert any("'image' was ignored" in warning for warning in reply["warnings"])
    assert "b" not in {path.name for path in server.labels.iterdir() if (path / "evil").exists()}
    for option in ("device", "sequences", "precision"):
        assert "accepted are" in sentence(server.infer("b", {option: evil}))
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("params", ["[]", "not json", "1", '"a"', "[" * 5000, '{"sequences": NaN}', '{"device": 7}'])
def test_params_are_an_object_of_options(server, params):
    assert sentence(server.infer("a", params))


def test_a_header_names_no_other_file(server):
    header = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 8 8 8\nencoding: raw\n"
    for detached in (
        f"{header}data file: /etc/passwd\n\n",
        f"{header}Datafile: /etc/passwd\n\n",
        "NRRD0004\n" + "#" * 2**19,
    ):
        files = {"files": ("scan.nrrd", detached)}
        assert "save it as one file" in sentence(server.ask("PUT", "/session/", files=files))
    for name in ("scan.nhdr", "scan.mhd", "scan.mha", "scan.py", "scan", ""):
        reply = server.ask("PUT", "/session/", files={"files": (name, b"x")} if name else {"files": b"x"})
        assert "accepted are .nii.gz" in sentence(reply)
    assert "2 files" in sentence(server.ask("PUT", "/session/", files=[("files", ("a.nii", b"x"))] * 2))
    assert not server.uploads()


@pytest.mark.parametrize(
    "request_line",
    [
        "GET /proxy/dicom/studies",
        "GET /proxy/dicom/%2e%2e/%2e%2e/system",
        "GET /logs/",
        "GET /logs/gpu",
        "POST /reload",
        "GET /reload",
        "GET /model/lckd",
        "GET /model/info/lckd",
        "PUT /model/lckd",
        "POST /infer/wsi/lckd",
        "POST /infer/wsi_v2/lckd",
        "PUT /datastore/?image=x",
        "PUT /datastore/image?image=x",
        "PUT /datastore/image/info?image=a",
        "PUT /datastore/label/info?label=a&tag=final",
        "DELETE /datastore/?id=a",
        "DELETE /datastore/image?id=a",
        "DELETE /datastore/label?id=a&tag=final",
        "GET /datastore/dataset",
        "GET /datastore/?output=train",
        "GET /static/..%2f..%2fapp.py",
        "GET /ohif/..%2f..%2fapp.py",
        "GET /openapi.json",
        "GET /docs",
    ],
)
def test_what_is_gone(server, request_line):
    method, path = request_line.split()
    before = files_below(server.folder / "studies")
    assert server.ask(method, path).status_code in (400, 404, 405)
    assert files_below(server.folder / "studies") == before


def test_an_upload_is_limited(server):
    big = b"0" * (2**20 + 1)
    start = b'--x\r\nContent-Disposition: form-data; name="files"; filename="big.nii"\r\n\r\n'
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    for upload in (
        server.ask("PUT", "/session/", files={"files": ("big.nii", big)}),
        server.ask("PUT", "/session/", data=iter([start, big]), headers=form),  # does not say how long it is
        server.ask("POST", "/infer/lckd", files={"file": ("big.nii", big)}),
        server.ask("PUT", "/datastore/label?image=a", files={"label": ("big.nii", big)}),
    ):
        assert "too large; accepted are 1 MB" in sentence(upload, 413)
    assert not server.uploads()


def test_sessions_are_limited_in_number(server, volume):
    opened = []
    for _ in range(34):
        opened.append(
            server.ask("PUT", "/session/", files={"files": ("v.nii.gz", volume.read_bytes())}).json()["session_id"]
        )
    assert len(server.uploads()) == 32
    assert not server.ask("GET", f"/session/{opened[0]}").json()
    for session in opened:
        server.ask("DELETE", f"/session/{session}")
    assert not server.uploads()


def test_no_other_web_page_may_use_it(server):
    for method in ("GET", "OPTIONS"):
        asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "GET"}
        reply = server.ask(method, "/info/", headers=asked)
        assert not [name for name in reply.headers if name.lower().startswith("access-control")]
    assert server.ask("GET", "/info/", headers={"Host": "evil.example"}).status_code == 400


# ---- errors


def test_a_mistake_is_told_in_a_sentence_that_the_client_shows(server, tmp_path):
    client = MONAILabelClient(server.url, str(tmp_path))
    with pytest.raises(MONAILabelClientException) as refused:
        client.infer("lckd", "c", {"sequences": "t2"})
    assert "Status: 400" in refused.value.msg and "study c has t1 and no t2" in refused.value.msg
    assert "no study 'zz'" in sentence(server.infer("zz"), 404)
    assert "accepted are lckd" in sentence(server.ask("POST", "/infer/other?image=a"))
    assert "no image was given" in sentence(server.infer(""))
    assert "strategy" in sentence(server.ask("POST", "/activelearning/other"))
    assert "label" in sentence(server.ask("PUT", "/datastore/label?image=a"))
    reply = server.ask("PUT", "/datastore/label?image=a", files={"label": ("x.nii.gz", b"no image")})
    assert "volume.nii.gz" in sentence(reply)
    bad = {"params": json.dumps({"label_info": ["edema"]})}
    sentence(server.ask("PUT", "/datastore/label?image=a", files={"label": ("x.nii.gz", b"no image")}, data=bad))


def test_the_traceback_of_a_failure_is_only_in_the_log(server, label_map):
    with label_map.open("rb") as label:
        assert server.ask("PUT", "/datastore/label?image=b&tag=lost", files={"label": label}).ok
    next(server.labels.glob("b/lost/*/label.nii.gz")).unlink()
    assert "log" in sentence(server.ask("GET", "/datastore/label?label=b&tag=lost"), 500)
    deadline = time.monotonic() + 5  # it is written after the answer
    while "Traceback" not in server.log and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "Traceback" in server.log


def test_the_log_names_studies_and_no_more(server, volume, tmp_path):
    client = MONAILabelClient(server.url, str(tmp_path), "Dr. Watson")
    session = client.create_session(str(volume))["session_id"]
    client.infer("lckd", "DOE^JOHN", {"this volume is": "flair"}, session_id=session)
    server.infer("a", output="json")
    lines = [line for line in server.log.splitlines() if " INFO " in line]
    assert any(re.search(r"segmented a in [\d.]+ s", line) for line in lines)
    assert not [line for line in lines if re.search(r"DOE|Watson|secret|/\w+/", line)]


# ---- login


def test_every_route_wants_a_login(guarded):
    for route in routes.routes:
        path = re.sub(r"\{\w+\}", "x", route.path)
        for method in route.methods:
            status = guarded.ask(method, path, headers={}).status_code
            if path in ("/healthz", "/auth/"):
                assert status == 200
            elif path == "/auth/token":
                assert status == 400  # without a form
            else:
                assert status == 401, (method, path)
    for path in ("/nothing", "/static/x", "//info/", "/info", "/healthz/../info/"):
        assert guarded.ask("GET", path, headers={}).status_code == 401


def test_the_viewer_s_login_works(guarded, tmp_path):
    client = MONAILabelClient(guarded.url, str(tmp_path))
    assert client.auth_enabled() and not client.auth_valid_token()
    for name, password in (("anna", PASSWORD), ("whoever", TOKEN)):
        client = MONAILabelClient(guarded.url, str(tmp_path))
        client.update_auth(client.auth_token(name, password))
        assert client.auth_valid_token() and client.info()["models"]


def test_logins_in_a_header(guarded):
    info = f"{guarded.url}/info/"
    assert requests.get(info, auth=("anna", PASSWORD)).ok
    assert requests.get(info, auth=("anyone", TOKEN)).ok
    assert requests.get(info, headers={"Authorization": f"Bearer {TOKEN}"}).ok


def test_a_label_is_signed_with_the_login(guarded, label_map):
    files, said = {"label": label_map.read_bytes()}, {"params": json.dumps({"client_id": "somebody else"})}
    files = {"label": ("label.nii.gz", label_map.read_bytes())}
    url = f"{guarded.url}/datastore/label?image=c"
    assert requests.put(url, files=files, data=said, auth=("anna", PASSWORD)).ok
    assert guarded.ask("GET", "/datastore/label/info?label=c&tag=final").json()["client_id"] == "anna"


def test_the_viewer_downloads_its_next_sample_without_login_once(guarded):
    url = f"{guarded.url}/datastore/image?image=a"
    assert requests.get(url).status_code == 401
    sample = guarded.ask("POST", "/activelearning/study", json={"study": "a"}).json()
    assert sample["id"] == "a" and sample["name"].startswith("a_") and sample["checksum"].startswith("SHA256:")
    assert requests.get(f"{guarded.url}/datastore/image?image=b").status_code == 401
    assert requests.get(url).status_code == 200
    assert requests.get(url).status_code == 401


def test_behind_a_proxy_the_viewer_is_who_asked_the_proxy(guarded):
    url, proxied = f"{guarded.url}/datastore/image?image=a", {"X-Forwarded-For": "10.0.0.5"}
    login = {"Authorization": f"Bearer {TOKEN}"}
    sample = guarded.ask("POST", "/activelearning/study", json={"study": "a"}, headers=login | proxied).json()
    assert sample["id"] == "a" and "path" not in sample
    for other in ({}, {"X-Forwarded-For": "10.0.0.66"}, {"X-Forwarded-For": "10.0.0.5, 10.0.0.66"}):
        assert requests.get(url, headers=other).status_code == 401
    assert requests.get(url, headers=proxied).status_code == 200


def test_without_a_login_nobody_else_is_served_through_a_proxy(server):
    answer = server.ask("GET", "/info/", headers={"X-Forwarded-For": "10.0.0.5"})
    assert "answers its own machine only" in sentence(answer, 403)
    assert server.ask("GET", "/info/", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 200


def test_the_address_of_this_machine_may_be_of_version_6(server):
    assert server.ask("GET", "/healthz", headers={"Host": "[::1]:8000"}).status_code == 200


@contextmanager
def address(server: Server, source: str):
    """Ask from another address of this machine, so that its lock-out is its own."""

    def status(authorization: str | None, path: str = "/info/") -> int:
        port = int(server.url.rsplit(":", 1)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, source_address=(source, 0))
        connection.request("GET", path, headers={"Authorization": authorization} if authorization else {})
        return connection.getresponse().status

    yield status


def test_wrong_logins_lock_an_address_out(guarded):
    right = f"Bearer {TOKEN}"
    with address(guarded, "127.0.0.2") as ask:
        wrong = ["Bearer x", "Basic eDp5", "Basic !", "Digest x", "Bearer "]
        assert [ask(authorization) for authorization in wrong] == [401] * 5
        assert ask("Bearer x") == ask(right) == 429
    with address(guarded, "127.0.0.3") as ask:
        assert ask(right) == 200
        assert [ask(None) for _ in range(8)] == [401] * 8  # nothing was guessed
        assert ask(right) == 200


def test_many_guesses_at_once_are_no_way_around_it(guarded):
    statuses = []
    with address(guarded, "127.0.0.4") as ask:
        guesses = [threading.Thread(target=lambda: statuses.append(ask("Basic eDp5"))) for _ in range(20)]
        for guess in guesses:
            guess.start()
        for guess in guesses:
            guess.join()
    assert sorted(statuses) == [401] * 5 + [429] * 15


# ---- the start


def refused(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["serve", *arguments])
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("lckd: ") and told.count("\n") == 1
    return told


def test_other_machines_need_a_login(capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("LCKD_TOKEN", raising=False)
    assert "--token" in refused(capsys, str(tmp_path), "--host", "0.0.0.0")
    assert "cannot be read" in refused(capsys, str(tmp_path), "--users", str(tmp_path / "none"))


def test_a_port_that_is_taken(capsys, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"cannot listen on port {port}" in refused(capsys, str(tmp_path), "--port", port)


@pytest.fixture
def process(monkeypatch):
    """What a start changes in its process, put back afterwards."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    os.environ["MONAI_LABEL_RELOAD_APP_LIB"] = "false"  # other tests hold classes of these modules
    for name in (*SETTINGS, "MONAI_LABEL_STUDIES", "MONAI_LABEL_APP_CONF"):
        monkeypatch.setattr(settings, name, getattr(settings, name))


def test_there_is_no_start_without_studies_or_weights(server, capsys, tmp_path, process):
    assert "does not exist" in refused(capsys, str(tmp_path / "nowhere"), "--port", "0")
    assert "holds no study that can be used" in refused(capsys, str(tmp_path), "--port", "0")
    options = ["--weights", str(tmp_path / "none.pt"), "--labels", str(tmp_path / "labels"), "--port", "0"]
    assert "none.pt are missing" in refused(capsys, str(server.folder / "studies"), *options)


def test_nothing_has_left_this_machine(servers):
    for server in servers.values():
        assert not (server.folder / "leaks").exists()
    code = "import socket; socket.create_connection(('192.0.2.1', 80))"
    tried = subprocess.run([sys.executable, "-c", code], env=server.environment, capture_output=True, text=True)
    assert "no network in this test" in tried.stderr  # it would have been seen
