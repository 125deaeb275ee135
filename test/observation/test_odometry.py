# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""OdometryReader: the forward speed is right, whichever frame the twist is in, and whether it is filled in or not."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fixtures.messages import header, quaternion

from vla_driver.geometry.frames import FrameTree
from vla_driver.observation.odometry import NO_MOUNT, OdometryReader, lever_of
from vla_driver.types import EgoState


def message(
    at_s: float, pose: tuple[float, float, float], twist: tuple[float, float, float], frames: tuple[str, str]
) -> Any:
    stamped = header(round(at_s * 1e9))
    stamped.frame_id = frames[0]
    position = SimpleNamespace(x=pose[0], y=pose[1], z=0.0)
    moving = SimpleNamespace(linear=SimpleNamespace(x=twist[0], y=twist[1]), angular=SimpleNamespace(z=twist[2]))
    return SimpleNamespace(
        header=stamped,
        child_frame_id=frames[1],
        pose=SimpleNamespace(pose=SimpleNamespace(position=position, orientation=quaternion(pose[2]))),
        twist=SimpleNamespace(twist=moving),
    )


Drive = Callable[[float], tuple[float, float, float]]
Twist = Callable[[float, float, float], tuple[float, float, float]]


def straight(speed_mps: float, yaw: float) -> Drive:
    return lambda t: (speed_mps * t * math.cos(yaw), speed_mps * t * math.sin(yaw), yaw)


def circle(speed_mps: float, rate_rps: float) -> Drive:
    radius = speed_mps / rate_rps
    return lambda t: (radius * math.sin(rate_rps * t), radius * (1 - math.cos(rate_rps * t)), rate_rps * t)


def in_vehicle(speed: float, yaw: float, rate: float) -> tuple[float, float, float]:
    return speed, 0.0, rate


def in_parent(speed: float, yaw: float, rate: float) -> tuple[float, float, float]:
    return speed * math.cos(yaw), speed * math.sin(yaw), rate


def unfilled(speed: float, yaw: float, rate: float) -> tuple[float, float, float]:
    return 0.0, 0.0, 0.0


def read(
    drive: Drive,
    twist: Twist,
    *,
    speed: float,
    rate: float = 0.0,
    frames: tuple[str, str] = ('odom', 'base_link'),
    seconds: float = 3.0,
    hz: float = 50.0,
    reader: OdometryReader | None = None,
) -> tuple[list[EgoState], OdometryReader]:
    reader = reader or OdometryReader()
    states = []
    for k in range(int(seconds * hz)):
        t = k / hz
        pose = drive(t)
        states.append(reader.read(message(t, pose, twist(speed, pose[2], rate), frames)))
    return states, reader


@pytest.mark.parametrize('yaw', [0.0, 0.7, math.pi / 2, math.pi, -2.0])
def test_a_twist_in_the_vehicles_frame_is_taken_as_it_is(yaw: float):
    states, reader = read(straight(8.0, yaw), in_vehicle, speed=8.0)
    assert [state.speed_mps for state in states] == [8.0] * len(states)
    assert reader.note == ''


@pytest.mark.parametrize('child', ['odom', 'map', 'world', '/odom'])
def test_a_twist_in_the_parents_frame_is_turned_at_once_where_the_frames_say_so(child: str):
    states, reader = read(straight(8.0, math.pi / 2), in_parent, speed=8.0, frames=('odom', child))
    assert [state.speed_mps for state in states] == pytest.approx([8.0] * len(states))
    assert 'child_frame_id' in reader.note


@pytest.mark.parametrize('yaw', [math.pi / 2, 2.2, math.pi, -math.pi / 2])
@pytest.mark.parametrize('hz', [10.0, 50.0, 200.0])
def test_a_twist_in_the_parents_frame_is_found_out_within_a_second_where_they_do_not(yaw: float, hz: float):
    states, reader = read(straight(8.0, yaw), in_parent, speed=8.0, hz=hz)
    assert all(state.speed_mps == pytest.approx(8.0) for state in states if state.stamp_s > states[0].stamp_s + 1.3)
    assert 'only so does it fit the poses' in reader.note


def test_frames_that_say_parent_while_the_twist_is_the_vehicles():
    states, reader = read(straight(8.0, math.pi / 2), in_vehicle, speed=8.0, frames=('odom', 'odom'))
    assert states[-1].speed_mps == 8.0
    assert 'in the frame of the vehicle' in reader.note


@pytest.mark.parametrize('hz', [5.0, 20.0, 100.0])
def test_a_twist_that_nobody_fills_in_is_derived_from_the_poses(hz: float):
    states, reader = read(straight(8.0, 1.0), unfilled, speed=8.0, hz=hz)
    late = [state for state in states if state.stamp_s > states[0].stamp_s + 0.9]
    assert [state.speed_mps for state in late] == pytest.approx([8.0] * len(late), abs=0.05)
    assert 'all zeros' in reader.note
    states, _ = read(circle(6.0, 0.3), unfilled, speed=6.0, hz=hz)
    assert states[-1].speed_mps == pytest.approx(6.0, abs=0.05)
    assert states[-1].yaw_rate_rps == pytest.approx(0.3, abs=0.01)


def test_a_yaw_rate_that_nobody_fills_in_is_derived_and_the_speed_stays():
    states, reader = read(circle(6.0, 0.3), lambda v, yaw, rate: (v, 0.0, 0.0), speed=6.0)
    assert states[-1].speed_mps == 6.0
    assert states[-1].yaw_rate_rps == pytest.approx(0.3, abs=0.01)
    assert 'yaw rate is taken from the poses' in reader.note


def test_kilometres_per_hour_are_no_speed():
    states, reader = read(straight(8.0, 0.3), in_vehicle, speed=3.6 * 8.0)
    assert states[-1].speed_mps == pytest.approx(8.0, abs=0.05)
    assert 'does not fit the poses' in reader.note


def test_a_vehicle_that_stands_and_then_drives_needs_a_second_to_be_found_out_and_a_jump_of_the_pose_does_not_count():
    def corrected(t: float) -> tuple[float, float, float]:
        return (8.0 * t + (2.0 if t > 1.6 else 0.0), 0.0, 0.0)

    states, reader = read(corrected, in_vehicle, speed=8.0)
    assert {state.speed_mps for state in states} == {8.0}
    assert reader.note == ''
    standing, reader = read(lambda t: (0.0, 0.0, 0.4), unfilled, speed=0.0)
    assert {state.speed_mps for state in standing} == {0.0}
    assert reader.note == ''


def test_a_correction_while_the_vehicle_stands_is_no_motion():
    states, reader = read(lambda t: (1.5 if t > 1.33 else 0.0, 0.0, 0.0), unfilled, speed=0.0)
    assert {state.speed_mps for state in states} == {0.0}
    assert reader.note == ''


@pytest.mark.parametrize('hz', [10.0, 20.0, 50.0])
@pytest.mark.parametrize('jump', [(-3.0, 0.0), (3.0, 0.0), (-30.0, 0.0), (0.0, 1.0)])
def test_a_correction_is_no_motion_where_speeds_come_from_the_poses(jump: tuple[float, float], hz: float):
    """A localiser whose twist stays empty corrects itself: no full throttle, no full brake, no spin."""

    def corrected(t: float) -> tuple[float, float, float]:
        forward_m, turned_rad = jump if t > 1.62 else (0.0, 0.0)
        return (8.0 * t * math.cos(turned_rad) + forward_m, 8.0 * t * math.sin(turned_rad), turned_rad)

    states, reader = read(corrected, unfilled, speed=8.0, hz=hz)
    later = [state for state in states if state.stamp_s > states[0].stamp_s + 1.0]
    assert {round(state.speed_mps, 3) for state in later} == {8.0}
    assert {round(state.yaw_rate_rps, 3) for state in later} == {0.0}
    assert 'taken from the poses' in reader.note


@pytest.mark.parametrize('hz', [10.0, 20.0, 50.0])
def test_hard_braking_is_no_correction(hz: float):
    def braking(t: float) -> tuple[float, float, float]:
        braked_s = min(max(0.0, t - 1.5), 1.5)
        return (15.0 * min(t, 1.5) + 15.0 * braked_s - 5.0 * braked_s**2, 0.0, 0.0)

    states, _ = read(braking, unfilled, speed=15.0, hz=hz, seconds=4.0)
    for state in states[round(1.0 * hz) :]:
        braked_s = min(max(0.0, state.stamp_s - states[0].stamp_s - 1.5), 1.5)
        assert state.speed_mps == pytest.approx(15.0 - 10.0 * braked_s, abs=2.0)  # the mean of 0.3 s lags


def test_poses_in_steps_are_no_corrections():
    """10 Hz of a slow localiser in messages of 50 Hz."""
    states, _ = read(lambda t: (8.0 * math.floor(10.0 * t + 1e-6) / 10.0, 0.0, 0.0), unfilled, speed=8.0)
    speeds = [state.speed_mps for state in states[60:]]
    assert np.mean(speeds) == pytest.approx(8.0, abs=0.3)
    assert min(speeds) >= 5.0
    assert max(speeds) <= 11.0


def test_zeros_are_found_out_within_three_pictures():
    states, _ = read(straight(8.0, 1.0), unfilled, speed=8.0)
    wrong = [state for state in states if abs(state.speed_mps - 8.0) > 0.1]
    assert wrong[-1].stamp_s - states[0].stamp_s < 0.3


def test_an_orientation_that_nobody_fills_in_is_told_and_overrules_no_twist():
    north = straight(8.0, math.pi / 2)
    states, reader = read(lambda t: (*north(t)[:2], 0.0), in_vehicle, speed=8.0)
    assert {state.speed_mps for state in states} == {8.0}
    assert 'sideways' in reader.note
    _, reader = read(lambda t: (*north(t)[:2], 0.0), unfilled, speed=8.0)
    assert 'sideways' in reader.note


def test_poses_that_nobody_fills_in_overrule_no_twist():
    states, reader = read(lambda t: (0.0, 0.0, 0.0), in_vehicle, speed=8.0)
    assert {state.speed_mps for state in states} == {8.0}
    assert 'do not change' in reader.note


def test_a_frame_that_nothing_connects_is_told():
    _, reader = read(straight(8.0, 0.0), in_vehicle, speed=8.0, frames=('odom', 'imu_link'))
    assert "'imu_link'" in reader.note
    for usual in ('base_link', 'hero/base_link', ''):
        _, reader = read(straight(8.0, 0.0), in_vehicle, speed=8.0, frames=('odom', usual))
        assert reader.note == ''


def test_poses_in_steps_of_a_slow_localiser_contradict_nothing():
    states, reader = read(lambda t: (8.0 * math.floor(t * 10) / 10, 0.0, 0.0), in_vehicle, speed=8.0, seconds=6.0)
    assert {state.speed_mps for state in states} == {8.0}
    assert reader.note == ''


def test_a_twist_that_comes_back_is_believed_again():
    _, reader = read(straight(8.0, 1.0), unfilled, speed=8.0)
    states, _ = read(
        lambda t: straight(8.0, 1.0)(t + 3.0),
        in_vehicle,
        speed=8.0,
        reader=reader,
    )
    assert states[-1].speed_mps == 8.0
    assert reader.note == ''


def test_an_antenna_ahead_and_aside_is_moved_to_base_link():
    """On a circle of base_link the antenna drives another one."""
    rate, speed, x_m, y_m = 0.25, 5.0, 2.0, 0.5

    def antenna(t: float) -> tuple[float, float, float]:
        x, y, yaw = circle(speed, rate)(t)
        return (
            x + x_m * math.cos(yaw) - y_m * math.sin(yaw),
            y + x_m * math.sin(yaw) + y_m * math.cos(yaw),
            yaw,
        )

    tree = FrameTree()
    lever = np.eye(4)
    lever[:3, 3] = x_m, y_m, 1.8
    tree.add('base_link', 'gnss', lever)
    reader = OdometryReader(lever_of(NO_MOUNT, tree))
    forward = speed - rate * y_m  # of the antenna, along the vehicle
    states, _ = read(antenna, in_vehicle, speed=forward, rate=rate, frames=('odom', 'gnss'), reader=reader)
    assert states[-1].pose == pytest.approx(circle(speed, rate)(2.98))
    assert states[-1].speed_mps == pytest.approx(speed)
    assert 'gnss' in reader.note


def test_a_unit_that_is_mounted_turned_is_read_in_the_vehicles_axes():
    """An IMU whose x points to the left: its yaw is the vehicle's and a quarter, its own right is the way ahead."""
    reader = OdometryReader(lever_of((0.0, 0.0, math.pi / 2)))
    states, _ = read(
        lambda t: (8.0 * t, 0.0, math.pi / 2),
        lambda v, yaw, rate: (0.0, -v, 0.0),
        speed=8.0,
        frames=('odom', 'imu'),
        reader=reader,
    )
    assert states[-1].yaw_rad == pytest.approx(0.0)
    assert states[-1].speed_mps == pytest.approx(8.0)


def test_time_that_jumps_back_forgets_the_record_but_not_what_was_found_out():
    _, reader = read(straight(8.0, math.pi / 2), in_parent, speed=8.0)
    reader.reset()
    states, _ = read(straight(8.0, math.pi / 2), in_parent, speed=8.0, reader=reader)
    assert [state.speed_mps for state in states] == pytest.approx([8.0] * len(states))
