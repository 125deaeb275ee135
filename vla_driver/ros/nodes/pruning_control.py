# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Pruning on a running planner: parameters to a pruner and a budget, changed between two ticks."""

from __future__ import annotations

import threading
from typing import Any

from vla_driver.policies.pruning_settings import PruningSettings, load_pruner, pruning_setter
from vla_driver.types import InvalidInput, Policy


class PruningControl:
    """Keeps a policy's pruning as the parameters want it.

    `change` runs while the callbacks wait, in a thread of its own (`ros.own_thread`).  It loads weights while the
    worker goes on planning, and waits for the end of the tick under way, at most, to put them in place: the worker
    holds `tick` while it plans.
    """

    def __init__(self, policy: Policy, checkpoint: str | None) -> None:
        self.tick = threading.Lock()
        self._policy, self._checkpoint = policy, checkpoint
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
        setter = pruning_setter(self._policy)
        if setter is None:
            if wanted.active:
                raise InvalidInput(
                    f'pruner {wanted.pruner!r}: policy {self._policy.name!r} has no visual tokens to prune'
                )
            self._settings = wanted
            return
        # The same weights serve another budget; a random pruner keeps its draw.
        same = wanted.pruner == self._loaded[0]
        pruner = self._loaded[1] if same else load_pruner(wanted.pruner, self._checkpoint)
        budget = wanted.budget()
        with self.tick:
            setter(pruner, budget if wanted.active else None)
        self._loaded, self._settings = (wanted.pruner, pruner), wanted
