"""Which parameters Muon may orthogonalize, and which AdamW updates."""

from typing import Any

from torch import nn


def muon_groups(network: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for ``pytorch_optimizer.Muon``.

    Muon (Jordan et al. 2024) orthogonalizes the momentum of a weight matrix, here a convolution's
    ``(outputs, inputs * kernel)``. Heads, norms and biases are no hidden matrices and stay with AdamW.

    Args:
        network: whose parameters are trained.
        lr: learning rate of both; Muon's updates are scaled to the size of AdamW's (``use_adjusted_lr``).
        weight_decay: of both.
    """
    hidden: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        (hidden if parameter.ndim == 5 and "head" not in name else others).append(parameter)
    return [
        {"params": hidden, "use_muon": True, "lr": lr, "weight_decay": weight_decay, "use_adjusted_lr": True},
        {"params": others, "use_muon": False, "lr": lr, "weight_decay": weight_decay, "betas": (0.9, 0.999)},
    ]
