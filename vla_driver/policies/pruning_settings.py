# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Which pruner a policy runs with, and how much it prunes: plain values that go through parameters and to workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vla_driver.settings.pruning import NO_PRUNER, PruningParameters
from vla_driver.types import InvalidInput, Policy, PrunablePolicy


@dataclass(frozen=True)
class PruningSettings:
    """A pruner by name or folder, and its budget.

    ratio: share of the tokens pruned; count: tokens kept over all cameras, which then goes before the ratio.
    scope, floor, weights: as in `TokenBudget`.
    """

    pruner: str = PruningParameters.pruner
    ratio: float = PruningParameters.prune_ratio
    count: int | None = None
    scope: str = PruningParameters.prune_scope
    floor: int = PruningParameters.prune_floor
    weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def active(self) -> bool:
        """Whether anything is pruned."""
        return self.pruner != NO_PRUNER

    def budget(self) -> Any:
        """Return the `TokenBudget`; raise `InvalidInput` for values out of range."""
        from vla_driver.model.pruning.budget import TokenBudget

        ratio = None if self.count is not None else self.ratio
        return TokenBudget(ratio=ratio, count=self.count, scope=self.scope, floor=self.floor, weights=self.weights)

    def describe(self) -> str:
        """Return a few words for logs and pages: 'recon, 50 % pruned'."""
        if not self.active:
            return 'no pruning'
        return f'{self.pruner}, ' + (f'{self.count} tokens' if self.count is not None else f'{self.ratio:.0%} pruned')


def settings_of(parameters: PruningParameters) -> PruningSettings:
    """Return the settings that parameters name; raise `InvalidInput` for a malformed camera weight."""
    return PruningSettings(
        parameters.pruner or NO_PRUNER,
        parameters.prune_ratio,
        parameters.prune_count or None,
        parameters.prune_scope,
        parameters.prune_floor,
        camera_weights(parameters.prune_camera_weights),
    )


def parameters_of(settings: PruningSettings) -> PruningParameters:
    """Return the parameters that name these settings."""
    return PruningParameters(
        settings.pruner,
        float(settings.ratio),
        settings.count or 0,
        settings.scope,
        settings.floor,
        tuple(f'{name}={weight}' for name, weight in settings.weights.items()) or ('',),
    )


def load_pruner(spec: str, checkpoint: str | Path | None) -> Any:
    """Return the pruner of a spec, None for 'none'; 'recon' is the one that comes with the checkpoint.

    Raises `InvalidInput` for an unknown name, a wrong folder, and a checkpoint without a ReconPruner.
    """
    if spec == NO_PRUNER:
        return None
    from vla_driver.model.checkpoint import PRUNER_FOLDER, resolve_checkpoint
    from vla_driver.model.pruning.registry import make_pruner

    return make_pruner(spec, recon=None if checkpoint is None else resolve_checkpoint(checkpoint) / PRUNER_FOLDER)


def prunable(policy: Policy, settings: PruningSettings) -> PrunablePolicy | None:
    """Return the policy if it has tokens to prune, else None, which raises `InvalidInput` if `settings` prune some."""
    if isinstance(policy, PrunablePolicy):
        return policy
    if settings.active:
        raise InvalidInput(f'pruner {settings.pruner!r}: policy {policy.name!r} has no visual tokens to prune')
    return None


def apply_pruning(policy: Policy, settings: PruningSettings, checkpoint: str | Path | None) -> None:
    """Let `policy` prune from its next tick on.

    Raises `InvalidInput`, changing nothing, for a policy without tokens, a pruner that is unknown or does not fit
    the model, and a budget that cannot be met.
    """
    ready = prunable(policy, settings)
    if ready is not None:
        pruner = ready.own_pruner(settings.pruner) if settings.active else None
        pruner = load_pruner(settings.pruner, checkpoint) if pruner is None else pruner
        ready.set_pruning(pruner, settings.budget() if settings.active else None)


def camera_weights(entries: Sequence[str]) -> dict[str, float]:
    """Return camera -> weight of entries such as 'front=2.0' (empty ones are skipped); raise `InvalidInput`."""
    weights: dict[str, float] = {}
    for entry in entries:
        if not entry:
            continue
        name, separator, number = entry.partition('=')
        try:
            weights[name] = float(number)
        except ValueError:
            separator = ''
        if not (name and separator):
            raise InvalidInput(f'camera weight {entry!r}: expected CAMERA=NUMBER, such as front=2.0')
    return weights
