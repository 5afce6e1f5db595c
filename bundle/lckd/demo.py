"""The demonstration: a simulated study, incomplete, segmented and compared with its truth."""

from pathlib import Path

import torch
from monai.metrics import compute_dice

from lckd.datalist import find_studies
from lckd.outputs import Batch, StudyWriter
from lckd.segmentation import Segmenter
from lckd.sequences import LABELS, REGION_NAMES, REGIONS, SEQUENCES, subset_name
from lckd.simulation import simulate_study, write_study
from lckd.transforms import regions_of


def run_demo(output: Path, seed: int, missing: tuple[str, ...]) -> dict[str, float]:
    """Simulate, segment and compare; prints as it goes.

    Args:
        output: folder for ``simulated/``, the study, and ``segmentation/``.
        seed: of the simulation.
        missing: sequences that the study is written without.

    Returns:
        Dice per region against the simulated truth.

    Raises:
        StudyError: nothing is left, or the output cannot be written.
    """
    left = tuple(sequence for sequence in SEQUENCES if sequence not in missing)
    writer = StudyWriter(output / "segmentation")
    print(f"Simulating a glioma study (seed {seed}) with {subset_name(left) or 'no sequence'}: no patient's image.")
    study = simulate_study(seed=seed)
    folder = write_study(study, output / "simulated", study_id="simulated", sequences=left, label=False)
    batch = Batch(Segmenter(), writer)
    segmentation = batch(find_studies(folder)[0])
    batch.finish(1)
    assert segmentation is not None  # finish() has raised otherwise
    truth = regions_of(torch.from_numpy(study.label_map)[None])
    dice = compute_dice(regions_of(segmentation.label_map[None])[None], truth[None], ignore_empty=False)[0]
    result = dict(zip(REGIONS, dice.tolist(), strict=True))
    print("Dice against the simulated truth: " + ", ".join(f"{REGION_NAMES[r]} {d:.2f}" for r, d in result.items()))
    print(f"Labels: {', '.join(f'{value} {name}' for name, value in LABELS.items())}")
    print(f"Picture: {writer.output_dir / segmentation.study / 'preview.png'}")
    return result
