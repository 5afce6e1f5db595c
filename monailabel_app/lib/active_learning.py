"""Which study an annotator gets next."""

import random
from abc import abstractmethod
from collections.abc import Callable, Mapping
from statistics import mean
from typing import Any

from monailabel.interfaces.tasks.strategy import Strategy

from lckd.sequences import REGIONS
from lckd.weights import metadata
from lib.datastore import StudyDatastore

Request = Mapping[str, Any]

BEST = 1.0
"""Dice of a study of which nothing is known, so that it comes last."""

NEXT = "next unfinished"
"""First entry of the picker; no id, since it has a space."""


class Ordered(Strategy):
    """The unfinished study that an order puts first, and that no other annotator is working on."""

    def __call__(self, request: Request, datastore: StudyDatastore) -> dict[str, str] | None:
        """The chosen study as ``{"id": ...}``, or None when all are finished.

        Args:
            request: ``client_id`` says which annotator asks.
            datastore: of the studies.
        """
        waiting = sorted(datastore.get_unlabeled_images(), key=self.order(datastore))
        return {"id": datastore.give(waiting, client_of(request))} if waiting else None

    @abstractmethod
    def order(self, datastore: StudyDatastore) -> Callable[[str], Any]:
        """Key by which studies are sorted; the smallest is next."""


class FirstStudy(Ordered):
    """The first one by id."""

    def __init__(self) -> None:
        super().__init__("First unfinished study")

    def order(self, datastore: StudyDatastore) -> Callable[[str], Any]:
        """By id."""
        return str


class RandomStudy(Ordered):
    """Any one."""

    def __init__(self) -> None:
        super().__init__("Random unfinished study")

    def order(self, datastore: StudyDatastore) -> Callable[[str], Any]:
        """By chance."""
        return lambda study: random.random()


class Uncertainty(Ordered):
    """The one of which the model expects least of its own segmentation; those without a score come last.

    The score is the estimated Dice, mean over the regions, which Run, batch inference and the background leave in
    a study's notes.
    """

    def __init__(self) -> None:
        super().__init__("Lowest estimated Dice first")

    def order(self, datastore: StudyDatastore) -> Callable[[str], Any]:
        """By estimated Dice."""
        scores = datastore.scores()
        return lambda study: scores.get(study, BEST)


class MissingSequences(Ordered):
    """The one whose subset of sequences is expected to give the worst segmentation."""

    def __init__(self) -> None:
        super().__init__("Weakest set of sequences first, by expected Dice")

    def order(self, datastore: StudyDatastore) -> Callable[[str], Any]:
        """By the mean Dice that the evaluation found for the study's subset."""
        subsets, table = datastore.subsets(), metadata().get("evaluation", {}).get("subsets", {})
        expected = {name: mean(row[region]["dice"] for region in REGIONS) for name, row in table.items()}
        return lambda study: expected.get(subsets.get(study, ""), BEST)


class PickStudy(Strategy):
    """The study that the annotator picks from a list in the viewer's options.

    Args:
        datastore: whose studies the list shows.
    """

    def __init__(self, datastore: StudyDatastore) -> None:
        super().__init__("Pick a study under Options")
        self.datastore = datastore

    def info(self) -> dict[str, Any]:
        """With the studies as a combo box, unfinished ones first."""
        studies = [*self.datastore.get_unlabeled_images(), *self.datastore.get_labeled_images()]
        return {"description": self.description, "config": {"study": [NEXT, *studies]}}

    def __call__(self, request: Request, datastore: StudyDatastore) -> dict[str, str] | None:
        """The picked study, finished or not; without a pick, the first unfinished one.

        Raises:
            ImageNotFoundException: there is no such study.
        """
        picked = request.get("study", NEXT)
        if picked == NEXT or not isinstance(picked, str):
            return FirstStudy()(request, datastore)
        datastore.item(picked)
        return {"id": datastore.give([picked], client_of(request))}


def client_of(request: Request) -> str:
    """Which annotator asks; those whose viewer does not say so count as one."""
    return str(request.get("client_id") or "")
