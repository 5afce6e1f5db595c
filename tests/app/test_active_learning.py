import numpy as np
import pytest
from lib import datastore as module
from lib.active_learning import NEXT, FirstStudy, MissingSequences, PickStudy, RandomStudy, Uncertainty
from lib.datastore import StudyDatastore
from monailabel.interfaces.exception import ImageNotFoundException

from lckd.images import write_image

ONE, OTHER = {"client_id": "one"}, {"client_id": "other"}


@pytest.fixture
def datastore(studies) -> StudyDatastore:
    return StudyDatastore(studies, interval_s=None)


@pytest.fixture
def finish(datastore, tmp_path):
    def finish(study: str) -> None:
        write_image(tmp_path / "empty.nii.gz", np.zeros((4, 4, 4), np.uint8), np.eye(4))
        datastore.save_label(study, str(tmp_path / "empty.nii.gz"), "final", {})

    return finish


def test_the_first_is_the_first_without_a_final_label(datastore, finish):
    assert FirstStudy()(ONE, datastore) == {"id": "a"}
    finish("a")
    assert FirstStudy()(ONE, datastore) == {"id": "b"}


@pytest.mark.parametrize("strategy", [FirstStudy(), RandomStudy(), Uncertainty(), MissingSequences()])
def test_nothing_is_next_when_all_are_finished(strategy, datastore, finish):
    for study in "abc":
        finish(study)
    assert strategy(ONE, datastore) is None


def test_two_annotators_get_two_studies(datastore):
    assert [FirstStudy()(asks, datastore)["id"] for asks in (ONE, OTHER, ONE)] == ["a", "b", "a"]


def test_one_annotator_holds_one_study(datastore):
    FirstStudy()(ONE, datastore)
    PickStudy(datastore)(ONE | {"study": "c"}, datastore)
    assert FirstStudy()(OTHER, datastore) == {"id": "a"}


def test_more_annotators_than_studies_share_what_was_given_out_first(datastore):
    given = [FirstStudy()({"client_id": str(number)}, datastore)["id"] for number in range(4)]
    assert given == ["a", "b", "c", "a"]


def test_what_was_given_out_yesterday_is_free(datastore, monkeypatch):
    FirstStudy()(ONE, datastore)
    monkeypatch.setattr(module, "GIVEN_S", 0.0)
    assert FirstStudy()(OTHER, datastore) == {"id": "a"}


def test_random_gives_every_study(datastore):
    assert {RandomStudy()(ONE, datastore)["id"] for _ in range(60)} == {"a", "b", "c"}


def test_the_study_with_the_lowest_score_comes_first_and_those_without_last(datastore):
    for study, score in {"b": 0.7, "c": 0.4}.items():
        datastore.update_image_info(study, {"score": score})
    assert [Uncertainty()({"client_id": name}, datastore)["id"] for name in "xyz"] == ["c", "b", "a"]


def test_the_study_with_the_weakest_sequences_comes_first(datastore):
    assert [MissingSequences()({"client_id": name}, datastore)["id"] for name in "xyz"] == ["c", "b", "a"]


def test_the_picker_lists_unfinished_studies_first(datastore, finish):
    finish("a")
    assert PickStudy(datastore).info()["config"] == {"study": [NEXT, "b", "c", "a"]}


@pytest.mark.parametrize(("picked", "study"), [("c", "c"), (NEXT, "a"), ([NEXT, "a", "b", "c"], "a")])
def test_the_picked_study_or_the_next_one(datastore, picked, study):
    assert PickStudy(datastore)(ONE | {"study": picked}, datastore) == {"id": study}


def test_a_finished_study_can_be_picked_again(datastore, finish):
    finish("b")
    assert PickStudy(datastore)({"study": "b"}, datastore) == {"id": "b"}


def test_a_study_that_is_not_there_cannot_be_picked(datastore):
    with pytest.raises(ImageNotFoundException):
        PickStudy(datastore)({"study": "../a"}, datastore)
