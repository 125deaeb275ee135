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
from typing import Any

from nav_msgs.msg import Odometry
from sensor_msgs.msg import Imu, NavSatFix
from std_msgs.msg import Bool, Float32

from vla_driver.observation.messages import read_global_plan, stamp_seconds, yaw_of
from vla_driver.observation.reckoning import Reckoning
from vla_driver.ros.nodes.lifecycle import DriverNode
from vla_driver.ros.nodes.process import run
from vla_driver.ros.wire import carla, qos
from vla_driver.ros.wire.diagnostics import Level, Status
from vla_driver.settings.carla_localizer import CarlaLocalizerParameters
from vla_driver.types import ANCHOR_CAMERA, FloatArray, InvalidInput


class CarlaLocalizerNode(DriverNode[CarlaLocalizerParameters]):
    """Odometry of the leaderboard's sensors."""

    parameter_table = CarlaLocalizerParameters

    def __init__(self, **node_arguments: Any) -> None:
        self._begin()
        self._start_m: FloatArray | None = None
        self._ready = False
        super().__init__('carla_localizer', **node_arguments)

    def _begin(self) -> None:
        self._reckoning: Reckoning | None = None
        self._speed_mps: float | None = None
        self._stamp_s: float | None = None
        self._sent = self._fixes = 0
        self._refused = ''

    def _topic(self, name: str) -> str:
        return carla.topic(self.parameters.role_name, name)

    def setup(self) -> None:
        """Make the publishers; raise InvalidInput where the leaderboard's carla_msgs is not installed."""
        self._plan_type = carla.message_type('CarlaRoute')
        self._odometry = self.advertise(Odometry, self._topic('odometry'), qos.RELIABLE)
        self._status = self.advertise(Bool, self._topic('status'), qos.LATCHED)

    def start(self) -> None:
        """Listen, and look for the driver."""
        self._begin()
        self.listen(self._plan_type, self._topic('global_plan'), self._on_plan, qos.LATCHED)
        self.listen(Float32, self._topic('speed'), self._on_speed, qos.STATE_SUBSCRIPTION)
        self.listen(NavSatFix, self._topic('gnss'), self._on_fix, qos.STATE_SUBSCRIPTION)
        self.listen(Imu, self._topic('imu'), self._on_imu, qos.STATE_SUBSCRIPTION)
        self.every(0.2, self._look_for_driver)

    def reset(self, reason: str) -> None:
        """Begin a new drive where the plan does."""
        del reason
        self._begin()

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
            self._refuse(str(error))
            return
        self._start_m, self._reckoning = points[0], None

    def _on_speed(self, message: Float32) -> None:
        if math.isfinite(message.data):
            self._speed_mps = float(message.data)
        else:
            self._refuse(f'speed: {message.data}, expected metres per second')

    def _on_fix(self, message: NavSatFix) -> None:
        if not (abs(message.latitude) < 85.0 and abs(message.longitude) <= 180.0):  # also false for NaN
            self._refuse(f'gnss: latitude {message.latitude}, longitude {message.longitude}, expected degrees')
        elif self._reckoning is not None:
            self._reckoning.fix(stamp_seconds(message), message.latitude, message.longitude)
            self._fixes += 1

    def _on_imu(self, message: Imu) -> None:
        """Move on and publish: the IMU has the heading, and a stamp."""
        stamp_s, rate_rps = stamp_seconds(message), float(message.angular_velocity.z)
        try:
            yaw_rad = yaw_of(message.orientation, 'imu: orientation')
        except InvalidInput as error:
            self._refuse(str(error))
            return
        if not math.isfinite(rate_rps):
            self._refuse(f'imu: angular_velocity.z is {rate_rps}, expected radians per second')
            return
        if self._speed_mps is None or self._start_m is None:
            return
        p = self.parameters
        if self._stamp_s is not None and stamp_s < self._stamp_s:  # another scenario: its clock begins at 0 again
            self._reckoning = None
        if self._reckoning is None:
            self._reckoning = Reckoning(self._start_m, centre_m=p.centre_m, fix_sigma_m=p.fix_sigma_m)
        self._stamp_s = stamp_s
        ego = self._reckoning.move(stamp_s, self._speed_mps, yaw_rad, rate_rps)
        self._odometry.publish(carla.to_bridge_odometry(ego, p.role_name, p.centre_m, message.header.stamp))
        self._sent += 1

    def _refuse(self, why: str) -> None:
        self._refused = why
        self.get_logger().warning(f'refused: {why}', throttle_duration_sec=5.0)

    def report(self) -> Iterable[Status]:
        """Say what is missing, and whether the leaderboard has been told to begin."""
        there = {'global_plan': self._start_m, 'speed': self._speed_mps, 'imu': self._stamp_s}
        missing = [self._topic(name) for name, value in there.items() if value is None]
        words = f'waiting for {", ".join(missing)}' if missing else 'odometry is published'
        level = Level.WARN if missing or self._refused else Level.OK
        values = {'sent': self._sent, 'fixes': self._fixes, 'ready': self._ready, 'refused': self._refused}
        yield Status('localisation', level, words, values)


def main() -> int:
    """Run the node."""
    return run(CarlaLocalizerNode)


if __name__ == '__main__':
    sys.exit(main())
