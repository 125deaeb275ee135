# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What policies with visual tokens share: the pruner, its budget, and what it kept."""

from __future__ import annotations

import abc
from contextlib import AbstractContextManager

import torch

from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.stage import AnyPruner, TokenShapes, TokenStage, as_stage
from vla_driver.types import Selection


class Prunable(abc.ABC):
    """The base of such a policy, which calls the hooks of `self._stage` (model/pruning/stage.py) at every tick.

    A subclass says what its tokens look like (`_shapes`) and in which precision it computes (`_computing`).
    """

    def __init__(self) -> None:
        self._stage = TokenStage()
        self._pruning: tuple[AnyPruner | None, TokenBudget | None] = (None, None)
        self._seen_s = 0.0  # stamp of the latest tick

    @abc.abstractmethod
    def _shapes(self) -> TokenShapes:
        """Return random tokens of the model's shapes, to try a pruner on."""

    @abc.abstractmethod
    def _computing(self) -> AbstractContextManager[object]:
        """Return the context in which the model computes."""

    def own_pruner(self, spec: str) -> AnyPruner | None:
        """Return None: every pruner is made by `make_pruner`."""
        del spec
        return None

    def set_pruning(self, pruner: AnyPruner | None, budget: TokenBudget | None = None) -> None:
        """Prune visual tokens from the next tick on; None or `NoPruner`: keep all.  What is remembered stays as it is.

        Everything is tried at once, on tokens of the model's own shapes.  Raises `InvalidInput`, with the reason, and
        changes nothing, for a pruner that does not fit the model, a budget that cannot be met, and a missing budget.
        """
        stage = as_stage(pruner, budget)
        with torch.inference_mode(), self._computing():
            stage.fit(self._shapes)
        self._stage, self._pruning = stage, (None, None) if stage.name == TokenStage.name else (pruner, budget)

    @property
    def pruning(self) -> tuple[AnyPruner | None, TokenBudget | None]:
        """The pruner and its budget, (None, None) where all tokens are kept."""
        return self._pruning

    @property
    def last_selection(self) -> Selection | None:
        """What the latest tick kept, by camera; None before the first tick and where nothing is pruned."""
        return self._stage.selection(self._seen_s)
