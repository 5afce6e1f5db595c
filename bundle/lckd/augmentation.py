"""Random changes of a preprocessed study in training that MONAI does not have."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import MapTransform, NormalizeIntensity, RandBiasField, RandomizableTransform
from monai.transforms.utils import distance_transform_edt, generate_spatial_bounding_box
from monai.utils import convert_to_tensor
from torch import Tensor

from lckd.sequences import LABELS, REGIONS, SEQUENCES
from lckd.transforms import regions_of

SEARCHED = 12
"""How many half voxels to either side of the brain's middle its midline is looked for."""


def midline(image: Tensor) -> int:
    """Twice the position of the mid-sagittal plane along the first spatial axis of ``image`` ``(C, X, Y, Z)``.

    It is where the image resembles its mirror image best, for a head that is not turned: RAS, near an atlas.
    """
    profile = image[:, :, ::2, ::2].abs().sum(0)
    filled = torch.nonzero(profile.sum((1, 2))).flatten()
    middle = int(filled[0] + filled[-1])

    def difference(doubled: int) -> float:
        mirrored, inside = _mirror_indices(doubled, len(profile))
        return float((profile[mirrored] - profile)[inside].abs().mean())

    return min(range(middle - SEARCHED, middle + SEARCHED + 1), key=difference)


class RandHealthyHemisphered(RandomizableTransform, MapTransform):
    """Replaces the hemisphere that holds the tumour by the mirror image of the other one: a brain without a tumour.

    A study whose tumour crosses the midline stays as it is. Intensities are normalized again, as they would be if the
    tumour had never been there.

    Args:
        prob: of the change.
        image: key of the preprocessed sequences ``(4, X, Y, Z)`` in RAS.
        label: key of the label map ``(1, X, Y, Z)``.
    """

    def __init__(self, prob: float = 0.1, image: str = "image", label: str = "label") -> None:
        MapTransform.__init__(self, [image, label])
        RandomizableTransform.__init__(self, prob)
        self.image, self.label = image, label

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Change ``data`` or leave it."""
        item = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return item
        image, label = item[self.image], item[self.label]
        doubled = midline(convert_to_tensor(image, track_meta=False))
        where = torch.nonzero(label[0].any(-1).any(-1)).flatten() * 2
        if not len(where) or (where.min() <= doubled <= where.max()):
            return item
        ill = torch.arange(label.shape[1]) * 2 < doubled
        if where.min() > doubled:
            ill = ~ill
        mirrored, inside = _mirror_indices(doubled, label.shape[1])
        source = torch.where(ill, mirrored, torch.arange(label.shape[1]))
        healthy = image[:, source] * (inside | ~ill)[None, :, None, None]
        item[self.image] = NormalizeIntensity(nonzero=True, channel_wise=True)(healthy)
        item[self.label] = torch.zeros_like(label)
        return item


class RandTransplantedTumour(RandomizableTransform, MapTransform):
    """Puts another study's tumour into the brain, all sequences together, near the place where it grew.

    A carved mixture of two studies (CarveMix, Zhang et al. 2021): what lies within some voxels of the other tumour is
    blended in, fading out with the distance from it. The brains' boxes are laid on each other, the tumour mirrored now
    and then, and moved a little. The brain's own tumour stays where the new one leaves it.

    Args:
        donors: preprocessed, labelled studies, as the dataset's own.
        prob: of the change.
        margin: fewest and most voxels over which the surroundings of a tumour fade out.
        shift: most voxels that it is moved along each axis.
        inside: share of the tumour that has to lie in the brain; else the brain stays as it is.
        image: key of the preprocessed sequences ``(4, X, Y, Z)`` in RAS.
        label: key of the label map ``(1, X, Y, Z)``.
        availability: key of the sequences that a study has ``(4,)``.
    """

    def __init__(
        self,
        donors: Sequence[Mapping[str, Any]],
        prob: float = 0.5,
        margin: tuple[int, int] = (3, 10),
        shift: int = 8,
        inside: float = 0.8,
        image: str = "image",
        label: str = "label",
        availability: str = "availability",
    ) -> None:
        MapTransform.__init__(self, [image, label])
        RandomizableTransform.__init__(self, prob)
        self.donors, self.margin, self.shift, self.inside = donors, margin, shift, inside
        self.image, self.label, self.availability = image, label, availability

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Change ``data`` or leave it."""
        item = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return item
        donor = self.donors[int(self.R.randint(len(self.donors)))]
        mirrored, margin = self.R.random() < 0.5, int(self.R.randint(self.margin[0], self.margin[1] + 1))
        moved = self.R.randint(-self.shift, self.shift + 1, 3)
        if not donor[self.label].any() or (item[self.availability] & ~donor[self.availability]).any():
            return item
        image, label, given, tumour = (
            convert_to_tensor(study[key], track_meta=False)
            for study in (item, donor)
            for key in (self.image, self.label)
        )
        if mirrored:
            given, tumour = given.flip(1), tumour.flip(1)
        to_host = _middle(image) - _middle(given) + moved
        place = _overlap(tumour, label, to_host, margin)
        if place is None:
            return item
        there, here = place
        brain = (image[here] != 0).any(0) & (given[there] != 0).any(0)
        ill = (tumour[there][0] != 0) & brain
        if ill.sum() < self.inside * (tumour != 0).sum():
            return item
        distance = torch.as_tensor(distance_transform_edt(~ill[None]))[0]
        weight = (1 - distance / margin).clamp(0, 1) * brain
        image, label = image.clone(), label.clone()
        image[here] += weight * (given[there] - image[here])
        label[here] = torch.where(ill, tumour[there], label[here])
        item[self.image], item[self.label] = image, label
        return item


class RandUnenhancedd(RandomizableTransform, MapTransform):
    """Takes the contrast agent's effect out of a tumour: a glioma that does not enhance, as many of low grade do not.

    In the core and around it T1ce shows what T1 does, brought to T1ce's mean and deviation of the rest of the brain,
    with noise of its own. What enhanced is labelled as non-enhancing core; T1ce is normalized again. A study without T1
    or T1ce, or without enhancing tumour, stays as it is. ``unenhanced`` of the item tells whether it was changed.

    Args:
        prob: of the change.
        margin: fewest and most voxels over which the change fades out around the core.
        noise: largest standard deviation of the noise, in those of the brain.
        image: key of the preprocessed sequences ``(4, X, Y, Z)``.
        label: key of the label map ``(1, X, Y, Z)``.
    """

    def __init__(
        self,
        prob: float = 0.1,
        margin: tuple[int, int] = (2, 6),
        noise: float = 0.15,
        image: str = "image",
        label: str = "label",
    ) -> None:
        MapTransform.__init__(self, [image, label])
        RandomizableTransform.__init__(self, prob)
        self.margin, self.noise, self.image, self.label = margin, noise, image, label

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Change ``data`` or leave it."""
        item = dict(data) | {"unenhanced": False}
        self.randomize(None)
        if not self._do_transform:
            return item
        margin = int(self.R.randint(self.margin[0], self.margin[1] + 1))
        noise, seed = float(self.R.uniform(0, self.noise)), int(self.R.randint(2**31))
        image, label = (convert_to_tensor(item[key], track_meta=False) for key in (self.image, self.label))
        before, after = image[SEQUENCES.index("t1")], image[SEQUENCES.index("t1ce")]
        enhancing = label == LABELS["enhancing tumour"]
        if not (enhancing.any() and before.any() and after.any()):
            return item
        core = regions_of(label)[REGIONS.index("tc")]
        low, high = generate_spatial_bounding_box(
            core[None], lambda voxels: voxels, margin=self.margin[1], allow_smaller=True
        )
        box = tuple(slice(int(start), int(stop)) for start, stop in zip(low, high, strict=True))
        rest = (before != 0) & (after != 0) & (label[0] == 0)
        plain = (before - before[rest].mean()) / before[rest].std() * after[rest].std() + after[rest].mean()
        plain = plain + noise * torch.randn(plain.shape, generator=torch.Generator().manual_seed(seed))
        distance = torch.as_tensor(distance_transform_edt(~core[box][None]))[0]
        weight = (1 - distance / (margin + 1)).clamp(0, 1) * ((before != 0) & (after != 0))[box]
        changed = after.clone()
        changed[box] += weight * (plain - after)[box]
        image = image.clone()
        image[SEQUENCES.index("t1ce")] = NormalizeIntensity(nonzero=True)(changed[None])[0]
        label = torch.where(enhancing, LABELS["necrotic core"], label)
        return item | {self.image: image, self.label: label, "unenhanced": True}


class RandCoilSensitivityd(RandomizableTransform, MapTransform):
    """Multiplies the intensities by a smooth field, another one for each sequence, as uneven coils do.

    Normalized intensities are differences from the mean, which a field would only stretch: the mean is put back before.

    Args:
        keys: of sequences ``(C, X, Y, Z)``, zero outside the brain.
        prob: of the change.
        strength: largest coefficient of the polynomial field of ``RandBiasField``.
        mean: the brain's mean intensity in standard deviations.
    """

    def __init__(self, keys: KeysCollection, prob: float = 0.2, strength: float = 0.3, mean: float = 4.0) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.strength, self.mean = strength, mean

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Change ``data`` or leave it."""
        item = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return item
        bias = RandBiasField(degree=3, coeff_range=(0.0, float(self.R.uniform(0, self.strength))), prob=1)
        bias.set_random_state(int(self.R.randint(2**31)))
        for key in self.key_iterator(item):
            item[key] = torch.stack([self._uneven(channel, bias) for channel in item[key]])
        return item

    def _uneven(self, channel: Tensor, bias: RandBiasField) -> Tensor:
        channel = convert_to_tensor(channel, track_meta=False)
        brain = channel != 0
        voxels = brain.sum()
        if not voxels:
            return channel
        # The polynomial is so smooth that every fourth voxel of it says it all.
        coarse = convert_to_tensor(bias(torch.ones(1, *(-(-side // 4) for side in channel.shape))), track_meta=False)
        field = F.interpolate(coarse[None], channel.shape, mode="trilinear", align_corners=True)[0, 0]
        changed = (channel + self.mean) * field
        centred = (changed - (changed * brain).sum() / voxels) * brain
        return centred / (centred.square().sum() / (voxels - 1)).sqrt()


class RandThickSlicesd(RandomizableTransform, MapTransform):
    """Averages some of the sequences over slices of several voxels, as two-dimensional acquisitions do.

    Hospitals scan one sequence in three dimensions and the next in slices of 5 mm, mostly axial: each sequence is drawn
    by itself. What comes out is on the same grid, interpolated between the slices, as an image brought to 1 mm is.

    Args:
        keys: of sequences ``(C, X, Y, Z)`` in RAS.
        prob: of the change.
        thickness: smallest and largest of a slice, in voxels.
        sequence_prob: of each sequence being thick where the change is made.
        axial_prob: of slices along the third axis; the other two share the rest.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.2,
        thickness: tuple[float, float] = (2.0, 6.5),
        sequence_prob: float = 0.7,
        axial_prob: float = 0.8,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.thickness, self.sequence_prob = thickness, sequence_prob
        self.axes = [(1 - axial_prob) / 2, (1 - axial_prob) / 2, axial_prob]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Change ``data`` or leave it."""
        item = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return item
        for key in self.key_iterator(item):
            item[key] = torch.stack([self._thick(channel) for channel in item[key]])
        return item

    def _thick(self, channel: Tensor) -> Tensor:
        axis = int(self.R.choice(3, p=self.axes))
        thickness = float(self.R.uniform(*self.thickness))
        if self.R.random() >= self.sequence_prob:
            return channel
        shape = list(channel.shape)
        slices = shape.copy()
        slices[axis] = max(1, round(shape[axis] / thickness))
        batch = convert_to_tensor(channel, track_meta=False)[None, None]
        # Adaptive pooling is the mean over each slice; its borders fall on whole voxels.
        averaged = F.adaptive_avg_pool3d(batch, (slices[0], slices[1], slices[2]))
        return F.interpolate(averaged, shape, mode="trilinear")[0, 0]


def _mirror_indices(doubled: int, size: int) -> tuple[Tensor, Tensor]:
    """Index of each position's mirror image about ``doubled / 2``, and whether it lies within ``size``."""
    mirrored = doubled - torch.arange(size)
    inside = (mirrored >= 0) & (mirrored < size)
    return mirrored.clamp(0, size - 1), inside


def _middle(image: Tensor) -> np.ndarray:
    """The voxel in the middle of the brain's box in ``image`` ``(C, X, Y, Z)``."""
    low, high = generate_spatial_bounding_box(image, lambda voxels: voxels != 0)
    return (np.asarray(low) + np.asarray(high)) // 2


def _overlap(
    tumour: Tensor, label: Tensor, moved: np.ndarray, margin: int
) -> tuple[tuple[slice, ...], tuple[slice, ...]] | None:
    """Where ``tumour`` and its margin lie in its own grid and, moved, in that of ``label``; None if outside of it."""
    low, high = generate_spatial_bounding_box(tumour, lambda voxels: voxels != 0, margin=margin, allow_smaller=True)
    start = np.maximum(low, -moved)
    stop = np.minimum(high, np.asarray(label.shape[1:]) - moved)
    if (stop <= start).any():
        return None
    there, here = (
        (slice(None), *(slice(int(a), int(b)) for a, b in zip(start + offset, stop + offset, strict=True)))
        for offset in (np.zeros(3, int), moved)
    )
    return there, here
