# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Follow a plan: pure pursuit for steering, speed tracking for acceleration.

Pure pursuit: R. C. Coulter, "Implementation of the Pure Pursuit Path Tracking Algorithm", CMU-RI-TR-92-01, 1992;
steering = atan(2 L sin(alpha) / d) with wheelbase L, look-ahead distance d and bearing alpha of the point there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from vla_driver.geometry import se2
from vla_driver.observation.elsewhere import fastest_mps, jumped_m
from vla_driver.settings.nodes.controller import ControlConfig
from vla_driver.types import EgoState, Plan

#: Odometry that drifts, or is corrected a little, leads nowhere else (GuardLimits.shift_error_m, shift_error_rad).
_PLAUSIBLE_M: Final = 1.5
_PLAUSIBLE_RAD: Final = 0.3
#: A car turns no faster than its tyres and its steering let it (GuardLimits.lateral_mps2, curvature_per_m).
_LATERAL_MPS2: Final = 7.0
_CURVATURE_PER_M: Final = 0.3


@dataclass(frozen=True)
class ControlCommand:
    """What the vehicle is asked to do: front-wheel angle (left positive) and acceleration along x.

    reason: why no plan is followed, empty while one is.  hold: the plan is to stand, and the vehicle (nearly) does.
    For pedals, an acceleration of zero would then mean none of both, and a vehicle that rolls on a slope.
    """

    steering_rad: float
    acceleration_mps2: float
    reason: str = ''
    hold: bool = False


def describe_age(plan: Plan, now_s: float) -> str:
    """Return in words why a plan may not be acted on at `now_s` (odometry's time, seconds)."""
    age_s = now_s - plan.stamp_s
    if age_s < 0.0:
        return f'{-age_s:.2f} s ahead of the odometry; let one clock stamp images and odometry'
    return f'{age_s:.2f} s old, its time to live is {plan.ttl_s:.2f} s'


def describe_jump(plan: Plan, ego: EgoState, change_mps2: float) -> str:
    """Return in words why the vehicle cannot have come from where the plan starts to where it is said to be, or ''.

    So a follower notices another odometry than the planner's, and one that has jumped: moved by either, a plan leads
    anywhere.  change_mps2: how much faster it may have become than both states say.
    """
    passed_s = max(0.0, ego.stamp_s - plan.ego.stamp_s)
    turned_rad = abs(float(se2.wrap(ego.yaw_rad - plan.ego.yaw_rad)))
    slow_mps = min(abs(plan.ego.speed_mps), abs(ego.speed_mps))
    fast_mps = fastest_mps(plan.ego, ego, change_mps2)
    if moved_m := jumped_m(plan.ego, ego, change_mps2, _PLAUSIBLE_M):
        what = f'is {moved_m:.1f} m from where the plan starts'
    elif turned_rad > _fastest_turn_rps(slow_mps, fast_mps) * passed_s + _PLAUSIBLE_RAD:
        what = f'has turned by {math.degrees(turned_rad):.0f} degrees since the plan'
    else:
        return ''
    return (
        f'the odometry {what}, {passed_s:.2f} s later at {abs(ego.speed_mps):.1f} m/s: it has jumped, or planner and '
        'controller read two'
    )


def _fastest_turn_rps(slow_mps: float, fast_mps: float) -> float:
    """Return the largest yaw rate of a car between two speeds: of its steering when slow, of its tyres when fast."""
    speed_mps = min(max(slow_mps, math.sqrt(_LATERAL_MPS2 / _CURVATURE_PER_M)), fast_mps)
    return min(_CURVATURE_PER_M * speed_mps, _LATERAL_MPS2 / max(speed_mps, 1e-6))


class TrajectoryController:
    """Turns the newest plan into a command at any later time, moved by odometry."""

    def __init__(self, config: ControlConfig | None = None) -> None:
        self.config = config or ControlConfig()
        self._steering_rad = 0.0

    def reset(self) -> None:
        """Forget the held steering angle."""
        self._steering_rad = 0.0

    def stop(self, reason: str) -> ControlCommand:
        """Return a firm stop with the wheels held as they are."""
        return ControlCommand(self._steering_rad, -self.config.stale_braking_mps2, reason)

    def command(self, plan: Plan | None, ego: EgoState, now_s: float) -> ControlCommand:
        """Return the command at `now_s`; without a fresh plan, a stop that names why."""
        config = self.config
        if plan is None:
            return self.stop('no plan yet')
        if not plan.is_fresh(now_s):
            return self.stop(f'plan is {describe_age(plan, now_s)}')
        if jump := describe_jump(plan, ego, config.max_braking_mps2):
            return self.stop(jump)
        trajectory = plan.trajectory
        age_s = max(0.0, now_s - plan.stamp_s)

        times = np.concatenate([[0.0], trajectory.times_s])
        speeds = np.concatenate([[plan.ego.speed_mps], trajectory.speed_mps])
        target = float(np.interp(age_s + config.speed_horizon_s, times, speeds))
        coming = speeds[(times > age_s) & (times <= age_s + config.standstill_s)]
        if len(coming) and max(target, float(coming.max())) < config.standstill_mps:
            target = 0.0
        # Backwards counts as well: who rolls down behind a stop line is to be braked, not to be driven forward.
        hold = target <= 0.0 and ego.speed_mps <= config.standstill_mps
        acceleration = (target - ego.speed_mps) / config.speed_horizon_s
        acceleration = float(np.clip(acceleration, -config.max_braking_mps2, config.max_acceleration_mps2))

        moved = se2.relative(plan.ego.pose, ego.pose)
        path = se2.points_to_local(moved, np.concatenate([[[0.0, 0.0]], trajectory.positions_m]))
        lookahead = float(np.clip(config.lookahead_s * ego.speed_mps, config.min_lookahead_m, config.max_lookahead_m))
        distance = np.hypot(path[:, 0], path[:, 1])
        ahead = np.flatnonzero((path[:, 0] > 0.0) & (distance >= lookahead))
        if len(ahead):
            k = int(ahead[0])
            point = path[k]
            if k > 0 and distance[k] - distance[k - 1] > 1e-6 and distance[k - 1] < lookahead:
                share = (lookahead - distance[k - 1]) / (distance[k] - distance[k - 1])
                point = path[k - 1] + share * (path[k] - path[k - 1])
        elif path[-1, 0] > 1.0:
            point = path[-1]
        else:
            # The plan ends where the vehicle stands: there is no direction to steer for.
            return ControlCommand(self._steering_rad, acceleration, hold=hold)
        squared = float(point @ point)
        steering = float(np.arctan(config.wheelbase_m * 2.0 * point[1] / squared))
        self._steering_rad = float(np.clip(steering, -config.max_steering_rad, config.max_steering_rad))
        return ControlCommand(self._steering_rad, acceleration, hold=hold)
