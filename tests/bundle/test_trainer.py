from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from monai.inferers import SimpleInferer
from monai.transforms import RandGaussianNoised

from lckd.decoder import Decoder
from lckd.election import Election
from lckd.encoder import Encoder
from lckd.network import LCKDNet
from lckd.trainer import PatchDataset, SubsetSampler, TrainingNetwork, TrainingStep

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


@pytest.mark.parametrize(("unenhanced", "subset", "labelled"), [(False, 0, True), (True, 0, False), (True, 2, True)])
def test_labels_answer_for_their_regions_where_what_they_say_can_be_seen(unenhanced, subset, labelled):
    """Without T1ce, the sequence at 2, nobody sees that nothing enhances: there the imitated answer stands."""
    step = TrainingStep(
        lambda available, iteration: torch.eye(4, dtype=torch.bool)[[subset]],
        Election("none"),
        precision="fp32",
        imitated=lambda image, *_: torch.full((1, 3, *image.shape[2:]), 0.5),
        labelled=["et"],
    )
    targets = []
    loss = step.segmentation_loss
    step.segmentation_loss = lambda logits, target: targets.append(target) or loss(logits, target)
    network = TrainingNetwork(LCKDNet(Encoder((4, 6), (0, 1)), Decoder((4, 6), (1, 1))))
    engine = SimpleNamespace(
        state=SimpleNamespace(device="cpu", iteration=1),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        inferer=SimpleInferer(),
    )
    image, label = torch.rand(1, 4, 16, 16, 16), torch.zeros(1, 3, 16, 16, 16)
    flags = {"position": torch.tensor([0]), "unenhanced": torch.tensor([unenhanced])}
    step(engine, {"image": image, "label": label, "availability": torch.ones(1, 4, dtype=torch.bool)} | flags)
    et, wt, tc = targets[0][0]
    assert (et == (0 if labelled else 0.5)).all() and (wt == 0.5).all() and (tc == 0.5).all()
