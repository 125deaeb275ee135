# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The controller: follows the newest plan by odometry, and stops the vehicle when it may not.

Subscribes `plan` and `odom`, publishes `control` for every odometry sample, and once more as soon as a
newer plan arrives (a simulator that waits for the answer to its images gets it without delay).  Where only one control
may be sent for each stamp (CARLA's leaderboard drops the others), `answer_once_s` holds it back for the plan.  Time is
the odometry's own, so it needs neither a synchronised nor a simulated clock; only the loss of odometry
is noticed by this machine's steady clock.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

from builtin_interfaces.msg import Time
from nav_msgs.msg import Odometry
from rclpy.duration import Duration
from rclpy.publisher import Publisher

from vla_driver.geometry.frames import FrameTree
from vla_driver.msg import ControlCommand as ControlCommandMessage
from vla_driver.msg import DrivingPlan
from vla_driver.observation.messages import frame_of
from vla_driver.observation.notes import Notes
from vla_driver.observation.odometry import OdometryReader, lever_of
from vla_driver.planning.control import ControlCommand, TrajectoryController, describe_age
from vla_driver.ros.base.lifecycle import DriverNode, StampWatch
from vla_driver.ros.base.process import run
from vla_driver.ros.base.waiting import WaitingLog, describe_inputs
from vla_driver.ros.inputs.calibration_topics import transform_message_type
from vla_driver.ros.wire import carla, others, qos
from vla_driver.ros.wire.conversions import BASE_FRAME, from_driving_plan
from vla_driver.ros.wire.diagnostics import Level, RateMeter, Status
from vla_driver.settings.nodes.controller import ControllerParameters
from vla_driver.types import EgoState, InvalidInput, Plan


class ControllerNode(DriverNode[ControllerParameters]):
    """Plan and odometry in, control out."""

    parameter_table = ControllerParameters

    def __init__(self, **node_arguments: Any) -> None:
        self._plan: Plan | None = None
        self._plan_stamp = Time()
        self._ego: EgoState | None = None
        self._odometry_stamp = Time()
        self._plan_frame = self._odometry_frame = ''  # that of the odometry which the plan starts from, and our own
        self._frames = FrameTree()
        self._odometry_reader = OdometryReader()
        self._notes = Notes()
        self._odometry_times = RateMeter()
        self._odometry_watch = StampWatch()
        self._repeated = 0
        self._plan_times = RateMeter()
        self._rejected: dict[str, tuple[int, str]] = {}
        self._last: ControlCommand | None = None
        self._started_s = 0.0
        self._owed_since_s: float | None = None  # since when a control is held back for its plan
        super().__init__('controller', **node_arguments)

    def setup(self) -> None:
        """Make the follower and the publishers."""
        config = self.parameters.control_config()
        self._controller = TrajectoryController(config)
        # As the planner reads it: the plan follows from base_link, wherever odometry is measured.
        self._odometry_reader = OdometryReader(lever_of(self.parameters.odometry_mount, self._frames))
        self._publisher = self.advertise(ControlCommandMessage, 'control', qos.RELIABLE)
        self._carla: Publisher | None = None
        carla_message = carla.control_message_type()
        if carla_message is not None:
            self._carla = self.advertise(carla_message, 'vehicle_control_cmd', qos.RELIABLE)
        self._ackermann_type = others.ackermann_type()
        if self._ackermann_type is not None:
            self._ackermann = self.advertise(self._ackermann_type, 'ackermann_cmd', qos.RELIABLE)

    def start(self) -> None:
        """Subscribe, and watch for silent odometry.  What was heard before a pause says nothing of now."""
        self.reset('activated')
        self._odometry_times = RateMeter()
        self._inputs = {
            'plan': [self.listen(DrivingPlan, 'plan', self._on_plan, qos.RELIABLE)],
            'odometry': [self.listen(Odometry, 'odom', self._on_odometry, qos.STATE_SUBSCRIPTION)],
        }
        self._waiting = WaitingLog(partial(describe_inputs, self), 'following plans')
        self.every(0.5, self._look_for_inputs)
        transforms = transform_message_type()
        if transforms is not None:
            self.listen(transforms, '/tf_static', self._on_transforms, qos.LATCHED_BY_MANY)
        self.every(0.5 * self.parameters.odometry_timeout_s, self._watch)
        if self.parameters.answer_once_s > 0.0:
            self.every(min(0.01, self.parameters.answer_once_s), self._answer_late)
        self._started_s = time.monotonic()

    def stop(self) -> None:
        """The last word on the wire is a stop."""
        self._publish(self._controller.stop('the controller is being stopped'), 0.0)
        self._publisher.wait_for_all_acked(Duration(seconds=0.5))

    def reset(self, reason: str) -> None:
        """Forget plan and odometry of the time before the jump."""
        del reason
        self._plan, self._ego = None, None
        self._owed_since_s = None
        self._plan_stamp = Time()
        self._odometry_watch.clear()
        self._odometry_reader.reset()
        self._controller.reset()

    def _reject(self, what: str, error: InvalidInput) -> None:
        count = self._rejected.get(what, (0, ''))[0] + 1
        self._rejected[what] = (count, str(error))
        self.get_logger().warning(f'{what} rejected: {error}', throttle_duration_sec=2.0)

    def _on_plan(self, message: DrivingPlan) -> None:
        try:
            plan = from_driving_plan(message)
        except InvalidInput as error:
            self._reject('plan', error)
            return
        if (older_s := self._older_s(plan)) > 0.0:
            told = f'{older_s:.2f} s older than the one that is followed: are there two planners?'
            self._reject('plan', InvalidInput(told))
            return
        self._plan_times.tick()
        self._plan, self._plan_stamp, self._plan_frame = plan, message.header.stamp, frame_of(message.ego)
        # A new plan does not make an old state known again: who has lost its odometry stands still until it is back.
        if self._ego is None or not self._odometry_is_fresh:
            return
        if self.parameters.answer_once_s <= 0.0 or (self._owed_since_s is not None and self._plan_is_of_now):
            self._act(self._ego)

    def _older_s(self, plan: Plan) -> float:
        """Return how much older a plan is than the one that is followed; 0 where none is."""
        held, ego = self._plan, self._ego
        followed = held is not None and ego is not None and held.is_fresh(ego.stamp_s)
        return held.stamp_s - plan.stamp_s if held is not None and followed else 0.0

    def _on_transforms(self, message: Any) -> None:
        self._frames.add_message(message)

    def _on_odometry(self, message: Odometry) -> None:
        try:
            ego = self._odometry_reader.read(message)
            for note in self._notes.new(filter(None, [self._odometry_reader.note])):
                self.get_logger().warning(f'odometry: {note}')
        except InvalidInput as error:
            self._reject('odometry', error)
            return
        if self._odometry_watch.jumped_back(ego.stamp_s):
            self.reset_now(f'odometry stamps jumped back to {ego.stamp_s:.3f} s')
        if self._ego is not None and ego.stamp_s <= self._ego.stamp_s:
            # Time is the odometry's: who repeats the last state (a filter whose source has died) makes it stand still,
            # and no plan would ever grow old.  It counts as silence.
            self._repeated += 1
            return
        if self._owed_since_s is not None and self._ego is not None and self._odometry_is_fresh:
            self._act(self._ego)  # the world has not waited
        self._odometry_times.tick()
        self._ego, self._odometry_stamp, self._odometry_frame = ego, message.header.stamp, frame_of(message)
        if self.parameters.answer_once_s > 0.0 and not self._plan_is_of_now:
            self._owed_since_s = time.monotonic()
        else:
            self._act(ego)

    @property
    def _plan_is_of_now(self) -> bool:
        """Whether the newest plan is of the newest odometry's stamp, or later."""
        if self._plan is None:
            return False
        plan, ego = self._plan_stamp, self._odometry_stamp
        return (plan.sec, plan.nanosec) >= (ego.sec, ego.nanosec)

    def _answer_late(self) -> None:
        """Send what is owed, with the plan before, when its own does not come."""
        since_s = self._owed_since_s
        if since_s is None or self._ego is None or not self._odometry_is_fresh:
            return
        if time.monotonic() - since_s > self.parameters.answer_once_s:
            self._act(self._ego)

    @property
    def _odometry_is_fresh(self) -> bool:
        age_s = self._odometry_times.age_s
        return age_s is not None and age_s <= self.parameters.odometry_timeout_s

    def _act(self, ego: EgoState) -> None:
        self._owed_since_s = None
        if self._plan is not None and '' != self._plan_frame != self._odometry_frame != '':
            command = self._controller.stop(
                f'the plan starts in frame {self._plan_frame!r}, the odometry is in {self._odometry_frame!r}; let '
                'planner and controller read one odometry'
            )
        else:
            command = self._controller.command(self._plan, ego, ego.stamp_s)
        aim = 0.0
        if not command.reason:
            aim = max(0.0, ego.speed_mps + command.acceleration_mps2 * self.parameters.speed_horizon_s)
        self._publish(command, aim)

    def _watch(self) -> None:
        """Stop the vehicle when no odometry says where it is."""
        age = self._odometry_times.age_s
        silent_s = time.monotonic() - self._started_s if age is None else age
        if silent_s > self.parameters.odometry_timeout_s:
            what = 'no odometry yet' if age is None else f'no valid odometry for {age:.2f} s'
            self._owed_since_s = None  # this is the answer
            self._publish(self._controller.stop(what), 0.0)

    def _publish(self, command: ControlCommand, speed_mps: float) -> None:
        if command.reason and (self._last is None or not self._last.reason):
            self.get_logger().warning(f'stopping: {command.reason}')
        elif not command.reason and self._last is not None and self._last.reason:
            self.get_logger().info('following the plan')
        self._last = command
        message = ControlCommandMessage(
            steering_angle=float(command.steering_rad),
            acceleration=float(command.acceleration_mps2),
            speed=float(speed_mps),
            stop=bool(command.reason),
            reason=command.reason,
            plan_stamp=self._plan_stamp,
        )
        message.header.stamp, message.header.frame_id = self._odometry_stamp, BASE_FRAME
        self._publisher.publish(message)
        if self._carla is not None:
            p = self.parameters
            self._carla.publish(
                carla.to_control(command, p.control_config(), self._odometry_stamp, p.carla_max_steer_rad)
            )
        if self._ackermann_type is not None and self._ackermann.get_subscription_count():
            self._ackermann.publish(others.to_ackermann(self._ackermann_type, command, speed_mps))

    def _look_for_inputs(self) -> None:
        """Say what is waited for, or that all is there."""
        missing = self._missing()
        told = self._waiting.look(missing, self._inputs, planning=not missing)
        if told is not None and told[0]:
            self.get_logger().warning(told[1])
        elif told is not None:  # on a line of its own: rclpy refuses another severity from the same one
            self.get_logger().info(told[1])

    def _missing(self) -> list[str]:
        """Return what is missing, each input by name."""
        missing = []
        age = self._odometry_times.age_s
        if not self._odometry_is_fresh:
            missing.append('odometry (none received)' if age is None else f'odometry (silent for {age:.1f} s)')
        if self._plan is None:
            missing.append('plan (none received)')
        elif self._ego is not None and not self._plan.is_fresh(self._ego.stamp_s):
            missing.append(f'plan (stale, {describe_age(self._plan, self._ego.stamp_s)})')
        return missing

    def report(self) -> Iterable[Status]:
        """Say whether a plan is followed, and what is missing if not."""
        missing = self._missing()
        values = {
            'odometry_hz': self._odometry_times.rate_hz,
            'odometry_age_s': self._odometry_times.age_s,
            'odometry_repeated': self._repeated,
            'plan_hz': self._plan_times.rate_hz,
            'plan_age_s': self._plan_times.age_s,
        }
        if missing:
            yield Status('inputs', Level.ERROR, f'missing: {", ".join(missing)}', values)
        else:
            yield Status('inputs', Level.OK, 'all inputs fresh', values)
        for what, (count, last) in self._rejected.items():
            yield Status(f'rejected {what}', Level.WARN, last, {'count': count})
        if self._last is not None:
            level = Level.WARN if self._last.reason else Level.OK
            yield Status('control', level, self._last.reason or 'following the plan')


def main() -> int:
    """Run the node."""
    return run(ControllerNode, sends_pictures=False)


if __name__ == '__main__':
    sys.exit(main())
