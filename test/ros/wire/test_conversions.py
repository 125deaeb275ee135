# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Messages to values and back: nothing is lost, nothing broken gets in."""

import math

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as RawImage
from vla_driver.msg import DrivingPlan
from vla_driver.msg import TurnCommand as TurnCommandMessage

from vla_driver.geometry import unicycle
from vla_driver.geometry.camera_info import rig_from_camera_infos
from vla_driver.geometry.rig import load_rig
from vla_driver.observation import messages as inputs
from vla_driver.observation.decode import decode_message
from vla_driver.ros.wire import conversions as convert
from vla_driver.ros.wire.markers import plan_markers
from vla_driver.types import EgoState, InvalidInput, Plan, PlanSource, TurnCommand

STAMP = Time(sec=1_790_000_123, nanosec=123_456_789)
STAMP_S = 1_790_000_123.123_456_789


def make_plan(source=PlanSource.POLICY, reason=''):
    ego = EgoState(STAMP_S, 12.5, -3.25, 2.9, 7.5, 0.12, -0.4)
    trajectory = unicycle.integrate(7.5, np.linspace(1.0, -2.0, 20), np.linspace(0.05, -0.08, 20))
    return Plan(ego.stamp_s, trajectory, ego, 'native', source, reason, 0.8, {'vision': 12.5, 'flow': 3.25})


@pytest.mark.parametrize('nanoseconds', [0, 1, 999_999_999, 123_456_789])
def test_durations_and_stamps_survive_to_the_nanosecond(nanoseconds):
    stamp = Time(sec=1_790_000_000, nanosec=nanoseconds)
    assert convert.later(stamp, 0.0) == stamp
    moved = convert.later(stamp, 0.25)
    assert convert.to_nanoseconds(moved) - convert.to_nanoseconds(stamp) == 250_000_000
    assert convert.to_time(12.0 + nanoseconds * 1e-9) == Time(sec=12, nanosec=nanoseconds)


@pytest.mark.parametrize('seconds', [math.nan, math.inf, -1.0, 2.0**31])
def test_a_stamp_outside_the_message_is_refused(seconds):
    with pytest.raises(InvalidInput, match='stamp'):
        convert.to_time(seconds)


@pytest.mark.parametrize('yaw', [0.0, 1.0, -3.1, math.pi - 1e-6])
def test_yaw_round_trip(yaw):
    assert inputs.yaw_of(convert.to_quaternion(yaw), 'q') == pytest.approx(yaw, abs=1e-12)


def test_odometry_round_trip():
    ego = EgoState(100.5, 3.0, -4.0, 1.2, 8.0, 0.3)
    assert vars(inputs.read_odometry(convert.to_odometry(ego))) == pytest.approx(vars(ego))


def test_plan_round_trip_through_the_wire_format():
    plan = make_plan(PlanSource.SHIFTED, 'stale: 1.2 s old')
    message = convert.to_driving_plan(plan, STAMP, ('back_left',), 0.021)
    message = deserialize_message(serialize_message(message), DrivingPlan)
    assert message.header.stamp == STAMP
    assert message.trajectory.header == message.header
    assert message.header.frame_id == 'base_link'
    assert list(message.missing_cameras) == ['back_left']
    assert convert.duration_seconds(message.trajectory.points[0].time_from_start) == pytest.approx(0.25)
    back = convert.from_driving_plan(message)
    assert back.source is PlanSource.SHIFTED
    assert (back.reason, back.policy, back.ttl_s) == (plan.reason, plan.policy, plan.ttl_s)
    assert back.timing_ms == plan.timing_ms
    assert back.stamp_s == plan.stamp_s
    np.testing.assert_allclose(back.trajectory.positions_m, plan.trajectory.positions_m, atol=1e-9)
    np.testing.assert_allclose(back.trajectory.yaw_rad, plan.trajectory.yaw_rad, atol=1e-9)
    for name in ('speed_mps', 'acceleration_mps2', 'curvature_per_m'):
        np.testing.assert_allclose(getattr(back.trajectory, name), getattr(plan.trajectory, name), atol=1e-6)
    assert vars(back.ego) == pytest.approx(vars(plan.ego), abs=1e-6)


def test_the_yaw_rate_of_a_point_turns_the_vehicle_as_the_headings_say():
    plan = make_plan()
    points = convert.to_driving_plan(plan).trajectory.points
    turned = np.cumsum([0.25 * point.heading_rate_rps for point in points])
    np.testing.assert_allclose(turned, plan.trajectory.yaw_rad, atol=1e-5)


def test_plans_that_are_none_are_refused():
    message = convert.to_driving_plan(make_plan())
    message.trajectory.points[3].time_from_start.nanosec += 1_000_000
    with pytest.raises(InvalidInput, match='even steps'):
        convert.from_driving_plan(message)
    message = convert.to_driving_plan(make_plan())
    message.trajectory.points[3].pose.position.y = math.nan
    with pytest.raises(InvalidInput, match='not finite'):
        convert.from_driving_plan(message)
    message = convert.to_driving_plan(make_plan())
    message.source = 'guesswork'
    with pytest.raises(InvalidInput, match='policy, braked, shifted_previous, stop'):
        convert.from_driving_plan(message)
    with pytest.raises(InvalidInput, match='without points'):
        convert.from_driving_plan(DrivingPlan())
    message = convert.to_driving_plan(make_plan())
    message.header.frame_id = 'map'
    with pytest.raises(InvalidInput, match="frame 'map'"):
        convert.from_driving_plan(message)
    message = convert.to_driving_plan(make_plan())
    message.timing_ms = [1.0] * (len(message.timing_names) + 1)
    with pytest.raises(InvalidInput, match='timing_names'):
        convert.from_driving_plan(message)


def test_the_path_has_the_plans_points_and_the_images_stamp():
    plan = make_plan()
    path = convert.to_path(plan, STAMP)
    assert (path.header.stamp, path.header.frame_id) == (STAMP, 'base_link')
    got = [[p.pose.position.x, p.pose.position.y] for p in path.poses]
    np.testing.assert_allclose(got, plan.trajectory.positions_m)
    assert convert.to_nanoseconds(path.poses[-1].header.stamp) - convert.to_nanoseconds(STAMP) == 5_000_000_000


def test_route_round_trip():
    points = np.array([[0.0, 1.0], [30.0, -2.5]])
    np.testing.assert_allclose(inputs.read_route(convert.to_route(points, STAMP)), points)


def test_turn_command_round_trip():
    message = convert.to_turn_command(TurnCommand.LEFT, 42.0, STAMP)
    assert inputs.read_turn_command(message) == (TurnCommand.LEFT, 42.0)
    assert message.command == TurnCommandMessage.LEFT


def test_markers_move_with_the_vehicle_and_vanish_with_the_plan():
    plan = make_plan(PlanSource.STOP, 'no plan')
    markers = plan_markers(plan, STAMP).markers
    assert len({(m.ns, m.id) for m in markers}) == len(markers)
    assert all(m.frame_locked and m.header.frame_id == 'base_link' and m.header.stamp == STAMP for m in markers)
    assert all(convert.duration_seconds(m.lifetime) == pytest.approx(plan.ttl_s) for m in markers)
    assert len(markers[0].points) == 21
    assert 'no plan' in markers[2].text


def test_pictures_survive_as_raw_and_nearly_as_jpeg():
    colours = np.random.default_rng(1).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    image = np.kron(colours, np.ones((8, 8, 1), np.uint8))
    raw = deserialize_message(serialize_message(convert.to_image('front', image, STAMP)), RawImage)
    assert (raw.header.stamp, raw.header.frame_id) == (STAMP, 'front_optical_frame')
    np.testing.assert_array_equal(decode_message(raw), image)
    jpeg = deserialize_message(serialize_message(convert.to_jpeg_image('front', image, STAMP, 95)), CompressedImage)
    assert np.abs(decode_message(jpeg).astype(int) - image).mean() < 4.0


def test_camera_info_round_trip():
    rig = load_rig('sim')
    infos = {camera.name: convert.to_camera_info(camera, STAMP) for camera in rig}
    back = rig_from_camera_infos(infos, rig)
    for camera in rig:
        np.testing.assert_allclose(back[camera.name].intrinsics, camera.intrinsics)
        assert (back[camera.name].width, back[camera.name].height) == (camera.width, camera.height)
