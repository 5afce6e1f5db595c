"""Teacher election: the sequence that alone segments a region best teaches the others."""

import math
from collections import Counter
from typing import Any

import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from torch import Tensor

from lckd.sequences import REGIONS, SEQUENCES, SUBSETS, subset_name

MODES = ("none", "all", "single", "multi", "per_region")


class Election:
    """Holds the teachers; votes on the Dice of single sequences on validation studies.

    The teacher election of Wang et al. 2023. Attach it to the validation evaluator as a handler: when that has
    finished, the teachers are elected from the table that its ``MeanSubsetDice`` leaves.

    Args:
        mode: ``none`` never teaches; with ``all`` every sequence teaches every other, elected or not;
            ``single`` (LCKD-s) takes the sequence that wins most regions; ``multi`` (LCKD-m) every winner,
            each teaching everywhere; ``per_region`` every winner, each teaching only where its own region is.
        first: the teacher before the first election, or None for nobody.

    Raises:
        ValueError: an unknown mode or sequence.
    """

    def __init__(self, mode: str = "multi", first: str | None = "flair") -> None:
        if mode not in MODES:
            raise ValueError(f"unknown election mode {mode!r}; accepted are {', '.join(MODES)}")
        if first is not None and first not in SEQUENCES:
            raise ValueError(f"unknown first teacher {first!r}; accepted are {', '.join(SEQUENCES)}")
        self.mode = mode
        self.winners: dict[str, str] = {} if first is None else dict.fromkeys(REGIONS, first)
        self.table: dict[str, dict[str, float]] = {}

    def attach(self, engine: Engine) -> None:
        """Elect whenever ``engine``, the validation evaluator, completes."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Elect from the evaluator's table of Dice per subset and region, and log it."""
        table = engine.state.subset_dice  # type: ignore[attr-defined]
        self.elect({sequence: table[sequence] for sequence in SEQUENCES})
        for subset in map(subset_name, SUBSETS):
            engine.logger.info(
                f"{subset:18s} " + "  ".join(f"{region} {table[subset][region]:.3f}" for region in REGIONS)
            )
        engine.logger.info(f"teachers ({self.mode}): {self.winners}")

    def elect(self, table: dict[str, dict[str, float]]) -> None:
        """Take for each region the sequence of the best Dice; ``table[sequence][region]`` is that Dice.

        A sequence that no validation study has, of Dice NaN, cannot win.
        """
        self.table = table
        for region in REGIONS:
            dice = {s: table[s][region] for s in SEQUENCES if not math.isnan(table[s][region])}
            if dice:
                self.winners[region] = max(dice, key=dice.__getitem__)

    def teachers(self, target: Tensor, size: torch.Size) -> tuple[Tensor, Tensor]:
        """Who teaches a batch, and where.

        Args:
            target: regions ``(B, 3, D, H, W)`` of the batch.
            size: ``(d, h, w)`` of the features that are distilled.

        Returns:
            Sequence indices ``(T,)`` and weights ``(B, T, d, h, w)``, as ``DistillationLoss`` takes them.
        """
        everywhere = target.new_ones((len(target), 1, *size))
        if self.mode == "none" or not self.winners:
            return target.new_zeros(0, dtype=torch.long), everywhere[:, :0]
        if self.mode == "per_region":
            chosen = [self.winners[region] for region in REGIONS]
            weights = F.adaptive_max_pool3d(target, size)
        else:
            winners = [self.winners[region] for region in REGIONS]
            chosen = {
                "all": list(SEQUENCES),
                "single": [Counter(winners).most_common(1)[0][0]],
                "multi": sorted(set(winners)),
            }[self.mode]
            weights = everywhere.expand(-1, len(chosen), -1, -1, -1)
        return torch.tensor([SEQUENCES.index(name) for name in chosen]), weights

    def state_dict(self) -> dict[str, Any]:
        """Winners and the table they were elected from, for the checkpoint."""
        return {"mode": self.mode, "winners": self.winners, "table": self.table}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the winners of a checkpoint."""
        self.winners, self.table = state["winners"], state["table"]
