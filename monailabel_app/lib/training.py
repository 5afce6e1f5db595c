"""Fine-tuning on the labels that annotators submitted, through the bundle's own training config."""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from monailabel.interfaces.tasks.train import TrainTask

from lckd.datalist import Item
from lckd.devices import choose_device, choose_precision, devices_here
from lckd.errors import StudyError
from lckd.files import write_json
from lckd.loading import LoadStudy
from lckd.training import TRAIN as TRAIN_CONFIG
from lckd.training import run_training
from lckd.weights import AVERAGED
from lib.datastore import StudyDatastore, fingerprint
from lib.segmentation import choose
from lib.versions import Version, WeightsVersions

logger = logging.getLogger(__name__)

OVERLAY = Path(__file__).resolve().parents[2] / "configs" / "train" / "fine_tuning.yaml"

TRAIN, ROLL_BACK, USE = "train", "roll back", "use "
"""What can be done with weights; after ``use`` comes a version."""

WHEN_BETTER, ALWAYS, NEVER = "when better", "always", "never"

LEAST = 2
"""Studies without which there is no training, and no validation."""


class FineTuning(TrainTask):
    """MONAI Label's training task: a new version of the weights from the studies with a final label.

    A study's id alone decides whether it trains or validates, so that none ever moves from one to the other and the
    weights in use were never trained on what they are compared by. That is why the share is no option of the viewer.

    A training that was stopped or killed goes on when it is started again with the same labels and options; other
    labels, options or weights in use make another training.

    Args:
        versions: of the weights.
        validation_share: of the studies, roughly.
        settings: keys of the bundle's train.yaml, over the options.
    """

    def __init__(
        self, versions: WeightsVersions, validation_share: float = 0.25, settings: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__("Fine-tune the weights in use on the submitted labels")
        self.versions, self.validation_share, self.settings = versions, validation_share, dict(settings or {})

    def config(self) -> dict[str, Any]:
        """The options that the viewer shows; the first of a list is the default."""
        return {
            "action": [TRAIN, ROLL_BACK, *(USE + name for name in self.versions.names())],
            "use": [WHEN_BETTER, ALWAYS, NEVER],
            "iterations": 300,
            "learning rate": 0.0005,
            "device": ["auto", *devices_here()],
        }

    def stats(self) -> dict[str, Any]:
        """How far the training is, or what came of the last one, under the names that the viewer's bars read."""
        last = _read(self._status)
        history = _read(self._run_folder(last.get("run", "")) / "history.json")
        validations = history.get("validations", {})
        newest = max(validations, key=int, default=None)
        now = {"epoch": history.get("epoch", 0), "total_epochs": history.get("epochs") or 1}
        return now | {"best_metric": validations[newest]["mean_dice"] if newest else 0.0} | last

    def __call__(self, request: Mapping[str, Any], datastore: StudyDatastore) -> dict[str, Any]:
        """Train, roll back, or use a version.

        Args:
            request: the options.
            datastore: of the studies.

        Returns:
            ``stats``, with the outcome as the sentence ``message``.

        Raises:
            StudyError: an option cannot be used, there are too few labels, or another training is running.
        """
        options = self._options(request)
        with self.versions.changing():
            if options["action"] == TRAIN:
                outcome = self._train(options, datastore)
            else:
                outcome = {"message": self._switch(options["action"])}
            in_use = self.versions.in_use().told()
            outcome |= {"in_use": in_use["version"], "best_metric": in_use.get("validation_dice", 0.0)}
            write_json(self._status, outcome)
        logger.info("%s", outcome["message"])
        return self.stats()

    def check(self, request: Mapping[str, Any], datastore: StudyDatastore) -> None:
        """Refuse at once what a call would refuse: who starts it in a process of its own cannot tell the user.

        Raises:
            StudyError: an option cannot be used, or there are too few labels.
        """
        options = self._options(request)
        if options["action"] == TRAIN:
            _settings(options)
            self._check_number(datastore.get_labeled_images())

    @property
    def _status(self) -> Path:
        return self.versions.folder / "training.json"

    def _run_folder(self, run: str) -> Path:
        return self.versions.folder / "runs" / run

    def _options(self, request: Mapping[str, Any]) -> dict[str, Any]:
        options = self.config() | {name: request[name] for name in self.config() if name in request}
        return {
            name: choose(name, options[name], accepted) if isinstance(accepted, list) else options[name]
            for name, accepted in self.config().items()
        }

    def _check_number(self, studies: Sequence[str]) -> None:
        sections = [section_of(study, self.validation_share) for study in studies]
        train, val = sections.count("train"), sections.count("val")
        if min(train, val) < LEAST:
            raise StudyError(
                f"of the submitted studies {train} can train and {val} can validate (a study's id decides which); "
                f"at least {LEAST} of each are needed: submit more"
            )

    def _switch(self, action: str) -> str:
        if action == ROLL_BACK:
            version = self.versions.roll_back()
        else:
            version = self.versions.version(action.removeprefix(USE))
            self.versions.use(version)
        return f"version {version.name} of the weights is in use"

    def _train(self, options: Mapping[str, Any], datastore: StudyDatastore) -> dict[str, Any]:
        started = time.monotonic()
        settings = _settings(options) | self.settings
        parent = self.versions.in_use()
        parent.check()
        sections = self._sections(datastore)
        run = _run_name(sections, parent, settings)
        write_json(self._status, {"run": run, "message": "training"})
        version = self.versions.made_by(run) or self._new_version(run, sections, parent, settings)
        validation = version.facts["validation"]
        before, after = (validation[when]["mean_dice"] for when in ("before", "after"))
        if options["use"] == ALWAYS or (options["use"] == WHEN_BETTER and after > before):
            self.versions.use(version)
        # What other stopped trainings left goes too: more labels have been submitted since, or options changed.
        shutil.rmtree(self._run_folder(""), ignore_errors=True)
        in_use = self.versions.in_use().name
        return {
            "message": f"version {version.name} of the weights: mean Dice {after:.3f}, before {before:.3f}, on "
            f"{len(validation['studies'])} validation studies; version {in_use} is in use",
            "version": version.name,
            "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "total_time": round(time.monotonic() - started, 1),
            "epoch": 1,  # the viewer's bar stays full; the run's own history is gone
            "total_epochs": 1,
        }

    def _sections(self, datastore: StudyDatastore) -> dict[str, list[Item]]:
        """The studies with a final label that can be loaded, for training and for validation."""
        items = []
        for study in datastore.get_labeled_images():
            label = Path(datastore.get_label_uri(study, "final")).absolute()  # a data list's paths start at its folder
            item = datastore.item(study) | {"label": str(label)}
            try:
                LoadStudy()(item)
            except StudyError as error:
                logger.warning("study %s is left out: %s", study, error)
            else:
                items.append(item)
        self._check_number(_ids(items))
        return {
            section: [item for item in items if section_of(item["study"], self.validation_share) == section]
            for section in ("train", "val")
        }

    def _new_version(
        self, run: str, sections: Mapping[str, Sequence[Item]], parent: Version, settings: Mapping[str, Any]
    ) -> Version:
        folder = self._run_folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        # Ids and paths go through a file: nothing that a user named becomes part of a config, which is code.
        write_json(folder / "studies.json", sections)
        run_training(folder / "studies.json", folder, [OVERLAY], {**settings, "initial_weights": parent.file})
        checkpoint = torch.load(folder / "last.pt", map_location="cpu", weights_only=True)
        if not all(value.isfinite().all() for value in checkpoint[AVERAGED].values()):
            shutil.rmtree(folder)
            raise StudyError(
                "the training diverged: its weights are no numbers; start again with a lower learning rate"
            )
        history = _read(folder / "history.json")
        facts = {
            "run": run,
            "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "parent": parent.name,
            "parent_sha256": parent.facts["sha256"],
            "validation": {
                "studies": _ids(sections["val"]),
                "before": history["validations"]["0"],
                "after": history["validations"][str(history["epochs"])],
            },
            "training_studies": _ids(sections["train"]),
            "election": {name: checkpoint["election"][name] for name in ("mode", "winners")},
            "provenance": checkpoint["provenance"],
            "settings": settings,
        }
        return self.versions.add(checkpoint[AVERAGED], facts)


def section_of(study: str, validation_share: float) -> str:
    """``val`` for about that share of all ids, ``train`` for the others; always the same for one id."""
    number = int.from_bytes(hashlib.sha256(study.encode()).digest()[:8], "big")
    return "val" if number < validation_share * 2**64 else "train"


def _settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of train.yaml: numbers and names from closed lists, never a text of the request."""
    device = choose_device(options["device"])
    half = choose_precision("auto", device) == torch.bfloat16
    return {
        "iterations": int(_number(options, "iterations", 1, 100_000)),
        "learning_rate": _number(options, "learning rate", 1e-6, 0.1),
        "device": str(device),
        "precision": "bf16" if half else "fp32",
    }


def _run_name(sections: Mapping[str, Sequence[Item]], parent: Version, settings: Mapping[str, Any]) -> str:
    """Names a training by all that its result depends on."""
    files = {section: [(fingerprint(item), item["label"]) for item in items] for section, items in sections.items()}
    configs = [file.read_text(encoding="utf-8") for file in (TRAIN_CONFIG, OVERLAY)]
    content = json.dumps([files, parent.facts["sha256"], settings, configs])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _ids(items: Sequence[Item]) -> list[str]:
    return [item["study"] for item in items]


def _read(file: Path) -> dict[str, Any]:
    """The JSON of a file that is written atomically; empty where there is none."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _number(options: Mapping[str, Any], name: str, least: float, most: float) -> float:
    try:
        value = float(options[name])
    except (TypeError, ValueError):
        value = float("nan")
    if not least <= value <= most:
        raise StudyError(
            f"the option '{name}' is {str(options[name])[:40]!r}; accepted are numbers from {least} to {most}"
        )
    return value
