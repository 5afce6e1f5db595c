"""Dice of all 15 subsets on validation studies, from one encoding of each study."""

from collections.abc import Mapping

import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from monai.engines import SupervisedEvaluator
from monai.metrics import compute_dice
from monai.utils import convert_to_tensor
from torch import Tensor

from lckd.inferer import decode_subset, encode_study, pad
from lckd.network import LCKDNet
from lckd.sequences import REGIONS, SEQUENCES, SUBSETS, subset_name
from lckd.transforms import label_map_of, regions_of


class ValidationStep:
    """Dice of every subset of a study's sequences; MONAI's ``SupervisedEvaluator`` takes it as ``iteration_update``.

    The four sequences are encoded once and decoded for each subset, so that all 15 cost little more
    than four times one.

    Args:
        divisor: the encoder's.
        precision: ``bf16`` or ``fp32``.
    """

    def __init__(self, divisor: int = 16, precision: str = "bf16") -> None:
        self.divisor = divisor
        self.amp = {"bf16": True, "fp32": False}[precision]

    def __call__(self, engine: SupervisedEvaluator, batch: Mapping[str, Tensor]) -> Tensor:
        """Dice ``(15, 3)`` of one study; NaN for a subset it cannot have, 1 where both are empty."""
        device = torch.device(engine.state.device)
        image, target, availability = (
            convert_to_tensor(batch[key], track_meta=False, device=device) for key in ("image", "label", "availability")
        )
        padded, inside = pad(image, self.divisor)
        available = [sequence for sequence, has in zip(SEQUENCES, availability[0].tolist(), strict=True) if has]
        dice = torch.full((len(SUBSETS), len(REGIONS)), torch.nan)
        network: LCKDNet = engine.network  # type: ignore[assignment]
        network.eval()
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=self.amp):
            features = encode_study(network, padded, availability)
            for row, subset in enumerate(SUBSETS):
                if set(subset) <= set(available):
                    logits = decode_subset(network, features, subset)[inside]
                    prediction = regions_of(label_map_of(logits > 0))
                    dice[row] = compute_dice(prediction, target, ignore_empty=False)[0]
        return dice


class MeanSubsetDice(Metric):
    """Mean Dice over studies, subsets and regions; leaves the table in ``engine.state.subset_dice``."""

    def reset(self) -> None:
        """Forget all studies."""
        self._dice: list[Tensor] = []

    def update(self, output: Tensor) -> None:
        """Take the ``(15, 3)`` Dice of a study."""
        self._dice.append(output)

    def compute(self) -> float:
        """The mean of the table."""
        return float(self._table().nanmean())

    def completed(self, engine: Engine, name: str) -> None:
        """Write the mean into the engine's metrics and the table into its state."""
        super().completed(engine, name)
        engine.state.subset_dice = {  # type: ignore[attr-defined]
            subset_name(subset): dict(zip(REGIONS, row, strict=True))
            for subset, row in zip(SUBSETS, self._table().tolist(), strict=True)
        }

    def _table(self) -> Tensor:
        return torch.stack(self._dice).nanmean(0)
