"""A study as the network reads it: preprocessing, and label maps as regions and back."""

import functools
import operator
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import (
    Compose,
    Crop,
    Cropd,
    MapTransform,
    Orientationd,
    ScaleIntensityRanged,
    Spacingd,
)
from monai.utils import convert_to_numpy, convert_to_tensor
from numpy.typing import NDArray
from torch import Tensor

from lckd.sequences import LABELS, REGION_LABELS, REGIONS


def regions_of(label_map: Tensor) -> Tensor:
    """Regions ``(..., 3, D, H, W)`` in the order of ``REGIONS``, boolean, of a label map ``(..., 1, D, H, W)``."""
    masks = [
        functools.reduce(operator.or_, (label_map == value for value in REGION_LABELS[region])) for region in REGIONS
    ]
    return torch.cat(masks, dim=-4)


def label_map_of(regions: Tensor) -> Tensor:
    """Label map ``(..., 1, D, H, W)`` uint8 of boolean regions ``(..., 3, D, H, W)``.

    Regions are nested first: the core belongs to the whole tumour, the enhancing tumour to the core.
    A voxel of ET alone is therefore enhancing tumour, and lies in WT and TC of the result.
    """
    enhancing, whole, core = (regions.narrow(-4, REGIONS.index(name), 1) for name in ("et", "wt", "tc"))
    label_map = whole.to(torch.uint8).mul_(LABELS["oedema"])
    label_map[core] = LABELS["necrotic core"]
    label_map[enhancing] = LABELS["enhancing tumour"]
    return label_map


class LabelMapToRegionsd(MapTransform):
    """Label map ``(1, D, H, W)`` of our values to float regions ``(3, D, H, W)`` in the order of ``REGIONS``."""

    def __init__(self, keys: KeysCollection = "label", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """Replace the label maps of ``data`` by their regions."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = regions_of(item[key]).float()
        return item


class CropToForegroundd(Cropd):
    """Crop to ``box``, slices of the three axes, or in an item without it to what is not zero in ``image``.

    With it the sequences of a study can be preprocessed one at a time. The result shares no memory with the whole
    image, which is therefore neither kept nor changed by what follows.
    """

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys, cropper=Crop())

    def __call__(  # type: ignore[override]
        self, data: Mapping[Hashable, Any], lazy: bool | None = None
    ) -> dict[Hashable, Any]:
        """Crop the images of ``data``."""
        item = dict(data)
        box = item.pop("box", None) or box_of(convert_to_numpy(item["image"]).any(0))
        cropped = {key: self.cropper(item[key], box, lazy) for key in self.key_iterator(item)}
        # Files have their first axis fastest in memory; tensors are worked on faster with their last.
        return item | {key: image.clone(memory_format=torch.contiguous_format) for key, image in cropped.items()}


class NormalizeNonzerod(MapTransform):
    """What MONAI's ``NormalizeIntensityd(nonzero=True, channel_wise=True)`` gives, in place.

    Torch, and so that one, selects voxels through their indices, which take up to 24 bytes each; numpy does not.
    """

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """Each channel of images ``(C, D, H, W)`` with mean 0 and standard deviation 1 where it is not zero."""
        item = dict(data)
        for key in self.key_iterator(item):
            for channel in convert_to_tensor(item[key], track_meta=False):
                outside = channel == 0
                voxels = convert_to_numpy(channel)
                values = torch.from_numpy(voxels[voxels != 0])
                if values.numel():
                    mean, deviation = values.mean().item(), values.std(correction=0).item()
                    channel.sub_(mean).div_(deviation or 1.0).masked_fill_(outside, 0)
        return item


def box_of(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Slices of the smallest box that holds a mask ``(X, Y, Z)``, of the whole image if it is empty."""
    filled = (np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1)))
    sides = zip(filled, mask.shape, strict=True)
    return tuple(slice(int(at[0]), int(at[-1]) + 1) if at.size else slice(0, side) for at, side in sides)


def preprocessing(spacing_mm: float = 1.0, limit: float = 5.0, label: bool = False) -> Compose:
    """A loaded study, or one sequence and the study's ``box``, to what the network reads.

    It is cropped to the brain, RAS, isotropic and normalized.

    Each sequence gets zero mean and unit standard deviation over its own non-zero voxels and is cut at
    ``limit`` standard deviations, which tames the outliers of original scans; the background stays zero.

    Args:
        spacing_mm: voxel size the network works at; an image that has it is not resampled.
        limit: largest absolute normalized intensity.
        label: the items have a label map too.
    """
    keys = ["image", "label"] if label else ["image"]
    modes = ["bilinear", "nearest"][: len(keys)]
    return Compose(
        [
            CropToForegroundd(keys),
            Orientationd(keys, axcodes="RAS", labels=None),
            Spacingd(keys, pixdim=(spacing_mm,) * 3, mode=modes, padding_mode="zeros"),
            NormalizeNonzerod("image"),
            ScaleIntensityRanged("image", -limit, limit, -limit, limit, clip=True),
        ]
    )
