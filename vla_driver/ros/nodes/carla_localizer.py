# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What CARLA's leaderboard leaves to the driver: where the vehicle is, and the word that the driver is ready.

Its vehicles have a speedometer, an IMU and a satellite receiver; `/carla/<role>/odometry` is made of these here, as
the bridge would have it.  A drive starts where the global plan does.  The leaderboard begins when somebody publishes
`/carla/<role>/status`: done when planner and controller are listening and sending.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Imu, NavSatFix
from std_msgs.msg import Bool

from vla_driver.observation.messages import read_global_plan, stamp_seconds, yaw_of
from vla_driver.observation.reckoning import Reckoning
from vla_driver.ros.base.lifecycle import DriverNode, StampWatch
from vla_driver.ros.base.process import run
from vla_driver.ros.wire import carla, qos
from vla_driver.ros.wire.diagnostics import Level, Status
from vla_driver.settings.nodes.carla_localizer import CarlaLocalizerParameters
from vla_driver.types import ANCHOR_CAMERA, FloatArray, InvalidInput

#: A speedometer that is silent for so long has failed; what it said last is not driven on.
_SILENT_S: Final = 1.0
#: A plan that has been driven by for longer is the one of the drive before when the clock starts again.
_NEW_MESSAGES: Final = 20


class CarlaLocalizerNode(DriverNode[CarlaLocalizerParameters]):
    """Odometry of the leaderboard's sensors."""

    parameter_table = CarlaLocalizerParameters

    def __init__(self, **node_arguments: Any) -> None:
        self._watch = StampWatch()
        self._plan_m: FloatArray | None = None  # [N, 2]; a drive begins at its first point
        self._sent_by_plan = 0  # since a plan was told, the same one included
        self._ready = False
        self._begin()
        super().__init__('carla_localizer', **node_arguments)

    def _begin(self) -> None:
        self._reckoning: Reckoning | None = None
        self._speed: tuple[float, float] | None = None  # stamp and m/s
        self._imu_s: float | None = None
        self._sent = self._fixes = 0
        self._refused: dict[str, str] = {}  # sensor -> why its last message could not be used
        self._watch.clear()

    def _topic(self, name: str) -> str:
        return carla.topic(self.parameters.role_name, name)

    def setup(self) -> None:
        """Make the publishers; raise InvalidInput where the leaderboard's carla_msgs is not installed."""
        self._ready = False  # what was said is gone with the publisher that said it
        self._plan_type, self._speed_type = (carla.message_type(f'Carla{name}') for name in ('Route', 'Speedometer'))
        self._odometry = self.advertise(Odometry, self._topic('odometry'), qos.RELIABLE)
        self._status = self.advertise(Bool, self._topic('status'), qos.LATCHED)

    def start(self) -> None:
        """Listen, and look for the driver."""
        self._begin()
        self.listen(self._plan_type, self._topic('global_plan'), self._on_plan, qos.LATCHED)
        self.listen(self._speed_type, self._topic('speed'), self._on_speed, qos.STATE_SUBSCRIPTION)
        self.listen(NavSatFix, self._topic('gnss'), self._on_fix, qos.STATE_SUBSCRIPTION)
        self.listen(Imu, self._topic('imu'), self._on_imu, qos.STATE_SUBSCRIPTION)
        self.every(0.2, self._look_for_driver)

    def reset(self, reason: str) -> None:
        """Begin a new drive where the plan does."""
        del reason
        self._begin_another()

    def _begin_another(self) -> None:
        """Begin a new drive; one whose plan is not there yet does not begin where the last one did."""
        self._begin()
        if self._sent_by_plan > _NEW_MESSAGES:
            self._plan_m = None

    def _look_for_driver(self) -> None:
        """Say that the driver is ready, once it is: the leaderboard waits for that before it shows anything."""
        if self._ready:
            return
        looks = self.count_subscribers(self._topic(f'{ANCHOR_CAMERA}/image'))
        if looks and self.count_publishers(self._topic('vehicle_control_cmd')):
            self._ready = True
            self._status.publish(Bool(data=True))
            self.get_logger().info(f'planner and controller are there: {self._topic("status")} is true')

    def _on_plan(self, message: Any) -> None:
        try:
            points, _ = read_global_plan(message)
        except InvalidInput as error:
            self._refuse('global_plan', str(error))
            return
        self._refused.pop('global_plan', None)
        self._sent_by_plan = 0
        if self._plan_m is None or not np.array_equal(points, self._plan_m):  # sent again it is no new drive
            self._plan_m, self._reckoning = points, None

    def _on_speed(self, message: Any) -> None:
        if not math.isfinite(message.speed):
            self._refuse('speed', f'speed is {message.speed}, expected metres per second')
            return
        self._refused.pop('speed', None)
        self._speed = stamp_seconds(message), float(message.speed)

    def _on_fix(self, message: NavSatFix) -> None:
        if not (abs(message.latitude) < 85.0 and abs(message.longitude) <= 180.0):  # also false for NaN
            self._refuse('gnss', f'latitude {message.latitude}, longitude {message.longitude}, expected degrees')
            return
        self._refused.pop('gnss', None)
        if self._reckoning is not None:
            self._fixes += self._reckoning.fix(stamp_seconds(message), message.latitude, message.longitude)

    def _on_imu(self, message: Imu) -> None:
        """Move on and publish: the IMU has the heading."""
        stamp_s, rate_rps = stamp_seconds(message), float(message.angular_velocity.z)
        try:
            yaw_rad = yaw_of(message.orientation, 'orientation')
            if not math.isfinite(rate_rps):
                raise InvalidInput(f'angular_velocity.z is {rate_rps}, expected radians per second')
        except InvalidInput as error:
            self._refuse('imu', str(error))
            return
        self._refused.pop('imu', None)
        if self._watch.jumped_back(stamp_s):  # another scenario: its clock begins at 0 again
            self._begin_another()
            self._watch.jumped_back(stamp_s)
        self._imu_s = stamp_s
        if self._plan_m is None or self._silent():
            return
        assert self._speed is not None
        p = self.parameters
        if self._reckoning is None:
            self._reckoning = Reckoning(self._plan_m[0], centre_m=p.centre_m, fix_sigma_m=p.fix_sigma_m)
            x_m, y_m = self._plan_m[0]
            self.get_logger().info(f'the drive begins where the plan does, at ({x_m:.1f}, {y_m:.1f}) m')
        ego = self._reckoning.move(stamp_s, self._speed[1], yaw_rad, rate_rps)
        self._odometry.publish(carla.to_bridge_odometry(ego, p.role_name, p.centre_m, message.header.stamp))
        self._sent += 1
        self._sent_by_plan += 1

    def _silent(self) -> bool:
        """Whether the speedometer has said nothing, or nothing for too long to go on with it."""
        return self._speed is None or (self._imu_s is not None and self._imu_s - self._speed[0] > _SILENT_S)

    def _refuse(self, sensor: str, why: str) -> None:
        self._refused[sensor] = why
        self.get_logger().warning(f'{self._topic(sensor)} refused: {why}', throttle_duration_sec=5.0)

    def report(self) -> Iterable[Status]:
        """Say what is missing, and whether the leaderboard has been told to begin."""
        there = {'global_plan': self._plan_m is not None, 'speed': not self._silent(), 'imu': self._imu_s is not None}
        missing = [self._topic(name) for name, known in there.items() if not known]
        words = f'waiting for {", ".join(missing)}' if missing else 'odometry is published'
        if not missing and not self._fixes:
            words += f', so far without {self._topic("gnss")}'
        if self._refused:
            words += '; refused: ' + '; '.join(f'{name}: {why}' for name, why in self._refused.items())
        level = Level.WARN if missing or self._refused or not self._fixes else Level.OK
        yield Status('localisation', level, words, {'sent': self._sent, 'fixes': self._fixes, 'ready': self._ready})


def main() -> int:
    """Run the node."""
    return run(CarlaLocalizerNode)


if __name__ == '__main__':
    sys.exit(main())
