# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""AlpaSim's egodriver contract, answered by this package's policies.

The contract (NVlabs/alpasim, `egodriver.proto`) is spoken by the package `carla-driver-interface`; here its policy is
one of ours.  Sessions are independent: each has a policy with a memory of its own, taken from a pool that is made and
warm before the port opens.  `rig` is the ground below the middle of the rear axle, x forward, y left: our base_link.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from carla_driver_interface.driver import (
    BaseDriver,
    CameraFrame,
    DriveContext,
    DriveResult,
    SessionState,
    TurnIndicator,
)
from carla_driver_interface.geometry import Pose, Trajectory

from vla_driver.geometry import se2
from vla_driver.geometry.rig import load_rig
from vla_driver.planning.tick import Planner, TickLimits
from vla_driver.serve.cameras import choose_cameras
from vla_driver.serve.maps import Maps
from vla_driver.serve.session import Answer, Answered, DrivingSession
from vla_driver.settings.serving import ServingParameters
from vla_driver.types import ANCHOR_CAMERA, CAMERA_NAMES, FloatArray, InvalidInput, Plan, Policy, TurnCommand

_LOG = logging.getLogger(__name__)

#: A session that has said nothing for so long is given up when another one wants its place: its simulator has died.
_SILENT_S: Final = 60.0
#: The turn indicators are on this far before a turn.
_INDICATE_M: Final = 30.0
_INDICATORS: Final = {TurnCommand.LEFT: TurnIndicator.ENABLE_LEFT, TurnCommand.RIGHT: TurnIndicator.ENABLE_RIGHT}


class EgoDriver(BaseDriver):
    """Serves sessions of a simulator; gRPC's threads call it.

    make_policy: called once for each of `wanted.sessions`.  cameras: policy's name -> the simulator's, where it is not
    to be found by the way a camera looks.  Raises InvalidInput for one that the policy does not have.
    """

    name = 'vla_driver'
    frame_history_length = 1

    def __init__(
        self,
        make_policy: Callable[[], Policy],
        wanted: ServingParameters | None = None,
        cameras: Mapping[str, str] | None = None,
    ) -> None:
        self._wanted = wanted or ServingParameters()
        self._chosen = dict(cameras or {})
        self._maps = Maps(Path(self._wanted.map_dir)) if self._wanted.map_dir else None
        self._free = [self._warm(make_policy()) for _ in range(self._wanted.sessions)]
        unknown = sorted(set(self._chosen) - set(_cameras_of(self._free[0].policy)))
        if unknown:
            raise InvalidInput(
                f'camera {", ".join(unknown)}: the policy has none of that name; it has '
                f'{", ".join(_cameras_of(self._free[0].policy))}'
            )
        self._sessions: dict[str, DrivingSession] = {}
        self._planners: dict[str, Planner] = {}
        self._said: dict[str, str] = {}
        self._lock = threading.Lock()

    def _warm(self, policy: Policy) -> Planner:
        # There is one answer to every question, after a defect as well: the guard's.
        planner = Planner(policy, limits=TickLimits(max_age_s=self._wanted.max_age_s), on_defect=_tell_defect)
        planner.warm_up(load_rig('sim'))
        return planner

    # What the contract calls.

    def on_session_start(self, session: SessionState) -> None:
        """Begin a rollout.  Raises InvalidInput, which the simulator is told, where it cannot be driven."""
        planner = self._planner()
        try:
            wanted = _cameras_of(planner.policy)
            cameras = choose_cameras(list(session.cameras.values()), wanted, self._chosen)
            driving = DrivingSession(session.uuid, planner, cameras, self._wanted)
        except BaseException:
            with self._lock:
                self._free.append(planner)
            raise
        with self._lock:
            self._sessions[session.uuid], self._planners[session.uuid] = driving, planner
        seen = ', '.join(f'{name} = {source}' for name, source in cameras.sources.items())
        _LOG.info('session %s: %s', session.uuid, seen or 'no cameras')
        for note in cameras.notes:
            _LOG.warning('session %s: %s', session.uuid, note)

    def on_session_close(self, session: SessionState) -> None:
        """End a rollout."""
        self._end(session.uuid)

    def on_frame(self, session: SessionState, frame: Any) -> None:
        """Take a picture."""
        if isinstance(frame, CameraFrame):
            self._driving(session).picture(frame.logical_id, frame.timestamp_us, frame.image_bytes)

    def on_egomotion(self, session: SessionState, new_poses: Trajectory) -> None:
        """Take where the vehicle was."""
        with session.lock:
            # The newest ones: those of a whole session would be gone through at every call.
            newest = slice(-len(new_poses), None) if len(new_poses) else slice(0, 0)
            stamps_us, states = session.ego_trajectory.timestamps_us[newest], session.dynamic_states[newest]
        known = dict(zip(stamps_us, states, strict=True))
        driving = self._driving(session)
        refused: InvalidInput | None = None
        for stamp_us, pose in zip(new_poses.timestamps_us, new_poses.poses, strict=True):
            state = known.get(stamp_us)
            moves = None
            if state is not None and state.HasField('linear_velocity'):
                moves = state.linear_velocity.x, state.angular_velocity.z
            try:
                driving.egomotion(stamp_us, _planar(pose), moves)
            except InvalidInput as error:  # those behind it count
                refused = error
        if refused is not None:
            raise refused

    def on_route(self, session: SessionState) -> None:
        """Take the route."""
        with session.lock:
            points, stamp_us = np.array(session.route_waypoints_in_rig, dtype=np.float64), session.route_timestamp_us
        self._driving(session).route(points[:, :2], stamp_us)

    def drive(self, ctx: DriveContext) -> DriveResult:
        """Answer with a plan, or what stands in for one; raise InvalidInput where the newest pose is none."""
        driving = self._driving(ctx.session)
        if self._maps is not None and ctx.renderer_data is not None and ctx.renderer_data.map_id:
            driving.know(self._maps.junctions(ctx.renderer_data.map_id))
        answer = driving.drive(ctx.time_now_us)
        if answer is None:  # nobody knows where the vehicle is: the contract's answer is an empty trajectory
            return DriveResult(Trajectory.empty())
        self._tell(ctx.session.uuid, answer)
        with ctx.session.lock:
            pose = ctx.session.latest_pose()
        assert pose is not None  # there was an answer
        if not np.isfinite(_planar(pose)).all():  # refused when it came, and yet what the answer is to be seen from
            raise InvalidInput(f'session {ctx.session.uuid}: its newest pose is not finite, so nothing is seen from it')
        return DriveResult(
            trajectory_in_rig(answer.plan, _planar(pose)),
            debug_scalars=_scalars(answer, ctx.time_now_us * 1e-6),
            turn_indicator=_indicator(answer),
        )

    def _planner(self) -> Planner:
        """Return a planner that no session has; raise InvalidInput where all have one."""
        with self._lock:
            if self._free:
                return self._free.pop()
            silent_s = {name: time.monotonic() - driving.heard_s for name, driving in self._sessions.items()}
        name = max(silent_s, key=silent_s.__getitem__, default='')
        if silent_s.get(name, 0.0) < _SILENT_S:
            raise InvalidInput(
                f'{self._wanted.sessions} sessions are open, as many as may be: close one, or serve with a higher '
                '--sessions'
            )
        _LOG.warning('session %s: silent for %.0f s, given up for another one', name, silent_s[name])
        self._end(name)
        return self._planner()

    def _end(self, session: str) -> None:
        with self._lock:
            driving = self._sessions.pop(session, None)
        if driving is None:
            return  # given up before
        driving.close()
        with self._lock:
            self._free.append(self._planners.pop(session))
            self._said.pop(session, None)

    def _driving(self, session: SessionState) -> DrivingSession:
        with self._lock:
            driving = self._sessions.get(session.uuid)
        if driving is None:
            raise InvalidInput(f'session {session.uuid} was given up: it had said nothing for {_SILENT_S:g} s')
        return driving

    def _tell(self, session: str, answer: Answer) -> None:
        """Log what is answered in place of a plan, when that changes."""
        with self._lock:
            before, self._said[session] = self._said.get(session, ''), answer.reason
        if answer.reason and answer.reason != before:
            _LOG.warning('session %s: answered with %s: %s', session, answer.kind, answer.reason)
        elif before and not answer.reason:
            _LOG.info('session %s: plans again', session)


def _cameras_of(policy: Policy) -> tuple[str, ...]:
    """Return the cameras that a policy is served with; one that looks at none plans at the front one's times."""
    cameras = policy.needs.cameras
    return CAMERA_NAMES if cameras is None else cameras or (ANCHOR_CAMERA,)


def _tell_defect(error: Exception) -> None:
    _LOG.exception('a defect of this package, please report it: %s', error)


def trajectory_in_rig(plan: Plan, pose: FloatArray) -> Trajectory:
    """Return a plan's poses as seen from base_link at `pose` [3]; both in one local frame."""
    t = plan.trajectory
    seen = se2.relative(pose, se2.compose(plan.ego.pose, np.column_stack([t.positions_m, t.yaw_rad])))
    start_us = round(plan.stamp_s * 1e6)
    stamps_us = [start_us + round(1e6 * after_s) for after_s in t.times_s]
    return Trajectory(stamps_us, [Pose.from_xyz_yaw(float(x), float(y), 0.0, float(yaw)) for x, y, yaw in seen])


def _planar(pose: Pose) -> FloatArray:
    """Return a pose's x, y and heading [3]."""
    forward = pose.rotation_matrix[:, 0]
    return np.array([pose.position[0], pose.position[1], math.atan2(forward[1], forward[0])])


def _scalars(answer: Answer, now_s: float) -> dict[str, float]:
    scalars = {f'answered_{kind}': float(answer.kind is kind) for kind in Answered}
    scalars |= {f'{stage}_ms': ms for stage, ms in answer.plan.timing_ms.items()}
    return scalars | {
        'plan_age_s': now_s - answer.plan.stamp_s,
        'cameras_missing': float(len(answer.missing)),
        'turn_command': float(answer.command),
        'turn_distance_m': answer.distance_m,
    }


def _indicator(answer: Answer) -> TurnIndicator:
    near = answer.distance_m <= _INDICATE_M
    return _INDICATORS.get(answer.command, TurnIndicator.DISABLE) if near else TurnIndicator.DISABLE
