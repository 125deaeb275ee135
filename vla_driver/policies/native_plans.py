# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What native policies of every engine have in common: controls to plans and forecasts, and what they refuse.

Without torch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vla_driver.geometry.unicycle import integrate, integrate_many
from vla_driver.types import AgentKind, FloatArray, Forecast, Intent, InvalidInput, Observation, Plan


def plan_of(
    observation: Observation,
    controls: FloatArray,
    dt_s: float,
    name: str,
    timing_ms: Mapping[str, float],
    forecasts: tuple[Forecast, ...] = (),
) -> Plan:
    """Return the plan of controls [T, 2] (m/s^2, 1/m), each held for dt_s, from the observation's speed on."""
    trajectory = integrate(observation.ego.speed_mps, controls[:, 0], controls[:, 1], dt_s=dt_s)
    return Plan(observation.stamp_s, trajectory, observation.ego, name, timing_ms=timing_ms, forecasts=forecasts)


def forecasts_of(states: FloatArray, controls: FloatArray, dt_s: float, least: float) -> tuple[Forecast, ...]:
    """Return who is there with a probability of `least` or more and where they go, the likeliest first.

    states [A, 8]: existence, person (both 0 to 1), x, y, yaw, speed, length, width, as `AgentStates.table` of
    model/native/acting/agents.py has them; controls [A, T, 2]: m/s^2 and 1/m, each held for dt_s.
    """
    there = np.flatnonzero(states[:, 0] >= least)
    there = there[np.argsort(-states[there, 0], kind='stable')]
    if not len(there):
        return ()
    states, controls = states[there].astype(np.float64), controls[there]
    paths = integrate_many(states[:, 2:5], states[:, 5], controls, dt_s)
    return tuple(
        Forecast(
            kind=AgentKind.PERSON if state[1] > 0.5 else AgentKind.VEHICLE,
            pose=state[2:5],
            speed_mps=float(state[5]),
            length_m=float(state[6]),
            width_m=float(state[7]),
            positions_m=path[:, :2],
            yaw_rad=path[:, 2],
            existence=float(np.clip(state[0], 0.0, 1.0)),
            dt_s=dt_s,
        )
        for state, path in zip(states, paths, strict=True)
    )


def refuse_intent(intent: Intent | None) -> None:
    """Raise `InvalidInput` for an intent: this model was not trained to be told one."""
    if intent is not None:
        raise InvalidInput(f'intent {str(intent.meta_action)!r}: this model takes none; plan without one')
