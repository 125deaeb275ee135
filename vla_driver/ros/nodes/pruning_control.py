# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Pruning on a running planner: parameters to a pruner and a budget, changed between two ticks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from vla_driver.planning.tick import Planner
from vla_driver.policies.pruning_settings import PruningSettings, load_pruner, prunable


@runtime_checkable
class Preparing(Protocol):
    """A policy that does what takes long of `set_pruning` while another thread plans."""

    def prepare_pruning(self, pruner: Any, budget: Any = None) -> Callable[[], None]:
        """Return what puts a pruner in place; raise as `set_pruning` does."""


class PruningControl:
    """Keeps a policy's pruning as the parameters want it.

    `change` runs while the callbacks wait, in a thread of its own (`ros.nodes.own_thread`).  It loads weights while the
    worker goes on planning, and waits for the end of the tick under way, at most, to put them in place.
    """

    def __init__(self, planner: Planner, checkpoint: str | None) -> None:
        self._planner, self._checkpoint = planner, checkpoint
        self._settings = PruningSettings()
        self._loaded: tuple[str, Any] = (self._settings.pruner, None)

    @property
    def settings(self) -> PruningSettings:
        """What is in force."""
        return self._settings

    def change(self, wanted: PruningSettings) -> None:
        """Put `wanted` in force from the next tick on; raise `InvalidInput` with the reason, changing nothing."""
        if wanted == self._settings:
            return
        policy = prunable(self._planner.policy, wanted)
        if policy is None:
            self._settings = wanted
            return
        # The same weights serve another budget; a random pruner keeps its draw.
        same = wanted.pruner == self._loaded[0]
        pruner = self._loaded[1] if same else policy.own_pruner(wanted.pruner)
        if pruner is None:
            pruner = load_pruner(wanted.pruner, self._checkpoint)
        budget = wanted.budget()
        given = (pruner, budget if wanted.active else None)
        # Graphs are opened and compared with their sample, which takes as long as many ticks.
        ready = policy.prepare_pruning(*given) if isinstance(policy, Preparing) else None
        with self._planner.between_ticks:
            if ready is None:
                policy.set_pruning(*given)
            else:
                ready()
        self._loaded, self._settings = (wanted.pruner, pruner), wanted
