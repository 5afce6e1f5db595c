"""A study as the network reads it: preprocessing, and label maps as regions and back."""

import functools
import operator
from collections.abc import Hashable, Mapping

import torch
from monai.config import KeysCollection
from monai.transforms import (
    Compose,
    CropForegroundd,
    MapTransform,
    NormalizeIntensityd,
    Orientationd,
    ScaleIntensityRanged,
    Spacingd,
)
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
    enhancing, whole, core = (regions[..., [REGIONS.index(name)], :, :, :] for name in ("et", "wt", "tc"))
    label_map = whole.to(torch.uint8) * LABELS["oedema"]
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


def preprocessing(spacing_mm: float = 1.0, limit: float = 5.0, label: bool = False) -> Compose:
    """A loaded study to what the network reads: cropped to the brain, RAS, isotropic, normalized.

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
            CropForegroundd(keys, source_key="image", select_fn=_is_nonzero, allow_smaller=True),
            Orientationd(keys, axcodes="RAS", labels=None),
            Spacingd(keys, pixdim=(spacing_mm,) * 3, mode=modes, padding_mode="zeros"),
            NormalizeIntensityd("image", nonzero=True, channel_wise=True),
            ScaleIntensityRanged("image", -limit, limit, -limit, limit, clip=True),
        ]
    )


def _is_nonzero(image: Tensor) -> Tensor:
    return image != 0
