# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The simulator behind the topics of CARLA's ROS bridge, to try the driver in CARLA's way without CARLA.

What is CARLA's here: names, types, stamps and frames of topics, raw bgra8 pictures, a route with a point every metre,
the map, odometry of the vehicle's middle, time that starts at 0, pedals and steering as shares, one command per tick
whose stamp must be the tick's to a millisecond (as the leaderboard checks it).  With `leaderboard`: a speedometer, an
IMU, satellite positions with the leaderboard's noise and its thinned plan instead, and nothing before the driver says
on `status` that it is ready.  What is not: its towns, its pictures, its physics.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from builtin_interfaces.msg import Time
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMessage
from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, Image, Imu, NavSatFix
from std_msgs.msg import Bool, Float32, String

from vla_driver.geometry import se2
from vla_driver.ros.base.process import run
from vla_driver.ros.nodes.world import WorldNode
from vla_driver.ros.wire import carla, qos
from vla_driver.ros.wire import conversions as convert
from vla_driver.ros.wire.diagnostics import Level, Status
from vla_driver.settings.nodes.carla_bridge import MAP_TOPIC, CarlaBridgeParameters
from vla_driver.types import CameraRig, FloatArray, TurnCommand

if TYPE_CHECKING:
    from vla_driver.sim.simulation import Simulation

#: The leaderboard takes a command whose stamp is no farther from the present tick's.
_TOLERANCE_NS: Final = 1_000_000
#: The route is a point every metre.
_WAYPOINT_M: Final = 1.0
#: The leaderboard's plan has a pose at least so often.
_PLAN_M: Final = 200.0


class CarlaBridgeNode(WorldNode[CarlaBridgeParameters]):
    """The world on the topics of CARLA's bridge."""

    parameter_table = CarlaBridgeParameters

    def __init__(self, **node_arguments: Any) -> None:
        self._driveline = carla.Driveline()
        self._answered_ns: int | None = None
        self._unexpected = 0
        self._told_ready = False
        super().__init__('carla_bridge', **node_arguments)

    def _topic(self, name: str) -> str:
        return carla.topic(self.parameters.role_name, name)

    @property
    def control_topic(self) -> str:
        """See `WorldNode`."""
        return self._topic('vehicle_control_cmd')

    @property
    def watched(self) -> list[Publisher]:
        """Odometry or what it is made of, and the first camera where pictures are drawn."""
        return [self.last_outlet, *(list(self._images.values())[:1] if self.parameters.render else [])]

    @property
    def last_outlet(self) -> Publisher:
        """See `WorldNode`."""
        return self._imu_outlet if self.parameters.leaderboard else self._odometry_outlet

    def advertise_all(self, rig: CameraRig) -> None:
        """Make the publishers; raise InvalidInput where carla_msgs is not installed."""
        self._control_type = carla.message_type('CarlaEgoVehicleControl')
        self._control = self._control_type(brake=1.0)
        self._answered_ns, self._unexpected = None, 0
        names = [camera.name for camera in rig]
        self._images = {name: self.advertise(Image, self._topic(f'{name}/image'), qos.RELIABLE) for name in names}
        self._infos = {
            name: self.advertise(CameraInfo, self._topic(f'{name}/camera_info'), qos.RELIABLE) for name in names
        }
        self._told_ready = False
        make = self._advertise_sensors if self.parameters.leaderboard else self._advertise_bridge
        make()

    def _advertise_bridge(self) -> None:
        self._odometry_outlet = self.advertise(Odometry, self._topic('odometry'), qos.RELIABLE)
        self._speed_outlet = self.advertise(Float32, self._topic('speedometer'), qos.RELIABLE)
        status, info = (carla.message_type(f'CarlaEgoVehicle{name}') for name in ('Status', 'Info'))
        self._status_outlet = self.advertise(status, self._topic('vehicle_status'), qos.RELIABLE)
        self._info_outlet = self.advertise(info, self._topic('vehicle_info'), qos.LATCHED)
        self._route_outlet = self.advertise(PathMessage, self._topic('waypoints'), qos.LATCHED)
        self._map_outlet = self.advertise(String, MAP_TOPIC, qos.LATCHED)

    def _advertise_sensors(self) -> None:
        self._imu_outlet = self.advertise(Imu, self._topic('imu'), qos.RELIABLE)
        self._fix_outlet = self.advertise(NavSatFix, self._topic('gnss'), qos.RELIABLE)
        self._speed_type = carla.message_type('CarlaSpeedometer')
        self._speed_outlet = self.advertise(self._speed_type, self._topic('speed'), qos.RELIABLE)
        self._plan_outlet = self.advertise(carla.message_type('CarlaRoute'), self._topic('global_plan'), qos.LATCHED)

    def begin(self, simulation: Simulation) -> None:
        """Publish what the bridge latches, listen for control."""
        from vla_driver.sim.world.opendrive import opendrive_of
        from vla_driver.sim.world.towns import load_network

        path = simulation.path
        self._noise = np.random.default_rng(simulation.scenario.seed)
        if self.parameters.leaderboard:
            self.listen(Bool, self._topic('status'), self._on_status, qos.LATCHED)
        else:
            at_m = np.arange(0.0, path.length_m, _WAYPOINT_M)
            self._route_outlet.publish(carla.to_waypoints(np.array([path.at(float(s))[:2] for s in at_m])))
            self._map_outlet.publish(String(data=opendrive_of(load_network(simulation.scenario.network_path))))
            role, max_steer_rad = self.parameters.role_name, self._driveline.max_steer_rad
            self._info_outlet.publish(carla.to_vehicle_info(role, max_steer_rad))
        self.listen(self._control_type, self.control_topic, self._on_control, qos.RELIABLE)

    def _on_status(self, message: Bool) -> None:
        """Begin as the leaderboard does: whoever drives says that it is ready, and is told where to."""
        del message  # the leaderboard does not look at what it says
        if not self._told_ready and self._simulation is not None:
            self._told_ready = True
            self._plan_outlet.publish(carla.to_global_plan(_global_plan(self._simulation)))

    def _somebody_drives(self) -> bool:
        """Return whether the first tick may go out; the leaderboard waits for its driver for as long as it takes."""
        if self.parameters.leaderboard and not self._told_ready:
            self.get_logger().info(
                f'waiting for {self._topic("status")}, which carla_localizer publishes', throttle_duration_sec=10.0
            )
            return False
        return super()._somebody_drives()

    def publish_state(self, simulation: Simulation, stamp: Time) -> None:
        """Publish odometry, speed and status, or what the leaderboard's sensors see."""
        from vla_driver.sim.world.vehicle import WHEELBASE_M

        ego, role = simulation.ego, self.parameters.role_name
        if self.parameters.leaderboard:
            speed = self._speed_type(speed=float(ego.speed_mps))
            speed.header.stamp = stamp
            self._speed_outlet.publish(speed)
            self._imu_outlet.publish(carla.to_imu(ego, f'{role}/imu', self._noise, stamp))
            self._fix_outlet.publish(carla.to_fix(ego, WHEELBASE_M / 2.0, f'{role}/gnss', self._noise, stamp))
            return
        self._odometry_outlet.publish(carla.to_bridge_odometry(ego, role, WHEELBASE_M / 2.0, stamp))
        self._speed_outlet.publish(Float32(data=float(ego.speed_mps)))
        self._status_outlet.publish(carla.to_vehicle_status(ego, self._control, stamp))

    def publish_pictures(self, simulation: Simulation, stamp: Time) -> None:
        """Publish calibration and picture of every camera."""
        for name, view in simulation.pictures(labels=False).items():
            frame = f'{self.parameters.role_name}/{name}'
            info = convert.to_camera_info(self._rig[name], stamp)
            info.header.frame_id = frame
            self._infos[name].publish(info)
            self._images[name].publish(carla.to_bridge_image(frame, view.rgb, stamp))

    def _on_control(self, message: Any) -> None:
        values = (message.throttle, message.brake, message.steer)
        if not all(-1.0 <= value <= 1.0 for value in values):  # NaN included
            self.get_logger().warning(f'control rejected: throttle, brake and steer are {values}, expected -1 to 1')
            return
        if not self._published:
            return  # nobody has been asked: a controller that is still looking for its odometry stops, with stamp 0
        given_ns, now_ns = convert.to_nanoseconds(message.header.stamp), convert.to_nanoseconds(self._stamp())
        if self.parameters.synchronous and (abs(given_ns - now_ns) > _TOLERANCE_NS or given_ns == self._answered_ns):
            # As the leaderboard does: another tick's command, or a second one for this tick, is dropped.
            self._unexpected += 1
            self.get_logger().warning(
                f'command with stamp {given_ns * 1e-9:.3f} s dropped: expected one for {now_ns * 1e-9:.3f} s',
                throttle_duration_sec=5.0,
            )
            return
        self._control, self._answered_ns = message, given_ns
        simulation = self._simulation
        assert simulation is not None
        speed_mps = simulation.ego.speed_mps
        self.take(self._driveline.command(message.throttle, message.brake, message.steer, speed_mps), answers=True)

    def report(self) -> Iterable[Status]:
        """Say how the drive goes, and how many commands came with another stamp than the tick's."""
        yield from super().report()
        level = Level.WARN if self._unexpected else Level.OK
        words = f'{self._unexpected} commands dropped for their stamps' if self._unexpected else 'every stamp fits'
        yield Status('commands', level, words, {'dropped': self._unexpected})


def _global_plan(simulation: Simulation) -> list[tuple[FloatArray, TurnCommand]]:
    """Return a route as the leaderboard thins it out: from the vehicle's origin on, where what is to be done changes,
    and at least every 200 m.
    """
    from vla_driver.sim.world.vehicle import WHEELBASE_M

    path, begin_m = simulation.path, simulation.progress_m
    changes = [(begin_m, TurnCommand.FOLLOW)]
    for manoeuvre in path.manoeuvres:
        if manoeuvre.start_m <= begin_m:
            continue
        changes += [(manoeuvre.start_m, manoeuvre.command), (manoeuvre.end_m, TurnCommand.FOLLOW)]
    places: list[tuple[float, TurnCommand]] = []
    for (begin_m, command), (end_m, _) in pairwise([*changes, (path.length_m, TurnCommand.FOLLOW)]):
        places += [(float(at_m), command) for at_m in np.arange(begin_m, end_m, _PLAN_M)]
    pose = simulation.ego.pose
    origin = se2.points_to_global(pose, np.array([WHEELBASE_M / 2.0, 0.0]))
    rest = [(path.at(at_m)[:2], command) for at_m, command in [*places[1:], (path.length_m, TurnCommand.FOLLOW)]]
    return [(origin, places[0][1]), *rest]


def main() -> int:
    """Run the node."""
    return run(CarlaBridgeNode)


if __name__ == '__main__':
    sys.exit(main())
