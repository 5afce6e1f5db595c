import threading

import numpy as np
import pytest
from lib.batch import BatchTask, start_in_background
from lib.datastore import StudyDatastore
from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.interfaces.tasks.batch_infer import BatchInferImageType

from lckd.errors import StudyError
from lckd.images import write_image
from lckd.simulation import write_study

WEIGHTS = {"sha256": "f00"}


class Infer:
    """Stands for the app's: keeps an empty label map, and what it was asked."""

    def __init__(self, folder) -> None:
        self.folder, self.asked, self.failures, self.meanwhile = folder, [], {}, lambda: None

    def __call__(self, request, datastore):
        study = request["image"]
        self.asked.append(request)
        self.meanwhile()
        if study in self.failures:
            raise self.failures[study]
        file = self.folder / f"result-{len(self.asked)}.nii.gz"
        write_image(file, np.zeros((4, 4, 4), np.uint8), np.eye(4))
        used = datastore.subsets()[study].split("+")
        report = {"weights": dict(WEIGHTS), "sequences": {"used": used}}
        datastore.save_label(study, str(file), request["label_tag"], {"params": report})
        return {"file": str(file)}

    @property
    def studies(self) -> list[str]:
        return [request["image"] for request in self.asked]


@pytest.fixture
def datastore(studies) -> StudyDatastore:
    return StudyDatastore(studies, interval_s=None)


@pytest.fixture
def infer(tmp_path) -> Infer:
    return Infer(tmp_path)


@pytest.fixture
def batch() -> BatchTask:
    return BatchTask(lambda: WEIGHTS)


@pytest.fixture
def save(datastore, tmp_path):
    def save(study: str, tag: str) -> None:
        write_image(tmp_path / "label.nii.gz", np.zeros((4, 4, 4), np.uint8), np.eye(4))
        datastore.save_label(study, str(tmp_path / "label.nii.gz"), tag, {})

    return save


def test_every_study_gets_a_label_and_nothing_is_left_behind(batch, datastore, infer, tmp_path):
    assert batch({}, datastore, infer) == {"a": "done", "b": "done", "c": "done"}
    assert datastore.get_labeled_images("original") == ["a", "b", "c"]
    assert list(tmp_path.glob("result-*")) == []


def test_what_is_done_is_passed_over_the_next_time(batch, datastore, infer):
    assert set(batch({"max_batch_size": 2}, datastore, infer)) == {"a", "b"}
    assert set(batch({}, datastore, infer)) == {"c"}
    assert batch({}, datastore, infer) == {}


def test_studies_with_a_final_label_are_left_alone(batch, datastore, infer, save):
    save("a", "final")
    assert set(batch({"images": BatchInferImageType.IMAGES_UNLABELED}, datastore, infer)) == {"b", "c"}


@pytest.mark.parametrize(("images", "chosen"), [("all", {"a", "b", "c"}), ("labeled", {"a"}), (["c"], {"c"})])
def test_which_studies(batch, datastore, infer, save, images, chosen):
    save("a", "final")
    assert set(batch({"images": images}, datastore, infer)) == chosen


def test_studies_of_another_kind_are_refused(batch, datastore, infer):
    with pytest.raises(StudyError, match="images is 'some'; accepted are unlabeled, labeled, all or a list of ids"):
        batch({"images": "some"}, datastore, infer)


def test_a_new_sequence_or_new_weights_make_a_new_version(batch, datastore, infer, studies, small_study):
    batch({}, datastore, infer)
    write_study(small_study, studies / "c", study_id="c", sequences=("flair",), label=False)
    datastore.refresh()
    assert set(batch({}, datastore, infer)) == {"c"}
    assert set(BatchTask(lambda: {"sha256": "new"})({}, datastore, infer)) == {"a", "b", "c"}


def test_a_label_that_a_person_saved_is_not_outdated(batch, datastore, infer, save):
    save("a", "original")
    assert set(batch({}, datastore, infer)) == {"b", "c"}


def test_one_bad_study_stops_nothing(batch, datastore, infer):
    infer.failures = {"a": StudyError("a is truncated; export it again"), "b": RuntimeError("?")}
    results = batch({}, datastore, infer)
    assert results == {
        "a": "a is truncated; export it again",
        "b": "failed unexpectedly (RuntimeError); see the log",
        "c": "done",
    }
    infer.failures = {}
    assert set(batch({}, datastore, infer)) == {"a", "b"}


def test_a_study_that_somebody_finished_meanwhile_is_left_alone(batch, datastore, infer, save):
    infer.meanwhile = lambda: save("b", "final")
    assert set(batch({}, datastore, infer)) == {"a", "c"}


def test_what_monai_label_sends_by_itself_works_without_a_gpu(batch, datastore, infer):
    request = {
        "device": "cuda",
        "multi_gpu": True,
        "gpus": "all",
        "save_label": True,
        "label_tag": DefaultLabelTag.ORIGINAL,
        "max_workers": 1,
        "max_batch_size": 0,
    }
    assert set(batch(request, datastore, infer).values()) == {"done"}
    assert {asked["device"] for asked in infer.asked} == {"auto"}
    assert datastore.get_labeled_images("original") == ["a", "b", "c"]


def test_the_background_segments_what_is_there_and_what_comes(batch, datastore, infer, studies, small_study):
    finished, expected = threading.Event(), {"a", "b", "c"}
    infer.meanwhile = lambda: finished.set() if set(infer.studies) >= expected else None
    start_in_background(batch, datastore, infer, pause_s=0.05)
    assert finished.wait(20)
    finished.clear()
    expected.add("d")
    write_study(small_study, studies / "d", study_id="d", sequences=("t2",), label=False)
    datastore.refresh()
    assert finished.wait(20)
