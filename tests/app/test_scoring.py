from pathlib import Path

import numpy as np
import pytest
from lib.datastore import StudyDatastore
from lib.scoring import DiceScoring

from lckd.images import write_image


@pytest.fixture
def datastore(studies) -> StudyDatastore:
    return StudyDatastore(studies, interval_s=None)


@pytest.fixture
def save(datastore, tmp_path):
    def save(study: str, tag: str, label_map: np.ndarray, affine: np.ndarray | None = None) -> None:
        write_image(tmp_path / "label.nii.gz", label_map, np.eye(4) if affine is None else affine)
        datastore.save_label(study, str(tmp_path / "label.nii.gz"), tag, {})

    return save


def block(value: int, width: int = 4) -> np.ndarray:
    label_map = np.zeros((8, 8, 8), np.uint8)
    label_map[:width, 2:6, 2:6] = value
    return label_map


def test_dice_per_region_of_final_against_original(datastore, save):
    save("a", "original", block(3, width=4))
    save("a", "final", block(2, width=2))
    scored = DiceScoring()({}, datastore)
    assert scored["studies"] == {"a": {"et": 0.0, "wt": pytest.approx(2 / 3, abs=1e-4), "tc": 0.0}}
    assert scored["mean"] == scored["studies"]["a"]
    assert datastore.get_label_info("a", "final")["dice"] == scored["studies"]["a"]


def test_a_region_that_neither_label_has_counts_as_1(datastore, save):
    save("a", "original", block(2))
    save("a", "final", block(2))
    assert DiceScoring()({}, datastore)["studies"]["a"] == {"et": 1.0, "wt": 1.0, "tc": 1.0}


def test_labels_are_compared_where_they_lie_and_not_by_index(datastore, save):
    flipped = np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = 7
    save("a", "original", block(3))
    save("a", "final", block(3)[::-1], flipped)
    save("b", "original", block(3))
    save("b", "final", block(3), flipped)
    scored = DiceScoring()({}, datastore)["studies"]
    assert (scored["a"]["wt"], scored["b"]["wt"]) == (1.0, 0.0)


def test_labels_on_grids_of_different_shapes_are_compared(datastore, save):
    save("a", "original", block(3))
    save("a", "final", np.pad(block(3), 2), np.array([[1, 0, 0, -2], [0, 1, 0, -2], [0, 0, 1, -2], [0, 0, 0, 1.0]]))
    assert DiceScoring()({}, datastore)["studies"]["a"]["et"] == 1.0


def test_a_study_without_both_labels_is_not_scored(datastore, save):
    save("a", "final", block(1))
    save("b", "original", block(1))
    assert DiceScoring()({}, datastore) == {"studies": {}, "mean": None, "errors": {}}


def test_only_the_studies_that_are_asked_for(datastore, save):
    for study in "ab":
        save(study, "original", block(1))
        save(study, "final", block(1))
    assert set(DiceScoring()({"images": ["b"]}, datastore)["studies"]) == {"b"}


def test_a_label_that_cannot_be_read_is_told_and_stops_nothing(datastore, save):
    for study in "ab":
        save(study, "original", block(1))
        save(study, "final", block(1))
    Path(datastore.get_label_uri("a", "original")).write_bytes(b"nothing")
    scored = DiceScoring()({}, datastore)
    assert set(scored["studies"]) == {"b"}
    assert "export it again" in scored["errors"]["a"]
