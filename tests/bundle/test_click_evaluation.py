import json

import pytest
import torch

from lckd.click_evaluation import ClickEvaluation, markdown, session
from lckd.datalist import find_studies
from lckd.errors import StudyError
from lckd.interaction import Refiner
from lckd.refinement import RefinementNet
from lckd.segmentation import Segmenter
from lckd.simulation import write_study
from lckd.weights import save_weights


def test_a_session_stops_clicking_where_nothing_is_wrong():
    truth = torch.zeros(12, 12, 12, dtype=torch.uint8)
    truth[3:8, 3:8, 3:8] = 3
    asked = []

    def correct(marks):
        asked.append(len(marks))
        return truth

    dice = [value for value, _ in session(correct, torch.zeros_like(truth), truth, "et", 3)]
    assert dice == [0, 1, 1, 1] and asked == [1]


@pytest.fixture(scope="module")
def evaluated(small_study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clicks")
    write_study(small_study, folder / "studies" / "a", study_id="a")
    write_study(small_study, folder / "studies" / "b", study_id="b", sequences=("flair",))
    save_weights(RefinementNet().state_dict(), folder / "refinement.pt")
    evaluation = ClickEvaluation(
        Segmenter(precision="fp32"), Refiner(weights=folder / "refinement.pt"), folder / "out", clicks=2
    )
    return evaluation.run(find_studies(folder / "studies")), folder / "out"


def test_every_study_is_clicked_with_each_subset_that_it_has(evaluated):
    result, _ = evaluated
    pairs = {(row["study"], row["subset"]) for row in result["records"]}
    assert pairs == {("a", "flair"), ("a", "t1"), ("a", "flair+t2"), ("a", "flair+t1+t1ce+t2"), ("b", "flair")}
    assert {row["clicks"] for row in result["records"]} == {0, 1, 2}
    assert all(row["seconds"] == 0 for row in result["records"] if row["clicks"] == 0)


def test_the_files_hold_the_same(evaluated):
    result, folder = evaluated
    assert json.loads((folder / "clicks.json").read_text()) == result
    assert len((folder / "clicks.csv").read_text().splitlines()) == 1 + len(result["records"])
    assert (folder / "clicks.md").read_text() == markdown(result["records"])
    assert (folder / "clicks.png").stat().st_size > 5000


def test_a_bad_study_loses_nothing_of_the_others(evaluated, small_study, tmp_path):
    write_study(small_study, tmp_path / "studies" / "good", study_id="good", sequences=("flair",))
    write_study(small_study, tmp_path / "studies" / "bad", study_id="bad", sequences=("flair",))
    next((tmp_path / "studies" / "bad").glob("*flair*")).write_bytes(b"no image")
    evaluation = ClickEvaluation(
        Segmenter(precision="fp32"),
        Refiner(weights=evaluated[1].parent / "refinement.pt"),
        tmp_path / "out",
        clicks=1,
    )
    with pytest.raises(StudyError, match="1 of 2 studies were not evaluated: bad"):
        evaluation.run(find_studies(tmp_path / "studies"))
    records = json.loads((tmp_path / "out" / "clicks.json").read_text())["records"]
    assert {row["study"] for row in records} == {"good"}
    with pytest.raises(StudyError, match="1 of 1 studies were not evaluated: bad"):
        evaluation.run(find_studies(tmp_path / "studies" / "bad"))


def test_the_table_counts_clicks_to_a_dice():
    row = {"study": "s", "subset": "t1", "method": "refinement", "region": "et", "seconds": 0.1}
    records = [row | {"clicks": count, "dice": dice} for count, dice in enumerate((0.5, 0.7, 0.86, 0.88))]
    records += [record | {"region": region} for record in records for region in ("wt", "tc")]
    line = next(line for line in markdown(records).splitlines() if "| ET |" in line)
    assert "| 50.0 | 70.0 | 86.0 | 88.0 | 2 (1 of 1) | > 3 (0 of 1) |" in line
