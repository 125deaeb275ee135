# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How well a plan does what an intent asked for."""

from __future__ import annotations

from vla_driver.planning.intent import PresentIntent
from vla_driver.planning.likeness import agreement
from vla_driver.planning.meta_action import meta_action
from vla_driver.types import HeededIntent, MetaAction, Plan


def plans_to(plan: Plan) -> MetaAction:
    """Return the meta-action that a plan amounts to."""
    return meta_action(plan.ego.speed_mps, plan.trajectory.speed_mps, plan.trajectory.dt_s)


def heeded_in(plan: Plan, told: PresentIntent) -> HeededIntent:
    """Return what became of an intent in the plan that is driven."""
    wanted = told.intent.meta_action
    return HeededIntent(wanted, told.age_s, told.weight, agreement(plans_to(plan), wanted))
