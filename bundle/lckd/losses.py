"""The two losses of LCKD: segmentation and distillation."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.losses import DiceLoss
from torch import Tensor, nn

from lckd.filling import scatter


class SegmentationLoss(nn.Module):
    """Mean soft Dice loss of the regions plus binary cross-entropy, at every supervised scale.

    Wang et al. 2023. The Dice loss is smoothed in numerator and denominator, so that it
    has a gradient where a region is absent.

    Args:
        smooth: the smoothing term.
        deep_weight: weight of the first coarser scale; every further one halves it.
        soft: targets are probabilities; the Dice loss is then least where the network gives the same ones (Wang et al.
            2023, Dice semimetric losses), not where it is sure.
    """

    def __init__(self, smooth: float = 1.0, deep_weight: float = 0.5, soft: bool = False) -> None:
        super().__init__()
        self.dice = DiceLoss(sigmoid=True, smooth_nr=smooth, smooth_dr=smooth, soft_label=soft)
        self.deep_weight = deep_weight

    def forward(self, logits: Sequence[Tensor], target: Tensor) -> Tensor:
        """Loss of logits, each ``(B, 3, d, h, w)``, finest first, against regions ``(B, 3, D, H, W)``."""
        total, weights, weight = logits[0].new_zeros((), dtype=torch.float32), 0.0, 1.0
        for scale in logits:
            at_scale = (
                target if scale.shape == target.shape else F.interpolate(target, size=scale.shape[2:], mode="area")
            )
            scale = scale.float()
            total = total + weight * (self.dice(scale, at_scale) + F.binary_cross_entropy_with_logits(scale, at_scale))
            weights += weight
            weight *= self.deep_weight
        return total / weights


class DistillationLoss(nn.Module):
    """Mean L1 distance between the features of available sequences and those of available teachers.

    The cross-modal knowledge distillation of Wang et al. 2023, averaged over the pairs instead of summed,
    so that its weight does not depend on how many sequences a study has. Teachers are detached; a study
    without an available teacher, or with nothing but the teacher, adds nothing.
    """

    def forward(self, features: Tensor, availability: Tensor, teachers: Tensor, weights: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            features: ``(N, C, d, h, w)`` of the available sequences, as ``LCKDNet.encode`` gives them.
            availability: ``(B, 4)`` boolean, N entries true.
            teachers: ``(T,)`` index of each teacher's sequence.
            weights: ``(B, T, d, h, w)`` how much each teacher teaches at a place; all ones for LCKD.
        """
        scattered = scatter(features.float(), availability)
        total, pairs = features.new_zeros((), dtype=torch.float32), 0
        for study in range(len(availability)):
            for index, teacher in enumerate(teachers.tolist()):
                weight = weights[study, index]
                if not availability[study, teacher] or not weight.any():
                    continue
                target = scattered[study, teacher].detach()
                for student in availability[study].nonzero().flatten().tolist():
                    if student != teacher:
                        distance = (scattered[study, student] - target).abs().mean(0)
                        total = total + (distance * weight).sum() / weight.sum()
                        pairs += 1
        return total / max(pairs, 1)
