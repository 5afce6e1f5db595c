"""Several networks asked as one: trained together on the same patches, and imitated together by a single one."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lckd.network import LCKDNet
from lckd.sequences import REGIONS


class Committee(nn.Module):
    """Networks of one architecture whose probabilities are averaged; used as an ``LCKDNet`` is.

    Args:
        members: the networks, each with weights of its own.
    """

    def __init__(self, members: Sequence[LCKDNet]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    @property
    def networks(self) -> list[LCKDNet]:
        """The members."""
        return list(self.members)  # type: ignore[arg-type]

    @property
    def encoder(self) -> nn.Module:
        """The first member's, for what all have in common."""
        return self.networks[0].encoder

    def outsider(self, position: int) -> LCKDNet:
        """The member that never learned from the study at a position of the training's data."""
        return self.networks[position % len(self.members)]

    def forward(self, image: Tensor, availability: Tensor) -> Tensor:
        """Logits ``(B, 3, D, H, W)`` of the mean probabilities; arguments as of ``LCKDNet``."""
        return self.decode(self.encode(image, availability), availability)[0]

    def encode(self, image: Tensor, availability: Tensor) -> list[Tensor]:
        """Features ``(N, K * C, d, h, w)`` per scale: those of the K members, one after the other."""
        encoded = [member.encode(image, availability) for member in self.networks]
        return [torch.cat(scale, 1) for scale in zip(*encoded, strict=True)]

    def decode(self, features: list[Tensor], availability: Tensor) -> list[Tensor]:
        """Logits of the mean probabilities from the features of ``encode``."""
        shares = zip(*(scale.chunk(len(self.members), 1) for scale in features), strict=True)
        logits = [member.decode(list(own), availability)[0] for member, own in zip(self.networks, shares, strict=True)]
        return [torch.stack(logits).float().sigmoid().mean(0).logit(eps=1e-6)]


def outsiders(position: Tensor, members: int) -> Tensor:
    """``(K, B)``, true where the k-th of K members never learns from the study at a ``position`` ``(B,)`` of the data.

    These are the studies k, K + k, 2 K + k and so on: every study has one member that only knows it from afar.
    """
    return position % members == torch.arange(members, device=position.device)[:, None]


class Imitated:
    """A trained network that another one imitates: the mean of what it makes of an image and of its mirror image.

    Args:
        network: with its weights.
    """

    def __init__(self, network: LCKDNet) -> None:
        self.network = network.eval()

    @torch.no_grad()
    def __call__(self, image: Tensor, subset: Tensor, position: Tensor, iteration: int) -> Tensor:
        """Probabilities ``(B, 3, D, H, W)`` for ``image`` ``(B, 4, D, H, W)`` and ``subset`` ``(B, 4)``."""
        logits = self.network(image, subset) + self.network(image.flip(2), subset).flip(2)
        return (logits.float() / 2).sigmoid()


class ImitatedCommittee:
    """Whom a network imitates: half of each answer is the outsider's, of the member that never saw the study.

    The others know by heart what they learned from. Whose answer makes the other half is drawn anew each time: that
    costs two or three networks' time instead of all of them.

    Args:
        committee: trained with a ``TrainingCommittee``, with its weights.
        predecessor: a trained network that may know every study, drawn as often as all the other members together.
        left: regions that the predecessor alone answers for.
        seed: of the draws.
    """

    def __init__(self, committee: Committee, predecessor: LCKDNet, left: Sequence[str] = (), seed: int = 0) -> None:
        self.members = committee.eval().networks
        self.predecessor, self.seed = predecessor.eval(), seed
        self.left = [REGIONS.index(region) for region in left]

    @torch.no_grad()
    def __call__(self, image: Tensor, subset: Tensor, position: Tensor, iteration: int) -> Tensor:
        """Probabilities ``(B, 3, D, H, W)``.

        Args:
            image: ``(B, 4, D, H, W)``.
            subset: ``(B, 4)`` boolean.
            position: ``(B,)`` of each study in the data list.
            iteration: of the training.
        """
        generator = np.random.default_rng((self.seed, iteration))
        rows: list[Tensor] = []
        for index, outsider in enumerate((position % len(self.members)).tolist()):
            insiders = self.members[:outsider] + self.members[outsider + 1 :]
            other = insiders[generator.integers(len(insiders))] if generator.random() < 0.5 else self.predecessor
            given = image[index : index + 1], subset[index : index + 1]
            asked = {self.members[outsider], other, *([self.predecessor] if self.left else [])}
            answers = {network: network(*given).float().sigmoid() for network in asked}
            answer = (answers[self.members[outsider]] + answers[other]) / 2
            if self.left:
                answer[:, self.left] = answers[self.predecessor][:, self.left]
            rows.append(answer)
        return torch.cat(rows)


class TrainingCommittee(nn.Module):
    """A ``Committee`` as training sees it: every member learns from the same patches, each with subsets of its own."""

    def __init__(self, network: Committee) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, availability: Tensor) -> tuple[list[Tensor], Tensor]:
        """What ``TrainingNetwork`` gives, the members' rows one after the other.

        Args:
            image: ``(B, 4, D, H, W)``.
            availability: ``(K * B, 4)``, the first B rows for the first member; one without a true entry is left out.

        Returns:
            Logits of all supervised scales and the deepest features, of the rows that are not left out.
        """
        outputs: list[tuple[list[Tensor], Tensor]] = []
        members = self.network.networks
        for member, own in zip(members, availability.chunk(len(members)), strict=True):
            taught = own.any(1)
            if taught.any():
                features = member.encode(image[taught], own[taught])
                outputs.append((member.decode(features, own[taught]), features[-1]))
        logits, deepest = zip(*outputs, strict=True)
        return [torch.cat(scale) for scale in zip(*logits, strict=True)], torch.cat(deepest)
