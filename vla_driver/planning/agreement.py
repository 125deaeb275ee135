# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How well a plan does what an intent asked for."""

from __future__ import annotations

from typing import Final

from vla_driver.planning.intent import PresentIntent
from vla_driver.planning.meta_action import meta_action
from vla_driver.types import HeededIntent, MetaAction, Plan

#: Which words come near each other: who comes to a stand slows down as well, and who waits has stopped.
_NEAR: Final = frozenset(
    frozenset(pair)
    for pair in (
        (MetaAction.KEEP, MetaAction.SPEED_UP),
        (MetaAction.KEEP, MetaAction.SLOW_DOWN),
        (MetaAction.SLOW_DOWN, MetaAction.STOP),
        (MetaAction.STOP, MetaAction.WAIT),
        (MetaAction.START, MetaAction.SPEED_UP),
        (MetaAction.START, MetaAction.KEEP),
    )
)


def agreement(planned: MetaAction, wanted: MetaAction) -> float:
    """Return how well what is planned does what was wanted: 1 the same, 0.5 something near it, else 0."""
    if planned is wanted:
        return 1.0
    return 0.5 if frozenset((planned, wanted)) in _NEAR else 0.0


def plans_to(plan: Plan) -> MetaAction:
    """Return the meta-action that a plan amounts to."""
    return meta_action(plan.ego.speed_mps, plan.trajectory.speed_mps, plan.trajectory.dt_s)


def heeded_in(plan: Plan, told: PresentIntent) -> HeededIntent:
    """Return what became of an intent in the plan that is driven."""
    wanted = told.intent.meta_action
    return HeededIntent(wanted, told.age_s, told.weight, agreement(plans_to(plan), wanted))
