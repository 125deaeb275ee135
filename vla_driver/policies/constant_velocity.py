# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The simplest control of every evaluation: keep the speed, keep the heading."""

from __future__ import annotations

import numpy as np

from vla_driver.geometry import unicycle
from vla_driver.types import NO_ENGINE, NO_PICTURES, PLAN_STEPS, Intent, Observation, Plan


class ConstantVelocityPolicy:
    """A policy that looks at nothing but the ego's speed."""

    name = 'constant-velocity'
    needs = NO_PICTURES
    engine = NO_ENGINE

    def plan(self, observation: Observation, intent: Intent | None = None) -> Plan:
        """Return a straight line at the present speed; cameras, route and intent are not looked at."""
        del intent
        trajectory = unicycle.integrate(observation.ego.speed_mps, np.zeros(PLAN_STEPS), np.zeros(PLAN_STEPS))
        return Plan(observation.stamp_s, trajectory, observation.ego, self.name)

    def reset(self) -> None:
        """Nothing is remembered."""
