"""One training step, and what feeds it: subsets, patches by seed, progress."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from monai.transforms import Compose
from monai.utils import convert_to_tensor
from torch import Tensor, nn
from torch.utils.data import Dataset

from lckd.committee import outsiders
from lckd.election import Election
from lckd.losses import DistillationLoss, SegmentationLoss
from lckd.network import LCKDNet
from lckd.sequences import REGIONS, SEQUENCES, SUBSETS, parse_subset

_AVAILABILITY = torch.tensor([[sequence in subset for sequence in SEQUENCES] for subset in SUBSETS])


class SubsetSampler:
    """Draws which of its available sequences each study may use in an iteration.

    Draws depend on the seed, the rank and the iteration alone, so that a resumed training draws the same.

    Args:
        seed: of the generator.
        full_iterations: every sequence is used until then (the paper's first phase).
        full: a draw may be all the sequences a study has; False is the paper's second phase.
        emphasis: how many times as likely as the others a subset is, e.g. ``{"t1": 3}``.
        rank: of this process in a distributed training, so that each draws its own.
    """

    def __init__(
        self,
        seed: int = 0,
        full_iterations: int = 0,
        full: bool = True,
        emphasis: Mapping[str, float] | None = None,
        rank: int = 0,
    ) -> None:
        self.seed, self.full_iterations, self.full, self.rank = seed, full_iterations, full, rank
        factors = {parse_subset(name): factor for name, factor in (emphasis or {}).items()}
        self.weights = np.array([factors.get(subset, 1.0) for subset in SUBSETS])

    def __call__(self, availability: Tensor, iteration: int) -> Tensor:
        """A random non-empty subset of every row of ``availability`` ``(B, 4)``."""
        if iteration <= self.full_iterations:
            return availability
        generator = np.random.default_rng((self.seed, self.rank, iteration))
        drawn = [self._draw(available, generator) for available in availability]
        return torch.stack(drawn).to(availability.device)

    def _draw(self, available: Tensor, generator: np.random.Generator) -> Tensor:
        possible = (~_AVAILABILITY | available.cpu()).all(1)
        if not self.full and available.sum() > 1:
            possible &= (_AVAILABILITY ^ available.cpu()).any(1)
        weights = self.weights * possible.numpy()
        return _AVAILABILITY[int(generator.choice(len(SUBSETS), p=weights / weights.sum()))]


class PatchDataset(Dataset):
    """Random patches of cached studies; which ones depends on the seed and the epoch alone.

    Args:
        data: the data list.
        studies: the same studies, preprocessed.
        augmentation: random transforms of a study to a patch.
        length: patches per epoch.
        seed: of everything random.
    """

    def __init__(
        self,
        data: Sequence[Mapping],
        studies: Sequence[Mapping],
        augmentation: Sequence[Callable],
        length: int,
        seed: int = 0,
    ) -> None:
        self.data, self.studies, self.length, self.seed, self.epoch = data, studies, length, seed, 1
        self.augmentation = Compose(augmentation)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        """Patch ``index`` of the epoch, and its study's ``position``; every study is used once before one is again."""
        position = (self.epoch - 1) * self.length + index
        turn, place = divmod(position, len(self.studies))
        study = int(np.random.default_rng((self.seed, turn)).permutation(len(self.studies))[place])
        self.augmentation.set_random_state(seed=(self.seed * 1_000_003 + position) % 2**32)
        return self.augmentation(self.studies[study]) | {"position": study}


class EpochHandler:
    """Tells the ``PatchDataset`` which epoch starts."""

    def __init__(self, dataset: PatchDataset) -> None:
        self.dataset = dataset

    def attach(self, engine: Engine) -> None:
        """Set the epoch before its data loader is made."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Set the epoch."""
        self.dataset.epoch = engine.state.epoch


class TrainingNetwork(nn.Module):
    """An ``LCKDNet`` as training sees it; wrap this one for distributed training."""

    def __init__(self, network: LCKDNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, availability: Tensor) -> tuple[list[Tensor], Tensor]:
        """Logits of all supervised scales and the deepest features ``(N, C, d, h, w)``."""
        features = self.network.encode(image, availability)
        return self.network.decode(features, availability), features[-1]


class TrainingStep:
    """One step: draw subsets, encode and decode, segmentation and distillation loss, optimizer.

    Give it to MONAI's ``SupervisedTrainer`` as ``iteration_update``, with a ``TrainingNetwork``.

    Args:
        subsets: draws the subset of each study.
        election: knows the teachers.
        distillation_weight: of the distillation loss; the paper's is 0.1.
        precision: ``bf16`` for automatic mixed precision, ``fp32`` for none.
        imitated: whose probabilities stand in for the labels: ``Imitated`` or ``ImitatedCommittee``.
        labelled: regions for which the labels answer all the same, but for a patch that is ``unenhanced`` and shown
            without T1ce: no other sequence tells that nothing enhances.
        members: of the committee that is trained, with a ``TrainingCommittee``. Of K members, the k-th never learns
            from the studies at the positions k, K + k, 2 K + k...
    """

    def __init__(
        self,
        subsets: SubsetSampler,
        election: Election,
        distillation_weight: float = 0.1,
        precision: str = "bf16",
        imitated: Callable[[Tensor, Tensor, Tensor, int], Tensor] | None = None,
        labelled: Sequence[str] = (),
        members: int = 1,
    ) -> None:
        self.members, self.imitated = members, imitated
        self.labelled = torch.tensor([region in labelled for region in REGIONS])
        self.subsets, self.election, self.distillation_weight = subsets, election, distillation_weight
        self.amp = {"bf16": True, "fp32": False}[precision]
        self.segmentation_loss = SegmentationLoss(soft=imitated is not None)
        self.distillation_loss = DistillationLoss()

    def __call__(self, engine: SupervisedTrainer, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """Train on a batch: ``image`` ``(B, 4, D, H, W)``, ``availability`` ``(B, 4)``, ``label`` regions.

        Returns:
            The losses: ``loss``, ``segmentation`` and ``distillation``.
        """
        device = engine.state.device
        image, target, availability = (
            convert_to_tensor(batch[key], track_meta=False, device=device) for key in ("image", "label", "availability")
        )
        subset = self.subsets(availability.repeat(self.members, 1), engine.state.iteration)
        position = torch.as_tensor(batch["position"], device=device)
        if self.members > 1:
            subset[outsiders(position, self.members).flatten()] = False
        engine.network.train()
        engine.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=self.amp):
            logits, features = engine.inferer(image, engine.network, subset)
        taught = subset.any(1)
        target, subset = target.repeat(self.members, 1, 1, 1, 1)[taught], subset[taught]
        teachers, weights = self.election.teachers(target, features.shape[2:])
        if self.imitated is not None:
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=self.amp):
                answers = self.imitated(image, subset, position, engine.state.iteration)
            unseen = torch.as_tensor(batch["unenhanced"], device=device) & ~subset[:, SEQUENCES.index("t1ce")]
            by_label = self.labelled.to(device) & ~unseen[:, None]
            target = torch.where(by_label[:, :, None, None, None], target, answers)
        segmentation = self.segmentation_loss(logits, target)
        distillation = self.distillation_loss(features, subset, teachers, weights)
        loss = segmentation + self.distillation_weight * distillation
        loss.backward()
        engine.optimizer.step()
        return {
            "loss": loss.item(),
            "segmentation": segmentation.item(),
            "distillation": distillation.item(),
        }
