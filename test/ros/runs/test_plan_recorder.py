# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What the recorder joins: images, paths and plans of one stamp, also when the stamps come again."""

import json
import os
import signal
import threading
import time

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from nav_msgs.msg import Path
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage
from vla_driver.msg import DrivingPlan

from vla_driver.geometry import unicycle
from vla_driver.geometry.rig import load_rig
from vla_driver.ros.runs import plan_recorder
from vla_driver.ros.runs.plan_recorder import PlanRecorder
from vla_driver.ros.wire import conversions as convert
from vla_driver.ros.wire import qos
from vla_driver.types import EgoState, Plan, VlaDriverError

FRONT = 'camera/front/image/compressed'


def plan_at(stamp_s):
    ego = EgoState(stamp_s, 0.0, 0.0, 0.0, 5.0)
    return Plan(stamp_s, unicycle.integrate(5.0, [0.0] * 20, [0.0] * 20), ego, 'test', ttl_s=1.0)


@pytest.mark.parametrize('offset_s', [0.0, -0.5])
def test_latencies_of_a_replay_that_loops(probe, offset_s):
    """Two rounds with the same stamps, of which the second answers half as late; plans bear the stamps put right."""
    images = probe.publisher(CompressedImage, FRONT, qos.SENSOR_PUBLICATION)
    paths, plans = probe.publisher(Path, 'path'), probe.publisher(DrivingPlan, 'plan')
    anchor, domain = (FRONT, 'sensor_msgs/msg/CompressedImage'), int(os.environ['ROS_DOMAIN_ID'])
    with PlanRecorder(anchor, domain=domain, camera_time_offset_s=offset_s) as recorder:
        recorder.wait_for_planner()
        probe.until(lambda: images.get_subscription_count() and plans.get_subscription_count())
        probe.spin(0.5)
        for wait_s in (0.2, 0.1):
            for tick in range(3):
                plan = plan_at(100.0 + 0.5 * tick)
                image = CompressedImage(format='jpeg')
                image.header.stamp = convert.to_time(plan.stamp_s - offset_s)
                images.publish(image)
                time.sleep(wait_s)
                paths.publish(convert.to_path(plan))
                plans.publish(convert.to_driving_plan(plan))
                time.sleep(0.05)
        probe.until(lambda: recorder.count == 6)
        probe.spin(0.3)
        recording = recorder.recording()
        assert recorder.images == 6
    latencies = [received.latency_ms for received in recording.plans]
    assert None not in latencies
    assert all(200.0 <= latency < 1000.0 for latency in latencies[:3])
    assert all(100.0 <= latency < 1000.0 for latency in latencies[3:])
    times = [received.received_s for received in recording.plans]
    assert times == sorted(times)


def test_nothing_is_lost_to_a_planner_that_is_slow_to_find_the_player(probe, nodes, bag):
    """It stands still while the player appears, as on a busy machine; the player has found it long before."""
    planner = nodes.start('planner', {'policy': 'constant-velocity', 'max_age_s': 10.0, 'diagnostics_period_s': 0.2})
    nodes.wait_active(planner)
    cameras = [f'/camera/{name}/image/compressed' for name in load_rig('sim').names]
    needed = [*cameras, '/odom', '/route', '/turn_command']
    player = nodes.start('bag_player', {'bag': str(bag), 'wait_for_subscribers': needed, 'autostart': False})
    with PlanRecorder(domain=int(os.environ['ROS_DOMAIN_ID'])) as recorder:
        recorder.wait_for_planner()
        probe.until(lambda: 'bag_player' in probe.node.get_node_names())
        probe.spin(2.0)  # the planner has met its process, too, which has no publisher of these topics yet
        planner.signal(signal.SIGSTOP)
        threading.Timer(3.0, planner.signal, [signal.SIGCONT]).start()
        recorder.start_when_heard('bag_player', needed=needed, others=['/camera/front/camera_info'])
        assert player.wait(30.0) == 0
        recorder.wait_for_report()
        recording = recorder.recording()
    assert recording.sets['sets'] == 20
    assert recording.not_matched == {}


def test_topics_that_the_planner_does_not_find_are_named(probe, nodes, bag):
    """The planner's report is written here: the route is missing, nobody is asked of camera_info."""
    reports = probe.publisher(DiagnosticArray, '/diagnostics')
    nodes.start('bag_player', {'bag': str(bag), 'autostart': False})
    with PlanRecorder(domain=int(os.environ['ROS_DOMAIN_ID'])) as recorder:
        probe.until(lambda: reports.get_subscription_count())
        value = json.dumps({'/odom': 1, '/turn_command': 0, '/plan': 0})
        status = DiagnosticStatus(name='planner: inputs', values=[KeyValue(key='publishers', value=value)])
        reports.publish(DiagnosticArray(status=[status]))
        probe.until(lambda: recorder.diagnostic_values().get('planner: inputs') == {'publishers': value})
        others = ['/odom', '/turn_command', '/camera/front/camera_info']
        with pytest.raises(VlaDriverError, match=r"does not find \['/route', '/turn_command'\] of node bag_player"):
            recorder.start_when_heard('bag_player', 8.0, needed=['/odom', '/route'], others=others)


def test_a_replay_that_loops_for_hours_is_kept_in_part_and_says_so(domain, monkeypatch):
    """Six plans, of which two fit, and the messages around them; times are kept as long as plans may be."""
    plan = serialize_message(convert.to_driving_plan(plan_at(1.0)))
    monkeypatch.setattr(plan_recorder, '_KEPT', 4)
    monkeypatch.setattr(plan_recorder, '_KEPT_BYTES', 2 * (len(plan) + 300))
    recorder = PlanRecorder((FRONT, 'sensor_msgs/msg/CompressedImage'), domain=int(os.environ['ROS_DOMAIN_ID']))
    try:
        for tick in range(6):
            at = plan_at(1.0 + tick)
            image = CompressedImage(format='jpeg')
            image.header.stamp = convert.to_time(at.stamp_s)
            recorder._on_image(image, {'source_timestamp': time.time_ns()})
            recorder._on_path(serialize_message(convert.to_path(at)))
            recorder._on_plan(serialize_message(convert.to_driving_plan(at)))
        assert len(recorder._paths) == len(recorder._sent_s) == 4
        assert (recorder.count, recorder.images) == (6, 6)
        recording = recorder.recording()
    finally:
        recorder.close()
    assert [received.plan.stamp_s for received in recording.plans] == [5.0, 6.0]
    assert all(received.latency_ms is not None for received in recording.plans)
    assert recording.images == 6
    assert sum(len(message.data) + 300 for message in recording.raw) <= 2 * (len(plan) + 300)
    assert [(message.topic, message.stamp_s) for message in recording.raw[-2:]] == [('path', 6.0), ('plan', 6.0)]
    (note,) = recording.notes
    assert 'the last 2 of 6 plans' in note
    assert f'the last {len(recording.raw)} of 12 messages for the bag of plans' in note


def test_a_replay_of_ordinary_length_is_kept_whole(domain):
    """A quarter of an hour of plans without forecasts."""
    plan, path = (
        serialize_message(convert_to(plan_at(1.0))) for convert_to in (convert.to_driving_plan, convert.to_path)
    )
    recorder = PlanRecorder(domain=int(os.environ['ROS_DOMAIN_ID']))
    try:
        for _ in range(9_000):
            recorder._on_path(path)
            recorder._on_plan(plan)
        recording = recorder.recording()
    finally:
        recorder.close()
    assert (len(recording.plans), len(recording.raw), recording.notes) == (9_000, 18_000, [])
