"""The small encoder: one sequence's image to features at several scales."""

from collections.abc import Sequence

from torch import Tensor, nn

from lckd.blocks import EncoderBlock, SequenceNorm, activate, convolution, inner_channels, space_to_depth
from lckd.sequences import SEQUENCES


class Encoder(nn.Module):
    """Residual encoder shared by all sequences, working at half resolution and below.

    Full-resolution convolutions would be 8 times the work for structures that are rarely thinner than
    2 mm; the stem folds each 2x2x2 cube into channels instead, so that nothing is thrown away.

    Args:
        widths: channels per scale, finest (half resolution) first.
        blocks: residual blocks per scale.
        full_resolution: keep a plain stem at full resolution instead of space to depth.
        squeezed: number of finest scales whose blocks have fewer inner channels.
    """

    def __init__(
        self,
        widths: Sequence[int] = (24, 48, 96, 160),
        blocks: Sequence[int] = (0, 1, 2, 1),
        full_resolution: bool = False,
        squeezed: int = 2,
    ) -> None:
        super().__init__()
        if len(widths) != len(blocks):
            raise ValueError(f"widths and blocks differ in length: {len(widths)} and {len(blocks)}")
        self.full_resolution = full_resolution
        self.widths = tuple(widths)
        self.divisor = 2 ** (len(widths) - full_resolution)
        inputs = [1 if full_resolution else 8, *widths[:-1]]
        strides = [1] + [2] * (len(widths) - 1)
        count = len(SEQUENCES)
        self.downs = nn.ModuleList(
            convolution(fan_in, width, stride=stride)
            for fan_in, width, stride in zip(inputs, widths, strides, strict=True)
        )
        self.norms = nn.ModuleList(SequenceNorm(width, count) for width in widths)
        self.stages = nn.ModuleList(
            nn.ModuleList(
                EncoderBlock(width, inner_channels(width, scale < squeezed), count) for _ in range(blocks[scale])
            )
            for scale, width in enumerate(widths)
        )

    def forward(self, image: Tensor, sequence: Tensor) -> list[Tensor]:
        """Features of every image, finest scale first.

        Args:
            image: ``(N, 1, D, H, W)``, each side divisible by ``divisor``.
            sequence: ``(N,)`` index into ``SEQUENCES``.

        Returns:
            One ``(N, C, d, h, w)`` per scale.
        """
        features = image if self.full_resolution else space_to_depth(image)
        scales: list[Tensor] = []
        for down, norm, stage in zip(self.downs, self.norms, self.stages):  # noqa: B905 - TorchScript
            features = activate(norm(down(features), sequence), inplace=True)
            for block in stage:  # type: ignore[attr-defined]
                features = block(features, sequence)
            scales.append(features)
        return scales
