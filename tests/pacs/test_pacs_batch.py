import csv
import json
import os
import signal
from dataclasses import replace

import pytest
from pydicom import dcmread
from study_fixtures import edit_series, small_export

from lckd.errors import StudyError
from lckd.pacs import batch
from lckd.pacs.batch import Settings, dry_run, exit_code, run, send_results, write_summary
from lckd.pacs.pipeline import Options, Outcome
from lckd.pacs.reading import open_export

MINE = Settings(output=None, device="cpu")


@pytest.fixture
def studies(small_study, tmp_path):
    """Two good studies, one of two patients, and one that asks for review."""
    folder = tmp_path / "export"
    exports = [small_export(small_study, folder / name, sequences=("flair",), seed=n) for n, name in enumerate("abcd")]
    files = sorted(path for path in exports[2].folder.rglob("*") if path.is_file())
    for path in files[:4]:
        dataset = dcmread(path)
        dataset.PatientID = "someone else"
        dataset.save_as(path)
    edit_series(exports[3], "flair", doubtful)
    return folder, [export.study_uid for export in exports]


def doubtful(dataset):
    """Only its physics say what it is, and not well."""
    dataset.SeriesDescription = dataset.ProtocolName = "head"
    del dataset.InversionTime


def states(outcomes) -> dict[str, str]:
    return {outcome.study: outcome.state for outcome in outcomes}


def settings(tmp_path, **changes) -> Settings:
    (tmp_path / "out").mkdir(exist_ok=True)
    return replace(MINE, output=tmp_path / "out", **changes)


def test_one_bad_study_stops_no_other(studies, tmp_path):
    folder, (good, also_good, mixed, unsure) = studies
    with open_export(folder, progress=False) as export:
        outcomes = run(export, settings(tmp_path))
    assert states(outcomes) == {good: "done", also_good: "done", mixed: "failed", unsure: "review"}
    assert "2 different PatientID" in next(o for o in outcomes if o.study == mixed).reasons[0]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {good, also_good}
    assert exit_code(outcomes, {}) == 1


def test_a_second_run_does_only_what_is_left(studies, tmp_path):
    folder, (good, also_good, mixed, unsure) = studies
    with open_export(folder, progress=False) as export:
        run(export, settings(tmp_path))
        (tmp_path / "out" / also_good / "manifest.json").unlink()
        for file in (tmp_path / "out" / also_good).iterdir():
            file.unlink()
        outcomes = run(export, settings(tmp_path, options=Options(accept_low_confidence=True)))
    assert states(outcomes) == {good: "skipped", also_good: "done", mixed: "failed", unsure: "done"}


@pytest.mark.slow
def test_several_processes_give_the_same(studies, tmp_path):
    folder, (good, also_good, mixed, unsure) = studies
    with open_export(folder, progress=False) as export:
        outcomes = run(export, settings(tmp_path, jobs=2))
        assert [outcome.study for outcome in outcomes] == sorted([good, also_good, mixed, unsure])
        assert states(run(export, settings(tmp_path))) == states(outcomes) | {good: "skipped", also_good: "skipped"}


@pytest.mark.slow
def test_a_process_that_is_killed_costs_one_study(studies, tmp_path):
    folder, (good, *others) = studies
    process = batch._Process(settings(tmp_path))
    try:
        with open_export(folder, progress=False) as export:
            victim = process._pool.submit(os.getpid).result()
            os.kill(victim, signal.SIGKILL)
            outcome = process(export, good)
            assert outcome.state == "failed"
            assert "ended by the system" in outcome.reasons[0]
            assert process(export, others[0]).state == "done"
    finally:
        process.stop()


def test_a_dry_run_writes_nothing_and_computes_nothing(studies, tmp_path, capsys):
    folder, (good, also_good, mixed, unsure) = studies
    before = sorted(tmp_path.rglob("*"))
    with open_export(folder, progress=False) as export:
        outcomes = dry_run(export, {})
    assert states(outcomes) == {good: "done", also_good: "done", mixed: "failed", unsure: "review"}
    assert sorted(tmp_path.rglob("*")) == before
    shown = capsys.readouterr().out
    assert "t2_tirm_tra_dark-fluid" in shown
    assert "review: " in shown


def test_the_summary_has_a_row_per_study_and_the_table_one_per_series(studies, tmp_path):
    folder, (good, also_good, mixed, unsure) = studies
    with open_export(folder, progress=False) as export:
        outcomes = run(export, settings(tmp_path))
    write_summary(tmp_path / "out", outcomes, {good: "sent"})
    with (tmp_path / "out" / "summary.csv").open(newline="") as opened:
        rows = {row["study"]: row for row in csv.DictReader(opened)}
    assert rows.keys() == {good, also_good, mixed, unsure}
    assert (rows[good]["state"], rows[good]["used"], rows[good]["sent"]) == ("done", "flair", "sent")
    assert (rows[unsure]["state"], rows[unsure]["step"]) == ("review", "identify")
    assert (rows[mixed]["state"], rows[mixed]["folder"]) == ("failed", "")
    assert float(rows[good]["wt_ml"]) >= 0
    assert [row["study"] for row in json.loads((tmp_path / "out" / "summary.json").read_text())] == list(rows)
    series = json.loads((tmp_path / "out" / "series.json").read_text())
    assert {row["study"] for row in series} == {good, also_good, unsure}
    assert (tmp_path / "out" / "series.csv").read_text().count("\n") == len(series) + 1


@pytest.mark.parametrize(
    ("found", "sent", "code"),
    [
        (["done", "skipped"], {}, 0),
        (["done", "review"], {}, 3),
        (["failed", "review"], {}, 1),
        (["incomplete"], {}, 1),
        (["done"], {"1": "sent"}, 0),
        (["done"], {"1": "does not answer"}, 1),
    ],
)
def test_exit_codes(found, sent, code):
    assert exit_code([Outcome("1", state) for state in found], sent) == code


def test_what_was_finished_earlier_is_sent_too(tmp_path):
    (tmp_path / "seg.dcm").write_bytes(b"")
    outcomes = [
        Outcome("1", "done", folder=tmp_path),
        Outcome("2", "skipped", folder=tmp_path),
        Outcome("3", "failed"),
        Outcome("4", "done", folder=tmp_path / "empty result"),
    ]
    sent = []
    assert send_results(outcomes, [sent.append]) == {"1": "sent", "2": "sent"}
    assert sent == [tmp_path / "seg.dcm"] * 2


def test_what_is_there_is_sent_though_something_else_failed(tmp_path):
    (tmp_path / "seg.dcm").write_bytes(b"")
    (tmp_path / "both").mkdir()
    for name in ("seg.dcm", "rtstruct.dcm"):
        (tmp_path / "both" / name).write_bytes(b"")
    sent = []
    outcomes = [Outcome("1", "incomplete", folder=tmp_path), Outcome("2", "done", folder=tmp_path / "both")]
    assert send_results(outcomes, [sent.append]) == {"1": "sent", "2": "sent"}
    assert [file.relative_to(tmp_path).as_posix() for file in sent] == ["seg.dcm", "both/seg.dcm", "both/rtstruct.dcm"]


def test_an_unknown_device_is_told_before_processes_start(studies, tmp_path):
    with open_export(studies[0], progress=False) as export, pytest.raises(StudyError, match="unknown device 'tpu'"):
        run(export, settings(tmp_path, device="tpu", jobs=2))
