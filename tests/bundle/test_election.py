import pytest
import torch

from lckd.election import Election
from lckd.sequences import SEQUENCES

TABLE = {
    "flair": {"et": 0.1, "wt": 0.8, "tc": 0.3},
    "t1": {"et": 0.2, "wt": 0.4, "tc": 0.3},
    "t1ce": {"et": 0.7, "wt": 0.6, "tc": 0.7},
    "t2": {"et": 0.3, "wt": 0.7, "tc": 0.4},
}
TARGET = torch.zeros(1, 3, 4, 4, 4)
TARGET[:, 1, :2] = 1  # whole tumour in one half


def elected(mode: str) -> Election:
    election = Election(mode)
    election.elect(TABLE)
    return election


def teachers(mode: str) -> list[str]:
    return [SEQUENCES[index] for index in elected(mode).teachers(TARGET, torch.Size((2, 2, 2)))[0]]


def test_the_best_single_sequence_of_each_region_wins():
    assert elected("multi").winners == {"et": "t1ce", "wt": "flair", "tc": "t1ce"}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("none", []),
        ("all", list(SEQUENCES)),
        ("single", ["t1ce"]),
        ("multi", ["flair", "t1ce"]),
        ("per_region", ["t1ce", "flair", "t1ce"]),
    ],
)
def test_who_teaches(mode, expected):
    assert teachers(mode) == expected


def test_per_region_each_teaches_only_where_its_region_is():
    weights = elected("per_region").teachers(TARGET, torch.Size((2, 2, 2)))[1]
    assert weights[0].sum(dim=(1, 2, 3)).tolist() == [0, 4, 0]


def test_a_sequence_that_no_validation_study_has_cannot_win():
    election = Election("multi")
    election.elect(TABLE | {"flair": dict.fromkeys(("et", "wt", "tc"), float("nan"))})
    assert election.winners == {"et": "t1ce", "wt": "t2", "tc": "t1ce"}


def test_before_the_first_election_the_first_teacher_teaches():
    assert Election("multi", first="flair").teachers(TARGET, torch.Size((2, 2, 2)))[0].tolist() == [0]


def test_the_state_goes_into_a_checkpoint_and_back():
    other = Election("multi")
    other.load_state_dict(elected("multi").state_dict())
    assert (other.winners, other.table) == (elected("multi").winners, TABLE)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="accepted are none, all, single, multi, per_region"):
        Election("best")
