# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Node tests run over real DDS: every test gets a domain of its own and a probe node in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from fixtures.domains import next_domain

if find_spec('rclpy') is None:
    collect_ignore_glob = ['test_*.py']
else:
    import rclpy
    from builtin_interfaces.msg import Time
    from diagnostic_msgs.msg import DiagnosticArray
    from nav_msgs.msg import Odometry, Path
    from rclpy.event_handler import SubscriptionEventCallbacks
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node
    from sensor_msgs.msg import CameraInfo, CompressedImage, Image
    from vla_driver.msg import TurnCommand as TurnCommandMessage

    from vla_driver.geometry.rig import load_rig
    from vla_driver.ros.runs.processes import NodeProcesses
    from vla_driver.ros.wire import conversions as convert
    from vla_driver.ros.wire import qos
    from vla_driver.types import EgoState, TurnCommand


def pytest_report_header() -> str | None:
    """Say so when the node tests are left out."""
    return 'test/ros is left out: ROS 2 is not installed' if find_spec('rclpy') is None else None


class Probe:
    """A node of the test's own: publishes, listens and remembers."""

    def __init__(self, domain: int) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node: Node = rclpy.create_node('probe', context=self.context, use_global_arguments=False)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self.heard: dict[str, list[Any]] = {}
        #: When what was heard had been sent, by the sender's clock.
        self.sent_ns: dict[str, list[int]] = {}
        #: Topics on which a publisher has been found; a publisher that has found this node may still be unknown here.
        self.found: set[str] = set()

    def listen(self, message_type: type, topic: str, profile: Any = None) -> list[Any]:
        """Subscribe; return the list that messages are appended to."""
        heard, sent_ns = self.heard.setdefault(topic, []), self.sent_ns.setdefault(topic, [])

        def take(message: Any, info: dict[str, int]) -> None:
            heard.append(message)
            sent_ns.append(info['source_timestamp'])

        found = SubscriptionEventCallbacks(matched=lambda _: self.found.add(topic))
        self.node.create_subscription(message_type, topic, take, profile or qos.RELIABLE, event_callbacks=found)
        return heard

    def publisher(self, message_type: type, topic: str, profile: Any = None) -> Any:
        """Return a publisher."""
        return self.node.create_publisher(message_type, topic, profile or qos.RELIABLE)

    def spin(self, seconds: float) -> None:
        """Take messages for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(left, 0.05))

    def until(
        self, condition: Callable[[], Any], timeout_s: float = 30.0, act: Callable[[], None] | None = None
    ) -> Any:
        """Spin (calling `act` every 50 ms) until the condition holds; return its value, fail after the time-out."""
        end = time.monotonic() + timeout_s
        next_act = 0.0
        while not (value := condition()):
            now = time.monotonic()
            assert now < end, f'not within {timeout_s:g} s; heard { ({k: len(v) for k, v in self.heard.items()}) }'
            if act is not None and now >= next_act:
                act()
                next_act = now + 0.05
            self._executor.spin_once(timeout_sec=0.02)
        return value

    def diagnostics(self) -> Callable[[str], dict[str, Any] | None]:
        """Subscribe to /diagnostics; return a look-up of the newest status by its full name."""
        newest: dict[str, dict[str, Any]] = {}

        def take(message: DiagnosticArray) -> None:
            for status in message.status:
                newest[status.name] = {
                    'level': status.level[0],
                    'message': status.message,
                    **{value.key: value.value for value in status.values},
                }

        self.node.create_subscription(DiagnosticArray, '/diagnostics', take, qos.RELIABLE)
        return newest.get

    def close(self) -> None:
        """Leave."""
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


class Vehicle:
    """Publishes what a vehicle does: six cameras, odometry, a route, turn commands; drives straight at 5 m/s."""

    def __init__(self, probe: Probe, raw: tuple[str, ...] = ()) -> None:
        self.probe = probe
        self.rig = load_rig('sim')
        self.stamp_ns = 1_790_000_000_000_000_000
        self.speed_mps = 5.0
        self.x_m = 0.0
        self.cameras = list(self.rig.names)
        rng = np.random.default_rng(0)
        blocks = np.ones((16, 16, 1), np.uint8)
        self.pictures = {
            c.name: np.kron(rng.integers(0, 256, (c.height // 16, c.width // 16, 3), dtype=np.uint8), blocks)
            for c in self.rig
        }
        self.raw = raw
        self._images = {
            name: probe.publisher(Image, f'camera/{name}/image', qos.SENSOR_PUBLICATION)
            if name in raw
            else probe.publisher(CompressedImage, f'camera/{name}/image/compressed', qos.SENSOR_PUBLICATION)
            for name in self.rig.names
        }
        self.infos = {name: probe.publisher(CameraInfo, f'camera/{name}/camera_info') for name in self.rig.names}
        self._odometry = probe.publisher(Odometry, 'odom')
        self._route = probe.publisher(Path, 'route', qos.LATCHED)
        self._command = probe.publisher(TurnCommandMessage, 'turn_command')

    @property
    def stamp(self) -> Time:
        """The stamp of the newest tick."""
        return convert.from_nanoseconds(self.stamp_ns)

    def publish_route(self) -> None:
        """Publish two target points straight ahead."""
        self._route.publish(convert.to_route(np.array([[40.0, 0.0], [90.0, 0.0]]), self.stamp))

    def odometry(self) -> Odometry:
        """Return the odometry of now."""
        ego = EgoState(self.stamp_ns * 1e-9, self.x_m, 0.0, 0.0, self.speed_mps)
        return convert.to_odometry(ego, self.stamp)

    def image(self, name: str) -> Any:
        """Return the image message of one camera."""
        if name in self.raw:
            return convert.to_image(name, self.pictures[name], self.stamp)
        return convert.to_jpeg_image(name, self.pictures[name], self.stamp)

    def state(self, odometry: Odometry | None = None) -> None:
        """Publish odometry and turn command."""
        self._odometry.publish(odometry or self.odometry())
        self._command.publish(convert.to_turn_command(TurnCommand.STRAIGHT, 30.0, self.stamp))

    def tick(self, dt_s: float = 0.1, odometry: Odometry | None = None, **images: Any) -> Time:
        """Move on by `dt_s` and publish everything, `images` instead of some cameras' own; return the stamp."""
        self.stamp_ns += round(dt_s * 1e9)
        self.x_m += self.speed_mps * dt_s
        self.state(odometry)
        for name in self.cameras:
            self._images[name].publish(images[name] if name in images else self.image(name))
        return self.stamp

    def wait_for_listener(self) -> None:
        """Wait until somebody listens to every camera and the state."""
        outlets = [self._images[name] for name in self.cameras] + [self._odometry, self._command, self._route]
        self.probe.until(lambda: all(outlet.get_subscription_count() for outlet in outlets))
        self.probe.spin(0.3)  # discovery is not symmetric


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> int:
    """A DDS domain no other test uses at the same time; also set for child processes."""
    number = next_domain()
    monkeypatch.setenv('ROS_DOMAIN_ID', str(number))
    # Discovery on this machine only: a test must not meet somebody else's robot.
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    return number


@pytest.fixture
def probe(domain: int) -> Iterator[Probe]:
    """A node in the test's domain."""
    made = Probe(domain)
    yield made
    made.close()


@pytest.fixture
def nodes(domain: int) -> Iterator[NodeProcesses]:
    """Nodes in processes of their own, ended with the test; their output shows when it fails."""
    with NodeProcesses(log=print) as group:
        yield group


@pytest.fixture
def make_vehicle(probe: Probe) -> Callable[..., Vehicle]:
    """Return a function that makes the test's vehicle; raw: the cameras that publish raw images."""
    return lambda **how: Vehicle(probe, **how)


@pytest.fixture
def vehicle(probe: Probe) -> Vehicle:
    """A vehicle whose cameras are compressed."""
    return Vehicle(probe)


T0_S = 1_700_000_000.0


@pytest.fixture(scope='session')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A recorded drive of 2 s: 20 ticks through a bend, every picture different."""
    from vla_driver.bag.write import BagWriter

    path = tmp_path_factory.mktemp('bags') / 'bend'
    rig = load_rig('sim')
    rng = np.random.default_rng(3)
    blocks = np.ones((16, 16, 1), np.uint8)
    with BagWriter(path, rig) as writer:
        writer.write_route(T0_S, np.array([[40.0, 5.0], [80.0, 30.0]]))
        for tick in range(20):
            t, yaw = 0.1 * tick, 0.02 * tick
            stamp_s, speed_mps = T0_S + t, 6.0 + 0.5 * t
            writer.write_odometry(EgoState(stamp_s, 30.0 * np.sin(yaw), 30.0 * (1 - np.cos(yaw)), yaw, speed_mps, 0.2))
            writer.write_turn_command(stamp_s, TurnCommand.LEFT, 50.0 - 6.0 * t)
            for camera in rig:
                colours = rng.integers(0, 256, (camera.height // 16, camera.width // 16, 3), dtype=np.uint8)
                writer.write_camera(camera.name, stamp_s, np.kron(colours, blocks))
    return path
