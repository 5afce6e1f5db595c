"""The LCKD network: encode what is available, fill what is missing, decode."""

import torch
from torch import Tensor, nn

from lckd.decoder import Decoder
from lckd.encoder import Encoder


class LCKDNet(nn.Module):
    """Segments the tumour's regions from any subset of the sequences (Wang et al., MICCAI 2023).

    The encoder runs once over the available sequences of a whole batch, whatever subset each study
    has; a missing sequence is never read and costs nothing.

    Args:
        encoder: ``(image (N, 1, D, H, W), sequence (N,)) -> list of (N, C, d, h, w)``, finest first.
        decoder: ``(list of (N, C, d, h, w), availability (B, 4)) -> list of logits``, the first at full resolution;
            it fills what is missing. Its ``walk`` gives what ``logits`` turns into those, for refinement.
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
        return self.decoder(features, availability)
