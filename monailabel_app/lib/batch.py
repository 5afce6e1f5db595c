"""Segments many studies unattended; results are shown when a study is opened."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.exception import MONAILabelException

from lckd.errors import StudyError
from lckd.sequences import parse_subset
from lib.datastore import StudyDatastore
from lib.segmentation import AUTO

logger = logging.getLogger(__name__)

Infer = Callable[[Mapping[str, Any], StudyDatastore], Mapping[str, Any]]


class BatchTask:
    """Batch inference, one study after the other.

    It can be stopped and started again at any time: a study is passed over when its label of the tag comes from
    the weights in use and the sequences it has now, or from a person. One bad study stops nothing.

    Args:
        weights: gives ``sha256`` of the weights in use.
    """

    def __init__(self, weights: Callable[[], Mapping[str, str]]) -> None:
        self.weights = weights

    def __call__(self, request: Mapping[str, Any], datastore: StudyDatastore, infer: Infer) -> dict[str, str]:
        """Segment the studies.

        Args:
            request: ``images``: ``unlabeled`` (without a final label), ``labeled``, ``all`` or a list of ids;
                ``label_tag``, original if not given; ``max_batch_size``; options of the model.
            datastore: of the studies.
            infer: of the app.

        Returns:
            Per study ``done``, or why it failed.

        Raises:
            StudyError: ``images`` is something else.
        """
        tag = request.get("label_tag") or "original"
        options = dict(request) | {"save_label": True, "label_tag": getattr(tag, "value", tag)}
        if options.get("device") == "cuda":  # MONAI Label's default for batches, whatever the machine has
            options["device"] = AUTO
        waiting = self.waiting(options, datastore)[: options.get("max_batch_size") or None]
        results: dict[str, str] = {}
        for number, study in enumerate(waiting, start=1):
            if study not in self.waiting(options, datastore):
                continue  # another process, or a person, was faster
            results[study] = _segmented(options | {"image": study}, datastore, infer)
            logger.info("batch %d of %d: %s: %s", number, len(waiting), study, results[study])
        return results

    def waiting(self, options: Mapping[str, Any], datastore: StudyDatastore) -> list[str]:
        """Ids of the studies that are asked for and have no label that is up to date."""
        images, subsets = options.get("images", "unlabeled"), datastore.subsets()
        chosen = {
            "unlabeled": datastore.get_unlabeled_images,
            "labeled": datastore.get_labeled_images,
            "all": datastore.list_images,
        }
        if isinstance(images, list):
            studies = images
        elif getattr(images, "value", images) in chosen:
            studies = chosen[getattr(images, "value", images)]()
        else:
            raise StudyError(f"images is {str(images)[:40]!r}; accepted are {', '.join(chosen)} or a list of ids")
        infos = datastore.label_infos(options["label_tag"])
        return [
            study
            for study in studies
            if study not in infos or (study in subsets and self._outdated(infos[study], subsets[study], options))
        ]

    def _outdated(self, info: Mapping[str, Any], has: str, options: Mapping[str, Any]) -> bool:
        """Whether our own label comes from other weights or sequences than it would now."""
        if "params" not in info:
            return False
        chosen, report = options.get("sequences", AUTO), info["params"]
        wanted = has if chosen == AUTO or isinstance(chosen, list) else chosen
        now = (self.weights()["sha256"], parse_subset(wanted))
        return (report["weights"]["sha256"], tuple(report["sequences"]["used"])) != now


def start_in_background(batch: BatchTask, datastore: StudyDatastore, infer: Infer, pause_s: float = 60.0) -> None:
    """Segment whatever is unfinished now and whatever comes later, so that every study has a score and a proposal."""

    def run() -> None:
        while True:
            try:
                batch({"images": "unlabeled"}, datastore, infer)
            except Exception:
                logger.exception("the background stopped; it goes on in %.0f s", pause_s)
            time.sleep(pause_s)

    threading.Thread(target=run, name="batch", daemon=True).start()


def _segmented(request: Mapping[str, Any], datastore: StudyDatastore, infer: Infer) -> str:
    try:
        Path(infer(request, datastore)["file"]).unlink(missing_ok=True)
    except MONAILabelException as error:
        return error.msg
    except StudyError as error:
        return str(error)
    except Exception as error:  # of one study among thousands, and all night to go
        logger.exception("study %s", request["image"])
        return f"failed unexpectedly ({type(error).__name__}); see the log"
    return "done"
