"""Weights of a network with all inner channels, made into a start for one that has fewer of them at its finest scales.

python benchmarks/squeeze_weights.py ../shared/data/glioma/train CHECKPOINT squeezed.pt
Of each block the inner channels go that matter least to what the second convolution makes of them on the studies given,
one after the other, and the rest take over what they can by least squares (He et al., ICCV 2017; channels are chosen as
weights are in Hassibi and Stork's Optimal Brain Surgeon, 1993). lckd train then goes on from there: --initial_weights.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from lckd.blocks import DecoderBlock, EncoderBlock
from lckd.datalist import find_studies
from lckd.decoder import Decoder
from lckd.encoder import Encoder
from lckd.errors import sentences
from lckd.inferer import decode_subset, encode_study, pad
from lckd.network import LCKDNet
from lckd.segmentation import Segmenter
from lckd.sequences import SUBSETS

VOXELS = 500
"""Drawn of each output of a block, for each study and each subset."""

DAMPING = 1e-4
"""Added to the moments' diagonal, relative to its mean: neighbouring voxels are nearly the same."""


class Moments:
    """Second moments of a convolution's inputs, in the brain, gathered while the network runs."""

    def __init__(self, conv: nn.Conv3d, generator: torch.Generator) -> None:
        size = conv.in_channels * 27
        self.sum, self.generator = torch.zeros(size, size, dtype=torch.float64), generator
        conv.register_forward_pre_hook(lambda _, inputs: self.add(inputs[0]))

    def add(self, features: Tensor) -> None:
        """Add the neighbourhoods of random voxels of ``(N, C, D, H, W)``."""
        padded = F.pad(features, [1] * 6)
        for row in padded:
            windows = row.unfold(1, 3, 1).unfold(2, 3, 1).unfold(3, 3, 1)  # (C, D, H, W, 3, 3, 3)
            drawn = [torch.randint(size, (VOXELS,), generator=self.generator) for size in windows.shape[1:4]]
            inputs = windows[:, drawn[0], drawn[1], drawn[2]].transpose(0, 1).flatten(1).double()
            inputs -= inputs.mean(0)  # the norm that follows takes a constant away
            self.sum += inputs.T @ inputs


def squeeze(moments: Tensor, weight: Tensor, kept: int) -> tuple[Tensor, Tensor, float]:
    """The channels to keep and the weights that then come closest.

    Args:
        moments: ``(27 C, 27 C)`` of the inputs.
        weight: ``(O, C, 3, 3, 3)`` of the convolution.
        kept: number of channels.

    Returns:
        Indices of the channels, ``(O, kept, 3, 3, 3)``, and the share of the output's power that is lost.
    """
    damped = moments + DAMPING * moments.diagonal().mean() * torch.eye(len(moments), dtype=moments.dtype)
    original = weight.flatten(1).double()
    channels, current = list(range(weight.shape[1])), original
    inverse = torch.linalg.inv(damped)
    while len(channels) > kept:
        blocks = [slice(27 * place, 27 * place + 27) for place in range(len(channels))]
        lost = [torch.trace(current[:, b] @ torch.linalg.solve(inverse[b, b], current[:, b].T)) for b in blocks]
        least = int(torch.stack(lost).argmin())
        b = blocks[least]
        rest = torch.cat([torch.arange(0, b.start), torch.arange(b.stop, len(inverse))])
        correction = torch.linalg.solve(inverse[b, b], inverse[b, :])
        current = (current - current[:, b] @ correction)[:, rest]
        inverse = (inverse - inverse[:, b] @ correction)[rest][:, rest]
        del channels[least]
    indices = torch.tensor(channels)
    spread = torch.zeros_like(original).unflatten(1, (-1, 27))
    spread[:, indices] = current.unflatten(1, (-1, 27))
    difference = spread.flatten(1) - original
    lost_power = torch.trace(difference @ moments @ difference.T) / torch.trace(original @ moments @ original.T)
    return indices, current.unflatten(1, (-1, 3, 3, 3)).to(weight.dtype), float(lost_power)


def run_all_subsets(segmenter: Segmenter, dataset: Path) -> None:
    """The network on all subsets of each study."""
    for item in tqdm(find_studies(dataset), unit="study"):
        loaded = segmenter.loading(dict(item))
        image = segmenter.preprocess({"image": loaded["image"]})["image"]
        padded, _ = pad(image.as_tensor()[None], segmenter.inferer.divisor)
        features = encode_study(segmenter.network, padded, loaded["availability"][None])
        for subset in SUBSETS:
            decode_subset(segmenter.network, features, subset)


def main() -> None:
    """Read, gather moments, squeeze and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    wide, narrow = LCKDNet(Encoder(squeezed=0), Decoder(squeezed=0)), LCKDNet()
    segmenter = Segmenter(wide, options.checkpoint, device="cpu", precision="fp32")
    weights = wide.state_dict()
    blocks = {
        name: (block, narrow.get_submodule(name).conv1.out_channels)
        for name, block in wide.named_modules()
        if isinstance(block, EncoderBlock | DecoderBlock)
    }
    blocks = {name: (block, kept) for name, (block, kept) in blocks.items() if kept < block.conv1.out_channels}
    generator = torch.Generator().manual_seed(0)
    moments = {name: Moments(block.conv2, generator) for name, (block, _) in blocks.items()}
    with torch.inference_mode():
        run_all_subsets(segmenter, options.dataset)
    for name, (block, kept) in blocks.items():
        channels, weight, lost = squeeze(moments[name].sum, block.conv2.weight.detach(), kept)
        print(f"{name}: {kept} of {block.conv1.out_channels} inner channels, {100 * lost:.1f} % of the power lost")
        weights[f"{name}.conv1.weight"] = weights[f"{name}.conv1.weight"][channels]
        for part in ("weight", "bias"):
            weights[f"{name}.norm1.{part}"] = weights[f"{name}.norm1.{part}"][..., channels]
        weights[f"{name}.conv2.weight"] = weight
    narrow.load_state_dict(weights)
    torch.save(narrow.state_dict(), options.output)


if __name__ == "__main__":
    with sentences():
        main()
