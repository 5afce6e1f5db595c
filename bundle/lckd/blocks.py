"""Building blocks of the small network: convolution, normalization, residual block, space to depth."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_TWICE_AS_WIDE = {torch.bfloat16: torch.int32, torch.float16: torch.int32, torch.float32: torch.int64}


def activate(features: Tensor, inplace: bool = False) -> Tensor:
    """LeakyReLU of slope 0.01, as in the paper's network and nnU-Net.

    Args:
        features: of any shape.
        inplace: overwrite them, where nothing else reads them: a new tensor costs more than the arithmetic.
    """
    return F.leaky_relu(features, 0.01, inplace)


def normalize_instances(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Instance normalization of ``(N, C, D, H, W)`` with a scale and a shift ``(N, C)`` for each channel of each row.

    One row of N * C channels goes through batch normalization, in a single pass; unlike torch's own instance
    normalization this leaves a single row's channels last in memory where they are so.
    """
    rows, channels, depth, height, width = features.shape
    if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript leaves out what stands under this alone
        if _computes_plainly(features) and _gains_from_fours(features):
            return _normalize_in_fours(features, weight[0], bias[0])
    flat = features.reshape(1, rows * channels, depth, height, width)
    normalized = F.batch_norm(flat, None, None, weight.flatten(), bias.flatten(), training=True)
    return normalized.view_as(features)


@torch.jit.unused
def _gains_from_fours(features: Tensor) -> bool:
    """Whether this is a single row whose channels, last in memory, do not fill a processor's vectors."""
    return (
        features.shape[0] == 1
        and features.shape[1] % 32 != 0
        and features[0, 0].numel() % 4 == 0
        and features.is_contiguous(memory_format=torch.channels_last_3d)
    )


@torch.jit.unused
def _normalize_in_fours(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``normalize_instances`` of what ``_gains_from_fours``.

    Four neighbouring voxels count as one with four times the channels, which do fill them: three times as fast with
    24 channels in bfloat16, and more exact, for the sums are shorter.
    """
    channels, size = features.shape[1], features.shape[2:]
    fours = features.movedim(1, -1).reshape(1, -1, 1, 4 * channels).movedim(-1, 1)
    nothing = weight.new_zeros(4 * channels)
    means, variances = torch.ops.aten.batch_norm_update_stats(fours, nothing, nothing.clone(), 0.0)
    means, variances = means.view(4, channels), variances.view(4, channels)
    mean = means.mean(0)
    variance = (variances + (means - mean).square()).mean(0)
    normalized = F.batch_norm(fours, mean.repeat(4), variance.repeat(4), weight.repeat(4), bias.repeat(4))
    return normalized.movedim(1, -1).reshape(1, *size, channels).movedim(-1, 1)


class InstanceNorm(nn.InstanceNorm3d):
    """torch's instance normalization with a scale and a shift per channel, through ``normalize_instances``."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, C, D, H, W)`` to the same shape."""
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript leaves out what stands under this alone
            if torch.onnx.is_in_onnx_export():
                return F.instance_norm(features, weight=self.weight, bias=self.bias)
        rows = features.shape[0]
        return normalize_instances(features, self.weight.expand(rows, -1), self.bias.expand(rows, -1))


class SequenceNorm(nn.Module):
    """Instance normalization whose scale and shift depend on the sequence an image is of.

    The convolutions are shared by all sequences; these ``2 * channels`` numbers per sequence are all
    that tells FLAIR from T2, so that one encoder can read both without guessing the contrast.

    Args:
        channels: number of channels C.
        sequences: number of sequences.
    """

    def __init__(self, channels: int, sequences: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(sequences, channels))
        self.bias = nn.Parameter(torch.zeros(sequences, channels))

    def forward(self, features: Tensor, sequence: Tensor) -> Tensor:
        """Normalize features ``(N, C, D, H, W)`` of images of ``sequence`` ``(N,)``, an index."""
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript leaves out what stands under this alone
            if torch.onnx.is_in_onnx_export():
                return self._for_onnx(features, sequence)
        return normalize_instances(features, self.weight[sequence], self.bias[sequence])

    @torch.jit.unused
    def _for_onnx(self, features: Tensor, sequence: Tensor) -> Tensor:
        """The same in operations that ONNX has for a number of rows only known at run time."""
        weight, bias = (table[sequence][:, :, None, None, None] for table in (self.weight, self.bias))
        return F.instance_norm(features) * weight + bias


class Conv(nn.Conv3d):
    """torch's convolution; without a gradient on a processor always oneDNN's.

    torch takes another implementation for small images and single precision, several times as slow for 1x1x1 kernels
    and twice for the deepest scale.
    """

    def forward(self, features: Tensor) -> Tensor:
        """``(N, C, D, H, W)`` to what the convolution makes of it."""
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript leaves out what stands under this alone
            if features.dtype == torch.float32 and _computes_plainly(features) and _has_onednn():
                padding, stride, dilation = (list(sides) for sides in (self.padding, self.stride, self.dilation))
                return torch.ops.aten.mkldnn_convolution(
                    features, self.weight, self.bias, padding, stride, dilation, self.groups
                )
        return self._conv_forward(features, self.weight, self.bias)


@torch.jit.unused
def _computes_plainly(features: Tensor) -> bool:
    """Whether nothing but a result is asked of a processor: no gradient, no graph of the network."""
    return (
        features.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.jit.is_tracing()
        and not torch.compiler.is_compiling()
    )


@torch.jit.unused
def _has_onednn() -> bool:
    """Whether oneDNN is there and single precision is what a convolution is to compute in."""
    return torch.backends.mkldnn.is_available() and not torch.is_autocast_enabled("cpu")


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> Conv:
    """A convolution that keeps the size (up to its stride); a norm follows, so it has no bias."""
    return Conv(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


def inner_channels(channels: int, squeezed: bool) -> int:
    """Channels between the two convolutions of a residual block: all, or two thirds of them.

    At the finest scales a convolution costs most, and a third of its channels adds next to nothing there
    (docs/experiments.md, 21).
    """
    return round(channels * 2 / 3) if squeezed else channels


class EncoderBlock(nn.Module):
    """Residual block of two 3x3x3 convolutions with ``SequenceNorm`` and LeakyReLU (He et al. 2016).

    Args:
        channels: that come in and go out.
        inner: channels between the two convolutions.
        sequences: number of sequences.
    """

    def __init__(self, channels: int, inner: int, sequences: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = convolution(channels, inner), SequenceNorm(inner, sequences)
        self.conv2, self.norm2 = convolution(inner, channels), SequenceNorm(channels, sequences)

    def forward(self, features: Tensor, sequence: Tensor) -> Tensor:
        """``(N, C, D, H, W)`` to the same shape."""
        inner = activate(self.norm1(self.conv1(features), sequence), inplace=True)
        return activate(self.norm2(self.conv2(inner), sequence).add_(features), inplace=True)


class DecoderBlock(nn.Module):
    """Residual block of two 3x3x3 convolutions with InstanceNorm and LeakyReLU.

    Args:
        channels: that come in and go out.
        inner: channels between the two convolutions.
    """

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = convolution(channels, inner), InstanceNorm(inner)
        self.conv2, self.norm2 = convolution(inner, channels), InstanceNorm(channels)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, C, D, H, W)`` to the same shape."""
        inner = activate(self.norm1(self.conv1(features)), inplace=True)
        return activate(self.norm2(self.conv2(inner)).add_(features), inplace=True)


def space_to_depth(image: Tensor) -> Tensor:
    """``(N, C, D, H, W)`` to ``(N, 8 * C, D/2, H/2, W/2)``: each 2x2x2 cube becomes eight channels."""
    rows, channels, depth, height, width = image.shape
    cubes = image.reshape(rows, channels, depth // 2, 2, height // 2, 2, width // 2, 2)
    return cubes.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(rows, 8 * channels, depth // 2, height // 2, width // 2)


def depth_to_space(features: Tensor) -> Tensor:
    """``(B, 8 * C, D, H, W)`` to ``(B, C, 2D, 2H, 2W)``: the inverse of ``space_to_depth`` for C channels."""
    rows, channels, depth, height, width = features.shape
    if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript leaves out what stands under this alone
        if _computes_plainly(features) and _holds_pairs(features):
            # Two voxels that stay neighbours are copied as one value: three times as fast.
            pairs = features.movedim(1, -1).view(_TWICE_AS_WIDE[features.dtype])
            pairs = pairs.reshape(rows, depth, height, width, channels // 8, 2, 2).permute(0, 4, 1, 5, 2, 6, 3)
            return pairs.contiguous().view(rows, channels // 8, 2 * depth, 2 * height, width).view(features.dtype)
    cubes = features.reshape(rows, channels // 8, 2, 2, 2, depth, height, width)
    return cubes.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(rows, channels // 8, 2 * depth, 2 * height, 2 * width)


def interpolate(features: Tensor, size: list[int]) -> Tensor:
    """Trilinear interpolation of ``(B, C, D, H, W)`` to ``size`` along D, H and W."""
    if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript leaves out what stands under this alone
        if _computes_plainly(features) and features.is_contiguous(memory_format=torch.channels_last_3d):
            # A processor has a fast kernel for two dimensions and channels last alone: along W, then along D and H.
            rows, channels, depth, height, width = features.shape
            lines = features.movedim(1, -1).reshape(rows, depth * height, width, channels).movedim(-1, 1)
            wide = F.interpolate(lines, [depth * height, size[2]], mode="bilinear").movedim(1, -1)
            planes = wide.reshape(rows, depth, height, size[2] * channels).movedim(-1, 1)
            full = F.interpolate(planes, size[:2], mode="bilinear").movedim(1, -1)
            return full.reshape(rows, size[0], size[1], size[2], channels).movedim(-1, 1)
    return F.interpolate(features, size, mode="trilinear")


@torch.jit.unused
def _holds_pairs(features: Tensor) -> bool:
    """Whether neighbouring channels, last in memory, can be taken for one value of twice the width."""
    return (
        features.dtype in _TWICE_AS_WIDE
        and features.is_contiguous(memory_format=torch.channels_last_3d)
        and features.storage_offset() % 2 == 0
        and features.shape[-1] > 1
    )
