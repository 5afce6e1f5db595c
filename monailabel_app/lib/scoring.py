"""How much annotators changed: Dice of the final label against what the model had proposed."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.metrics import compute_dice
from monailabel.interfaces.tasks.scoring import ScoringMethod

from lckd.errors import StudyError
from lckd.images import read_label_map
from lckd.sequences import REGIONS
from lckd.transforms import regions_of
from lib.datastore import StudyDatastore
from lib.segmentation import on_grid

logger = logging.getLogger(__name__)


class DiceScoring(ScoringMethod):
    """Dice per region, kept with the final label; a region that neither label has counts as 1."""

    def __init__(self) -> None:
        super().__init__("Dice of the final label against the original one, per region")

    def __call__(self, request: Mapping[str, Any], datastore: StudyDatastore) -> dict[str, Any]:
        """Score every study that has both labels.

        Args:
            request: ``y`` and ``y_pred``, tags, final and original if not given; ``images``, ids of the studies to
                score, all if not given.
            datastore: with the labels.

        Returns:
            ``studies``: per study its Dice; ``mean``: of all; ``errors``: per study that has none, why.
        """
        final, original = request.get("y", "final"), request.get("y_pred", "original")
        proposed = set(datastore.get_labeled_images(original))
        studies: dict[str, dict[str, float]] = {}
        errors: dict[str, str] = {}
        for study in datastore.get_labeled_images(final):
            if study not in proposed or study not in request.get("images", (study,)):
                continue
            try:
                studies[study] = dice_of(
                    datastore.get_label_uri(study, original), datastore.get_label_uri(study, final)
                )
            except StudyError as error:
                errors[study] = str(error)
                continue
            datastore.update_label_info(study, final, {"dice": studies[study]})
            logger.info("scored %s: %s", study, studies[study])
        return {"studies": studies, "mean": _mean(list(studies.values())), "errors": errors}


def dice_of(proposed: str, truth: str) -> dict[str, float]:
    """Dice per region of two label maps' files; where the grids differ, the first is brought to the second's.

    Raises:
        StudyError: a file is no label map.
    """
    target, affine = read_label_map(truth)
    prediction = on_grid(*read_label_map(proposed), target.shape, affine)
    masks = [regions_of(torch.from_numpy(label_map)[None])[None] for label_map in (prediction, target)]
    dice = compute_dice(*masks, ignore_empty=False)[0]
    return {region: round(float(value), 4) for region, value in zip(REGIONS, dice, strict=True)}


def _mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float] | None:
    if not rows:
        return None
    return {region: round(float(np.mean([row[region] for row in rows])), 4) for region in REGIONS}
