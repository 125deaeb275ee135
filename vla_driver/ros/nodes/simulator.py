# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The simulator as a node: six cameras, odometry, route and turn command out, control in.

Two ways to run.  In step with the clock (`synchronous: false`): a tick every 0.1 s of wall time (times
`rate`), driven by whatever command came last; a planner that thinks for long drives late, as on a road.
Synchronous: the world waits for the command that answers this tick's images, so that the drive does not
depend on the machine's speed and equals the one of the synchronous core.

Everything happens in the executor's thread: SUMO and the GL context want to stay in one.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from builtin_interfaces.msg import Time
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMessage
from rclpy.duration import Duration
from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from visualization_msgs.msg import MarkerArray

from vla_driver.geometry.rig import load_rig
from vla_driver.msg import ControlCommand as ControlCommandMessage
from vla_driver.msg import TurnCommand as TurnCommandMessage
from vla_driver.planning.control import ControlCommand
from vla_driver.ros.nodes.lifecycle import DriverNode
from vla_driver.ros.nodes.process import run
from vla_driver.ros.wire import conversions as convert
from vla_driver.ros.wire import qos
from vla_driver.ros.wire.diagnostics import Level, RateMeter, Status
from vla_driver.ros.wire.markers import agent_markers
from vla_driver.settings.simulator import SimulatorParameters
from vla_driver.types import CameraRig, TurnCommand

if TYPE_CHECKING:
    from vla_driver.sim.simulation import Simulation

#: What the ego does until somebody drives it: stand on the brake.
_STANDBY = ControlCommand(0.0, -3.0, 'no control received')


P = TypeVar('P', bound=SimulatorParameters)


class WorldNode(DriverNode[P]):
    """A simulated vehicle in a simulated town; a subclass says on which topics it is seen and driven (`the wire`)."""

    def __init__(self, name: str, **node_arguments: Any) -> None:
        self._simulation: Simulation | None = None
        self._begin()
        self._tick_times = RateMeter()
        super().__init__(name, **node_arguments)

    def _begin(self) -> None:
        """Set everything that belongs to one drive to its start."""
        self._tick = 0
        self._published = False
        self._finished = False
        self._command = _STANDBY
        self._due_s = 0.0
        self._waited = self._late = 0

    def setup(self) -> None:
        """Start SUMO and the renderer, make the publishers."""
        self._begin()
        from vla_driver.sim.simulation import Simulation
        from vla_driver.sim.world.scenario import chosen_scenario
        from vla_driver.sim.world.traffic import STEP_S

        p = self.parameters
        rig = load_rig(p.rig)
        self._step_ns = round(STEP_S * 1e9)
        self._simulation = Simulation(chosen_scenario(p), rig=rig, render=p.render)
        self._rig = rig
        self._clock_outlet = self.advertise(ClockMessage, '/clock', qos.RELIABLE)
        self.advertise_all(rig)

    def start(self) -> None:
        """Publish the route, listen for control, begin to tick."""
        assert self._simulation is not None
        self._began_s = time.monotonic()
        self._found_s: float | None = None
        self._published = False
        self.begin(self._simulation)
        self.every(0.005, self._poll)

    def teardown(self) -> None:
        """End the drive."""
        if self._simulation is not None:
            self._simulation.close()
            self._simulation = None

    def _stamp(self) -> Time:
        """Return the stamp of this tick, exact to the nanosecond."""
        return convert.from_nanoseconds(round(self.parameters.start_time_s * 1e9) + self._tick * self._step_ns)

    @property
    def _with_images(self) -> bool:
        return self.parameters.render and self._tick % self.parameters.camera_every == 0

    # One tick after the other.

    def _poll(self) -> None:
        """Publish the tick that is due; step when its time, or the patience for its answer, is over."""
        if self._finished:
            return
        if not self._published:
            if self._tick > 0 or self._somebody_drives():
                self._publish_tick()
        elif time.monotonic() >= self._due_s:
            if self.parameters.synchronous:
                self._late += 1
                self.get_logger().warning(f'no answer to tick {self._tick}: braking', throttle_duration_sec=2.0)
                self._command = _STANDBY
            self._advance()

    def _somebody_drives(self) -> bool:
        """Return whether the first tick may go out: listeners found, and given a moment to find us, too."""
        now = time.monotonic()
        if now - self._began_s > self.parameters.wait_for_driver_s:
            return True
        heard = all(outlet.get_subscription_count() for outlet in self.watched)
        if not heard or self.count_publishers(self.control_topic) == 0:
            self._found_s = None
            return False
        self._found_s = now if self._found_s is None else self._found_s
        # Discovery is not symmetric: what this side has found may still be looking for this side.
        return now - self._found_s > 0.5

    def _publish_tick(self) -> None:
        simulation, stamp = self._simulation, self._stamp()
        assert simulation is not None
        self._tick_times.tick()
        # The state before the images: whoever waits for the set of images has the rest by then.
        self._clock_outlet.publish(ClockMessage(clock=stamp))
        self.publish_state(simulation, stamp)
        if self._with_images:
            self.publish_pictures(simulation, stamp)
        self._published = True
        now = time.monotonic()
        if self.parameters.synchronous:
            self._due_s = now + self.parameters.synchronous_timeout_s
        else:
            # Never a burst to catch up after a slow tick.
            self._due_s = max(self._due_s + self._step_ns * 1e-9 / self.parameters.rate, now)

    def take(self, command: ControlCommand, answers: bool) -> None:
        """Take a command; answers: whether it is the one that this tick waits for."""
        self._command = command
        if answers and self.parameters.synchronous and self._published and not self._finished:
            self._waited += 1
            self._advance()

    def _advance(self) -> None:
        simulation = self._simulation
        assert simulation is not None
        simulation.step(self._command)
        self._tick += 1
        self._published = False
        limit_s = self.parameters.max_seconds
        if simulation.done or (limit_s > 0 and simulation.time_s >= limit_s):
            self._finish()
        elif self.parameters.synchronous:
            self._publish_tick()

    def _finish(self) -> None:
        simulation = self._simulation
        assert simulation is not None
        self._finished = True
        result = simulation.result()
        self.get_logger().info(f'the drive is over: {result}')
        if self.parameters.result_file:
            path = Path(self.parameters.result_file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(asdict(result), indent=2, default=str) + '\n')
        self.last_outlet.wait_for_all_acked(Duration(seconds=1.0))
        if self.parameters.exit_at_end:
            self.exit_requested.set()

    def report(self) -> Iterable[Status]:
        """Say how the drive goes."""
        simulation = self._simulation
        if simulation is None:
            return
        values = {
            'time_s': simulation.time_s,
            'ticks_per_s': self._tick_times.rate_hz,
            'speed_mps': simulation.ego.speed_mps,
            'town': simulation.scenario.town,
            'answered_ticks': self._waited,
            'unanswered_ticks': self._late,
        }
        if self._finished:
            yield Status('drive', Level.OK, 'over', values)
        elif self._tick == 0 and not self._published:
            yield Status('drive', Level.WARN, 'waiting for a planner and a controller', values)
        elif self._command.reason:
            yield Status('drive', Level.WARN, f'the vehicle is being stopped: {self._command.reason}', values)
        else:
            yield Status('drive', Level.OK, 'driving', values)

    # The wire: what a subclass fills in.

    @property
    def control_topic(self) -> str:
        """Where commands come."""
        raise NotImplementedError

    @property
    def watched(self) -> list[Publisher]:
        """Whose listeners show that somebody is there to drive."""
        raise NotImplementedError

    @property
    def last_outlet(self) -> Publisher:
        """Whose messages must have arrived before the node ends."""
        raise NotImplementedError

    def advertise_all(self, rig: CameraRig) -> None:
        """Make the publishers."""
        raise NotImplementedError

    def begin(self, simulation: Simulation) -> None:
        """Publish what is said once, and listen for control."""
        raise NotImplementedError

    def publish_state(self, simulation: Simulation, stamp: Time) -> None:
        """Publish where the vehicle is, and what goes with it."""
        raise NotImplementedError

    def publish_pictures(self, simulation: Simulation, stamp: Time) -> None:
        """Publish the pictures of this tick."""
        raise NotImplementedError


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
