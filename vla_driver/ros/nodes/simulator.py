# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The simulator as a node: six cameras, odometry, route and turn command out, control in.

How time passes, and when it waits for its driver, is in `world.py`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from builtin_interfaces.msg import Time
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMessage
from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from visualization_msgs.msg import MarkerArray

from vla_driver.msg import ControlCommand as ControlCommandMessage
from vla_driver.msg import TurnCommand as TurnCommandMessage
from vla_driver.planning.control import ControlCommand
from vla_driver.ros.base.process import run
from vla_driver.ros.nodes.world import WorldNode
from vla_driver.ros.wire import conversions as convert
from vla_driver.ros.wire import qos
from vla_driver.ros.wire.markers import agent_markers
from vla_driver.settings.nodes.simulator import SimulatorParameters
from vla_driver.types import CameraRig, TurnCommand

if TYPE_CHECKING:
    from vla_driver.sim.simulation import Simulation


class SimulatorNode(WorldNode[SimulatorParameters]):
    """The world on the topics of this package."""

    parameter_table = SimulatorParameters

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__('simulator', **node_arguments)

    @property
    def control_topic(self) -> str:
        """See `WorldNode`."""
        return 'control'

    @property
    def watched(self) -> list[Publisher]:
        """Odometry, and the first camera where pictures are drawn."""
        cameras = list((self._jpeg_outlets or self._raw_outlets).values()) if self.parameters.render else []
        return [self._odometry_outlet, *cameras[:1]]

    @property
    def last_outlet(self) -> Publisher:
        """See `WorldNode`."""
        return self._odometry_outlet

    def advertise_all(self, rig: CameraRig) -> None:
        """Make the publishers."""
        p = self.parameters
        self._raw_outlets = {
            c.name: self.advertise(Image, f'camera/{c.name}/image', qos.SENSOR_PUBLICATION)
            for c in rig
            if p.image_transport != 'compressed'
        }
        self._jpeg_outlets = {
            c.name: self.advertise(CompressedImage, f'camera/{c.name}/image/compressed', qos.SENSOR_PUBLICATION)
            for c in rig
            if p.image_transport != 'raw'
        }
        self._info_outlets = {
            c.name: self.advertise(CameraInfo, f'camera/{c.name}/camera_info', qos.SENSOR_PUBLICATION) for c in rig
        }
        self._odometry_outlet = self.advertise(Odometry, 'odom', qos.RELIABLE)
        self._route_outlet = self.advertise(PathMessage, 'route', qos.LATCHED)
        self._turn_outlet = self.advertise(TurnCommandMessage, 'turn_command', qos.RELIABLE)
        self._agents_outlet = (
            self.advertise(MarkerArray, 'ground_truth/agents', qos.RELIABLE) if p.ground_truth else None
        )

    def begin(self, simulation: Simulation) -> None:
        """Publish the route, listen for control."""
        self._route_outlet.publish(convert.to_route(simulation.target_points_m, self._stamp()))
        self.listen(ControlCommandMessage, 'control', self._on_control, qos.RELIABLE)

    def publish_state(self, simulation: Simulation, stamp: Time) -> None:
        """Publish turn command, odometry and the others."""
        command, distance_m = simulation.turn_command()
        self._turn_outlet.publish(convert.to_turn_command(TurnCommand(command), distance_m, stamp))
        self._odometry_outlet.publish(convert.to_odometry(simulation.ego, stamp))
        if self._agents_outlet is not None:
            self._agents_outlet.publish(agent_markers(simulation.actors(), stamp))

    def publish_pictures(self, simulation: Simulation, stamp: Time) -> None:
        """Publish calibration and picture of every camera."""
        for name, view in simulation.pictures().items():
            self._info_outlets[name].publish(convert.to_camera_info(self._rig[name], stamp))
            if name in self._raw_outlets:
                self._raw_outlets[name].publish(convert.to_image(name, view.rgb, stamp))
            if name in self._jpeg_outlets:
                quality = self.parameters.jpeg_quality
                self._jpeg_outlets[name].publish(convert.to_jpeg_image(name, view.rgb, stamp, quality))

    def _on_control(self, message: ControlCommandMessage) -> None:
        values = (message.steering_angle, message.acceleration)
        if not all(abs(value) < 100.0 for value in values):  # NaN included
            self.get_logger().warning(f'control rejected: steering and acceleration are {values}')
            return
        answered = message.plan_stamp if self._with_images else message.header.stamp
        command = ControlCommand(message.steering_angle, message.acceleration, message.reason)
        self.take(command, answered == self._stamp())


def main() -> int:
    """Run the node."""
    return run(SimulatorNode)


if __name__ == '__main__':
    sys.exit(main())
