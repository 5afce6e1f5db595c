"""What hospitals do to images, done on purpose to labelled studies: how much Dice each change costs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Affine,
    GaussianSmooth,
    Orientation,
    RandBiasField,
    RandRicianNoise,
    RandSimulateLowResolution,
    Rotate,
    Spacing,
    SpatialCrop,
)
from monai.utils import convert_to_tensor
from scipy import ndimage
from torch import Tensor
from tqdm import tqdm

from lckd.errors import StudyError
from lckd.evaluation import not_evaluated, write_folder
from lckd.files import write_atomically, write_json
from lckd.report import voxel_ml_of
from lckd.segmentation import Segmenter
from lckd.sequences import REGIONS, SEQUENCES, parse_subset, subset_name
from lckd.simulation import simulate_study
from lckd.subset_evaluation import SubsetEvaluation

Loaded = dict[str, Any]
SLICE_MM, ANGLE_DEGREES, SHIFT_MM, SHIFTED = 5.0, 10.0, 2.0, "t1ce"
"""Of thick slices, rotation and shift, and the sequence that is shifted."""

TESTED_SUBSETS = tuple(parse_subset(name) for name in ("flair", "t1ce", "flair+t1+t2", "flair+t1+t1ce+t2"))
HEALTHY_BRAINS = 8


def thick_slices(study: Loaded) -> Loaded:
    """Axial slices of 5 mm, each the mean over its thickness, as two-dimensional sequences give them."""
    image, label = _oriented(study, "RAS")
    # A Gaussian whose full width at half maximum is the slice thickness is close to a slice profile.
    profile = GaussianSmooth([0, 0, SLICE_MM / 2.355 / float(image.pixdim[2])])
    smooth = [convert_to_tensor(profile(channel[None]), track_meta=False) for channel in image.as_tensor()]
    blurred = MetaTensor(torch.cat(smooth) * image.as_tensor().ne(0), affine=image.affine)
    pixdim = (float(image.pixdim[0]), float(image.pixdim[1]), SLICE_MM)
    return _with(study, Spacing(pixdim, mode="nearest")(blurred), Spacing(pixdim, mode="nearest")(label))


def rotation(study: Loaded) -> Loaded:
    """The head turned by 10 degrees about its long axis."""
    turn = [0, 0, np.deg2rad(ANGLE_DEGREES)]
    image, label = (
        Rotate(turn, keep_size=False, mode=mode, padding_mode="zeros")(study[key])
        for key, mode in (("image", "bilinear"), ("label", "nearest"))
    )
    return _with(study, image, label)


def bias_field(study: Loaded) -> Loaded:
    """A smooth field of the coil's sensitivity that varies by about half over the head."""
    field = RandBiasField(degree=3, coeff_range=(0.25, 0.3), prob=1)

    def uneven(image: Tensor, seed: int) -> Any:
        field.set_random_state(seed)
        return field(image)

    return _each(study, uneven)


def noise(study: Loaded) -> Loaded:
    """Rician noise with a deviation of a tenth of the brain's mean intensity."""

    def noisy(image: Tensor, seed: int) -> Any:
        added = RandRicianNoise(prob=1, std=float(image[image != 0].mean()) / 10, sample_std=False)
        added.set_random_state(seed)
        return added(image)

    return _each(study, noisy)


def low_resolution(study: Loaded) -> Loaded:
    """Half the resolution along every axis, on the same grid."""
    halve = RandSimulateLowResolution(prob=1, zoom_range=(0.5, 0.5))
    return _each(study, lambda image, _: halve(image))


def shifted_sequence(study: Loaded) -> Loaded:
    """T1ce displaced by 2 mm, as after a poor co-registration."""
    image = study["image"].clone()
    channel = SEQUENCES.index(SHIFTED)
    voxels = [SHIFT_MM / float(image.pixdim[0]), 0, 0]
    moved, _ = Affine(translate_params=voxels, image_only=False, padding_mode="zeros")(image[channel : channel + 1])
    image[channel] = moved[0]
    return _with(study, image, study["label"])


def residual_skull(study: Loaded) -> Loaded:
    """A bright rim of up to 4 mm around the upper third of the brain, as brain extraction sometimes leaves."""
    image, label = _oriented(study, "RAS")
    image = image.clone()
    brain = image.as_tensor().ne(0).any(0).numpy()
    away_mm = ndimage.distance_transform_edt(~brain, sampling=image.pixdim.tolist())
    rim = torch.from_numpy((away_mm > 0) & (away_mm <= 4))
    height = torch.arange(brain.shape[2])
    filled = np.flatnonzero(brain.any((0, 1)))
    rim &= (height > filled[0] + (filled[-1] - filled[0]) * 2 / 3)[None, None]
    for channel in (image[index] for index in study["availability"].nonzero().flatten().tolist()):
        channel[rim] = 1.5 * float(channel[channel != 0].mean())
    return _with(study, image, label)


def other_orientation(study: Loaded) -> Loaded:
    """The same voxels stored in another order of axes: nothing may change."""
    image, label = _oriented(study, "PIL")
    return _with(study, image, label)


def truncated_field_of_view(study: Loaded) -> Loaded:
    """The lowest quarter and the highest tenth of the head not scanned."""
    image, label = _oriented(study, "RAS")
    filled = np.flatnonzero(image.as_tensor().ne(0).any(0).any(0).any(0).numpy())
    low, high = filled[0] + len(filled) // 4, filled[-1] + 1 - len(filled) // 10
    crop = SpatialCrop(roi_start=[0, 0, low], roi_end=[*image.shape[1:3], high])
    return _with(study, crop(image), crop(label))


CHANGES: Mapping[str, Callable[[Loaded], Loaded] | None] = {
    "clean": None,
    "slices of 5 mm": thick_slices,
    "rotated by 10 degrees": rotation,
    "bias field": bias_field,
    "noise": noise,
    "half the resolution": low_resolution,
    "T1ce shifted by 2 mm": shifted_sequence,
    "residual skull": residual_skull,
    "other orientation": other_orientation,
    "truncated field of view": truncated_field_of_view,
}


class RobustnessTest:
    """Evaluates labelled studies under every change of ``CHANGES``, and healthy simulated brains.

    Args:
        segmenter: with weights.
        output_dir: for ``robustness.json`` and ``.md``, and a folder with the evaluation of each change.
        subsets: to evaluate.
    """

    def __init__(
        self, segmenter: Segmenter, output_dir: str | Path, subsets: Sequence[tuple[str, ...]] = TESTED_SUBSETS
    ) -> None:
        self.segmenter, self.output_dir, self.subsets = segmenter, Path(output_dir), subsets

    def run(self, items: Iterable[Mapping[str, Any]], healthy_brains: int = HEALTHY_BRAINS) -> dict[str, Any]:
        """Evaluate, write the tables and return what ``robustness.json`` holds; a study that fails is left out.

        Raises:
            StudyError: a study failed, after the tables of the others were written; none could be evaluated; or the
                folder cannot be written.
        """
        items = list(items)
        studies, failures = len(items), list[str]()
        dice: dict[str, Any] = {}
        for name, change in CHANGES.items():
            tqdm.write(name)
            folder = self.output_dir / name.replace(" ", "_")
            summary, failed = SubsetEvaluation(self.segmenter, folder, self.subsets, change).evaluate(items)
            items = [item for item in items if item["study"] not in failed]
            failures, table = failures + failed, summary["subsets"]
            dice[name] = {subset: {region: table[subset][region]["dice"] for region in REGIONS} for subset in table}
        result = {
            "weights": self.segmenter.weights["sha256"],
            "studies": len(items),
            "dice": dice,
            "healthy_ml": self._healthy_ml(healthy_brains),
        }
        with write_folder(self.output_dir) as folder:
            write_json(folder / "robustness.json", result)
            text = markdown(result)
            write_atomically(folder / "robustness.md", lambda path: path.write_text(text, encoding="utf-8"))
        if failures:
            raise StudyError(not_evaluated(failures, studies))
        return result

    def _healthy_ml(self, count: int) -> dict[str, list[float]]:
        """Volume in mL called tumour in each of ``count`` simulated healthy brains, per subset."""
        volumes: dict[str, list[float]] = {subset_name(subset): [] for subset in self.subsets}
        evaluation = SubsetEvaluation(self.segmenter, self.output_dir, self.subsets)
        for seed in tqdm(range(count), unit="healthy brain"):
            study = simulate_study(seed=seed, tumour_volume_ml=0)
            image = MetaTensor(
                torch.stack([torch.from_numpy(study.images[name]) for name in SEQUENCES]),
                affine=torch.from_numpy(study.affine),
            )
            loaded = {"image": image, "availability": torch.ones(len(SEQUENCES), dtype=torch.bool)}
            voxel_ml = voxel_ml_of(study.affine)
            for subset, probabilities in evaluation.probabilities(loaded):
                found = int(self.segmenter.postprocessing(probabilities, voxel_ml).count_nonzero())
                volumes[subset_name(subset)].append(round(found * voxel_ml, 3))
        return volumes


def markdown(result: Mapping[str, Any]) -> str:
    """The table of ``RobustnessTest.run`` as Markdown: Dice in % of ET / WT / TC, and the drop of their mean."""
    clean = result["dice"]["clean"]
    subsets = list(clean)
    lines = [
        f"{result['studies']} studies, weights {result['weights'][:12]}; ET / WT / TC Dice in %, "
        "in brackets the change of their mean.",
        "",
        f"| | {' | '.join(subset.replace('+', ' + ') for subset in subsets)} |",
        f"|---|{'---|' * len(subsets)}",
    ]
    for name, row in result["dice"].items():
        cells = []
        for subset in subsets:
            values = [100 * row[subset][region] for region in REGIONS]
            drop = np.mean(values) - 100 * np.mean([clean[subset][region] for region in REGIONS])
            cells.append(" / ".join(f"{v:.1f}" for v in values) + ("" if name == "clean" else f" ({drop:+.1f})"))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    cells = [f"{np.median(v):.2f} mL (at most {max(v):.2f})" for v in result["healthy_ml"].values()]
    count = len(next(iter(result["healthy_ml"].values())))
    lines.append(f"| tumour found in {count} simulated healthy brains, median | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _oriented(study: Loaded, codes: str) -> tuple[Any, Any]:
    """Image and label map with their axes in another order."""
    turn = Orientation(codes, labels=None)
    return turn(study["image"]), turn(study["label"])


def _each(study: Loaded, change: Callable[[Tensor, int], Any]) -> Loaded:
    """Change each available sequence by itself, with its index as seed, and keep the background zero."""
    image = study["image"].clone()
    for index in study["availability"].nonzero().flatten().tolist():
        channel = image[index : index + 1].as_tensor()
        changed = convert_to_tensor(change(channel, index), track_meta=False)
        image[index] = changed[0] * (channel[0] != 0)
    return _with(study, image, study["label"])


def _with(study: Loaded, image: Any, label: Any) -> Loaded:  # MetaTensors; MONAI's transforms are typed as Tensor
    """The study with other images, as if they had just been read: without a history to be inverted."""
    image, label = (MetaTensor(value.as_tensor(), affine=value.affine) for value in (image, label))
    return study | {"image": image, "label": label.to(torch.uint8)}
