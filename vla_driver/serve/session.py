# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""One rollout of a simulator that calls: what it says goes in, and every question of it gets one answer in time.

Free of gRPC: times are whole microseconds of the session's own clock, poses [3] are of base_link in its local frame.

    picture, egomotion, route     as they come
    drive(now)                    the newest set of pictures is planned from, in a thread of the session's own

The answer is the newest plan that may be driven.  Where no new pictures have come since the last answer (cameras at 2
Hz, questions at 10), that is the plan before, as long as its time to live lasts.  Where planning takes longer than
`answer_within_s`, it is as well, and the plan that is being made counts at the next question.  Where there is none that
is young enough, it is a stop.  `Answer` says which.
"""

from __future__ import annotations

import enum
import logging
import math
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from vla_driver.geometry import se2
from vla_driver.geometry.opendrive import JunctionMap
from vla_driver.observation.assemble import ObservationAssembler
from vla_driver.observation.guidance import RouteGuide, checked_route
from vla_driver.observation.messages import ego_at
from vla_driver.observation.ready import ReadySet
from vla_driver.observation.sync import CameraSync
from vla_driver.planning.fallback import stop_plan
from vla_driver.planning.tick import Planner, TickResult
from vla_driver.serve import messages
from vla_driver.serve.cameras import SessionCameras
from vla_driver.settings.serving import ServingParameters
from vla_driver.types import ANCHOR_CAMERA, EgoState, InvalidInput, Plan, PlanSource, TurnCommand

_LOG = logging.getLogger(__name__)

#: Poses farther apart tell no speed.
_ODOMETRY_S: Final = 0.5
#: A route is seen from a pose that is no farther from the newest one.
_ROUTE_S: Final = 1.0
#: Sets leave when a question comes, not before: what comes with the front picture may come behind it.
_NO_HURRY_S: Final = 1.0


class Answered(str, enum.Enum):
    """What a `drive` was answered with."""

    PLANNED = 'planned'  # from pictures that have come since the last answer
    KEPT = 'kept'  # with the plan before: no new pictures
    LATE = 'late'  # with the plan before: the new one was not there in time
    FALLBACK = 'fallback'  # with what the guard put in a plan's place
    STOP = 'stop'  # with a stop: no plan that is young enough

    __str__ = str.__str__


@dataclass(frozen=True)
class Answer:
    """plan: what may be driven; kind: what it is; reason: why it is no new plan of the policy's, in words, or ''.

    command, distance_m: the turn that the route asks for next; missing: cameras that show nothing.
    """

    plan: Plan
    kind: Answered
    reason: str
    command: TurnCommand
    distance_m: float
    missing: tuple[str, ...]


class DrivingSession:
    """One rollout.  Methods may be called from several threads; of `drive`, one call at a time is answered."""

    def __init__(self, name: str, planner: Planner, cameras: SessionCameras, wanted: ServingParameters) -> None:
        """The planner is the session's alone until `close`.  Its policy is reset."""
        self.name, self.cameras = name, cameras
        self._planner, self._wanted = planner, wanted
        planner.reset()
        names = cameras.rig.names
        sync = CameraSync(
            names,
            max_skew_s=wanted.max_skew_s,
            wait_s=_NO_HURRY_S,
            policies={name: 'skip' for name in names if name != ANCHOR_CAMERA},
        )
        self._assembler = ObservationAssembler(
            cameras.rig, sync, needs=planner.policy.needs, use_tf=False, lenses=cameras.lenses
        )
        self._guide = RouteGuide()
        self._junctions: JunctionMap | None = None
        self._told = np.empty((0, 2))  # the route's points as the assembler has them
        self._ego: EgoState | None = None
        self._early_route: npt.NDArray[np.float64] | None = None
        self._stamp_told = False  # whether a route's stamp that cannot be its own was named
        self._turn = (TurnCommand.FOLLOW, 0.0)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=f'session {name}')
        self._making: Future[TickResult] | None = None
        self._waiting: ReadySet | None = None  # for the worker; a newer one takes its place
        self._last: TickResult | None = None
        self._answering, self._lock = threading.Lock(), threading.Lock()
        #: When the simulator said something last, by this machine's steady clock.
        self.heard_s = time.monotonic()

    def know(self, junctions: JunctionMap | None) -> None:
        """Take the map that the drive is in, None while nobody has it."""
        if junctions is not self._junctions and junctions is not None:
            with self._lock:
                self._junctions = junctions
                self._guide.know(junctions)

    def picture(self, declared: str, stamp_us: int, data: bytes) -> None:
        """Take a camera's picture, a file; that of a camera nobody looks through is dropped."""
        self.heard_s = time.monotonic()
        name = self.cameras.name_of(declared)
        if name is not None:
            with self._lock:
                self._assembler.push_image(name, messages.picture(stamp_us, data))

    def egomotion(self, stamp_us: int, pose: npt.ArrayLike, moves: tuple[float, float] | None = None) -> None:
        """Take where base_link is; moves: its speed [m/s] and yaw rate [rad/s], None: as the poses say.

        What is no newer than what is known says nothing new: a simulator may say the last pose again.  Raises
        InvalidInput for numbers that are none.
        """
        at = np.asarray(pose, dtype=np.float64)
        if not np.isfinite([*at, *(moves or ())]).all():
            raise InvalidInput(
                f'egomotion at {1e-6 * stamp_us:.6f} s: pose (x, y, yaw) {at.tolist()}, speed and yaw rate '
                f'{moves or "of the poses"}; expected finite numbers'
            )
        self.heard_s = time.monotonic()
        with self._lock:
            if self._ego is not None and stamp_us <= round(1e6 * self._ego.stamp_s):
                return
            if moves is None:
                moves = self._by_poses(stamp_us, at)
            ego = self._assembler.push_odometry(messages.odometry(stamp_us, pose, *moves))
            if ego is not None:
                self._ego = ego
                early, self._early_route = self._early_route, None
                if early is not None:
                    self._take_route(early, ego)
                self._turn_towards(ego)

    def route(self, points_m: npt.ArrayLike, stamp_us: int | None = None) -> None:
        """Take the route as it is known at a time [N, 2], in base_link as it is then; none withdraws it.

        stamp_us: None: at the newest odometry; so is one that is over a second from that, which the log says once.  One
        that comes before any odometry counts from the first on.  Raises InvalidInput for points that are none.
        """
        points = checked_route(points_m)
        self.heard_s = time.monotonic()
        with self._lock:
            if self._ego is None:
                self._early_route = points
                return
            self._take_route(points, self._ego if stamp_us is None else self._ego_when(1e-6 * stamp_us))
            self._turn_towards(self._ego)

    def _ego_when(self, stamp_s: float) -> EgoState:
        """Return where the vehicle was, by its newest state, when a route was stamped."""
        assert self._ego is not None
        if abs(stamp_s - self._ego.stamp_s) <= _ROUTE_S:
            return ego_at(self._ego, stamp_s)
        if not self._stamp_told:
            self._stamp_told = True
            _LOG.warning(
                'session %s: a route is stamped %.3f s, the newest egomotion %.3f s: such routes are taken as seen '
                'from there; timestamp_us is to be the time of the pose that a route is seen from',
                self.name,
                stamp_s,
                self._ego.stamp_s,
            )
        return self._ego

    def drive(self, now_us: int) -> Answer | None:
        """Return what may be driven at a time of the session's clock; None before the first odometry."""
        self.heard_s = time.monotonic()
        until_s = self.heard_s + self._wanted.answer_within_s
        with self._answering:
            now_s = now_us * 1e-6
            self._gather()
            made = self._await(now_s, until_s)
            with self._lock:
                ego, turn = self._ego, self._turn
            if ego is None:
                return None
            return self._answer(made, ego_at(ego, now_s), now_s, turn)

    def close(self) -> None:
        """End the session; whoever gave the planner may give it away again afterwards."""
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _gather(self) -> None:
        """Let the worker have the newest set of pictures, if there is a new one."""
        with self._lock:
            self._assembler.flush()
            while (ready := self._assembler.take()) is not None:
                self._waiting = ready

    def _await(self, now_s: float, until_s: float) -> TickResult | None:
        """Return what the newest set gave, None where there was none or it is late."""
        made = None
        while True:
            if self._making is None:
                if self._waiting is None:
                    return made
                ready, self._waiting = self._waiting, None
                self._making = self._worker.submit(self._planner.answer, ready, lambda: now_s, forecast=False)
            done, _ = wait([self._making], timeout=max(0.0, until_s - time.monotonic()))
            if not done:
                return None
            # An older one that was late is of use, too: there may be no time for the newest.
            finished, self._making = self._making, None
            made = finished.result()
            if made.plan is not None:
                self._last = made

    def _answer(self, made: TickResult | None, ego: EgoState, now_s: float, turn: tuple[TurnCommand, float]) -> Answer:
        late = self._making is not None
        missing = made.unseen if made is not None else ()
        plan = None if made is None or late else made.plan
        if plan is not None and plan.is_fresh(now_s):
            planned = plan.source in (PlanSource.POLICY, PlanSource.BRAKED)
            kind = Answered.PLANNED if planned else Answered.FALLBACK
            return Answer(plan, kind, plan.reason, *turn, missing)
        within_s = self._wanted.answer_within_s
        why = f'the plan took longer than {within_s:g} s' if late else ''
        if plan is not None:
            why = f'the newest plan is of {now_s - plan.stamp_s:.1f} s ago, and good for {plan.ttl_s:g} s'
        if self._last is not None and self._last.plan is not None and self._last.plan.is_fresh(now_s):
            kind = Answered.LATE if late else Answered.KEPT
            return Answer(self._last.plan, kind, why or self._last.plan.reason, *turn, self._last.unseen)
        if not why:
            problems = self._assembler.problems() if made is None else made.problems
            why = '; '.join(problems) or 'no pictures since the last plan'
        policy = self._planner.policy.name
        return Answer(stop_plan(ego, now_s, policy, why), Answered.STOP, why, *turn, missing)

    def _by_poses(self, stamp_us: int, pose: npt.NDArray[np.float64]) -> tuple[float, float]:
        """Return speed and yaw rate from the pose before to this one."""
        before = self._ego
        passed_s = 0.0 if before is None else stamp_us * 1e-6 - before.stamp_s
        if before is None or not 0.0 < passed_s < _ODOMETRY_S:
            return 0.0, 0.0
        turned = (pose[2] - before.yaw_rad + math.pi) % (2.0 * math.pi) - math.pi
        heading = before.yaw_rad + 0.5 * turned
        forward = (pose[0] - before.x_m) * math.cos(heading) + (pose[1] - before.y_m) * math.sin(heading)
        return float(forward / passed_s), float(turned / passed_s)

    def _take_route(self, points: npt.NDArray[np.float64], ego: EgoState) -> None:
        """Take a route that is seen from where the vehicle is."""
        self._guide.take(se2.points_to_global(ego.pose, points), ego.pose)

    def _turn_towards(self, ego: EgoState) -> None:
        """Tell the assembler the next turn, and the target points where they have changed."""
        self._turn = self._guide.next_turn(ego.pose)
        stamp_us = round(ego.stamp_s * 1e6)
        self._assembler.push_turn_command(messages.turn_command(stamp_us, *self._turn))
        targets = self._guide.targets_m()
        if not np.array_equal(targets, self._told):
            self._told = targets
            self._assembler.push_route(messages.route(targets))
