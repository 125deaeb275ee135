# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The constant-velocity control."""

from __future__ import annotations

import numpy as np
import pytest

from vla_driver.planning.guard import GuardLimits, infeasibility
from vla_driver.policies.constant_velocity import ConstantVelocityPolicy
from vla_driver.types import Policy


def test_constant_velocity_goes_straight_on(observation_at) -> None:  # type: ignore[no-untyped-def]
    policy = ConstantVelocityPolicy()
    assert isinstance(policy, Policy)
    plan = policy.plan(observation_at(2.0, speed_mps=6.0))
    np.testing.assert_allclose(plan.trajectory.positions_m[:, 0], 6.0 * plan.trajectory.times_s)
    np.testing.assert_array_equal(plan.trajectory.positions_m[:, 1], 0.0)
    assert plan.stamp_s == 2.0
    assert plan.policy == 'constant-velocity'
    assert infeasibility(plan, GuardLimits()) == ''


@pytest.mark.parametrize('speed', [0.0, 30.0])
def test_constant_velocity_keeps_the_speed(observation_at, speed: float) -> None:  # type: ignore[no-untyped-def]
    plan = ConstantVelocityPolicy().plan(observation_at(0.0, speed_mps=speed))
    np.testing.assert_allclose(plan.trajectory.speed_mps, speed)
