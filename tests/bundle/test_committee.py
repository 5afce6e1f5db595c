"""Committees: networks that answer together, learn side by side and are imitated by one."""

import pytest
import torch
from torch import nn

from lckd.committee import Committee, ImitatedCommittee, TrainingCommittee, outsiders
from lckd.decoder import Decoder
from lckd.encoder import Encoder
from lckd.inferer import decode_subset, encode_study
from lckd.network import LCKDNet
from lckd.sequences import SEQUENCES

IMAGE = torch.randn(2, 4, 16, 16, 16, generator=torch.Generator().manual_seed(0))
AVAILABILITY = torch.tensor([[True, False, True, False], [False, True, True, True]])


def tiny(seed: int) -> LCKDNet:
    torch.manual_seed(seed)
    return LCKDNet(Encoder((4, 6), (0, 1)), Decoder((4, 6), (1, 1))).eval()


class Sure(nn.Module):
    """Answers with the same logit everywhere."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = logit

    def forward(self, image: torch.Tensor, availability: torch.Tensor) -> torch.Tensor:
        return torch.full((len(image), 3, *image.shape[2:]), self.logit)


@torch.no_grad()
def test_a_committee_gives_the_mean_of_its_members_probabilities():
    members = [tiny(seed) for seed in range(3)]
    together = Committee(members).eval()(IMAGE, AVAILABILITY).sigmoid()
    alone = torch.stack([member(IMAGE, AVAILABILITY).sigmoid() for member in members])
    assert alone.std(0).max() > 0.01
    assert torch.allclose(together, alone.mean(0), atol=1e-5)


@torch.no_grad()
def test_a_committees_features_are_kept_and_decoded_as_one_networks_are():
    committee = Committee([tiny(0), tiny(1)]).eval()
    features = encode_study(committee, IMAGE[1:], AVAILABILITY[1:])
    for subset in (("t1",), ("t1ce", "t2"), ("t1", "t1ce", "t2")):
        chosen = torch.tensor([[name in subset for name in SEQUENCES]])
        assert torch.allclose(decode_subset(committee, features, subset), committee(IMAGE[1:], chosen), atol=1e-4)


def test_every_study_has_one_outsider():
    assert outsiders(torch.arange(8), 4).sum(0).tolist() == [1] * 8
    assert outsiders(torch.tensor([5]), 4)[:, 0].tolist() == [False, True, False, False]
    committee = Committee([tiny(seed) for seed in range(4)])
    assert committee.outsider(5) is committee.networks[1]


def test_members_learn_from_rows_of_their_own_and_leave_out_those_without_a_sequence():
    members = [tiny(0), tiny(1)]
    training = TrainingCommittee(Committee(members))
    rows = torch.cat([AVAILABILITY, AVAILABILITY.flip(0)])
    rows[1] = False
    with torch.no_grad():
        logits, features = training(IMAGE, rows)
        assert torch.allclose(logits[0][:1], members[0](IMAGE[:1], rows[:1]), atol=1e-5)
        assert torch.allclose(logits[0][1:], members[1](IMAGE, rows[2:]), atol=1e-5)
    assert len(features) == rows.sum()


@pytest.mark.parametrize("position", [0, 1])
def test_half_of_what_is_imitated_is_the_outsiders(position):
    outsider, insider, predecessor = Sure(4.0), Sure(-4.0), Sure(0.0)
    committee = Committee([outsider, insider] if position == 0 else [insider, outsider])
    imitated = ImitatedCommittee(committee, predecessor, seed=1)
    given = IMAGE[:1], AVAILABILITY[:1], torch.tensor([position])
    answers = [float(imitated(*given, iteration).mean()) for iteration in range(40)]
    with_insider, with_predecessor = 0.5, (torch.tensor(4.0).sigmoid().item() + 0.5) / 2
    assert {round(answer, 4) for answer in answers} == {with_insider, round(with_predecessor, 4)}
    assert answers == [float(imitated(*given, iteration).mean()) for iteration in range(40)]


def test_a_region_can_be_left_to_the_predecessor():
    imitated = ImitatedCommittee(Committee([Sure(4.0), Sure(-4.0)]), Sure(0.0), left=["et"])
    answers = [imitated(IMAGE[:1], AVAILABILITY[:1], torch.tensor([0]), iteration) for iteration in range(20)]
    assert all(float(answer[:, 0].mean()) == 0.5 for answer in answers)
    assert any(float(answer[:, 1].mean()) != 0.5 for answer in answers)
