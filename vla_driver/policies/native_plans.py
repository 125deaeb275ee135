# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What native policies of every engine have in common: controls to plans, and what they refuse.  Without torch."""

from __future__ import annotations

from collections.abc import Mapping

from vla_driver.geometry.unicycle import integrate
from vla_driver.types import FloatArray, Intent, InvalidInput, Observation, Plan


def plan_of(
    observation: Observation,
    controls: FloatArray,
    dt_s: float,
    name: str,
    timing_ms: Mapping[str, float],
) -> Plan:
    """Return the plan of controls [T, 2] (m/s^2, 1/m), each held for dt_s, from the observation's speed on."""
    trajectory = integrate(observation.ego.speed_mps, controls[:, 0], controls[:, 1], dt_s=dt_s)
    return Plan(observation.stamp_s, trajectory, observation.ego, name, timing_ms=timing_ms)


def refuse_intent(intent: Intent | None) -> None:
    """Raise `InvalidInput` for an intent: this model was not trained to be told one."""
    if intent is not None:
        raise InvalidInput(f'intent {str(intent.meta_action)!r}: this model takes none; plan without one')
