# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How plans agree with what was wanted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from vla_driver.geometry import unicycle
from vla_driver.planning.agreement import heeded_in, plans_to
from vla_driver.planning.intent import present
from vla_driver.planning.likeness import agreement
from vla_driver.types import PLAN_STEPS, Intent, MetaAction, Observation, Plan


def test_agreement_is_symmetric_and_tells_opposites_from_neighbours() -> None:
    for one in MetaAction:
        assert agreement(one, one) == 1.0
        for other in MetaAction:
            assert agreement(one, other) == agreement(other, one)
    assert agreement(MetaAction.STOP, MetaAction.SLOW_DOWN) == 0.5
    assert agreement(MetaAction.SPEED_UP, MetaAction.STOP) == 0.0
    assert agreement(MetaAction.WAIT, MetaAction.START) == 0.0


@pytest.mark.parametrize(
    ('acceleration', 'does', 'agrees'),
    [(-2.5, MetaAction.STOP, 1.0), (-0.5, MetaAction.SLOW_DOWN, 0.5), (1.0, MetaAction.SPEED_UP, 0.0)],
)
def test_a_plan_is_compared_with_what_was_wanted(
    observation_at: Callable[..., Observation], acceleration: float, does: MetaAction, agrees: float
) -> None:
    observation = observation_at(3.0, 6.0)
    trajectory = unicycle.integrate(6.0, np.full(PLAN_STEPS, acceleration), np.zeros(PLAN_STEPS))
    plan = Plan(3.0, trajectory, observation.ego, 'test')
    assert plans_to(plan) is does
    heeded = heeded_in(plan, present(Intent(2.5, MetaAction.STOP, 2.0, np.zeros(3)), observation))
    assert (heeded.meta_action, heeded.age_s, heeded.weight, heeded.agreement) == (MetaAction.STOP, 0.5, 0.75, agrees)
