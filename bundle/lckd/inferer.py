"""Probabilities of a whole study: windows where it must be, features kept where it can be."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from monai.inferers import SlidingWindowInferer
from torch import Tensor

from lckd.network import LCKDNet
from lckd.sequences import SEQUENCES


def padded_size(size: Iterable[int], divisor: int) -> tuple[int, ...]:
    """The smallest multiples of ``divisor``, two at least, that hold ``size``.

    One would leave a single voxel at the deepest scale, which no instance norm can normalize.
    """
    return tuple(max(math.ceil(side / divisor), 2) * divisor for side in size)


def pad(image: Tensor, divisor: int) -> tuple[Tensor, tuple[Any, ...]]:
    """``(B, C, D, H, W)`` padded with zeros to ``padded_size``, and where in it the image lies.

    Both sides get half, as MONAI's sliding window does, so that features kept give what a fresh run gives.
    """
    size = image.shape[2:]
    missing = [full - side for side, full in zip(size, padded_size(size, divisor), strict=True)]
    inside = tuple(slice(gap // 2, gap // 2 + side) for gap, side in zip(missing, size, strict=True))
    widths = [width for gap in reversed(missing) for width in (gap // 2, gap - gap // 2)]
    return F.pad(image, widths), (..., *inside)


def availability_of(subset: Iterable[str]) -> Tensor:
    """``(1, 4)`` boolean availability of a subset."""
    chosen = tuple(subset)
    return torch.tensor([[sequence in chosen for sequence in SEQUENCES]])


def encode_study(network: LCKDNet, image: Tensor, availability: Tensor) -> dict[str, list[Tensor]]:
    """Features of each available sequence of one study, to be decoded for any subset of them.

    Args:
        network: in evaluation mode.
        image: ``(1, 4, D, H, W)``, sides divisible by the encoder's ``divisor``.
        availability: ``(1, 4)`` boolean.

    Returns:
        Per sequence its features ``(1, C, d, h, w)`` at every scale.
    """
    names = [sequence for sequence, available in zip(SEQUENCES, availability[0].tolist(), strict=True) if available]
    # One after the other: a processor gains nothing from a batch, and one sequence's intermediate results are held.
    return {name: network.encode(image, availability_of([name]).to(image.device)) for name in names}


def decode_subset(network: LCKDNet, features: Mapping[str, list[Tensor]], subset: Iterable[str]) -> Tensor:
    """Logits ``(1, 3, D, H, W)`` for ``subset`` from the features of ``encode_study``."""
    joined = join_features(features, subset)
    return network.decode(joined, availability_of(subset).to(joined[0].device))[0]


def join_features(features: Mapping[str, list[Tensor]], subset: Iterable[str]) -> list[Tensor]:
    """``(N, C, d, h, w)`` per scale, as the decoder takes them, of ``subset`` from what ``encode_study`` gives."""
    subset = tuple(subset)
    chosen = [features[sequence] for sequence in SEQUENCES if sequence in subset]
    return [_concatenate(scale) if len(chosen) > 1 else scale[0] for scale in zip(*chosen, strict=True)]


def _concatenate(rows: Iterable[Tensor]) -> Tensor:
    """``torch.cat`` of ``(1, C, D, H, W)``, whose result has its channels last in memory as they have."""
    return torch.cat([row.movedim(1, -1) for row in rows]).movedim(-1, 1)


def one_by_one(network: LCKDNet, image: Tensor, availability: Tensor) -> Tensor:
    """``network(image, availability)`` for one study, its sequences encoded one after the other."""
    features = encode_study(network, image, availability)
    return decode_subset(network, features, features)


class StudyInferer(SlidingWindowInferer):
    """Whole study in one window where it fits, else MONAI's sliding window.

    Args:
        window: largest window in voxels per axis; None takes a study of any size in one window.
        overlap: fraction that neighbouring windows share.
        divisor: the encoder's; windows are padded to its multiples.
        flips: average over the study and its mirror image, left and right as in training (test-time augmentation,
            twice the work); the first spatial axis must be left-right.
    """

    def __init__(
        self,
        window: int | tuple[int, int, int] | None = 192,
        overlap: float = 0.25,
        divisor: int = 16,
        flips: bool = False,
    ) -> None:
        self.window, self._overlap, self.divisor, self.flips = window, overlap, divisor, flips
        super().__init__(roi_size=-1, sw_batch_size=1, overlap=overlap, mode="gaussian")

    def __call__(  # type: ignore[override]
        self, inputs: Tensor, network: Callable[..., Tensor], availability: Tensor | None = None
    ) -> Tensor:
        """Logits ``(B, 3, D, H, W)`` of ``inputs`` ``(B, 4, D, H, W)``; with ``flips``, their mean."""
        logits = self._infer(inputs, network, availability)
        if self.flips:
            mirrored = self._infer(inputs.flip(2), network, availability)
            logits = (logits + mirrored.flip(2)) / 2
        return logits

    def holds(self, size: Iterable[int]) -> bool:
        """Whether a study of ``size`` is one window, seen once: then its features can be kept."""
        whole = padded_size(size, self.divisor)
        return not self.flips and all(side <= most for side, most in zip(whole, self._limit(whole), strict=True))

    def with_window(self, window: int | tuple[int, int, int] | None) -> "StudyInferer":
        """The same inferer with another largest window."""
        return StudyInferer(window, self._overlap, self.divisor, self.flips)

    def _infer(self, inputs: Tensor, network: Callable[..., Tensor], availability: Tensor | None) -> Tensor:
        whole = padded_size(inputs.shape[2:], self.divisor)
        self.roi_size = tuple(min(side, most) for side, most in zip(whole, self._limit(whole), strict=True))
        return super().__call__(inputs, network, availability)  # type: ignore[return-value]

    def _limit(self, whole: tuple[int, ...]) -> tuple[int, ...]:
        return whole if self.window is None else tuple(torch.broadcast_to(torch.tensor(self.window), (3,)).tolist())
