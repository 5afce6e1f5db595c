import json

import numpy as np
import pytest

from lckd.files import write_json
from lckd.report import expected_dice, missing_sequences, study_report, summary_line, volumes_ml
from lckd.sequences import REGIONS, SEQUENCES, SUBSETS, subset_name

LABEL_MAP = np.array([0, 1, 1, 2, 3, 3, 3, 0], np.uint8).reshape(2, 2, 2)
EVALUATION = {
    "subsets": {"flair+t2": {r: {"dice": 0.5, "dice_interval": [0.4, 0.6]} for r in ("et", "wt", "tc")}},
    "mean": {},
}


@pytest.mark.parametrize(
    "affine",
    [
        np.diag([1.0, 2, 5, 1]),
        np.diag([-1.0, 2, 5, 1]),
        np.array([[0, 2.0, 0, 9], [1, 0, 0, 9], [0, 0, 5, 9], [0, 0, 0, 1]]),
    ],
)
def test_volumes_are_voxels_times_their_size_in_any_orientation(affine):
    volumes = volumes_ml(LABEL_MAP, affine)
    assert volumes["labels"] == {"necrotic core": 0.02, "oedema": 0.01, "enhancing tumour": 0.03}
    assert volumes["regions"] == {"et": 0.03, "wt": 0.06, "tc": 0.05}


def test_expected_dice_is_that_of_exactly_the_subset():
    assert expected_dice(EVALUATION, ("flair", "t2"))["wt"] == {"dice": 0.5, "interval_95": [0.4, 0.6]}
    assert expected_dice(EVALUATION, ("flair",)) is None
    assert expected_dice(None, ("flair", "t2")) is None


def full_evaluation() -> dict:
    """Every sequence adds 0.1, T1ce 0.4 to the enhancing tumour."""
    subsets = {}
    for subset in SUBSETS:
        dice = dict.fromkeys(REGIONS, 0.1 * len(subset)) | {"et": 0.1 * len(subset) + 0.3 * ("t1ce" in subset)}
        subsets[subset_name(subset)] = {r: {"dice": round(dice[r], 2), "dice_interval": [0, 1]} for r in REGIONS}
    return {"subsets": subsets}


def test_the_sequence_that_would_help_most_is_named_with_its_gain():
    missing = missing_sequences(full_evaluation(), ("t1", "t2"))
    assert missing["most_helpful"] == "t1ce"
    assert missing["advice"] == (
        "T1ce would help most: enhancing tumour has an expected Dice of 0.20 without it and 0.60 with it"
    )
    assert missing["expected_dice"]["flair"] == {"et": 0.3, "wt": 0.3, "tc": 0.3}


def test_nothing_is_missing_from_a_complete_study_nor_said_without_an_evaluation():
    assert missing_sequences(full_evaluation(), SEQUENCES) is None
    assert missing_sequences(EVALUATION, ("flair", "t2")) is None
    assert missing_sequences(None, ("flair",)) is None


def test_a_sequence_that_makes_it_worse_is_not_recommended():
    evaluation = full_evaluation()
    for row in evaluation["subsets"].values():
        for region in REGIONS:
            row[region]["dice"] = 0.5
    assert missing_sequences(evaluation, ("flair",))["advice"] == "no missing sequence is expected to help"


def report(**changes):
    return study_report(
        **{
            "study": "p7",
            "weights": {"file": "model.pt", "sha256": "ab"},
            "used": ("flair", "t2"),
            "reference": "flair",
            "label_map": LABEL_MAP,
            "affine": np.eye(4) * 10,
            "expected": expected_dice(EVALUATION, ("flair", "t2")),
            "estimated": dict.fromkeys(("et", "wt", "tc"), 0.8),
            "missing": None,
            "device": "cpu",
            "precision": "float32",
            "timings_s": {"load": 1.0},
            "warnings": [],
            **changes,
        }
    )


def test_a_report_says_what_was_used_and_what_was_missing():
    assert report()["sequences"] == {"used": ["flair", "t2"], "missing": ["t1", "t1ce"], "reference": "flair"}
    assert "Research use only" in report()["disclaimer"]


def test_the_summary_is_one_line_with_and_without_expectation():
    assert summary_line(report()).startswith("p7 [flair+t2]: ET 3.0 mL (expected Dice 0.50, here 0.80), WT")
    assert "Dice" not in summary_line(report(expected=None, estimated=None))
    assert "(expected Dice 0.50), WT" in summary_line(report(estimated={"et": None, "wt": 0.8, "tc": 0.8}))


def test_a_report_is_json(tmp_path):
    write_json(tmp_path / "report.json", report())
    assert json.loads((tmp_path / "report.json").read_text()) == report()
