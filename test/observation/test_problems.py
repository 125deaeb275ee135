# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What is missing or refused is named, input by input."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from fixtures.messages import (
    T0_NS,
    command,
    flat,
    image,
    odometry,
    play,
    push,
    route,
    ticks,
)

from vla_driver.geometry.rig import load_rig
from vla_driver.observation.assemble import NotReady, ObservationAssembler
from vla_driver.observation.sync import CameraSync
from vla_driver.types import CAMERA_NAMES, Observation


@pytest.mark.parametrize(
    ('kind', 'words'),
    [('odom', 'odometry: none received'), ('route', 'route: none received'), ('command', 'turn command: none')],
)
def test_missing_inputs_are_named(kind: str, words: str):
    assembler = ObservationAssembler(load_rig('sim'))
    seen = play(assembler, [(k, m) for k, m in flat(ticks(3)) if k != kind])
    assert len(seen) == 3
    assert all(isinstance(o, NotReady) and words in str(o) for o in seen)
    assert any(words in problem for problem in assembler.problems())


def test_a_missing_camera_is_named():
    assembler = ObservationAssembler(load_rig('sim'))
    assert play(assembler, [(k, m) for k, m in flat(ticks(3)) if k != 'back']) == []
    assert assembler.problems() == ('camera back: no frame yet',)


def test_old_odometry_does_not_count():
    rounds = ticks(6)
    messages = [(k, m) for i, tick in enumerate(rounds) for k, m in tick if k != 'odom' or i == 0]
    seen = play(ObservationAssembler(load_rig('sim')), [('route', route())] + messages)
    assert [isinstance(o, Observation) for o in seen] == [True, True, True, False, False, False]
    assert 'none within 0.2 s' in str(seen[-1])


@pytest.mark.parametrize(
    ('message', 'words'),
    [
        (odometry(0, x=math.nan), 'x_m is nan'),
        (odometry(0, speed=math.inf), 'speed_mps is inf'),
        (odometry(0, yaw=math.nan), 'quaternion'),
    ],
)
def test_broken_odometry_is_refused_counted_and_named_until_a_good_one_comes(message: Any, words: str):
    assembler = ObservationAssembler(load_rig('sim'))
    assembler.push_odometry(message)
    assembler.push_odometry(message)
    assert assembler.rejected == {'odometry': 2}
    assert any(words in problem for problem in assembler.problems())
    assembler.push_odometry(odometry(0))
    assert not any('odometry' in problem for problem in assembler.problems())
    assert assembler.rejected == {'odometry': 2}


def test_a_clock_that_starts_again_at_0_is_no_stamp_that_nobody_filled_in():
    assembler = ObservationAssembler(load_rig('sim'))
    play(assembler, flat(ticks(6, start_ns=100_000_000_000)))
    assembler.reset()  # /clock has jumped back
    again = flat(ticks(3))
    for _, message in again:
        message.header.stamp.sec -= 1_700_000_000
    seen = play(assembler, [('route', route()), *again])
    assert [type(o) for o in seen] == [Observation] * 3
    assert seen[0].stamp_s == 0.0
    assert assembler.rejected == {}


@pytest.mark.parametrize('kind', ['front', 'back', 'odom'])
def test_a_stamp_that_nobody_filled_in_is_refused_and_is_no_jump_of_time(kind: str):
    assembler = ObservationAssembler(load_rig('sim'))
    rounds = ticks(6)
    message = odometry(0) if kind == 'odom' else image(0)
    message.header = SimpleNamespace(stamp=SimpleNamespace(sec=0, nanosec=0), frame_id='')
    play(assembler, [*flat(rounds), (kind, message)])
    name = 'odometry' if kind == 'odom' else f'camera {kind}'
    assert assembler.rejected == {name: 1}
    assert assembler.epoch == 0
    (problem,) = assembler.problems()
    assert problem.startswith(f'{name}: last message refused (1 so far): its stamp is 0; the driver')
    later = ticks(3, start_ns=600_000_000)
    seen = play(assembler, [message for tick in later for message in tick])
    assert [type(o) for o in seen] == [Observation] * 3
    assert assembler.problems() == ()


def test_a_clock_may_begin_at_zero():
    assembler = ObservationAssembler(load_rig('sim'))
    seen = play(assembler, flat(ticks(3, start_ns=-T0_NS)))
    assert [o.stamp_s for o in seen] == pytest.approx([0.0, 0.1, 0.2])
    assert assembler.rejected == {}


def test_broken_routes_and_commands_are_refused():
    assembler = ObservationAssembler(load_rig('sim'))
    assembler.push_route(route([(math.inf, 0.0)]))
    assembler.push_route(route([(0.0, math.nan)]))
    assembler.push_turn_command(command(0, 5.0, value=9))
    assembler.push_turn_command(command(0, -1.0))
    assert assembler.rejected == {'route': 2, 'turn command': 2}
    problems = ' '.join(assembler.problems())
    assert 'pose 0 is [0.0, nan]' in problems
    assert 'distance_m is -1.0' in problems


@pytest.mark.parametrize('policy', ['require', 'skip', 'black'])
@pytest.mark.parametrize(
    ('spoil', 'words'),
    [
        (lambda m: setattr(m, 'data', m.data[: len(m.data) // 2]), 'truncated'),
        (lambda m: setattr(m, 'format', '16UC1; compressedDepth png'), 'depth'),
        (lambda m: m.__dict__.update(vars(image(200_000_000, width=300, height=300))), '300x300'),
    ],
)
def test_a_broken_picture_counts_as_missing(policy: str, spoil: Any, words: str):
    sync = CameraSync(CAMERA_NAMES, policies={'back': policy})
    assembler = ObservationAssembler(load_rig('sim'), sync)
    rounds = ticks(4)
    spoil(next(m for k, m in rounds[2] if k == 'back'))
    seen = play(assembler, flat(rounds))
    assert len(seen) == 4
    assert all(isinstance(seen[k], Observation) for k in (0, 1, 3))
    assert assembler.rejected == {'camera back': 1}
    if policy == 'require':
        assert isinstance(seen[2], NotReady)
        assert 'camera back' in str(seen[2])
        assert words in str(seen[2])
    elif policy == 'skip':
        assert seen[2].missing == seen[2].unseen == ('back',)
        assert 'back' not in seen[2].frames
    else:
        assert not seen[2].frames['back'].image.any()
        assert seen[2].frames['front'].image.any()
        assert (seen[2].missing, seen[2].unseen, seen[1].unseen) == ((), ('back',), ())


def test_commands_that_came_regularly_and_stop_are_named():
    assembler = ObservationAssembler(load_rig('sim'))
    for k in range(10):
        assembler.push_turn_command(command(k * 100_000_000, 20.0), 0.1 * k)
    assert assembler.turn_command_age_s(1.0) == pytest.approx(0.1)
    assert not any('turn command' in problem for problem in assembler.problems(1.0, stale_s=0.5))
    problems = assembler.problems(2.0, stale_s=0.5)
    assert 'turn command: last one 1.10 s ago, though they came regularly before' in problems


def test_commands_sent_once_or_on_change_do_not_grow_stale():
    assembler = ObservationAssembler(load_rig('sim'))
    for now_s in (0.0, 0.3, 8.0, 8.2, 20.0, 20.2, 20.4):
        assembler.push_turn_command(command(round(now_s * 1e9), 20.0), now_s)
        assert not any('turn command' in problem for problem in assembler.problems(now_s + 60.0, stale_s=0.5))
    assert assembler.turn_command_age_s(80.4) == pytest.approx(60.0)


def in_frame(frame: str, message: Any) -> Any:
    message.header.frame_id = frame
    return message


@pytest.mark.parametrize(
    ('route_frame', 'odometry_frame', 'agree'),
    [('map', 'odom', False), ('odom', 'odom', True), ('/map', 'map', True), ('', 'odom', True), ('map', '', True)],
)
def test_route_and_odometry_must_be_in_one_frame(route_frame: str, odometry_frame: str, agree: bool):
    messages = [(k, in_frame(odometry_frame, m) if k == 'odom' else m) for k, m in flat(ticks(3))[1:]]
    assembler = ObservationAssembler(load_rig('sim'))
    seen = play(assembler, [('route', in_frame(route_frame, route())), *messages])
    assert [isinstance(o, Observation) for o in seen] == [agree] * 3
    words = (
        "route: its points are in frame 'map', the odometry is in 'odom'; publish the route in the odometry's frame",
    )
    assert assembler.problems() == (() if agree else words)
    if not agree:
        assert all(o.problems == words for o in seen if isinstance(o, NotReady))
        push(assembler, 'route', in_frame(odometry_frame, route()))
        again = play(assembler, [(k, m) for tick in ticks(2, start_ns=300_000_000) for k, m in tick if k != 'odom'])
        assert assembler.problems() == ()
        assert isinstance(again[0], Observation)
