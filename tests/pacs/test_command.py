import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import zipfile

import nibabel as nib
import numpy as np
import pytest
import requests
from orthanc_process import Orthanc
from pydicom import dcmread
from study_fixtures import small_export

from lckd.__main__ import main
from lckd.network import LCKDNet
from lckd.sequences import SEQUENCES
from lckd.weights import load_weights, save_weights

OFFLINE = """
import socket

def refuse(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6):
        raise OSError("no network in this test")
    return connect(self, address)

def resolve(*args, **named):
    raise OSError("no network in this test")

connect, socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo = (
    socket.socket.connect, refuse, refuse, resolve
)
"""
"""As ``sitecustomize`` it is in every process: none connects to anything."""


@pytest.fixture
def export(small_study, tmp_path):
    return small_export(small_study, tmp_path / "export", sequences=("flair", "t2"), extras=("localizer",))


def run(*arguments) -> int:
    """Exit code."""
    try:
        main(["pacs", *(str(argument) for argument in arguments)])
    except SystemExit as stopped:
        return stopped.code or 0
    return 0


def mistake(capsys, *arguments) -> str:
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


def test_first_look_then_run_then_nothing_left_to_do(export, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(export.folder, "--dry-run", "--output", out) == 0
    files = {file.name for file in out.glob("[!.]*")}
    assert files == {"summary.csv", "summary.json", "series.csv", "series.json"}
    assert "t2_tse_tra_512" in capsys.readouterr().out
    assert run(export.folder, "--output", out) == 0
    assert (out / export.study_uid / "report.html").is_file()
    assert "1 studies: 1 done" in capsys.readouterr().out
    assert run(export.folder, "--output", out) == 0
    assert "1 studies: 1 skipped" in capsys.readouterr().out


def test_a_dry_run_needs_no_output(export, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    assert run(export.folder, "--dry-run") == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_a_zip(export, tmp_path):
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        for file in export.folder.rglob("*"):
            archive.write(file, file.relative_to(export.folder))
    assert run(tmp_path / "export.zip", "--output", tmp_path / "out", "--sequences", "flair") == 0
    assert json.loads((tmp_path / "out" / "summary.json").read_text())[0]["used"] == "flair"


def test_an_override_takes_a_series_out(export, tmp_path):
    (tmp_path / "series.yaml").write_text(f"{export.series_uids['flair']}: ignore\n")
    assert run(export.folder, "--output", tmp_path / "out", "--override", tmp_path / "series.yaml") == 0
    with (tmp_path / "out" / "series.csv").open(newline="") as opened:
        used = {row["series"]: row["used"] for row in csv.DictReader(opened)}
    assert (used[export.series_uids["flair"]], used[export.series_uids["t2"]]) == ("False", "True")


def test_a_sites_own_words_are_used_and_recorded(small_study, tmp_path):
    names = {"flair": "Protokoll A7", "t2": "Protokoll B"}
    export = small_export(small_study, tmp_path / "export", sequences=("flair", "t2"), descriptions=names)
    assert run(export.folder, "--dry-run") == 3
    rules, out = tmp_path / "ours.yaml", tmp_path / "out"
    rules.write_text("flair: [protokoll a7]\nt2: [protokoll b]\n")
    assert run(export.folder, "--dry-run", "--rules", rules) == 0
    assert run(export.folder, "--output", out, "--rules", rules, "--rtstruct") == 0
    assert json.loads((out / "summary.json").read_text())[0]["used"] == "flair+t2"
    manifest = json.loads((out / export.study_uid / "manifest.json").read_text())
    assert manifest["site_rules"] == {"file": "ours.yaml", "sha256": hashlib.sha256(rules.read_bytes()).hexdigest()}


def test_review_has_an_exit_code_and_a_reason_of_its_own(small_study, tmp_path, capsys):
    export = small_export(small_study, tmp_path / "export", sequences=("t1",), contrast_tags="missing")
    assert run(export.folder, "--dry-run") == 3
    assert run(export.folder, "--output", tmp_path / "out") == 3
    assert "REVIEW: identify: T1" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "summary.json").read_text())[0]["state"] == "review"
    assert run(export.folder, "--output", tmp_path / "out", "--accept-low-confidence") == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal that stops a process for a while")
def test_a_second_run_into_the_same_folder_is_refused_until_the_first_has_died(export, tmp_path, capsys):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "lckd", "pacs", str(export.folder), "--output", str(out)]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        said = b""
        while b"headers" not in said:  # of its progress; from here on it works
            said += first.stderr.read(1)
            assert first.poll() is None, said
        first.send_signal(signal.SIGSTOP)
        error = mistake(capsys, export.folder, "--output", out)
        assert f"another run is writing to {out}; wait for its end" in error
        assert "another run" in mistake(capsys, export.folder, "--dry-run", "--output", out)
        assert run(export.folder, "--dry-run") == 0
        assert {file.name for file in out.iterdir()} == {".lock"}
    finally:
        first.kill()
        first.communicate()
    assert run(export.folder, "--output", out) == 0
    assert "1 studies: 1 done" in capsys.readouterr().out


@pytest.mark.slow
def test_no_process_of_a_run_connects_to_anything(export, tmp_path):
    (tmp_path / "offline").mkdir()
    (tmp_path / "offline" / "sitecustomize.py").write_text(OFFLINE)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "offline"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lckd", "pacs", export.folder, "--output", tmp_path / "out"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "out" / export.study_uid / "manifest.json").is_file()
    probe = subprocess.run(
        [sys.executable, "-c", "import socket; socket.create_connection(('127.0.0.1', 9))"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert "no network in this test" in probe.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "pacs needs --output FOLDER; only --dry-run does without"),
        (["--output", "OUT", "--seg-type", "fractional"], "accepted are binary, labelmap"),
        (["--output", "OUT", "--sequences", "flair+dwi"], "unknown sequence 'dwi'"),
        (["--output", "OUT", "--sequences", "flair", "--jobs", "0"], "--jobs is 0; accepted is 1 to 256"),
        (["--output", "OUT", "--mask", "nowhere.nii.gz"], "--mask nowhere.nii.gz does not exist"),
        (["--output", "OUT", "--device", "tpu"], "unknown device 'tpu'"),
        (["--output", "OUT", "--override", "nowhere.yaml"], "overrides nowhere.yaml cannot be read"),
        (["--output", "OUT", "--rules", "nowhere.yaml"], "rules nowhere.yaml cannot be read"),
        (["--output", "OUT", "--rtstruct=perhaps"], "--rtstruct is perhaps; accepted are True and False"),
        (["--output", "OUT", "--send", "pacs"], "accepted is HOST:PORT/AET"),
        (["--output", "OUT", "--stow", "pacs"], "accepted is http"),
        (["--dry-run", "--send", "pacs:104/A"], "--dry-run makes nothing to send"),
        (["--output", "OUT", "--dryrun"], "unknown option '--dryrun' of pacs"),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_is_done(export, tmp_path, capsys, options, sentence):
    options = [str(tmp_path / "out") if option == "OUT" else option for option in options]
    assert sentence in mistake(capsys, export.folder, *options)
    assert not list(tmp_path.glob("out/[!.]*"))


def test_a_switch_may_stand_before_the_export(export, capsys):
    assert run("--dry-run", export.folder) == 0
    assert "--dry-run is maybe; accepted are True and False" in mistake(capsys, export.folder, "--dry-run=maybe")


def test_an_output_in_the_export_is_refused(export, capsys):
    error = mistake(capsys, export.folder, "--output", export.folder / "results")
    assert "lies in the export" in error
    (export.folder / "DICOMDIR").touch()
    error = mistake(capsys, export.folder / "DICOMDIR", "--output", export.folder / "results")
    assert "lies in the export" in error
    assert not (export.folder / "results").exists()


def test_an_override_of_an_unknown_series(export, tmp_path, capsys):
    (tmp_path / "series.yaml").write_text("1.2.3: t1\n")
    error = mistake(capsys, export.folder, "--output", tmp_path / "out", "--override", tmp_path / "series.yaml")
    assert "overrides name series 1.2.3, which the export does not hold" in error


def test_an_export_without_images(tmp_path, capsys):
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "letter.txt").write_text("Dear colleague")
    assert "holds no MR image" in mistake(capsys, tmp_path / "export", "--dry-run")
    assert "does not exist" in mistake(capsys, tmp_path / "nowhere", "--dry-run")


def test_a_mask_is_of_one_study(small_study, export, tmp_path, capsys):
    small_export(small_study, tmp_path / "export" / "other", sequences=("flair",), seed=1)
    (tmp_path / "mask.nii.gz").write_bytes(b"")
    error = mistake(capsys, export.folder, "--output", tmp_path / "out", "--mask", tmp_path / "mask.nii.gz")
    assert "--mask is of one study, but the export holds 2" in error


@pytest.mark.slow
def test_round_trip_through_a_real_pacs(small_study, tmp_path):
    """Into Orthanc by C-STORE, out of it by DICOMweb, and the results back by both ways."""
    web, net = (pytest.importorskip(name) for name in ("dicomweb_client", "pynetdicom"))
    pacs = Orthanc(tmp_path)
    try:
        export = small_export(small_study, tmp_path / "scanner", sequences=("flair", "t1ce"), extras=("localizer",))
        entity = net.AE("SCANNER")
        entity.add_requested_context("1.2.840.10008.5.1.4.1.1.4")
        association = entity.associate("127.0.0.1", pacs.dicom, ae_title="ARCHIVE")
        for path in sorted(path for path in export.folder.rglob("*") if path.is_file()):
            assert association.send_c_store(dcmread(path)).Status == 0
        association.release()

        session = requests.Session()
        session.auth = ("reader", "word")
        client = web.DICOMwebClient(f"http://127.0.0.1:{pacs.http}/dicom-web", session)
        (tmp_path / "fetched").mkdir()
        for number, dataset in enumerate(client.retrieve_study(export.study_uid)):
            dataset.save_as(tmp_path / "fetched" / f"{number}.dcm", enforce_file_format=True)
        to = ["--rtstruct", "--send", f"127.0.0.1:{pacs.dicom}/ARCHIVE"]
        to += ["--stow", f"http://reader:word@127.0.0.1:{pacs.http}/dicom-web"]
        assert run(tmp_path / "fetched", "--output", tmp_path / "out", "--weights", loud_weights(tmp_path), *to) == 0

        assert json.loads((tmp_path / "out" / "summary.json").read_text())[0]["sent"] == "sent"
        (found,) = client.search_for_series(export.study_uid, search_filters={"Modality": "SEG"})
        (seg,) = client.retrieve_series(export.study_uid, found["0020000E"]["Value"][0])
        sent = dcmread(tmp_path / "out" / export.study_uid / "seg.dcm")
        assert (seg.SOPInstanceUID, seg.PixelData) == (sent.SOPInstanceUID, sent.PixelData)
        assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == export.series_uids["t1ce"]
        assert len(client.search_for_series(export.study_uid, search_filters={"Modality": "RTSTRUCT"})) == 1
    finally:
        pacs.stop()


def loud_weights(folder):
    """Weights that find tumour everywhere: the toy's own is smaller than what postprocessing removes."""
    network = LCKDNet()
    load_weights(network)
    network.decoder.head.bias.data += 20
    save_weights(network.state_dict(), folder / "loud.pt")
    return folder / "loud.pt"


@pytest.mark.slow
def test_simulate_writes_an_export_that_can_be_used(tmp_path):
    """At full size, with the skull: what the README says."""
    main(["simulate", str(tmp_path / "in"), "--dicom", "--sequences", "flair+t1ce", "--seed", "5"])
    assert run(tmp_path / "in", "--output", tmp_path / "out") == 0
    (folder,) = [path for path in (tmp_path / "out").iterdir() if path.is_dir()]
    report = json.loads((folder / "report.json").read_text())
    assert report["sequences"]["used"] == ["flair", "t1ce"]
    assert report["brain_extraction"]["method"] == "built-in"
    assert report["dicom_seg"]["file"] == "seg.dcm"
    label_map = np.asarray(nib.load(folder / "segmentation.nii.gz").dataobj)
    assert (label_map > 0).any()
    assert set(report["series"]) == set(SEQUENCES)
