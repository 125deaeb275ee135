# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""ObservationAssembler: the same messages give the same observations, in whatever order they arrive."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fixtures.messages import (
    ROUTE_M,
    SPEED_MPS,
    T0_NS,
    command,
    drain,
    flat,
    image,
    odometry,
    play,
    push,
    route,
    ticks,
)

from vla_driver.geometry import se2
from vla_driver.geometry.rig import load_rig
from vla_driver.observation.assemble import ObservationAssembler
from vla_driver.observation.messages import read_odometry, read_route, read_turn_command
from vla_driver.observation.sync import CameraSync
from vla_driver.types import CAMERA_NAMES, InputNeeds, InvalidInput, Observation, TurnCommand


def facts(seen: Observation) -> tuple[Any, ...]:
    return (
        seen.stamp_s,
        tuple(seen.ego.pose),
        seen.navigation.command,
        seen.navigation.distance_m,
        tuple(seen.navigation.target_points_m.ravel()),
        tuple((name, frame.stamp_s, int(frame.image.mean())) for name, frame in sorted(seen.frames.items())),
    )


def test_each_tick_gives_its_own_inputs():
    seen = play(ObservationAssembler(load_rig('sim')), flat(ticks(20)))
    assert len(seen) == 20
    for k, got in enumerate(seen):
        assert isinstance(got, Observation)
        assert got.stamp_s == pytest.approx(T0_NS * 1e-9 + 0.1 * k, abs=1e-6)
        assert got.ego.x_m == pytest.approx(SPEED_MPS * 0.1 * k)
        assert (got.navigation.command, got.navigation.distance_m) == (TurnCommand.LEFT, 50.0 - k)
        assert all(abs(frame.image.mean() - (10 + k)) < 1.5 for frame in got.frames.values())
    first = seen[0].navigation.target_points_m
    assert first == pytest.approx(np.array(ROUTE_M[:2]))
    last = seen[-1].navigation.target_points_m  # 19 m on: the first point is passed
    assert last == pytest.approx(se2.points_to_local([19.0, 0, 0], np.array(ROUTE_M[1:3])))


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('odometry_ns', [100_000_000, 20_000_000])
@pytest.mark.parametrize('picture_every', [1, 4])
def test_the_order_within_a_tick_changes_nothing(seed: int, odometry_ns: int, picture_every: int):
    """Over DDS, topics overtake each other: what comes out must not depend on it, or replay differs from drive."""
    rounds = [
        tick if k % picture_every == 0 else [(kind, message) for kind, message in tick if kind == 'odom']
        for k, tick in enumerate(ticks(24, odometry_ns))
    ]
    want = [facts(o) for o in play(ObservationAssembler(load_rig('sim')), flat(rounds))]
    rng = random.Random(seed)
    for tick in rounds[2:]:  # by the third tick the rhythm of the inputs is known
        rng.shuffle(tick)
    got = [facts(o) for o in play(ObservationAssembler(load_rig('sim')), flat(rounds))]
    assert got == want
    assert len(got) == 24 // picture_every


def test_odometry_between_two_messages_is_moved_on_by_its_own_motion():
    assembler = ObservationAssembler(load_rig('sim'))
    messages = [('route', route()), ('command', command(0, 5.0))]
    messages += [('odom', odometry(ns)) for ns in (0, 20_000_000, 40_000_000)]
    messages += [(name, image(55_000_000)) for name in CAMERA_NAMES]
    (seen,) = play(assembler, messages)
    assert seen.ego.stamp_s == seen.stamp_s
    assert seen.ego.x_m == pytest.approx(SPEED_MPS * 0.055, abs=1e-5)


def test_the_sooner_odometry_wins_over_a_later_nearer_one():
    """Newest at or before t0, whether or not one after t0 has arrived already."""
    odd = odometry(10_000_000, x=5.0)
    messages = [('route', route()), ('command', command(0, 5.0)), ('odom', odometry(-80_000_000)), ('odom', odd)]
    (seen,) = play(ObservationAssembler(load_rig('sim')), messages + [(name, image(0)) for name in CAMERA_NAMES])
    assert seen.ego.x_m == pytest.approx(0.0, abs=1e-5)


def test_a_set_waits_for_due_odometry_no_longer_than_the_limit():
    assembler = ObservationAssembler(load_rig('sim'))
    assembler.push_route(route())
    for k in range(4):
        for kind, message in ticks(4)[k][:2]:
            push(assembler, kind, message, 0.1 * k)
        if k < 3:
            for name in CAMERA_NAMES:
                assembler.push_image(name, image(k * 100_000_000), 0.1 * k)
            assert len(drain(assembler, 0.1 * k)) == 1
    # Tick 4 has pictures and a command, but its odometry is late.
    assembler.push_turn_command(command(400_000_000, 1.0))
    for name in CAMERA_NAMES:
        assembler.push_image(name, image(400_000_000), 10.0)
    assert drain(assembler, 10.0) == []
    assert drain(assembler, 10.04) == []
    (seen,) = drain(assembler, 10.06)
    assert seen.ego.x_m == pytest.approx(4.0, abs=1e-5)  # dead reckoning from tick 3
    assert drain(assembler, 10.2) == []


def test_commands_sent_on_change_only_are_not_waited_for():
    assembler = ObservationAssembler(load_rig('sim'))
    push(assembler, 'route', route())
    push(assembler, 'command', command(0, 80.0, value=3))
    leaving = {}
    for k, tick in enumerate(ticks(20)):
        for kind, message in tick:
            if kind != 'command':
                push(assembler, kind, message, 0.0)
        leaving[k] = len(drain(assembler, 0.0))  # the clock stands still: nothing leaves by waiting
    # For a second another command might follow at once; then it is plain that there is no rhythm.
    assert [leaving[k] for k in range(12, 20)] == [1] * 8
    assert sum(leaving.values()) == 20


def test_without_turn_commands_the_road_is_followed_when_that_is_allowed():
    assembler = ObservationAssembler(load_rig('sim'), turn_command_required=False)
    seen = play(assembler, [(k, m) for k, m in flat(ticks(3)) if k != 'command'])
    assert [o.navigation.command for o in seen] == [TurnCommand.FOLLOW] * 3
    assert assembler.problems() == ()


def test_turns_are_made_of_a_dense_route_until_somebody_tells_them():
    bend = np.linspace(0.0, np.pi / 2, 9)[1:]
    dense = [(x, 0.0) for x in np.arange(0.0, 41.0)]
    dense += [(40.0 + 10.0 * np.sin(a), 10.0 - 10.0 * np.cos(a)) for a in bend] + [
        (50.0, 10.0 + y) for y in range(1, 60)
    ]
    assembler = ObservationAssembler(load_rig('sim'), turns_from_route=True)
    messages = [(kind, m) for kind, m in flat(ticks(20)) if kind not in ('command', 'route')]
    seen = play(assembler, [('route', route(dense)), *messages])
    assert [o.navigation.command for o in seen] == [TurnCommand.LEFT] * 20
    distances = np.array([o.navigation.distance_m for o in seen])
    assert distances[0] == pytest.approx(40.0, abs=4.0)
    assert np.diff(distances) == pytest.approx(np.full(19, -0.1 * SPEED_MPS), abs=1.01)  # to the metre
    assert assembler.problems() == ()
    push(assembler, 'command', command(2_000_000_000, 7.0, value=3))
    last = play(assembler, [(kind, m) for kind, m in flat(ticks(21)[20:]) if kind != 'command'])
    assert last[-1].navigation.command is TurnCommand.RIGHT


def test_time_that_jumps_back_starts_over():
    """A looped bag: the route starts over, nothing of the first lap is left, and the epoch says so."""
    assembler = ObservationAssembler(load_rig('sim'))
    lap = ticks(60)
    first = play(assembler, flat(lap))
    assert len(first) == 60
    assert assembler.epoch == 0
    second = []
    for kind, message in [m for tick in lap for m in tick]:
        push(assembler, kind, message)
        second += drain(assembler)
    assert assembler.epoch >= 1
    assert len(second) >= 59
    assert [facts(o) for o in second[-50:]] == [facts(o) for o in first[-50:]]
    assert second[0].navigation.target_points_m[0] == pytest.approx(ROUTE_M[0] - second[0].ego.pose[:2])


def test_a_vehicle_that_is_set_elsewhere_starts_over():
    """A respawn at the route's start, or a localisation that is found again: stamps go on, places do not."""
    assembler = ObservationAssembler(load_rig('sim'), needs=InputNeeds(trail_s=3.0))
    first = play(assembler, flat(ticks(60)))
    lap = [
        (kind, odometry(6_000_000_000 + k * 100_000_000, x=SPEED_MPS * 0.1 * k) if kind == 'odom' else message)
        for k, tick in enumerate(ticks(30, start_ns=6_000_000_000))
        for kind, message in tick
    ]
    second = play(assembler, lap)
    assert assembler.epoch == 1
    assert assembler.elsewhere.startswith('the pose jumped by 59.0 m within 0.10 s')
    assert len(second) == 30
    assert second[0].navigation.target_points_m == pytest.approx(first[0].navigation.target_points_m)
    assert all(abs(state.x_m - seen.ego.x_m) < 31.0 for seen in second for state in seen.trail)
    assembler.reset()
    assert assembler.elsewhere == ''


@pytest.mark.parametrize('offset_m', [-9.0, 9.0])
def test_a_correction_of_some_metres_goes_on(offset_m: float):
    assembler = ObservationAssembler(load_rig('sim'))
    play(assembler, flat(ticks(40)))
    for k in range(40, 60):
        at_ns = k * 100_000_000
        push(assembler, 'odom', odometry(at_ns, x=SPEED_MPS * 0.1 * k + offset_m))
    assert assembler.epoch == 0


def test_reset_forgets_everything_but_the_route():
    assembler = ObservationAssembler(load_rig('sim'))
    play(assembler, flat(ticks(5)))
    assembler.reset()
    assert any('odometry' in problem for problem in assembler.problems())
    assert not any('route' in problem for problem in assembler.problems())
    assert len(play(assembler, [m for tick in ticks(5, start_ns=10**10) for m in tick])) == 5


def test_the_same_route_again_does_not_start_over():
    assembler = ObservationAssembler(load_rig('sim'))
    messages = flat(ticks(20))
    messages.insert(len(messages) - 4, ('route', route()))
    seen = play(assembler, messages)
    assert seen[-1].navigation.target_points_m[0] == pytest.approx([60.0 - 19.0, 4.0])


def test_a_dense_route_gives_sparse_targets():
    """A point every metre, as CARLA's bridge publishes its waypoints, is no list of target points."""
    dense = [(float(x), 0.0) for x in range(201)]
    (first, *_, last) = play(ObservationAssembler(load_rig('sim')), [('route', route(dense)), *flat(ticks(20))[1:]])
    assert first.navigation.target_points_m == pytest.approx(np.array([[25.0, 0.0], [50.0, 0.0]]))
    assert last.navigation.target_points_m == pytest.approx(np.array([[31.0, 0.0], [56.0, 0.0]]))  # 19 m on


def test_an_empty_path_withdraws_the_route():
    assembler = ObservationAssembler(load_rig('sim'))
    rounds = ticks(6)
    messages = flat(rounds[:2]) + [('route', route([]))] + flat(rounds[2:4])[1:] + flat(rounds[4:])
    seen = play(assembler, messages)
    assert [isinstance(o, Observation) for o in seen] == [True, True, False, False, True, True]
    assert 'route: withdrawn by an empty path (publish' in str(seen[2])
    assert assembler.rejected == {}
    assembler.push_route(route([]))
    assert assembler.problems() == ('route: withdrawn by an empty path',)


@pytest.mark.parametrize('odometry_ns', [100_000_000, 20_000_000, 10_000_000])
def test_a_command_told_once_comes_nearer_with_the_way_driven(odometry_ns: int):
    """10 m/s: a metre each tick, over more odometry than is remembered, down to 0 and no farther."""
    rounds = [[(k, m) for k, m in tick if k != 'command'] for tick in ticks(150, odometry_ns)]
    rounds[0].insert(0, ('command', command(0, 120.0)))
    seen = play(ObservationAssembler(load_rig('sim')), flat(rounds))
    assert len(seen) == 150
    distances = [o.navigation.distance_m for o in seen if isinstance(o, Observation)]
    assert distances == pytest.approx([max(0.0, 120.0 - k) for k in range(150)], abs=1e-4)


def test_the_next_command_counts_from_its_own_stamp():
    rounds = [[(k, m) for k, m in tick if k != 'command'] for tick in ticks(20)]
    rounds[0].insert(0, ('command', command(0, 120.0)))
    rounds[10].insert(1, ('command', command(950_000_000, 40.0, value=3)))
    seen = play(ObservationAssembler(load_rig('sim')), flat(rounds))
    assert [o.navigation.distance_m for o in seen[8:12]] == pytest.approx([112.0, 111.0, 39.5, 38.5], abs=1e-4)


def test_a_command_without_a_stamp_counts_from_its_first_use():
    told = command(0, 50.0)
    told.header.stamp.sec = told.header.stamp.nanosec = 0
    rounds = [[(k, m) for k, m in tick if k != 'command'] for tick in ticks(20)]
    rounds[10].insert(0, ('command', told))
    seen = play(ObservationAssembler(load_rig('sim')), flat(rounds))
    distances = [o.navigation.distance_m for o in seen if isinstance(o, Observation)]
    assert distances == pytest.approx([50.0 - k for k in range(len(distances))], abs=1e-4)
    assert len(distances) in (9, 10)


@pytest.mark.parametrize('lead_s', [3600.0, 2.0])
@pytest.mark.parametrize('first_ns', [0, T0_NS])
def test_a_command_stamped_by_a_clock_that_runs_ahead_counts_from_when_it_came(lead_s: float, first_ns: int):
    """On change: left 60 m ahead at the first tick, right 40 m ahead at tick 30; 10 m/s."""
    rounds = [[(k, m) for k, m in tick if k != 'command'] for tick in ticks(60, start_ns=first_ns)]
    for k, (distance_m, value) in {0: (60.0, 1), 30: (40.0, 3)}.items():
        told = command(first_ns + k * 100_000_000 + round(lead_s * 1e9), distance_m, value)
        rounds[k].insert(1 if k else 0, ('command', told))
    assembler = ObservationAssembler(load_rig('sim'))
    seen = play(assembler, flat(rounds))
    assert [o.navigation.command.value for o in seen] == [1] * 30 + [3] * 30
    expected = [60.0 - k for k in range(30)] + [40.0 - k for k in range(30)]
    assert [o.navigation.distance_m for o in seen] == pytest.approx(expected, abs=1e-4)
    words = f'turn command: stamped {lead_s:.1f} s ahead of the pictures: do the clocks agree? (use_sim_time)'
    (note,) = assembler.notes
    assert note.startswith(words)
    # One by the right clock ends it, and is not outdone by those that were stamped later.
    at_ns = first_ns + 6_000_000_000
    later = [('odom', odometry(at_ns)), ('command', command(at_ns, 9.0, 0)), *((n, image(at_ns)) for n in CAMERA_NAMES)]
    seen = play(assembler, later)
    assert [(o.navigation.command.value, o.navigation.distance_m) for o in seen] == [(0, 9.0)]
    assert assembler.notes == ()


def test_a_command_that_overtakes_the_odometry_keeps_its_stamp():
    rounds = [[(k, m) for k, m in tick if k != 'command'] for tick in ticks(10)]
    rounds[4].insert(0, ('command', command(700_000_000, 40.0, value=3)))
    rounds[0].insert(0, ('command', command(0, 60.0)))
    assembler = ObservationAssembler(load_rig('sim'))
    seen = play(assembler, flat(rounds))
    assert [o.navigation.command.value for o in seen] == [1] * 7 + [3] * 3
    assert assembler.notes == ()


def test_a_standing_vehicle_comes_no_nearer():
    """However its position trembles."""
    rng = random.Random(0)
    still = [('odom', odometry(k * 10_000_000, x=rng.gauss(0.0, 0.02), speed=0.0)) for k in range(500)]
    told = [('command', command(0, 30.0)), *still, *((name, image(4_990_000_000)) for name in CAMERA_NAMES)]
    (seen,) = play(ObservationAssembler(load_rig('sim')), [('route', route()), *told])
    assert seen.navigation.distance_m == 30.0


def test_camera_info_replaces_the_calibration():
    info = SimpleNamespace(width=640, height=384, k=np.array([600.0, 0, 320, 0, 600, 192, 0, 0, 1]), d=np.zeros(5))
    assembler = ObservationAssembler(load_rig('sim'))
    assert assembler.push_camera_info('front', info)
    assert assembler.push_camera_info('front', info)
    (seen,) = play(assembler, flat(ticks(1)))
    assert seen.rig['front'].intrinsics[0, 0] == 600.0
    assert seen.rig['back'].intrinsics == pytest.approx(load_rig('sim')['back'].intrinsics)
    assert not assembler.push_camera_info('front', SimpleNamespace(**{**vars(info), 'd': np.array([0.3, 0, 0, 0, 0])}))
    assert 'name the model' in assembler.calibration['front'].warnings[0]
    assert '640x384, fx 600.0' in assembler.calibration['front'].warnings[0]
    assert assembler.rejected['camera_info front'] == 1
    assert not any('camera_info' in problem for problem in assembler.problems())
    assert assembler.rig['front'].intrinsics[0, 0] == 600.0


def test_says_whether_anything_waits_for_a_late_input():
    assembler = ObservationAssembler(load_rig('sim'))
    assert not assembler.waiting
    waited = []
    for kind, message in flat(ticks(3)):
        push(assembler, kind, message)
        waited.append(assembler.waiting)
        drain(assembler)
    assert any(waited)
    assembler.flush()
    drain(assembler)
    assert not assembler.waiting


def test_sets_that_nobody_takes_do_not_pile_up():
    assembler = ObservationAssembler(load_rig('sim'))
    for kind, message in flat(ticks(40)):
        push(assembler, kind, message)
    assembler.flush()
    assert 1 <= len(drain(assembler)) <= 8


def test_synchroniser_and_rig_must_agree():
    with pytest.raises(InvalidInput, match='both must name the same'):
        ObservationAssembler(load_rig('sim'), CameraSync(('front', 'back')))


def test_an_observation_tells_where_the_ego_has_been():
    """3.5 s back, ten states a second of a hundred, across ticks that nobody planned."""
    assembler = ObservationAssembler(load_rig('sim'))
    push(assembler, 'route', route())
    seen = play(assembler, flat(ticks(60, odometry_ns=10_000_000)))
    assert isinstance(seen[0], Observation) and isinstance(seen[-1], Observation)
    trail = seen[-1].trail
    assert len(trail) == 35
    ages = [seen[-1].stamp_s - state.stamp_s for state in trail]
    assert ages == pytest.approx(np.arange(3.5, 0.05, -0.1), abs=0.02)
    for state, age in zip(trail, ages, strict=True):
        assert seen[-1].ego.x_m - state.x_m == pytest.approx(SPEED_MPS * age, abs=1e-3)
    assert all(state.stamp_s < seen[0].stamp_s for state in seen[0].trail)


def test_nothing_is_decoded_or_collected_that_the_policy_does_not_look_at():
    rounds = flat(ticks(20, odometry_ns=20_000_000))
    needs = InputNeeds(image_sizes={'front': (40, 24)}, trail_s=1.0)
    seen = play(ObservationAssembler(load_rig('sim'), needs=needs), rounds)[-1]
    assert isinstance(seen, Observation)
    assert seen.frames['front'].image.shape == (24, 40, 3) and seen.frames['back'].image.shape == (48, 80, 3)
    assert len(seen.trail) == 10
    without = play(ObservationAssembler(load_rig('sim'), needs=InputNeeds()), rounds)[-1]
    assert isinstance(without, Observation) and without.trail == ()


def test_reading_messages():
    assert read_odometry(odometry(0, yaw=0.5, y=3.0)).pose == pytest.approx([0.0, 3.0, 0.5])
    assert read_route(route()) == pytest.approx(np.array(ROUTE_M))
    assert read_turn_command(command(0, 12.0, value=3)) == (TurnCommand.RIGHT, 12.0)
    empty = odometry(0)
    empty.pose.pose.orientation = SimpleNamespace(x=0.0, y=0.0, z=0.0, w=0.0)
    with pytest.raises(InvalidInput, match='length 0, expected 1'):
        read_odometry(empty)
    with pytest.raises(InvalidInput, match=r'9, allowed: 0 \(FOLLOW\)'):
        read_turn_command(command(0, 1.0, value=9))
