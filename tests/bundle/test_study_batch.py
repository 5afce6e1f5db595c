"""Batches of real studies, which the tests watch while they are read, segmented and written."""

import threading

import pytest

from lckd.datalist import find_studies
from lckd.errors import StudyError
from lckd.outputs import Batch, StudyWriter
from lckd.segmentation import Segmenter
from lckd.simulation import write_study

PATIENCE = 20.0
"""Seconds after which what was to happen at the same time did not."""


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(device="cpu", precision="fp32")


@pytest.fixture
def items(small_study, tmp_path) -> list[dict]:
    for name in ("a", "b", "c"):
        write_study(small_study, tmp_path / "studies" / name)
    return find_studies(tmp_path / "studies")


@pytest.fixture
def batch(segmenter, tmp_path) -> Batch:
    return Batch(segmenter, StudyWriter(tmp_path / "out", preview=False))


@pytest.fixture
def begun(batch, monkeypatch) -> dict[str, threading.Event]:
    """Per study, whether its reading has begun."""
    events = {name: threading.Event() for name in ("a", "b", "c")}
    prepare = batch.segmenter.prepare

    def watched(item):
        events[item["study"]].set()
        return prepare(item)

    monkeypatch.setattr(batch.segmenter, "prepare", watched)
    return events


def test_the_next_study_is_read_while_one_is_segmented(batch, items, begun, monkeypatch):
    segment, following, seen = batch.segmenter.segment, {"a": "b", "b": "c"}, []

    def watched(prepared, keep):
        seen.append(prepared.study == "c" or begun[following[prepared.study]].wait(PATIENCE))
        return segment(prepared, keep)

    monkeypatch.setattr(batch.segmenter, "segment", watched)
    batch.run(items)
    assert seen == [True, True, True]


def test_a_study_is_written_while_the_next_one_is_segmented(batch, items, monkeypatch):
    segment, write, segmenting, seen = batch.segmenter.segment, batch.writer, threading.Event(), []

    def watched(prepared, keep):
        if prepared.study == "b":
            segmenting.set()
        return segment(prepared, keep)

    def writing(segmentation):
        seen.append(segmenting.wait(PATIENCE))
        return write(segmentation)

    monkeypatch.setattr(batch.segmenter, "segment", watched)
    monkeypatch.setattr(batch, "writer", writing)
    batch.run(items)
    assert seen == [True, True, True]


def test_large_images_are_read_one_after_the_other(batch, items, begun, monkeypatch):
    monkeypatch.setattr("lckd.outputs.LARGE_VOXELS", 1)
    segment, ahead = batch.segmenter.segment, []

    def watched(prepared, keep):
        segmentation = segment(prepared, keep)
        ahead.append([name for name, event in begun.items() if event.is_set()])
        return segmentation

    monkeypatch.setattr(batch.segmenter, "segment", watched)
    batch.run(items)
    assert ahead == [["a"], ["a", "b"], ["a", "b", "c"]]


@pytest.mark.parametrize("bad", ["a", "b", "c"])
@pytest.mark.parametrize("step", ["prepare", "segment", "writer"])
def test_a_failure_in_any_step_costs_its_own_study_alone(batch, items, bad, step, monkeypatch, tmp_path, capsys):
    owner = batch if step == "writer" else batch.segmenter
    original = getattr(owner, step)

    def failing(subject, *arguments, **keywords):
        if (subject["study"] if step == "prepare" else subject.study) == bad:
            raise ValueError("a defect")
        return original(subject, *arguments, **keywords)

    monkeypatch.setattr(owner, step, failing)
    with pytest.raises(StudyError, match=f"1 of 3 studies failed: {bad}"):
        batch.run(items)
    assert "please report it" in capsys.readouterr().err
    written = sorted(path.parent.name for path in (tmp_path / "out").glob("*/segmentation.nii.gz"))
    assert written == [name for name in ("a", "b", "c") if name != bad]
