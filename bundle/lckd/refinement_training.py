"""Trains refinement with a simulated user, over what a network that stays as it is makes of changed studies."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.metrics import compute_dice
from monai.utils import convert_to_tensor
from numpy.random import Generator
from torch import Tensor

from lckd.committee import Committee
from lckd.inferer import availability_of, pad
from lckd.losses import SegmentationLoss
from lckd.marks import NO_MARKS, Marks
from lckd.network import LCKDNet
from lckd.refinement import Decoded, RefinementNet, box_around, change_of_logits, decode, in_windows, refine
from lckd.sequences import REGIONS, SUBSETS, parse_subset
from lckd.simulated_user import SimulatedUser
from lckd.trainer import SubsetSampler
from lckd.transforms import label_map_of, regions_of
from lckd.weights import load_weights

Network = TypeVar("Network", LCKDNet, Committee)

_AMP = {"bf16": True, "fp32": False}


def trained_network(network: Network, weights: str | None = None) -> Network:
    """A network or a committee with its weights, the shipped ones if None, for evaluation alone."""
    load_weights(network, weights)
    return network.eval().requires_grad_(False)


def decode_study(network: LCKDNet, image: Tensor, subset: Tensor, amp: bool) -> Decoded:
    """What the network makes of a preprocessed study from the sequences ``subset``.

    Args:
        network: of ``trained_network``.
        image: ``(1, 4, D, H, W)``, sides multiples of the encoder's divisor.
        subset: ``(1, 4)`` boolean.
        amp: bfloat16 instead of float32.
    """
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=amp):
        decoded = decode(network, network.encode(image, subset), subset)
    return replace(decoded, features=decoded.features.clone(), logits=decoded.logits.float())


class RefinementStep:
    """One iteration: a study, a subset, and sessions of a simulated user, each mark an optimizer step.

    Give it to MONAI's ``SupervisedTrainer`` as ``iteration_update``, with a ``RefinementNet``.

    Args:
        committee: of ``trained_network``, trained on the same data: of each study the mistakes are corrected that its
            outsider makes, for they are those of a stranger's study.
        subsets: draws the subset of each study.
        sessions: per iteration.
        marks: most of a session.
        stroke_share: share of the marks that are strokes.
        precision: ``bf16`` or ``fp32``.
        seed: of the user.
    """

    def __init__(
        self,
        committee: Committee,
        subsets: SubsetSampler,
        sessions: int = 2,
        marks: int = 6,
        stroke_share: float = 0.2,
        precision: str = "bf16",
        seed: int = 0,
    ) -> None:
        self.committee, self.subsets, self.sessions, self.marks = committee, subsets, sessions, marks
        self.stroke_share, self.amp, self.seed = stroke_share, _AMP[precision], seed
        self.loss = SegmentationLoss()

    def __call__(self, engine: SupervisedTrainer, batch: Mapping[str, Any]) -> dict[str, float]:
        """Train on a study.

        Args:
            engine: that trains.
            batch: ``image`` ``(1, 4, D, H, W)``, ``availability`` ``(1, 4)``, ``label`` regions, ``position``.
        """
        rng = np.random.default_rng((self.seed, engine.state.iteration))
        image, target = (convert_to_tensor(batch[key], track_meta=False) for key in ("image", "label"))
        subset = self.subsets(batch["availability"], engine.state.iteration)
        decoded = decode_study(self.committee.outsider(int(batch["position"])), image, subset, self.amp)
        engine.network.train()
        losses = [loss for _ in range(self.sessions) for loss in self._session(engine, decoded, target[0].bool(), rng)]
        return {"loss": float(np.mean(losses)) if losses else 0.0}

    def _session(self, engine: SupervisedTrainer, decoded: Decoded, target: Tensor, rng: Generator) -> list[float]:
        user, truth = SimulatedUser(rng, self.stroke_share), target.numpy()
        asked = rng.choice([*REGIONS, "label"], p=[0.25, 0.2, 0.25, 0.3])
        logits, marks, losses = decoded.logits.clone(), NO_MARKS, []
        for _ in range(int(rng.integers(1, self.marks + 1))):
            mark = _mark(user, str(asked), logits, truth)
            if mark is None:
                break
            marks = marks + mark
            box = box_around(marks.voxels, logits.shape[1:])
            inside = (slice(None), *box)
            engine.optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=self.amp):
                change = change_of_logits(engine.network, decoded, marks, box)
            refined = decoded.logits[inside] + change * in_windows(marks, box)
            loss = self.loss([refined[None]], target[inside][None].float())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(engine.network.parameters(), 1.0)
            engine.optimizer.step()
            logits[inside] = refined.detach()
            losses.append(loss.item())
        return losses


class RefinementValidation:
    """Dice per region after some clicks for it; takes the place of ``ValidationStep``.

    Args:
        network: of ``trained_network``.
        subsets: on which it is measured.
        clicks: per region.
        divisor: the encoder's.
        precision: ``bf16`` or ``fp32``.
    """

    def __init__(
        self,
        network: LCKDNet,
        subsets: Sequence[str],
        clicks: int = 3,
        divisor: int = 16,
        precision: str = "bf16",
    ) -> None:
        self.network, self.subsets, self.clicks, self.divisor = network, subsets, clicks, divisor
        self.amp = _AMP[precision]

    def __call__(self, engine: SupervisedEvaluator, batch: Mapping[str, Any]) -> Tensor:
        """Dice ``(15, 3)`` of one study; NaN for a subset it cannot have or that is not measured."""
        image, label = (
            pad(convert_to_tensor(batch[key], track_meta=False), self.divisor)[0] for key in ("image", "label")
        )
        target = label.bool()
        dice = torch.full((len(SUBSETS), len(REGIONS)), torch.nan)
        network: RefinementNet = engine.network  # type: ignore[assignment]
        network.eval()
        for subset in map(parse_subset, self.subsets):
            chosen = availability_of(subset)
            if bool((chosen & ~batch["availability"]).any()):
                continue
            decoded = decode_study(self.network, image, chosen, self.amp)
            row = dice[SUBSETS.index(subset)]
            for index, region in enumerate(REGIONS):
                logits = self._clicked(network, decoded, region, target[0])
                predicted = regions_of(label_map_of(logits > 0))[None, [index]]
                row[index] = compute_dice(predicted, target[:, [index]], ignore_empty=False)[0, 0]
        return dice

    def _clicked(self, network: RefinementNet, decoded: Decoded, region: str, target: Tensor) -> Tensor:
        user, truth = SimulatedUser(), target.numpy()
        logits, marks = decoded.logits, NO_MARKS
        for _ in range(self.clicks):
            mark = _mark(user, region, logits, truth)
            if mark is None:
                break
            marks = marks + mark
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self.amp):
                logits = refine(network, decoded, marks)
        return logits


def _mark(user: SimulatedUser, asked: str, logits: Tensor, truth: np.ndarray) -> Marks | None:
    label_map = label_map_of(logits > 0)
    if asked == "label":
        return user.label_mark(label_map[0].numpy(), label_map_of(torch.from_numpy(truth))[0].numpy())
    return user.region_mark(asked, regions_of(label_map).numpy(), truth)
