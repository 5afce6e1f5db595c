from collections import Counter

import pytest
import torch
from monai.transforms import RandGaussianNoised

from lckd.trainer import PatchDataset, SubsetSampler

ALL = torch.ones(1, 4, dtype=torch.bool)


def draws(sampler: SubsetSampler, available: torch.Tensor, count: int = 1500) -> Counter:
    return Counter(tuple(sampler(available, iteration)[0].tolist()) for iteration in range(1, count + 1))


def test_all_15_subsets_are_drawn_about_equally_often():
    counts = draws(SubsetSampler(), ALL)
    assert len(counts) == 15
    assert 60 < min(counts.values()) <= max(counts.values()) < 145


def test_the_papers_second_phase_never_draws_all_four():
    assert len(draws(SubsetSampler(full=False), ALL)) == 14


def test_an_emphasized_subset_is_drawn_more_often():
    counts = draws(SubsetSampler(emphasis={"t1": 15}), ALL)
    assert counts[(False, True, False, False)] > 0.4 * counts.total()
    assert len(counts) == 15


def test_only_available_sequences_are_drawn():
    available = torch.tensor([[True, False, True, False]])
    assert len(draws(SubsetSampler(), available, 100)) == 3
    assert not any(subset[1] or subset[3] for subset in draws(SubsetSampler(), available, 100))


@pytest.mark.parametrize("full", [True, False])
def test_a_study_of_one_sequence_keeps_it(full):
    single = torch.tensor([[False, True, False, False]])
    assert torch.equal(SubsetSampler(full=full)(single, 5), single)


def test_the_first_phase_uses_everything():
    sampler = SubsetSampler(full_iterations=10)
    assert sampler(ALL, 10).all()
    assert len(Counter(bool(sampler(ALL, i).all()) for i in range(11, 60))) == 2


def test_draws_depend_on_seed_iteration_and_rank_alone():
    batch = ALL.expand(8, 4)
    assert torch.equal(SubsetSampler(3)(batch, 7), SubsetSampler(3)(batch, 7))
    assert not torch.equal(SubsetSampler(3)(batch, 7), SubsetSampler(3)(batch, 8))
    assert not torch.equal(SubsetSampler(3)(batch, 7), SubsetSampler(3, rank=1)(batch, 7))


def patches() -> PatchDataset:
    studies = [{"image": torch.full((1, 2, 2, 2), float(number))} for number in range(5)]
    return PatchDataset(studies, studies, [RandGaussianNoised("image", prob=1.0)], length=10, seed=1)


def test_a_patch_is_the_same_whenever_it_is_asked_for():
    first, second = patches(), patches()
    second[3]
    first.epoch = second.epoch = 4
    assert torch.equal(first[7]["image"], second[7]["image"])
    second.epoch = 5
    assert not torch.equal(first[7]["image"], second[7]["image"])


def test_every_study_is_used_once_before_one_is_used_again():
    dataset = patches()
    dataset.augmentation = lambda study: study
    dataset.augmentation.set_random_state = lambda seed: None
    numbers = [int(dataset[index]["image"].max()) for index in range(10)]
    assert sorted(numbers[:5]) == sorted(numbers[5:]) == list(range(5))
