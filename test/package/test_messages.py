# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The built messages: importable with nothing sourced, consistent with `vla_driver.types`, and able to travel."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fixtures.domains import next_domain

from vla_driver.types import AgentKind, PlanSource
from vla_driver.types import TurnCommand as TurnCommandType

rclpy = pytest.importorskip('rclpy', reason='needs ROS 2')
messages = pytest.importorskip('vla_driver.msg', reason='needs the built messages: make setup')

PUBLISHER = """
import time, rclpy
from vla_driver.msg import DrivingPlan, TrajectoryPoint

plan = DrivingPlan(policy='native', source=DrivingPlan.SOURCE_SHIFTED_PREVIOUS, reason='speed limit')
plan.header.frame_id = 'base_link'
plan.header.stamp.sec, plan.header.stamp.nanosec = 12, 34
plan.trajectory.header = plan.header
for step in range(1, 21):
    point = TrajectoryPoint(longitudinal_velocity_mps=0.5 * step, curvature=-0.01)
    point.time_from_start.sec, point.time_from_start.nanosec = divmod(step * 250_000_000, 10**9)
    point.pose.position.x = 0.25 * step
    plan.trajectory.points.append(point)
plan.ego.twist.twist.linear.x = 7.5
plan.timing_names, plan.timing_ms = ['vision', 'flow'], [21.5, 8.25]
plan.missing_cameras = ['back_left']
plan.camera_skew_s = 0.03125

rclpy.init()
node = rclpy.create_node('publisher')
publisher = node.create_publisher(DrivingPlan, 'plan', 1)
deadline = time.monotonic() + 30
while publisher.get_subscription_count() == 0 and time.monotonic() < deadline:
    time.sleep(0.02)
while publisher.get_subscription_count() > 0 and time.monotonic() < deadline:
    publisher.publish(plan)
    time.sleep(0.05)
"""


def clean_environment() -> dict[str, str]:
    """Return the environment of a shell in which nothing was ever sourced."""
    return {name: os.environ[name] for name in ('PATH', 'HOME') if name in os.environ}


def test_messages_import_with_nothing_sourced(tmp_path: Path) -> None:
    code = 'import vla_driver.types, vla_driver.msg as m; print(m.DrivingPlan().trajectory.points)'
    done = subprocess.run(
        [sys.executable, '-c', code], env=clean_environment(), cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == '[]'


def test_constants_are_those_of_the_types() -> None:
    plan = messages.DrivingPlan
    sources = {plan.SOURCE_POLICY, plan.SOURCE_BRAKED, plan.SOURCE_SHIFTED_PREVIOUS, plan.SOURCE_STOP}
    assert sources == {s.value for s in PlanSource}
    forecast = messages.AgentForecast
    assert {forecast.KIND_VEHICLE, forecast.KIND_PERSON} == {kind.value for kind in AgentKind}
    for command in TurnCommandType:
        assert getattr(messages.TurnCommand, command.name) == command.value


@pytest.mark.parametrize('name', [path.stem for path in (Path(__file__).parents[2] / 'msg').glob('*.msg')])
def test_every_message_file_was_built_as_it_is(name: str) -> None:
    source = (Path(__file__).parents[2] / 'msg' / f'{name}.msg').read_text()
    lines = (line.split('#')[0].split() for line in source.splitlines())
    wanted = [words[1] for words in lines if len(words) == 2 and '=' not in words[1]]
    assert list(getattr(messages, name).get_fields_and_field_types()) == wanted


def test_a_plan_travels_between_two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('ROS_DOMAIN_ID', str(next_domain()))
    received: list[object] = []
    context = rclpy.Context()
    rclpy.init(context=context)
    publisher = subprocess.Popen([sys.executable, '-c', PUBLISHER])
    try:
        node = rclpy.create_node('subscriber', context=context)
        node.create_subscription(messages.DrivingPlan, 'plan', received.append, 1)
        executor = rclpy.executors.SingleThreadedExecutor(context=context)
        executor.add_node(node)
        deadline = time.monotonic() + 30
        while not received and time.monotonic() < deadline and publisher.poll() is None:
            executor.spin_once(timeout_sec=0.1)
        executor.shutdown()
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)
        publisher.terminate()
        publisher.wait(timeout=10)

    assert received, 'no plan arrived within 30 s'
    plan = received[0]
    assert (plan.header.stamp.sec, plan.header.stamp.nanosec, plan.header.frame_id) == (12, 34, 'base_link')
    assert (plan.source, plan.reason, plan.policy) == ('shifted_previous', 'speed limit', 'native')
    assert len(plan.trajectory.points) == 20
    last = plan.trajectory.points[-1]
    assert (last.time_from_start.sec, last.time_from_start.nanosec) == (5, 0)
    assert last.longitudinal_velocity_mps == 10.0
    assert last.pose.position.x == 5.0
    assert last.curvature == pytest.approx(-0.01, abs=1e-8)
    assert plan.ego.twist.twist.linear.x == 7.5
    assert dict(zip(plan.timing_names, plan.timing_ms, strict=True)) == {'vision': 21.5, 'flow': 8.25}
    assert plan.missing_cameras == ['back_left']
    assert plan.camera_skew_s == 0.03125
