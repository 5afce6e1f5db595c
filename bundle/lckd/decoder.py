"""The small decoder: features of the available sequences to logits of the three regions."""

from collections.abc import Sequence

from torch import Tensor, nn

from lckd.blocks import Conv, DecoderBlock, InstanceNorm, activate, depth_to_space, inner_channels, interpolate
from lckd.filling import fuse
from lckd.sequences import REGIONS, SEQUENCES


class DecoderLevel(nn.Module):
    """Fuses the sequences at one scale, adds what comes from the deeper one and refines it.

    Args:
        width: channels at this scale.
        deeper: channels of the scale below, None at the deepest.
        blocks: residual blocks.
        squeezed: they have fewer inner channels.
    """

    def __init__(self, width: int, deeper: int | None, blocks: int, squeezed: bool) -> None:
        super().__init__()
        self.fusion = nn.Conv3d(len(SEQUENCES) * width, width, 1)
        self.up = nn.Identity() if deeper is None else Conv(deeper, width, 1)
        self.norm = InstanceNorm(width)
        self.stage = nn.Sequential(*(DecoderBlock(width, inner_channels(width, squeezed)) for _ in range(blocks)))

    def forward(self, features: Tensor, availability: Tensor, deeper: Tensor | None) -> Tensor:
        """``(N, C, d, h, w)`` of the available sequences and the deeper level's result to ``(B, C, d, h, w)``."""
        fused = fuse(features, availability, self.fusion.weight, self.fusion.bias)
        if deeper is not None:
            fused = interpolate(self.up(deeper), list(fused.shape[2:])).add_(fused)
        return self.stage(activate(self.norm(fused), inplace=True))


class Decoder(nn.Module):
    """Walks from the deepest scale to the finest.

    Args:
        widths: channels of the encoder per scale, finest first.
        blocks: residual blocks per scale, finest first.
        full_resolution: the finest scale is the image's own, as in the encoder.
        squeezed: number of finest scales whose blocks have fewer inner channels.
    """

    def __init__(
        self,
        widths: Sequence[int] = (24, 48, 96, 160),
        blocks: Sequence[int] = (1, 1, 1, 1),
        full_resolution: bool = False,
        squeezed: int = 2,
    ) -> None:
        super().__init__()
        self.full_resolution = full_resolution
        deeper = [*widths[1:], None]
        squeezes = [scale < squeezed for scale in range(len(widths))]
        self.levels = nn.ModuleList(
            DecoderLevel(*level) for level in reversed(list(zip(widths, deeper, blocks, squeezes, strict=True)))
        )
        self.head = Conv(widths[0], len(REGIONS) * (1 if full_resolution else 8), 1)
        self.side_heads = nn.ModuleList(nn.Conv3d(width, len(REGIONS), 1) for width in widths[1:-1])

    def forward(self, features: list[Tensor], availability: Tensor) -> list[Tensor]:
        """Logits of the regions.

        Args:
            features: one ``(N, C, d, h, w)`` per scale, finest first, of the available sequences.
            availability: ``(B, 4)`` boolean with N true entries.

        Returns:
            Logits ``(B, 3, D, H, W)`` at the image's resolution, then those of the coarser scales but
            the deepest, for deep supervision.
        """
        decoded = self.walk(features, availability)
        outputs = [self.logits(decoded[0])]
        if self.training:
            for scale, head in enumerate(self.side_heads):
                outputs.append(head(decoded[scale + 1]))
        return outputs

    def walk(self, features: list[Tensor], availability: Tensor) -> list[Tensor]:
        """What the levels make of the features, ``(B, C, d, h, w)`` per scale, finest first."""
        deeper: Tensor | None = None
        decoded: list[Tensor] = []
        for step, level in enumerate(self.levels):
            deeper = level(features[len(features) - 1 - step], availability, deeper)
            decoded.insert(0, deeper)
        return decoded

    def logits(self, finest: Tensor) -> Tensor:
        """Logits ``(B, 3, D, H, W)`` of the finest level's result."""
        logits = self.head(finest)
        return logits if self.full_resolution else depth_to_space(logits)
