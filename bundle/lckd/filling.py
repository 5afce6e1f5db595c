"""What stands in for a missing sequence: the mean of the available ones' features."""

import torch
from torch import Tensor


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


def fuse(features: Tensor, availability: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A 1x1x1 convolution over the concatenation of ``fill``'s four sequences, without making it.

    A missing sequence's part is linear in the mean of the available ones, so that its weights can be shared out
    among theirs: the cost falls with what is missing, and no filled copy of the features is held.

    Args:
        features: ``(N, C, d, h, w)`` of the available sequences, as for ``fill``.
        availability: ``(B, 4)`` boolean with N true entries, at least one a row.
        weight: ``(O, 4 * C, 1, 1, 1)`` of the convolution.
        bias: ``(O,)`` of the convolution, or None.

    Returns:
        ``(B, O, d, h, w)``.
    """
    channels, depth, height, width = features.shape[1:]
    per_sequence = weight.reshape(weight.shape[0], availability.shape[1], channels).transpose(0, 1)  # (4, O, C)
    available = availability.to(weight.dtype)
    shares = torch.einsum("bs,soc->boc", 1 - available, per_sequence) / available.sum(1)[:, None, None]
    fused: list[Tensor] = []
    study = availability.nonzero()[:, 0]
    for index in range(availability.shape[0]):
        # A batch of one needs no selection, which would copy all features.
        own = features if availability.shape[0] == 1 else features[study == index]
        matrix = per_sequence[availability[index]] + shares[index]  # (n, O, C)
        if own.is_contiguous(memory_format=torch.channels_last_3d):
            fused.append(_sum_of_products(own, matrix, bias))
            continue
        flat = own.reshape(-1, depth * height * width)  # (n * C, d * h * w)
        product = torch.matmul(matrix.transpose(0, 1).flatten(1), flat).reshape(1, -1, depth, height, width)
        fused.append(product if bias is None else product + bias[:, None, None, None].to(product.dtype))
    return fused[0] if len(fused) == 1 else torch.cat(fused)


def _sum_of_products(features: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    """``bias`` and the sum over rows of ``matrix`` ``(n, O, C)`` times ``features`` ``(n, C, d, h, w)``.

    For channels last in memory, which they stay: the rows would have to be copied for a single product.

    Returns:
        ``(1, O, d, h, w)``.
    """
    rows = features.movedim(1, -1).flatten(1, 3)  # (n, d * h * w, C)
    weights = matrix.to(features.dtype).transpose(1, 2)
    total = rows[0] @ weights[0] if bias is None else torch.addmm(bias.to(features.dtype), rows[0], weights[0])
    for row in range(1, rows.shape[0]):
        total.addmm_(rows[row], weights[row])
    size = features.shape[2:]
    return total.reshape(1, size[0], size[1], size[2], -1).movedim(-1, 1)
