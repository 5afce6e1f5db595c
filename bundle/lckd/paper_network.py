"""The paper's own network: weight-standardized ResNet-50 with ASPP, and its decoder.

Wang et al. 2023, written from the paper. Axes are (x, y, z): the paper keeps the resolution of z in its
stem and halves it in plane.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lckd.blocks import activate
from lckd.filling import fill
from lckd.sequences import REGIONS, SEQUENCES


class StandardizedConv3d(nn.Conv3d):
    """Convolution whose kernels have zero mean and unit variance (Qiao et al. 2019, weight standardization)."""

    def forward(self, features: Tensor) -> Tensor:
        """``(N, C, D, H, W)`` to the convolved."""
        return self._conv_forward(features, self.standardized(), self.bias)

    def standardized(self) -> Tensor:
        """The kernels that are applied."""
        variance, mean = torch.var_mean(self.weight, (1, 2, 3, 4), unbiased=False, keepdim=True)
        return (self.weight - mean) * torch.rsqrt(variance + 1e-6)


def _convolution(
    inputs: int, outputs: int, kernel: int = 3, stride: int | tuple[int, int, int] = 1, dilation: int = 1
) -> StandardizedConv3d:
    padding = dilation * (kernel // 2)
    return StandardizedConv3d(inputs, outputs, kernel, stride, padding, dilation, bias=False)


class NormalizedConvolution(nn.Module):
    """Weight-standardized convolution, InstanceNorm and, unless told otherwise, LeakyReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int | tuple[int, int, int] = 1,
                 dilation: int = 1, active: bool = True) -> None:  # fmt: skip
        super().__init__()
        self.convolution = _convolution(inputs, outputs, kernel, stride, dilation)
        self.norm = nn.InstanceNorm3d(outputs, affine=True)
        self.active = active

    def forward(self, features: Tensor) -> Tensor:
        """``(N, C, D, H, W)`` to ``(N, outputs, ...)``."""
        normalized = self.norm(self.convolution(features))
        return activate(normalized) if self.active else normalized


class Bottleneck(nn.Module):
    """1x1x1, 3x3x3, 1x1x1 with a shortcut (He et al. 2016); a quarter of the width in the middle."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        middle = outputs // 4
        self.body = nn.Sequential(
            NormalizedConvolution(inputs, middle, 1),
            NormalizedConvolution(middle, middle, 3, stride),
            NormalizedConvolution(middle, outputs, 1, active=False),
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else NormalizedConvolution(inputs, outputs, 1, stride, active=False)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, inputs, D, H, W)`` to ``(N, outputs, ...)``."""
        return activate(self.body(features) + self.shortcut(features))


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al. 2017): dilations 1, 2, 4, 8 and the mean of the image.

    The image branch has no InstanceNorm: over a single voxel that would give zero whatever the image,
    which is how that branch died in the paper's code. Nor has the merge, for what is the same everywhere
    would be normalized away; GroupNorm over 16 channels at a time keeps it.

    Args:
        inputs: channels in.
        width: channels of a branch, and out.
        dilations: of the branches; the first is a 1x1x1 convolution.
    """

    def __init__(self, inputs: int, width: int, dilations: Sequence[int] = (1, 2, 4, 8)) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            NormalizedConvolution(inputs, width, 1 if dilation == 1 else 3, dilation=dilation) for dilation in dilations
        )
        self.image = nn.Conv3d(inputs, width, 1)
        self.merge = _convolution((len(dilations) + 1) * width, width, 1)
        self.norm = nn.GroupNorm(max(1, width // 16), width)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, inputs, D, H, W)`` to ``(N, width, D, H, W)``."""
        pooled = activate(self.image(features.mean((2, 3, 4), keepdim=True))).expand(-1, -1, *features.shape[2:])
        branches = [branch(features) for branch in self.branches]
        return activate(self.norm(self.merge(torch.cat([*branches, pooled], 1))))


class PaperEncoder(nn.Module):
    """Weight-standardized 3-D ResNet-50, shared by all sequences, and ASPP.

    Args:
        widths: channels after the stem and each stage.
        depths: bottlenecks per stage.
        width: channels of the distilled features.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 256, 512, 1024, 1280),
        depths: Sequence[int] = (3, 4, 6, 3),
        width: int = 256,
    ) -> None:
        super().__init__()
        self.stem = NormalizedConvolution(1, widths[0], 7, (2, 2, 1))
        self.stages = nn.ModuleList()
        for inputs, outputs, depth in zip(widths[:-1], widths[1:], depths, strict=True):
            blocks = [Bottleneck(inputs, outputs, 2)]
            blocks += [Bottleneck(outputs, outputs, 1) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(*blocks))
        self.project = NormalizedConvolution(widths[-1], width, 1)
        self.aspp = ASPP(width, width)
        self.divisor = 2 ** (len(depths) + 1)

    def forward(self, image: Tensor, sequence: Tensor) -> list[Tensor]:
        """Features ``(N, C, d, h, w)`` of the stem, the stages but the last, and ASPP; finest first.

        Args:
            image: ``(N, 1, D, H, W)``; sides divisible by ``divisor``, the last by half of it.
            sequence: ``(N,)``, not used: the paper's encoder is not told what it sees.
        """
        scales = [self.stem(image)]
        for stage in self.stages:
            scales.append(stage(scales[-1]))
        return [*scales[:-1], self.aspp(self.project(scales[-1]))]


class PaperDecoder(nn.Module):
    """Transposed convolutions from the concatenated deepest features, skips from the concatenated scales.

    Args:
        widths: channels of the encoder's scales but the deepest, finest first.
        width: channels of the deepest features of one sequence.
        channels: channels of the decoder per scale, finest first.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 256, 512, 1024),
        width: int = 256,
        channels: Sequence[int] = (32, 64, 128, 256),
    ) -> None:
        super().__init__()
        count = len(SEQUENCES)
        self.entry = NormalizedConvolution(count * width, channels[-1], 1)
        self.skips = nn.ModuleList(nn.Conv3d(count * wide, few, 1) for wide, few in zip(widths, channels, strict=True))
        deeper = [*channels[1:], channels[-1]]
        self.ups = nn.ModuleList(
            nn.ConvTranspose3d(coarse, fine, 2, 2) for coarse, fine in zip(deeper, channels, strict=True)
        )
        self.refine = nn.ModuleList(
            nn.Sequential(NormalizedConvolution(few, few), NormalizedConvolution(few, few)) for few in channels
        )
        self.head = nn.Conv3d(channels[0], len(REGIONS), 1)

    def forward(self, features: list[Tensor], availability: Tensor) -> list[Tensor]:
        """Logits ``(B, 3, D, H, W)`` alone: the paper supervises one scale.

        Args:
            features: ``(N, C, d, h, w)`` per scale, finest first, of the available sequences.
            availability: ``(B, 4)`` boolean with N true entries.
        """
        return [self.logits(self.walk(features, availability)[0])]

    def walk(self, features: list[Tensor], availability: Tensor) -> list[Tensor]:
        """The finest level's result ``(B, C, d, h, w)`` alone."""
        features = [fill(scale, availability) for scale in features]
        current = self.entry(features[-1].flatten(1, 2))
        for up, skip, refine, scale in reversed(
            list(zip(self.ups, self.skips, self.refine, features[:-1], strict=True))
        ):
            current = refine(up(current) + skip(scale.flatten(1, 2)))
        return [current]

    def logits(self, finest: Tensor) -> Tensor:
        """Logits ``(B, 3, D, H, W)`` of the finest level's result."""
        return F.interpolate(self.head(finest), scale_factor=(2, 2, 1), mode="trilinear")
