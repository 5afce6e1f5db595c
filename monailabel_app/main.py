"""The label server's app: what MONAI Label asks for, made of the parts in ``lib``."""

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lib.active_learning import FirstStudy, MissingSequences, PickStudy, RandomStudy, Uncertainty
from lib.batch import BatchTask, start_in_background
from lib.datastore import SEPARATOR, StudyDatastore, sequences_of
from lib.refinement import RefinementTask
from lib.scoring import DiceScoring
from lib.segmentation import LABEL_NAMES, SegmentationTask
from lib.training import FineTuning
from lib.versions import WeightsVersions
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException
from monailabel.interfaces.tasks.infer_v2 import InferType

from lckd import __version__
from lckd.errors import StudyError
from lckd.interaction import Refiner
from lckd.marks import BACKGROUND
from lckd.report import DISCLAIMER
from lckd.weights import metadata

logger = logging.getLogger(__name__)

MODEL = "lckd"


class LabelApp(MONAILabelApp):
    """Glioma segmentation of incomplete studies in stock viewers.

    Args:
        app_dir: this folder.
        studies: folder of studies.
        conf: ``labels``: folder for labels; ``weights``: other weights than the shipped ones; ``precompute``: true
            segments all unfinished studies in the background, so that Next Sample knows their scores.

    Raises:
        StudyError: the studies or the weights cannot be used.
    """

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, str]) -> None:
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=dict(conf),
            name="LCKD: glioma from any subset of sequences",
            description=f"Segments enhancing tumour, tumour core and whole tumour from what there is. {DISCLAIMER}",
            version=__version__,
            labels={BACKGROUND: 0, **LABEL_NAMES},  # background is for clicks that deny a tumour
        )
        self._infers_threadpool = ThreadPoolExecutor(1, thread_name_prefix="infer")
        self._auto_update_scoring = False  # on_save_label does it; MONAI Label starts a process at every Next Sample

    def init_datastore(self) -> StudyDatastore:
        """Studies with any sequences."""
        if self.studies.startswith(("http://", "https://")):
            raise StudyError(f"{self.studies} is an address; accepted is a folder of studies")
        return StudyDatastore(self.studies, self.conf.get("labels"))

    def init_infers(self) -> dict[str, Any]:
        """The network with the weights in use, and what corrects it by clicks and scribbles."""
        self._versions = WeightsVersions(self.work_folder() / "weights", self.conf.get("weights"))
        segmentation = SegmentationTask(self._versions)
        if "refinement" not in metadata():
            logger.warning("this bundle has no refinement for its weights: no clicks and no scribbles")
            return {MODEL: segmentation}
        refiner = Refiner()
        kinds = {"clicks": InferType.DEEPEDIT, "one_label": InferType.DEEPGROW, "scribbles": InferType.SCRIBBLES}
        refinements = {f"{MODEL}_{name}": RefinementTask(segmentation, refiner, kind) for name, kind in kinds.items()}
        return {MODEL: segmentation, **refinements}

    def init_trainers(self) -> dict[str, Any]:
        """Fine-tuning on what annotators submitted."""
        return {MODEL: FineTuning(self._versions)}

    def init_strategies(self) -> dict[str, Any]:
        """Who comes next; the viewer shows the first one first."""
        return {
            "study": PickStudy(self._datastore),
            "first": FirstStudy(),
            "random": RandomStudy(),
            "missing": MissingSequences(),
            "uncertainty": Uncertainty(),
        }

    def init_scoring_methods(self) -> dict[str, Any]:
        """Dice of what annotators submitted against what the model had proposed."""
        return {"dice": DiceScoring()}

    def init_batch_infer(self) -> BatchTask:
        """All studies that lack a label, on any machine."""
        return BatchTask(self.model_facts)

    def on_init_complete(self) -> None:
        """The server is up, which the processes of tasks never are: segment in the background, if asked for."""
        super().on_init_complete()
        if str(self.conf.get("precompute")).lower() == "true":
            start_in_background(self._batch_infer, self._datastore, self.infer)

    def infer(self, request: Mapping[str, Any], datastore: StudyDatastore | None = None) -> dict[str, Any]:
        """Segment a study of the datastore, or a volume that was loaded by hand.

        Args:
            request: ``model``; ``image``, a study's id, or ``session_image``, a file that the server has received,
                and ``name``, what the viewer calls it; options; ``save_label`` to keep the result of a study, under
                ``label_tag``.
            datastore: instead of the app's own.

        Returns:
            ``file``, a temporary one that the caller removes; ``label``, the id if it was kept; ``tag``; ``params``,
            what the viewer is told.

        Raises:
            MONAILabelException: there is no such model or study.
            StudyError: the study or an option cannot be used.
        """
        datastore = datastore or self._datastore
        task = self._infers.get(request.get("model", MODEL))
        if task is None:
            raise MONAILabelException(
                MONAILabelError.INVALID_INPUT, f"there is no such model; accepted are {', '.join(self._infers)}"
            )
        if "session_image" in request:
            volume = {"image": request["session_image"], "study": None}
            file, report = self._queued(task, dict(request) | volume)
            return {"label": file, "tag": "original", "file": file, "params": report}
        image = str(request.get("image"))
        study = image.partition(SEPARATOR)[0]
        item = {key: value for key, value in datastore.item(study).items() if key != "label"}
        chosen = {"image": datastore.get_image_uri(image), "study": item}
        file, report = self._queued(task, dict(request) | chosen)
        client = request.get("client_id")
        run = {"model": request.get("model", MODEL), "weights": report["weights"]}
        run |= {"sequences": report["sequences"]["used"], "marks": report.get("marks", 0)}
        notes: dict[str, Any] = {"run": run | {"client_id": client}}
        if run["sequences"] == list(sequences_of(item)) and not run["marks"]:
            notes |= {name: report[name] for name in ("score", "estimated_dice")}
        datastore.update_image_info(study, notes)
        label, tag = file, request.get("label_tag") or "original"
        if request.get("save_label"):
            info = {"model": run["model"], "params": report, "client_id": client}
            label = datastore.save_label(study, file, tag, info)
        return {"label": label, "tag": tag, "file": file, "params": report}

    def on_save_label(self, image_id: str, label_id: str) -> None:
        """Score it at once, which costs less than the process that MONAI Label would start for it."""
        self._scoring_methods["dice"]({"images": [image_id]}, self._datastore)

    def model_facts(self) -> dict[str, Any]:
        """File, SHA-256 and version of the weights in use."""
        return self._infers[MODEL].facts()

    def work_folder(self) -> Path:
        """Where results of long work lie."""
        return self._datastore.labels

    def _queued(self, task: SegmentationTask, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Run a task; requests take turns in the order they came."""
        return self._infers_threadpool.submit(task, request).result()
