# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Where to go, as goals, routes, global plans and maps say it, and what is made of that at every tick."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fixtures.messages import (
    command,
    header,
    play,
    push,
    route,
    ticks,
)

from vla_driver.geometry.opendrive import JunctionMap
from vla_driver.geometry.rig import load_rig
from vla_driver.observation.assemble import ObservationAssembler
from vla_driver.types import Observation, TurnCommand


def plan(*places: tuple[float, float, int], frame: str = '') -> SimpleNamespace:
    """Return a carla_msgs/CarlaRoute of places (x, y, what is to be done from there on)."""
    stamped = header(0)
    stamped.frame_id = frame
    poses = [SimpleNamespace(position=SimpleNamespace(x=x, y=y)) for x, y, _ in places]
    return SimpleNamespace(header=stamped, road_options=[option for _, _, option in places], poses=poses)


#: Straight on at 40 m, to the left at 150 m; CarlaRoute's 1: left, 2: right, 3: straight, 4: follow.
PLAN = plan((0.0, 0.0, 4), (40.0, 0.0, 3), (60.0, 0.0, 4), (150.0, 0.0, 1), (160.0, 10.0, 4), (160.0, 90.0, 4))
DENSE = [(float(x), 0.0) for x in range(201)]


def untold(count: int, start_ns: int = 0) -> list[tuple[str, Any]]:
    """Return messages of a drive straight ahead without a route and without commands."""
    return [(kind, m) for tick in ticks(count, start_ns=start_ns) for kind, m in tick if kind != 'command']


def guided(**changes: Any) -> ObservationAssembler:
    return ObservationAssembler(load_rig('sim'), **{'turns_from_route': True, **changes})


def orders(seen: list[Observation]) -> list[tuple[TurnCommand, float]]:
    return [(o.navigation.command, o.navigation.distance_m) for o in seen]


def comes_to(command: TurnCommand, at_m: float, count: int = 5, from_m: float = 0.0) -> list[tuple[TurnCommand, Any]]:
    """Return what is said on the way, a metre a tick, to a junction; its beginning is known to 3 m."""
    return [(command, pytest.approx(at_m - from_m - k, abs=3.0)) for k in range(count)]


def junctions_at(*places: tuple[float, float]) -> JunctionMap:
    """Return a map of straight roads from x to x along y = 0, each within a junction."""
    roads = ''.join(
        f'<road id="{k}" junction="{k}"><planView><geometry x="{begin}" y="0" hdg="0" length="{end - begin}"><line/>'
        '</geometry></planView></road>'
        for k, (begin, end) in enumerate(places)
    )
    return JunctionMap(f'<OpenDRIVE>{roads}</OpenDRIVE>')


def goal(x: float, y: float, frame: str = '') -> SimpleNamespace:
    """Return a geometry_msgs/PoseStamped."""
    stamped = header(0)
    stamped.frame_id = frame
    return SimpleNamespace(header=stamped, pose=SimpleNamespace(position=SimpleNamespace(x=x, y=y)))


def test_a_goal_is_a_route_of_one_point_until_another_comes():
    assembler = guided()
    assembler.push_goal(goal(80.0, 5.0))
    (first, *_) = play(assembler, untold(2))
    assert first.navigation.target_points_m == pytest.approx(np.array([[80.0, 5.0]] * 2))
    assert first.navigation.command is TurnCommand.FOLLOW
    assembler.push_route(route(DENSE))
    (then, *_) = play(assembler, untold(2, start_ns=200_000_000))
    assert then.navigation.target_points_m[0] == pytest.approx([23.0, 0.0], abs=3.0)
    assembler.push_goal(goal(float('nan'), 5.0))
    assert any('goal: [nan, 5.0], expected finite numbers' in problem for problem in assembler.problems())
    assembler.push_goal(goal(60.0, 0.0))
    (last, *_) = play(assembler, untold(2, start_ns=400_000_000))
    assert last.navigation.target_points_m[0] == pytest.approx([56.0, 0.0])
    assert assembler.problems() == ()


@pytest.mark.parametrize('ahead', [60, 500])
def test_a_dense_route_told_anew_from_the_vehicle_on_is_the_same_route(ahead: int):
    """As planners publish it, once a tick: target points stay where they are, and what was said of it holds."""
    assembler = guided()
    whole = [(float(x), 0.0) for x in range(900)]
    seen: list[Observation] = []
    for tick in range(60):
        assembler.push_route(route(whole[tick : tick + ahead]))
        seen += play(assembler, untold(1, start_ns=100_000_000 * tick))
    assert {o.navigation.route for o in seen[1:]} == {seen[1].navigation.route}
    places = {round(float(o.ego.x_m + o.navigation.target_points_m[0, 0])) for o in seen[1:]}
    assert places <= set(range(0, 900, 25))
    assert len(places) >= 3


def test_a_dense_route_that_ends_before_the_one_before_is_another_one():
    """Somebody wants the vehicle to stop there."""
    assembler = guided()
    assembler.push_route(route(DENSE))
    (first, *_) = play(assembler, untold(2))
    assembler.push_route(route(DENSE[2:40]))
    (then, *_) = play(assembler, untold(2, start_ns=200_000_000))
    assert then.navigation.route != first.navigation.route
    assert then.ego.x_m + then.navigation.target_points_m[-1, 0] == pytest.approx(39.0)
    beside = [(x, 4.0) for x, _ in DENSE[4:]]
    assembler.push_route(route(beside))
    (last, *_) = play(assembler, untold(2, start_ns=400_000_000))
    assert last.navigation.route != then.navigation.route
    assert last.navigation.target_points_m[:, 1] == pytest.approx([4.0, 4.0])


def test_a_goal_in_another_frame_than_the_odometrys_leaves_the_route():
    assembler = guided()
    messages = untold(4)
    for kind, message in messages:
        if kind == 'odom':
            message.header.frame_id = 'map'
    assembler.push_route(route(DENSE))
    play(assembler, messages[: len(messages) // 2])
    assembler.push_goal(goal(80.0, 5.0, frame='utm'))
    assert any("goal: its points are in frame 'utm'" in problem for problem in assembler.problems())
    seen = play(assembler, messages[len(messages) // 2 :])
    assert seen[0].navigation.target_points_m[0, 1] == pytest.approx(0.0)


def test_what_turns_are_made_of_is_known():
    assembler = guided()
    assert assembler.turns_from == ''
    assembler.push_route(route(DENSE))
    play(assembler, untold(2))
    assert assembler.turns_from == 'bends'
    assembler.push_junctions(junctions_at((50.0, 70.0)))
    assert assembler.turns_from == 'map'
    assembler.push_global_plan(PLAN)
    play(assembler, untold(2, start_ns=200_000_000))
    assert assembler.turns_from == 'global plan'
    push(assembler, 'command', command(400_000_000, 20.0, value=3))
    assert assembler.turns_from == 'turn command'


def test_a_goal_in_another_frame_is_named_and_not_driven_to():
    assembler = guided()
    assembler.push_goal(goal(80.0, 5.0, frame='utm'))
    messages = untold(2)
    for kind, message in messages:
        if kind == 'odom':
            message.header.frame_id = 'map'
    assert not any(isinstance(o, Observation) for o in play(assembler, messages))
    assert any('utm' in problem for problem in assembler.problems())


def test_a_global_plan_says_what_to_do_and_is_the_route_while_there_is_no_other():
    assembler = guided()
    assembler.push_global_plan(PLAN)
    seen = play(assembler, untold(70))
    assert len(seen) == 70
    assert orders(seen[:35]) == comes_to(TurnCommand.STRAIGHT, 40.0, 35)
    assert orders(seen[42:56]) == [(TurnCommand.STRAIGHT, 0.0)] * 14
    assert orders(seen[61:])[0] == (TurnCommand.FOLLOW, pytest.approx(60.0))  # the next is 90 m on
    assert seen[0].navigation.target_points_m == pytest.approx(np.array([[40.0, 0.0], [60.0, 0.0]]))
    assert assembler.problems() == ()
    assert assembler.rejected == {}


def test_a_dense_route_keeps_its_own_points_beside_a_global_plan():
    """Whichever came first: the plan's are at junctions, and far apart."""
    before, after = guided(), guided()
    before.push_global_plan(PLAN)
    before.push_route(route(DENSE))
    after.push_route(route(DENSE))
    after.push_global_plan(PLAN)
    for assembler in (before, after):
        seen = play(assembler, untold(5))
        assert orders(seen) == comes_to(TurnCommand.STRAIGHT, 40.0)
        assert seen[0].navigation.target_points_m == pytest.approx(np.array([[25.0, 0.0], [50.0, 0.0]]))


def test_another_global_plan_takes_the_place_of_the_one_before():
    other = plan((0.0, 0.0, 4), (70.0, 20.0, 4), (30.0, 0.0, 4))
    assembler = guided()
    assembler.push_global_plan(PLAN)
    (first, *_) = play(assembler, untold(2))
    assembler.push_global_plan(other)
    (then, *_) = play(assembler, untold(2, start_ns=200_000_000))
    assert then.navigation.command is TurnCommand.FOLLOW
    assert then.navigation.target_points_m == pytest.approx(np.array([[70.0, 20.0], [30.0, 0.0]]) - [2.0, 0.0])
    assert then.navigation.route == first.navigation.route + 1


@pytest.mark.parametrize('first', ['plan', 'route'])
def test_another_global_plan_leaves_a_dense_route_as_it_is(first: str):
    assembler = guided()
    pushes = [lambda: assembler.push_global_plan(PLAN), lambda: assembler.push_route(route(DENSE))]
    for take in pushes if first == 'plan' else pushes[::-1]:
        take()
    (first, *_) = play(assembler, untold(2))
    assembler.push_global_plan(plan((0.0, 0.0, 4), (30.0, 0.0, 2), (50.0, 0.0, 4)))
    then = play(assembler, untold(5, start_ns=200_000_000))
    assert orders(then) == comes_to(TurnCommand.RIGHT, 30.0, from_m=2.0)
    assert then[0].navigation.route == first.navigation.route
    assert then[0].navigation.target_points_m == pytest.approx(first.navigation.target_points_m - [2.0, 0.0])


def test_the_same_global_plan_again_does_not_start_over():
    assembler = guided()
    assembler.push_global_plan(PLAN)
    first = play(assembler, untold(36))[-1]
    assembler.push_global_plan(PLAN)
    then = play(assembler, untold(3, start_ns=3_600_000_000))
    assert first.navigation.target_points_m[0] == pytest.approx([60.0 - 35.0, 0.0])  # the one at 40 m is reached
    assert then[0].navigation.target_points_m[0] == pytest.approx([60.0 - 36.0, 0.0])
    assert then[0].navigation.route == first.navigation.route
    assert orders(then) == comes_to(TurnCommand.STRAIGHT, 40.0, 3, from_m=36.0)


@pytest.mark.parametrize('dense', [False, True])
def test_a_route_that_is_withdrawn_takes_the_plans_with_it_until_another_comes(dense: bool):
    assembler = guided()
    assembler.push_global_plan(PLAN)
    if dense:
        assembler.push_route(route(DENSE))
    assert all(isinstance(o, Observation) for o in play(assembler, untold(2)))
    assembler.push_route(route([]))
    stopped = play(assembler, untold(2, start_ns=200_000_000))
    assert [isinstance(o, Observation) for o in stopped] == [False, False]
    assert assembler.problems() == ('route: withdrawn by an empty path',)
    assert assembler.rejected == {}
    assembler.push_global_plan(PLAN)
    again = play(assembler, untold(5, start_ns=400_000_000))
    assert orders(again) == comes_to(TurnCommand.STRAIGHT, 40.0, from_m=4.0)
    assert again[0].navigation.target_points_m[0] == pytest.approx([36.0, 0.0])  # the plan's own
    assert assembler.problems() == ()


@pytest.mark.parametrize(
    ('broken', 'words'),
    [
        (plan(), '0 poses and 0 road options, expected as many, one or more'),
        (plan((0.0, 0.0, 4), (np.nan, 0.0, 1)), 'pose 1 is [nan, 0.0], expected finite numbers'),
    ],
)
def test_a_global_plan_that_cannot_be_read_is_named_and_the_one_before_stays(broken: SimpleNamespace, words: str):
    assembler = guided()
    assembler.push_global_plan(broken)
    assembler.push_global_plan(broken)
    assert assembler.rejected == {'global plan': 2}
    assert f'global plan: last message refused (2 so far): global plan: {words}' in assembler.problems()
    assert 'route: none received' in assembler.problems()
    assembler.push_global_plan(PLAN)
    assembler.push_global_plan(broken)
    assert orders(play(assembler, untold(5))) == comes_to(TurnCommand.STRAIGHT, 40.0)
    (problem,) = assembler.problems()
    assert problem == f'global plan: last message refused (3 so far): global plan: {words}'
    assembler.push_global_plan(PLAN)
    assert assembler.problems() == ()
    assert assembler.rejected == {'global plan': 3}


def test_a_global_plans_frame_counts_where_it_says_one():
    """The leaderboard leaves its header empty."""
    for frame, problems in (('', 0), ('map', 0), ('odom', 1)):
        assembler = guided()
        assembler.push_global_plan(plan(*zip([0.0, 40.0], [0.0, 0.0], [4, 3], strict=True), frame=frame))
        messages = untold(2)
        for kind, message in messages:
            if kind == 'odom':
                message.header.frame_id = 'map'
        play(assembler, messages)
        assert len(assembler.problems()) == problems


def test_a_turn_command_counts_more_than_a_global_plan():
    assembler = guided()
    assembler.push_global_plan(PLAN)
    push(assembler, 'command', command(0, 20.0, value=3))
    assert orders(play(assembler, untold(3))) == [(TurnCommand.RIGHT, pytest.approx(20.0 - k)) for k in range(3)]


def test_where_turns_are_not_made_of_the_route_a_global_plan_is_but_a_route():
    assembler = guided(turns_from_route=False)
    assembler.push_global_plan(PLAN)
    assert not any(isinstance(o, Observation) for o in play(assembler, untold(2)))
    assert assembler.problems() == ('turn command: none received',)
    push(assembler, 'command', command(200_000_000, 20.0, value=3))
    seen = play(assembler, untold(1, start_ns=200_000_000))
    assert seen[0].navigation.command is TurnCommand.RIGHT
    assert seen[0].navigation.target_points_m[0] == pytest.approx([38.0, 0.0])


def test_junctions_of_a_map_are_said_once_they_are_known():
    """The line is straight; the map comes some seconds later, as large ones do."""
    assembler = guided()
    assembler.push_route(route(DENSE))
    assert orders(play(assembler, untold(5))) == [(TurnCommand.FOLLOW, 60.0)] * 5
    assembler.push_junctions(junctions_at((50.0, 70.0)))
    assert orders(play(assembler, untold(5, start_ns=500_000_000))) == comes_to(TurnCommand.STRAIGHT, 50.0, from_m=5.0)
    assembler.push_junctions(junctions_at())  # a map that has none
    assert orders(play(assembler, untold(2, start_ns=1_000_000_000))) == [(TurnCommand.FOLLOW, 60.0)] * 2
    assert assembler.problems() == ()


def test_junctions_are_looked_for_along_each_route_anew():
    """Without one there are none; each that comes has its own."""
    assembler = guided()
    assembler.push_junctions(junctions_at((50.0, 70.0)))
    assert not any(isinstance(o, Observation) for o in play(assembler, untold(2)))
    assembler.push_route(route(DENSE))
    assert orders(play(assembler, untold(3, start_ns=200_000_000))) == comes_to(TurnCommand.STRAIGHT, 50.0, 3, 2.0)
    assembler.push_route(route([(x, 30.0) for x, _ in DENSE]))
    beside = play(assembler, untold(2, start_ns=500_000_000))
    assert [command for command, _ in orders(beside)] == [TurnCommand.FOLLOW] * 2
    assembler.push_route(route([]))
    assert not any(isinstance(o, Observation) for o in play(assembler, untold(2, start_ns=700_000_000)))
    assembler.push_route(route(DENSE))
    assert orders(play(assembler, untold(3, start_ns=900_000_000))) == comes_to(TurnCommand.STRAIGHT, 50.0, 3, 9.0)


@pytest.mark.parametrize('first', ['plan', 'map'])
def test_a_global_plan_counts_more_than_the_junctions_of_a_map(first: str):
    assembler = guided()
    assembler.push_route(route(DENSE))
    pushes = [lambda: assembler.push_global_plan(PLAN), lambda: assembler.push_junctions(junctions_at((10.0, 25.0)))]
    for take in pushes if first == 'plan' else pushes[::-1]:
        take()
    assert orders(play(assembler, untold(5))) == comes_to(TurnCommand.STRAIGHT, 40.0)


def test_what_was_told_of_junctions_outlasts_a_clock_that_is_set():
    assembler = guided()
    assembler.push_route(route(DENSE))
    assembler.push_global_plan(PLAN)
    play(assembler, untold(50))
    assembler.reset()
    again = play(assembler, untold(5))
    assert orders(again) == comes_to(TurnCommand.STRAIGHT, 40.0)
