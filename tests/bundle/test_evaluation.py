import csv
import json

import pytest
import torch
from PIL import Image

from lckd.evaluation import score, summarize, write_tables
from lckd.sequences import REGIONS, SUBSETS, subset_name


def cubes(shift: int = 0, empty: bool = False) -> torch.Tensor:
    regions = torch.zeros(3, 20, 20, 20, dtype=torch.bool)
    if not empty:
        regions[:, 5 + shift : 11 + shift, 5:11, 5:11] = True
    return regions


def test_a_perfect_prediction():
    assert score(cubes(), cubes(), (1, 1, 1))["et"] == {"dice": 1.0, "hd95_mm": 0.0, "found": True, "both_empty": False}


def test_a_region_at_the_images_border_counts_as_elsewhere():
    regions = torch.zeros(3, 8, 8, 8, dtype=torch.bool)
    regions[:, :3, 4:] = True
    assert score(regions, regions, (1, 1, 1))["wt"] == {"dice": 1.0, "hd95_mm": 0.0, "found": True, "both_empty": False}


def test_distances_are_in_millimetres():
    scores = score(cubes(3), cubes(), (2.0, 1, 1))
    assert scores["wt"]["dice"] == pytest.approx(0.5)
    assert scores["wt"]["hd95_mm"] == pytest.approx(6.0)


def test_empty_in_both_is_right_and_said_so():
    assert score(cubes(empty=True), cubes(empty=True), (1, 1, 1))["tc"] == {
        "dice": 1.0,
        "hd95_mm": 0.0,
        "found": False,
        "both_empty": True,
    }


@pytest.mark.parametrize("swap", [False, True])
def test_empty_in_one_is_the_diagonal(swap):
    pair = (cubes(), cubes(empty=True))
    result = score(*(pair[::-1] if swap else pair), (1, 1, 2))["et"]
    assert (result["dice"], result["found"]) == (0, not swap)
    assert result["hd95_mm"] == pytest.approx((400 + 400 + 1600) ** 0.5)


def records():
    return [
        {
            "study": f"s{study}",
            "subset": subset_name(subset),
            "region": region,
            "dice": value,
            "hd95_mm": 10 * value,
            "found": True,
            "both_empty": False,
        }
        for study, value in enumerate((0.2, 0.4, 0.9))
        for subset in SUBSETS
        for region in REGIONS
    ]


def test_means_lie_in_their_intervals_and_repeat():
    table = summarize(records())
    cell = table["subsets"]["flair+t2"]["wt"]
    assert cell["dice"] == 0.5
    assert cell["dice_interval"][0] < 0.5 < cell["dice_interval"][1]
    assert cell["studies"] == 3
    assert table["mean"]["wt"]["dice"] == 0.5
    assert summarize(records()) == table


def test_a_study_with_fewer_subsets_weighs_as_much_in_the_mean():
    uneven = [r for r in records() if r["study"] != "s2" or r["subset"] == "flair"]
    assert summarize(uneven)["mean"]["et"]["dice"] == 0.5


def test_the_four_files(tmp_path):
    table = summarize(records())
    write_tables(table, records(), tmp_path / "out", "ab" * 32)
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["table"] == table
    with (tmp_path / "out" / "evaluation.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3 * 15 * 3
    rows = [line for line in (tmp_path / "out" / "evaluation.md").read_text().splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 15 + 1
    assert "| ● | ○ | ○ | ● | 50.0 [20, 90]" in "\n".join(rows)
    assert Image.open(tmp_path / "out" / "evaluation.png").width > 500
