"""A data list's item to one tensor of four sequences on the reference sequence's grid."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import SpatialResample, Transform
from monai.utils import convert_to_tensor
from numpy.typing import NDArray

from lckd.errors import StudyError
from lckd.images import Image, looks_skull_stripped, read_channels, read_image, read_label_map
from lckd.sequences import BRATS_VALUES, LABELS, SEQUENCES, parse_subset, reference_sequence

LEAST_OVERLAP = 0.5
"""Fraction of the reference's box that another sequence, or the label map, must cover."""


@dataclass(frozen=True)
class SequenceImages:
    """The sequences of a study on one grid.

    Attributes:
        images: ``(X, Y, Z)`` float32 per available sequence.
        reference: sequence whose grid it is.
        grid: the reference as it was read.
        warnings: what the user should know.
    """

    images: dict[str, torch.Tensor]
    reference: str
    grid: Image
    warnings: list[str]

    @property
    def affine(self) -> torch.Tensor:
        """``(4, 4)`` voxel to world in mm, RAS."""
        return torch.from_numpy(self.grid.affine)

    @property
    def availability(self) -> torch.Tensor:
        """``(4,)`` boolean."""
        return torch.tensor([sequence in self.images for sequence in SEQUENCES])


class LoadStudy(Transform):
    """Reads the available sequences of an item, in parallel, onto the grid of the reference sequence.

    Args:
        sequences: use only these; the file of another is never opened. None uses all.
    """

    def __init__(self, sequences: str | Sequence[str] | None = None) -> None:
        self.sequences = (
            SEQUENCES
            if sequences is None
            else parse_subset(sequences if isinstance(sequences, str) else list(sequences))
        )

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """Load an item.

        Returns:
            ``study``; ``image``: ``MetaTensor`` float32 ``(4, X, Y, Z)``, zero where a sequence is
            missing, with the reference's affine; ``availability``: ``(4,)`` boolean; ``reference``: its
            sequence; ``warnings``; and of a labelled study ``label``: uint8 ``(1, X, Y, Z)``.

        Raises:
            StudyError: a file cannot be used, no sequence is left, or grids do not overlap.
        """
        read = self.read(item)
        stacked = torch.zeros(len(SEQUENCES), *read.grid.array.shape)
        availability = read.availability
        for sequence in tuple(read.images):
            stacked[SEQUENCES.index(sequence)] = read.images.pop(sequence)
        loaded = {
            "study": item["study"],
            "image": MetaTensor(stacked, affine=read.affine),
            "availability": availability,
            "reference": read.reference,
            "warnings": read.warnings,
        }
        if "label" in item:
            loaded["label"] = _read_label(Path(item["label"]), read.reference, read.grid, read.warnings)
        return loaded

    def read(self, item: dict[str, Any]) -> SequenceImages:
        """The available sequences of an item, to be let go one by one where memory is short; raises as a call does."""
        images = self._read(item)
        reference = reference_sequence(tuple(images))
        grid = images[reference]
        warnings = [warning for image in images.values() for warning in image.warnings]
        warnings += item.get("notes", ())
        heads = [name for name, image in images.items() if not looks_skull_stripped(image.array, image.affine)]
        tensors = {name: _on_grid(name, images.pop(name), reference, grid, warnings) for name in tuple(images)}
        if heads:
            which = "+".join(heads)
            warnings.insert(0, f"{which} does not look skull-stripped; results on whole heads are not to be trusted")
        return SequenceImages(tensors, reference, grid, warnings)

    def _read(self, item: dict[str, Any]) -> dict[str, Image]:
        if "image" in item:
            return self._read_channels(Path(item["image"]), item["channels"])
        wanted = [sequence for sequence in self.sequences if sequence in item]
        if not wanted:
            has = ", ".join(sequence for sequence in SEQUENCES if sequence in item)
            raise StudyError(f"{item['study']} has {has}, of which none may be used; add one to the sequences in use")
        with ThreadPoolExecutor(len(wanted)) as pool:
            images = dict(zip(wanted, pool.map(read_image, (item[sequence] for sequence in wanted)), strict=True))
        for sequence, image in images.items():
            if image.array.ndim != 3:
                raise StudyError(
                    f"{item[sequence]} has {len(image.array)} channels; accepted is one, or a 4-D file that names them"
                )
        return images

    def _read_channels(self, file: Path, channels: Sequence[str]) -> dict[str, Image]:
        left = read_channels(file, channels, self.sequences)
        if not left:
            raise StudyError(
                f"{file} has {', '.join(channels)}, of which none may be used; add one to the sequences in use"
            )
        return left


def _on_grid(sequence: str, image: Image, reference: str, grid: Image, warnings: list[str]) -> torch.Tensor:
    if image.array.shape == grid.array.shape and np.allclose(image.affine, grid.affine, atol=1e-3):
        return torch.from_numpy(image.array)
    _check_overlap(sequence, image.array.shape, image.affine, reference, grid, warnings)
    source = MetaTensor(torch.from_numpy(image.array)[None], affine=torch.from_numpy(image.affine))
    target = torch.from_numpy(grid.affine)
    resample = SpatialResample(mode="bilinear", padding_mode="zeros")
    return resample(source, dst_affine=target, spatial_size=grid.array.shape)[0].float()


def _check_overlap(
    name: str, shape: tuple[int, ...], affine: NDArray, reference: str, grid: Image, warnings: list[str]
) -> None:
    """Refuse what lies elsewhere, and warn that the rest is resampled."""
    covered = _coverage(shape, affine, grid)
    if covered < LEAST_OVERLAP:
        raise StudyError(
            f"{name} covers {covered:.0%} of the {reference}'s box, so the grids do not overlap; "
            "co-register the sequences, or leave one out"
        )
    warnings.append(f"{name} was resampled to the grid of {reference}")


def _coverage(shape: tuple[int, ...], affine: NDArray, grid: Image) -> float:
    """Fraction of the voxels of ``grid``, on a coarse lattice, that lie in the box of ``shape`` and ``affine``."""
    axes = [np.linspace(0, side - 1, 24) for side in grid.array.shape]
    lattice = np.stack([*np.meshgrid(*axes, indexing="ij"), np.ones((24, 24, 24))]).reshape(4, -1)
    voxels = (np.linalg.inv(affine) @ grid.affine @ lattice)[:3]
    limits = np.array(shape)[:, None] - 0.5
    return float(((voxels >= -0.5) & (voxels <= limits)).all(0).mean())


def _read_label(file: Path, reference: str, grid: Image, warnings: list[str]) -> MetaTensor:
    values, affine = read_label_map(file)
    label = MetaTensor(torch.from_numpy(_our_values(file, values))[None], affine=torch.from_numpy(affine))
    if values.shape == grid.array.shape and np.allclose(affine, grid.affine, atol=1e-3):
        return label
    _check_overlap(f"label map {file}", values.shape, affine, reference, grid, warnings)
    resample = SpatialResample(mode="nearest", padding_mode="zeros", dtype=np.float32)
    resampled = resample(label, dst_affine=torch.from_numpy(grid.affine), spatial_size=grid.array.shape)
    plain = convert_to_tensor(resampled, dtype=torch.uint8, track_meta=False)
    return MetaTensor(plain, affine=torch.from_numpy(grid.affine))


def _our_values(file: Path, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    brats, ours = set(BRATS_VALUES.values()), set(LABELS.values())
    found = set(np.unique(values).tolist()) - {0}
    if not (found <= brats or found <= ours):
        raise StudyError(
            f"label map {file} holds the values {sorted(found)}; accepted are {sorted(ours)} or BraTS's {sorted(brats)}"
        )
    if found <= ours:
        return values
    result = np.zeros_like(values)
    for our, theirs in BRATS_VALUES.items():
        result[values == theirs] = our
    return result
