"""The small decoder: filled features of the four sequences to logits of the three regions."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from lckd.blocks import NEGATIVE_SLOPE, DecoderBlock, depth_to_space
from lckd.sequences import REGIONS, SEQUENCES


class Decoder(nn.Module):
    """Fuses the sequences at every scale and walks from the deepest to the finest.

    Args:
        widths: channels of the encoder per scale, finest first.
        blocks: residual blocks per scale.
        full_resolution: the finest scale is the image's own, as in the encoder.
    """

    def __init__(
        self,
        widths: Sequence[int] = (24, 48, 96, 160),
        blocks: Sequence[int] = (1, 1, 1, 1),
        full_resolution: bool = False,
    ) -> None:
        super().__init__()
        self.full_resolution = full_resolution
        count = len(SEQUENCES)
        self.fusions = nn.ModuleList(nn.Conv3d(count * width, width, 1) for width in widths)
        self.ups = nn.ModuleList(
            nn.Conv3d(coarse, fine, 1) for fine, coarse in zip(widths[:-1], widths[1:], strict=True)
        )
        self.norms = nn.ModuleList(nn.InstanceNorm3d(width, affine=True) for width in widths)
        self.stages = nn.ModuleList(
            nn.Sequential(*(DecoderBlock(width) for _ in range(number)))
            for width, number in zip(widths, blocks, strict=True)
        )
        regions = len(REGIONS)
        self.head = nn.Conv3d(widths[0], regions if full_resolution else 8 * regions, 1)
        self.side_heads = nn.ModuleList(nn.Conv3d(width, regions, 1) for width in widths[1:-1])

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Logits of the regions.

        Args:
            features: one ``(B, 4, C, d, h, w)`` per scale, finest first, nothing missing.

        Returns:
            Logits ``(B, 3, D, H, W)`` at the image's resolution, then those of the coarser scales but
            the deepest, for deep supervision.
        """
        fused = [fusion(scale.flatten(1, 2)) for fusion, scale in zip(self.fusions, features, strict=True)]
        current, sides = fused[-1], []
        for scale in reversed(range(len(fused))):
            if scale < len(fused) - 1:
                raised = self.ups[scale](current)
                current = fused[scale] + F.interpolate(raised, size=fused[scale].shape[2:], mode="trilinear")
            current = F.leaky_relu(self.norms[scale](current), NEGATIVE_SLOPE)
            current = self.stages[scale](current)
            if 0 < scale < len(fused) - 1:
                sides.append(self.side_heads[scale - 1](current))
        logits = self.head(current)
        return [logits if self.full_resolution else depth_to_space(logits), *reversed(sides)]
