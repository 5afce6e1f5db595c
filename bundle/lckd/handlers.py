"""What a person watching a training sees, and what a crash leaves."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from tqdm import tqdm

from lckd.files import write_atomically, write_json


class ProgressHandler:
    """Progress bar over all iterations of a training: loss, learning rate, time left.

    Args:
        smoothing: weight of the newest loss in the running mean that is shown.
    """

    def __init__(self, smoothing: float = 0.02) -> None:
        self.smoothing = smoothing
        self.losses: dict[str, float] = {}

    def attach(self, engine: Engine) -> None:
        """Show the bar from the start of ``engine``, a trainer, to its end."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.advance)
        engine.add_event_handler(Events.COMPLETED | Events.TERMINATE | Events.EXCEPTION_RAISED, self.stop)

    def start(self, engine: Engine) -> None:
        """Open the bar, at the iteration that a resumed training has reached."""
        total = (engine.state.max_epochs or 0) * (engine.state.epoch_length or 0)
        self.bar = tqdm(total=total, unit="it", desc="training", mininterval=5.0, dynamic_ncols=True)

    def advance(self, engine: SupervisedTrainer) -> None:
        """Take the losses of an iteration."""
        losses: dict[str, float] = engine.state.output  # type: ignore[assignment]
        for name, value in losses.items():
            self.losses[name] = self.losses.get(name, value) * (1 - self.smoothing) + value * self.smoothing
        shown = {name: f"{value:.3f}" for name, value in self.losses.items()}
        self.bar.set_postfix(shown | {"lr": f"{engine.optimizer.param_groups[0]['lr']:.1e}"}, refresh=False)
        self.bar.update(engine.state.iteration - self.bar.n)

    def stop(self, engine: Engine, error: BaseException | None = None) -> None:
        """Close the bar; an error that ended the training goes on."""
        self.bar.close()
        if error is not None:
            raise error


class LastCheckpoint:
    """Writes everything a training needs to go on, after every epoch, over the one before, atomically.

    Args:
        path: of the checkpoint.
        state: objects with a ``state_dict`` each, by name.
    """

    def __init__(self, path: str | Path, state: Mapping[str, Any]) -> None:
        self.path, self.state = Path(path), state

    def attach(self, engine: Engine) -> None:
        """Write whenever an epoch of ``engine``, a trainer, is complete."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the checkpoint; of several processes only the first does."""
        if idist.get_rank() != 0:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        states = {name: part.state_dict() for name, part in self.state.items()}
        write_atomically(self.path, lambda temporary: torch.save(states, temporary))


class HistoryFile:
    """Writes how far a training is and what its validations found, for whoever watches it from another process.

    The file holds ``epoch``, ``epochs`` and ``validations``: per epoch, 0 being before the first one, ``mean_dice``
    and ``subsets``, the Dice of each subset that a validation study has. A resumed training goes on with it.

    Args:
        path: of the JSON file.
        validator: the evaluator, with a ``MeanSubsetDice``.
    """

    def __init__(self, path: str | Path, validator: SupervisedEvaluator) -> None:
        self.path, self.validator = Path(path), validator

    def attach(self, engine: Engine) -> None:
        """Write whenever an epoch of ``engine``, a trainer, or the validator completes."""
        self.validator.add_event_handler(Events.COMPLETED, self.validated, engine)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the epoch."""
        self._write(engine, {})

    def validated(self, validator: Engine, trainer: Engine) -> None:
        """Write the epoch of ``trainer`` and what ``validator`` has found."""
        table: dict[str, dict[str, float]] = validator.state.subset_dice  # type: ignore[attr-defined]
        found = {
            "mean_dice": validator.state.metrics["mean_dice"],
            "subsets": {subset: row for subset, row in table.items() if not any(map(math.isnan, row.values()))},
        }
        self._write(trainer, {str(trainer.state.epoch): found})

    def _write(self, trainer: Engine, validations: dict[str, Any]) -> None:
        if idist.get_rank() != 0:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        history = json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else {"validations": {}}
        history |= {"epoch": trainer.state.epoch, "epochs": trainer.state.max_epochs}
        history["validations"] |= validations
        write_json(self.path, history)
