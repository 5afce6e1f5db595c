"""The LCKD network: encode what is available, fill what is missing, decode."""

import torch
from torch import Tensor, nn

from lckd.decoder import Decoder
from lckd.encoder import Encoder


def scatter(features: Tensor, availability: Tensor) -> Tensor:
    """``(N, C, d, h, w)`` of the N available sequences to ``(B, 4, C, d, h, w)``, zero where one is missing."""
    scattered = features.new_zeros(availability.shape + features.shape[1:])
    scattered[availability] = features
    return scattered


def fill(features: Tensor, availability: Tensor) -> Tensor:
    """Features of all four sequences of each study; a missing one's is the mean of the available.

    Args:
        features: ``(N, C, d, h, w)`` of the available sequences, in the order of ``availability``'s
            true entries, row by row.
        availability: ``(B, 4)`` boolean with N true entries, at least one a row.

    Returns:
        ``(B, 4, C, d, h, w)`` (the filling of Wang et al. 2023, here at every scale).
    """
    scattered = scatter(features, availability)
    as_scale = availability[:, :, None, None, None, None]
    counts = availability.sum(1).to(features.dtype)[:, None, None, None, None]
    mean = scattered.sum(1) / counts
    return torch.where(as_scale, scattered, mean[:, None])


class LCKDNet(nn.Module):
    """Segments the tumour's regions from any subset of the sequences (Wang et al., MICCAI 2023).

    The encoder runs once over the available sequences of a whole batch, whatever subset each study
    has; a missing sequence is never read and costs nothing.

    Args:
        encoder: ``(image (N, 1, D, H, W), sequence (N,)) -> list of (N, C, d, h, w)``, finest first.
        decoder: ``list of (B, 4, C, d, h, w) -> list of logits``, the first at full resolution.
    """

    def __init__(self, encoder: nn.Module | None = None, decoder: nn.Module | None = None) -> None:
        super().__init__()
        self.encoder = Encoder() if encoder is None else encoder
        self.decoder = Decoder() if decoder is None else decoder

    def forward(self, image: Tensor, availability: Tensor | None = None) -> Tensor:
        """Logits ``(B, 3, D, H, W)`` of ET, WT and TC.

        Args:
            image: ``(B, 4, D, H, W)``, normalized, in the order of ``SEQUENCES``.
            availability: ``(B, 4)`` boolean; None takes an all-zero channel for a missing sequence.
        """
        if availability is None:
            availability = image.flatten(2).ne(0).any(2)
        features = self.encode(image, availability)
        return self.decode(features, availability)[0]

    def encode(self, image: Tensor, availability: Tensor) -> list[Tensor]:
        """Features ``(N, C, d, h, w)`` per scale of the N available images of the batch.

        Raises:
            ValueError: a study has no available sequence.
        """
        if not torch.jit.is_tracing() and not bool(availability.any(1).all()):
            raise ValueError("a study of the batch has no available sequence; at least one is needed")
        sequence = availability.nonzero()[:, 1]
        return self.encoder(image[availability][:, None], sequence)

    def decode(self, features: list[Tensor], availability: Tensor) -> list[Tensor]:
        """Logits from the features of ``encode``: full resolution first, then for deep supervision."""
        return self.decoder([fill(scale, availability) for scale in features])
