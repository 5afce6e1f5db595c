import pytest
import torch

from lckd.losses import DistillationLoss, SegmentationLoss

EVERYWHERE = torch.ones(1, 1, 1, 1, 1)


def test_a_perfect_prediction_costs_nearly_nothing():
    target = (torch.rand(1, 3, 4, 4, 4) > 0.5).float()
    assert SegmentationLoss()([40 * target - 20], target) < 1e-3


def test_an_absent_region_still_has_a_gradient():
    logits = torch.zeros(1, 3, 4, 4, 4, requires_grad=True)
    SegmentationLoss().dice(logits, torch.zeros(1, 3, 4, 4, 4)).backward()
    assert logits.grad.abs().min() > 0


def test_soft_targets_cost_least_where_the_network_gives_the_same_probabilities():
    logits, loss = torch.randn(1, 3, 8, 8, 8, requires_grad=True), SegmentationLoss(soft=True)
    target = logits.detach().sigmoid()
    loss([logits], target).backward()
    assert logits.grad.abs().max() < 1e-6
    assert loss([logits], target) < loss([logits + 1], target)
    assert loss([logits], target) < loss([logits - 1], target)


def test_coarser_scales_weigh_half_as_much():
    target = torch.zeros(1, 3, 4, 4, 4)
    good, bad = torch.full((1, 3, 4, 4, 4), -20.0), torch.full((1, 3, 2, 2, 2), 20.0)
    loss = SegmentationLoss(deep_weight=0.5)
    assert loss([good, bad], target) == pytest.approx(loss([bad], target).item() / 3, rel=1e-4)


def features(*values: float) -> torch.Tensor:
    return torch.tensor(values).reshape(-1, 1, 1, 1, 1).requires_grad_()


def test_distillation_is_the_mean_distance_to_the_teacher():
    students = features(1.0, 4.0, 10.0)  # flair, t1, t1ce; t2 is missing
    available = torch.tensor([[True, True, True, False]])
    loss = DistillationLoss()(students, available, torch.tensor([0]), EVERYWHERE)
    assert loss.item() == pytest.approx((3 + 9) / 2)


def test_the_teacher_is_not_taught():
    students = features(1.0, 4.0)
    available = torch.tensor([[True, False, True, False]])
    DistillationLoss()(students, available, torch.tensor([2]), EVERYWHERE).backward()
    assert students.grad.flatten().tolist() == [-1.0, 0.0]


@pytest.mark.parametrize("available", [[[False, True, False, False]], [[True, False, False, False]]])
def test_without_a_teacher_or_a_student_nothing_is_distilled(available):
    loss = DistillationLoss()(features(2.0), torch.tensor(available), torch.tensor([0]), EVERYWHERE)
    assert loss.item() == 0


def test_a_weight_limits_where_a_teacher_teaches():
    both = torch.tensor([[[0.0, 0.0]], [[1.0, 5.0]]]).reshape(2, 1, 1, 1, 2)
    available = torch.tensor([[True, True, False, False]])
    only_second = torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 1, 2)
    assert DistillationLoss()(both, available, torch.tensor([0]), only_second).item() == 5
