# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A simulated vehicle in a simulated town, as a node; on which topics, a subclass says.

Two ways to run.  In step with the clock (`synchronous: false`): a tick every `step_s` of wall time
(times `rate`), driven by whatever command came last; a planner that thinks for long drives late, as on a road.
Synchronous: the world waits for the command that answers this tick's images, so that the drive does not
depend on the machine's speed and equals the one of the synchronous core.

Everything happens in the executor's thread: SUMO and the GL context want to stay in one.
"""

from __future__ import annotations

import abc
import json
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from builtin_interfaces.msg import Time
from rclpy.duration import Duration
from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock as ClockMessage

from vla_driver.geometry.rig import load_rig
from vla_driver.planning.control import ControlCommand
from vla_driver.ros.base.lifecycle import DriverNode
from vla_driver.ros.wire import conversions as convert
from vla_driver.ros.wire import qos
from vla_driver.ros.wire.diagnostics import Level, RateMeter, Status
from vla_driver.settings.nodes.simulator import SimulatorParameters
from vla_driver.types import CameraRig

if TYPE_CHECKING:
    from vla_driver.sim.simulation import Simulation

#: What the ego does until somebody drives it: stand on the brake.
_STANDBY = ControlCommand(0.0, -3.0, 'no control received')


P = TypeVar('P', bound=SimulatorParameters)


class WorldNode(DriverNode[P], abc.ABC):
    """One world, one drive; a subclass fills in the wire: on which topics it is seen and driven."""

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

        p = self.parameters
        rig = load_rig(p.rig)
        self._step_ns = round(p.step_s * 1e9)
        self._simulation = Simulation(chosen_scenario(p), rig=rig, render=p.render, step_s=p.step_s)
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
    @abc.abstractmethod
    def control_topic(self) -> str:
        """Where commands come."""

    @property
    @abc.abstractmethod
    def watched(self) -> list[Publisher]:
        """Whose listeners show that somebody is there to drive."""

    @property
    @abc.abstractmethod
    def last_outlet(self) -> Publisher:
        """Whose messages must have arrived before the node ends."""

    @abc.abstractmethod
    def advertise_all(self, rig: CameraRig) -> None:
        """Make the publishers."""

    @abc.abstractmethod
    def begin(self, simulation: Simulation) -> None:
        """Publish what is said once, and listen for control."""

    @abc.abstractmethod
    def publish_state(self, simulation: Simulation, stamp: Time) -> None:
        """Publish where the vehicle is, and what goes with it."""

    @abc.abstractmethod
    def publish_pictures(self, simulation: Simulation, stamp: Time) -> None:
        """Publish the pictures of this tick."""
