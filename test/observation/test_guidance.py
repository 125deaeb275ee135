# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Target points and turns that are made from a dense route."""

from __future__ import annotations

import numpy as np
import pytest

from vla_driver.geometry import se2
from vla_driver.geometry.opendrive import JunctionMap
from vla_driver.observation.guidance import (
    TARGET_SPACING_M,
    WITHIN_M,
    Manoeuvre,
    RouteGuide,
    beyond_end,
    resampled,
    turns_by_map,
    turns_of,
)
from vla_driver.types import FloatArray, InvalidInput, TurnCommand


def line(*legs: tuple[float, float], step_m: float = 1.0) -> FloatArray:
    """Return the points of legs (length in metres, heading gained along it in radians), from 0 on along x."""
    pose, points = np.zeros(3), [np.zeros(2)]
    for length_m, turn in legs:
        count = round(length_m / step_m)
        for _ in range(count):
            pose = se2.compose(pose, [step_m, 0.0, turn / count])
            points.append(pose[:2].copy())
    return np.array(points)


LEFT = line((50.0, 0.0), (16.0, np.pi / 2), (60.0, 0.0))


def test_a_straight_line_has_no_turn() -> None:
    assert turns_of(line((200.0, 0.0))) == ()


def test_a_wide_bend_is_no_turn() -> None:
    assert turns_of(line((40.0, 0.0), (120.0, np.pi / 2), (40.0, 0.0))) == ()


@pytest.mark.parametrize(('side', 'command'), [(1.0, TurnCommand.LEFT), (-1.0, TurnCommand.RIGHT)])
def test_a_bend_as_in_a_junction_is_a_turn(side: float, command: TurnCommand) -> None:
    (turn,) = turns_of(line((50.0, 0.0), (16.0, side * np.pi / 2), (60.0, 0.0)))
    assert turn.command is command
    assert turn.start_m == pytest.approx(50.0, abs=4.0)
    assert turn.end_m == pytest.approx(66.0, abs=4.0)


def test_two_turns_are_told_apart() -> None:
    turns = turns_of(line((50.0, 0.0), (15.0, np.pi / 2), (30.0, 0.0), (15.0, -np.pi / 2), (30.0, 0.0)))
    assert [turn.command for turn in turns] == [TurnCommand.LEFT, TurnCommand.RIGHT]


@pytest.mark.parametrize('step_m', [0.5, 2.0, 4.0])
def test_the_spacing_of_the_points_does_not_matter(step_m: float) -> None:
    (turn,) = turns_of(line((52.0, 0.0), (16.0, np.pi / 2), (60.0, 0.0), step_m=step_m))
    assert turn.start_m == pytest.approx(52.0, abs=5.0)


def test_noise_of_a_few_centimetres_makes_no_turn() -> None:
    noise = np.random.default_rng(0).normal(0.0, 0.03, (201, 2))
    assert turns_of(line((200.0, 0.0)) + noise) == ()


def test_the_way_to_a_turn_shrinks_and_is_0_within_it() -> None:
    guide = RouteGuide()
    guide.take(LEFT, [0.0, 0.0, 0.0])
    told = [guide.next_turn([*point, 0.0]) for point in LEFT]
    assert told[0][0] is TurnCommand.LEFT
    assert told[0][1] == pytest.approx(50.0, abs=4.0)
    assert told[20][1] == pytest.approx(told[0][1] - 20.0, abs=1.5)
    assert told[58] == (TurnCommand.LEFT, 0.0)
    assert told[75] == (TurnCommand.FOLLOW, WITHIN_M)


def test_what_is_too_far_ahead_is_not_said() -> None:
    guide = RouteGuide()
    guide.take(line((150.0, 0.0), (16.0, np.pi / 2), (60.0, 0.0)), [0.0, 0.0, 0.0])
    assert guide.next_turn([0.0, 0.0, 0.0]) == (TurnCommand.FOLLOW, WITHIN_M)


def pieces(whole: FloatArray, ahead: int) -> list[FloatArray]:
    """Return the route as it is told at each of its points: from there to so many points ahead."""
    return [whole[k : k + ahead] for k in range(len(whole) - ahead)]


def test_targets_stay_where_they_are_while_the_route_is_told_anew() -> None:
    whole, guide = line((600.0, 0.0)), RouteGuide()
    seen = []
    for k, piece in enumerate(pieces(whole, 100)):
        guide.take(piece, [*whole[k], 0.0])
        targets = guide.targets_m()
        assert len(targets) >= 2
        seen += targets[:2, 0].tolist()
    assert np.mod(np.unique(np.round(seen)), TARGET_SPACING_M) == pytest.approx(0.0)


def test_a_turn_that_has_begun_goes_on_when_the_route_is_told_anew() -> None:
    guide = RouteGuide()
    commands = []
    for k, piece in enumerate(pieces(LEFT, 50)):
        guide.take(piece, [*LEFT[k], 0.0])
        commands.append(guide.next_turn([*LEFT[k], 0.0])[0])
    assert commands[30:64] == [TurnCommand.LEFT] * 34
    assert commands[-1] is TurnCommand.FOLLOW


def test_another_route_replaces_the_one_before() -> None:
    guide = RouteGuide()
    guide.take(line((200.0, 0.0)), [0.0, 0.0, 0.0])
    guide.next_turn([10.0, 0.0, 0.0])
    guide.take(LEFT[10:], [10.0, 0.0, 0.0])
    assert guide.next_turn([10.0, 0.0, 0.0])[0] is TurnCommand.LEFT
    assert guide.targets_m()[-1] == pytest.approx(LEFT[-1], abs=TARGET_SPACING_M)


def test_a_route_that_ends_earlier_replaces_the_one_before() -> None:
    whole, guide = line((200.0, 0.0)), RouteGuide()
    guide.take(whole, [0.0, 0.0, 0.0])
    guide.take(whole[5:196], [5.0, 0.0, 0.0])  # told a little less: the same way
    assert guide.targets_m()[-1, 0] == pytest.approx(175.0)
    guide.take(whole[10:61], [10.0, 0.0, 0.0])
    assert guide.targets_m()[-1, 0] == pytest.approx(60.0, abs=TARGET_SPACING_M)


@pytest.mark.parametrize('count', [300, 3000])
@pytest.mark.parametrize('more', [0, 1, 7, 400])
def test_what_lies_beyond_a_route_is_found_however_long_it_is(count: int, more: int) -> None:
    s_m = np.arange(float(count + more))
    whole = np.column_stack([400.0 * np.sin(s_m / 400.0), 400.0 * (1.0 - np.cos(s_m / 400.0))])
    if count == 3000:
        whole = np.column_stack([s_m, 30.0 * np.sin(s_m / 60.0)])
    known = resampled(whole[:count])
    for begin in (0, 13, count // 2):
        beyond = beyond_end(known, whole[begin:])
        assert beyond is not None
        np.testing.assert_array_equal(beyond, whole[count + more - len(beyond) :])
        assert abs(len(beyond) - more) <= 2
    assert beyond_end(known, whole + [0.0, 5.0]) is None
    assert beyond_end(known, whole[: count - 40]) is None


def test_a_route_may_begin_ahead_of_the_vehicle() -> None:
    guide = RouteGuide()
    guide.take(LEFT[40:], [0.0, 0.0, 0.0])
    command, distance_m = guide.next_turn([0.0, 0.0, 0.0])
    assert command is TurnCommand.LEFT
    assert distance_m == pytest.approx(50.0, abs=4.0)
    assert (guide.targets_m()[:, 0] > 0.0).all()


def test_a_short_route_ends_in_its_last_point() -> None:
    guide = RouteGuide()
    guide.take(line((20.0, 0.0)), [0.0, 0.0, 0.0])
    assert guide.targets_m().tolist() == [[20.0, 0.0]]


def test_no_points_withdraw_the_route() -> None:
    guide = RouteGuide()
    guide.take(LEFT, [0.0, 0.0, 0.0])
    guide.take([], [0.0, 0.0, 0.0])
    assert len(guide.targets_m()) == 0
    assert guide.next_turn([0.0, 0.0, 0.0]) == (TurnCommand.FOLLOW, WITHIN_M)


def test_points_that_are_none_are_named() -> None:
    with pytest.raises(InvalidInput, match=r'point 1 is \[nan, 0.0\]'):
        RouteGuide().take([[0.0, 0.0], [np.nan, 0.0]], [0.0, 0.0, 0.0])


def test_a_vehicle_amid_a_long_route_is_found() -> None:
    whole = line((300.0, 0.0), (16.0, np.pi / 2), (60.0, 0.0))
    guide = RouteGuide()
    guide.take(whole, [*whole[280], 0.0])
    command, distance_m = guide.next_turn([*whole[280], 0.0])
    assert command is TurnCommand.LEFT
    assert distance_m == pytest.approx(20.0, abs=4.0)


def test_a_round_trip_begins_at_its_beginning() -> None:
    around = line(*4 * [(100.0, 0.0), (16.0, np.pi / 2)])
    guide = RouteGuide()
    guide.take(around, [0.3, 0.2, 0.0])
    assert guide.next_turn([0.3, 0.2, 0.0])[0] is TurnCommand.FOLLOW  # 100 m to the first corner, none behind


# What is to be done at junctions, told beside the line ---------------------------------------------------------------

#: Places are those of points, of which there is one every metre.
EARLY_M = 1.1


def manoeuvre(route: FloatArray, first: int, last: int, command: TurnCommand) -> Manoeuvre:
    return Manoeuvre(route[first], route[last], command)


def said_along(guide: RouteGuide, route: FloatArray) -> list[tuple[TurnCommand, float]]:
    """Return what is said at each point of a route."""
    heading = np.arctan2(*np.gradient(route, axis=0).T[::-1])
    return [guide.next_turn([*point, yaw]) for point, yaw in zip(route, heading, strict=True)]


def test_a_junction_that_is_told_comes_nearer_and_is_over_where_it_ends() -> None:
    """Straight on: of the line alone nobody would know."""
    route, guide = line((200.0, 0.0)), RouteGuide()
    guide.take(route, [0.0, 0.0, 0.0], [manoeuvre(route, 90, 110, TurnCommand.STRAIGHT)])
    said = said_along(guide, route)
    assert said[25] == (TurnCommand.FOLLOW, WITHIN_M)
    for at in range(31, 85):
        assert said[at][0] is TurnCommand.STRAIGHT
        assert -EARLY_M <= said[at][1] - (90.0 - at) <= 0.1
    assert said[91:107] == [(TurnCommand.STRAIGHT, 0.0)] * 16
    assert said[111:] == [(TurnCommand.FOLLOW, WITHIN_M)] * 90


def test_what_is_told_takes_the_place_of_the_bends() -> None:
    """A bend between junctions is no turn, and what the map calls a turn is one however little it bends."""
    guide = RouteGuide()
    guide.take(LEFT, [0.0, 0.0, 0.0], [])
    assert {command for command, _ in said_along(guide, LEFT)} == {TurnCommand.FOLLOW}
    guide.take(LEFT, [0.0, 0.0, 0.0], [manoeuvre(LEFT, 20, 35, TurnCommand.RIGHT)])
    assert guide.next_turn([0.0, 0.0, 0.0]) == (TurnCommand.RIGHT, pytest.approx(20.0, abs=EARLY_M))
    assert {command for command, _ in said_along(guide, LEFT)[40:]} == {TurnCommand.FOLLOW}


def test_the_same_line_with_something_else_told_is_taken_anew() -> None:
    guide = RouteGuide()
    for command in (TurnCommand.RIGHT, TurnCommand.STRAIGHT):
        guide.take(LEFT, [0.0, 0.0, 0.0], [manoeuvre(LEFT, 20, 35, command)])
        assert guide.next_turn([0.0, 0.0, 0.0]) == (command, pytest.approx(20.0, abs=EARLY_M))


def test_junctions_one_behind_the_other_are_said_one_after_the_other() -> None:
    route, guide = line((200.0, 0.0)), RouteGuide()
    orders = [TurnCommand.LEFT, TurnCommand.STRAIGHT, TurnCommand.RIGHT]
    told = [manoeuvre(route, 50 + 20 * k, 70 + 20 * k, order) for k, order in enumerate(orders)]
    guide.take(route, [0.0, 0.0, 0.0], told)
    commands = [command for command, _ in said_along(guide, route)]
    for k, order in enumerate(orders):
        assert commands[50 + 20 * k : 67 + 20 * k] == [order] * 17
    assert commands[111:] == [TurnCommand.FOLLOW] * 90


def test_places_beside_the_line_are_those_next_to_it() -> None:
    """A plan's points lie in the middle of lanes, a route beside them, after a change of lanes for one."""
    route, guide = line((200.0, 0.0)), RouteGuide()
    told = Manoeuvre(np.array([60.0, 3.5]), np.array([80.0, -3.5]), TurnCommand.LEFT)
    guide.take(route, [0.0, 0.0, 0.0], [told])
    said = said_along(guide, route)
    early_m = np.sqrt((3.5 + 2.0) ** 2 - 3.5**2) + 1.0  # as far as a point may be that is 2 m farther than the nearest
    assert said[30] == (TurnCommand.LEFT, pytest.approx(30.0, abs=early_m))
    assert said[61] == said[70] == (TurnCommand.LEFT, 0.0)
    assert said[81] == (TurnCommand.FOLLOW, WITHIN_M)


def test_a_junction_that_a_route_comes_by_twice_is_told_each_time_by_its_own_command() -> None:
    """Around a block to the left: straight on over a crossing, and to the right there when it comes again."""
    quarter = (16.0, np.pi / 2)
    around = line((100.0, 0.0), quarter, (60.0, 0.0), quarter, (100.0, 0.0), quarter, (60.0, 0.0), quarter)
    assert around[-1] == pytest.approx([0.0, 0.0], abs=0.1)
    second = len(around) - 1
    route = np.vstack([around, line((40.0, 0.0), (16.0, -np.pi / 2), (60.0, 0.0))[1:]])
    told = [
        manoeuvre(route, 40, 60, TurnCommand.STRAIGHT),
        manoeuvre(route, second + 40, second + 56, TurnCommand.RIGHT),
    ]
    guide = RouteGuide()
    guide.take(route, [0.0, 0.0, 0.0], told)
    said = said_along(guide, route)
    assert said[20] == (TurnCommand.STRAIGHT, pytest.approx(20.0, abs=EARLY_M))
    assert said[50] == (TurnCommand.STRAIGHT, 0.0)
    assert {command for command, _ in said[61 : second - 25]} == {TurnCommand.FOLLOW}
    assert said[second + 10] == (TurnCommand.RIGHT, pytest.approx(30.0, abs=EARLY_M))
    assert said[second + 48] == (TurnCommand.RIGHT, 0.0)
    assert said[second + 58][0] is TurnCommand.FOLLOW


def test_what_is_told_amid_the_drive_leaves_out_what_lies_behind() -> None:
    route, guide = line((300.0, 0.0)), RouteGuide()
    told = [manoeuvre(route, 50, 70, TurnCommand.LEFT), manoeuvre(route, 150, 170, TurnCommand.RIGHT)]
    guide.take(route, [120.0, 0.0, 0.0], told)
    assert guide.next_turn([120.0, 0.0, 0.0]) == (TurnCommand.RIGHT, pytest.approx(30.0, abs=EARLY_M))
    guide.take(route, [120.0, 0.0, 0.0], told[:1])
    assert guide.next_turn([120.0, 0.0, 0.0]) == (TurnCommand.FOLLOW, WITHIN_M)


def test_a_plan_of_points_at_junctions_alone_is_a_route_as_well() -> None:
    corners = np.array([[0.0, 0.0], [40.0, 0.0], [60.0, 0.0], [250.0, 0.0], [262.0, 12.0], [262.0, 100.0]])
    guide = RouteGuide()
    told = [manoeuvre(corners, 1, 2, TurnCommand.STRAIGHT), manoeuvre(corners, 3, 4, TurnCommand.LEFT)]
    guide.take(corners, [0.0, 0.0, 0.0], told)
    assert guide.next_turn([0.0, 0.0, 0.0]) == (TurnCommand.STRAIGHT, pytest.approx(40.0, abs=EARLY_M))
    commands = [guide.next_turn([float(x), 0.0, 0.0])[0] for x in range(0, 250, 5)]
    assert commands[8:11] == [TurnCommand.STRAIGHT] * 3
    assert commands[13:37] == [TurnCommand.FOLLOW] * 24
    assert commands[39:] == [TurnCommand.LEFT] * 11


def test_no_points_withdraw_what_was_told_as_well() -> None:
    guide = RouteGuide()
    told = [manoeuvre(LEFT, 20, 35, TurnCommand.RIGHT)]
    guide.take(LEFT, [0.0, 0.0, 0.0], told)
    guide.take([], [0.0, 0.0, 0.0], told)
    assert guide.next_turn([0.0, 0.0, 0.0]) == (TurnCommand.FOLLOW, WITHIN_M)
    guide.take(LEFT, [0.0, 0.0, 0.0], told)
    assert guide.next_turn([0.0, 0.0, 0.0])[0] is TurnCommand.RIGHT


def junctions_of(*roads: tuple[float, float, float, float, float]) -> JunctionMap:
    """Return a map of arcs (x, y, heading, length, curvature), each in a junction of its own."""
    return JunctionMap(
        '<OpenDRIVE>'
        + ''.join(
            f'<road id="{k}" junction="{k}"><planView><geometry x="{x}" y="{y}" hdg="{heading}" length="{length}">'
            f'<arc curvature="{curvature}"/></geometry></planView></road>'
            for k, (x, y, heading, length, curvature) in enumerate(roads)
        )
        + '</OpenDRIVE>'
    )


@pytest.mark.parametrize('step_m', [0.5, 1.0, 2.0])
def test_turns_are_at_the_junctions_of_a_map(step_m: float) -> None:
    """Straight on from 20 to 40 m, then a quarter to the right from 60 m on: however dense the line is."""
    radius_m = 32.0 / np.pi
    junctions = junctions_of((20.0, 0.0, 0.0, 20.0, 0.0), (60.0, 0.0, 0.0, 16.0, -1.0 / radius_m))
    route = line((60.0, 0.0), (16.0, -np.pi / 2), (60.0, 0.0), step_m=step_m)
    one, two = turns_by_map(junctions, route)
    assert (one.command, two.command) == (TurnCommand.STRAIGHT, TurnCommand.RIGHT)
    assert (one.start_m, one.end_m) == pytest.approx((20.0, 40.0), abs=1.1)
    assert (two.start_m, two.end_m) == pytest.approx((60.0, 76.0), abs=1.1)
    back = line((60.0, 0.0), (16.0, -np.pi / 2), (20.0, 0.0), step_m=step_m)[::-1][: round(60 / step_m)]
    (left,) = turns_by_map(junctions, back)
    assert left.command is TurnCommand.LEFT  # the same way back


def test_a_map_says_nothing_of_a_route_without_points_or_elsewhere() -> None:
    junctions = junctions_of((20.0, 0.0, 0.0, 20.0, 0.0))
    assert turns_by_map(junctions, np.empty((0, 2))) == ()
    assert turns_by_map(junctions, [[30.0, 0.0]]) == ()
    assert turns_by_map(junctions, line((100.0, 0.0)) + [0.0, 50.0]) == ()


def test_a_route_is_guided_by_the_junctions_of_a_map() -> None:
    junctions, guide = junctions_of((50.0, 0.0, 0.0, 16.0, np.pi / 32.0)), RouteGuide()
    guide.take(LEFT, [0.0, 0.0, 0.0])
    guide.know(junctions)
    said = said_along(guide, LEFT)
    assert said[10] == (TurnCommand.LEFT, pytest.approx(40.0, abs=1.5))
    assert said[58] == (TurnCommand.LEFT, 0.0)
    assert said[70][0] is TurnCommand.FOLLOW


@pytest.mark.parametrize('ahead', [30, 70])
def test_a_route_that_is_told_anew_at_every_step_says_one_command_for_a_junction(ahead: int) -> None:
    """Pieces begin and end within the junction, where less is left of the turn than makes one."""
    guide = RouteGuide(junctions_of((50.0, 0.0, 0.0, 16.0, np.pi / 32.0)))
    said = []
    for k, piece in enumerate(pieces(LEFT, ahead)):
        guide.take(piece, [*LEFT[k], 0.0])
        said.append(guide.next_turn([*LEFT[k], 0.0])[0])
    assert set(said) <= {TurnCommand.LEFT, TurnCommand.FOLLOW}
    assert all(command is TurnCommand.LEFT for command in said[40:64])
    assert all(command is TurnCommand.FOLLOW for command in said[68:])


def test_nothing_is_said_of_a_junction_in_which_the_route_ends() -> None:
    junctions = junctions_of((50.0, 0.0, 0.0, 16.0, np.pi / 32.0))
    assert turns_by_map(junctions, LEFT[:58]) == ()
    assert turns_by_map(junctions, LEFT[:50]) == ()


def test_a_map_does_not_count_where_manoeuvres_are_told_and_does_again_for_the_next_route() -> None:
    guide = RouteGuide()
    guide.take(LEFT, [0.0, 0.0, 0.0], [manoeuvre(LEFT, 20, 35, TurnCommand.RIGHT)])
    guide.know(junctions_of((50.0, 0.0, 0.0, 16.0, np.pi / 32.0)))
    assert guide.next_turn([0.0, 0.0, 0.0])[0] is TurnCommand.RIGHT
    guide.take(LEFT, [0.0, 0.0, 0.0])
    assert guide.next_turn([0.0, 0.0, 0.0])[0] is TurnCommand.LEFT


def test_a_manoeuvre_of_another_way_is_left_out() -> None:
    guide = RouteGuide()
    elsewhere = Manoeuvre(np.array([30.0, 40.0]), np.array([40.0, 40.0]), TurnCommand.LEFT)
    guide.take(line((200.0, 0.0)), [0.0, 0.0, 0.0], [elsewhere])
    assert guide.next_turn([10.0, 0.0, 0.0]) == (TurnCommand.FOLLOW, WITHIN_M)


def test_what_was_passed_does_not_match_a_street_beside_it() -> None:
    """Around a narrow block: told from beyond the first junctions on, a route has the later ones all the same."""
    block = line(
        (40.0, 0.0), (15.0, np.pi / 2), (12.0, 0.0), (15.0, np.pi / 2), (60.0, 0.0), (15.0, -np.pi / 2), (40.0, 0.0)
    )
    turns = [(40, 55), (67, 82), (142, 157)]
    commands = [TurnCommand.LEFT, TurnCommand.LEFT, TurnCommand.RIGHT]
    told = [manoeuvre(block, *turn, command) for turn, command in zip(turns, commands, strict=True)]
    for first, expected in ((0, commands), (60, commands[1:]), (90, commands[2:])):
        guide = RouteGuide()
        heading = np.arctan2(*(block[first + 1] - block[first])[::-1])
        guide.take(block[first:], [*block[first], heading], told)
        said = [command for command, _ in said_along(guide, block[first:])]
        found = [command for k, command in enumerate(said) if command and (k == 0 or said[k - 1] is not command)]
        assert set(found) == set(expected), first
        assert said[turns[-1][0] - first - 20] is TurnCommand.RIGHT


def test_a_map_of_another_place_leaves_the_bends() -> None:
    guide = RouteGuide(junctions_of((5000.0, 0.0, 0.0, 16.0, 0.0)))
    guide.take(LEFT, [0.0, 0.0, 0.0])
    assert not guide.by_map
    assert guide.next_turn([30.0, 0.0, 0.0])[0] is TurnCommand.LEFT
    guide.know(junctions_of((150.0, 60.0, 0.0, 16.0, 0.0)))  # of this place, but of no junction on the way
    assert guide.by_map
    assert guide.next_turn([30.0, 0.0, 0.0])[0] is TurnCommand.FOLLOW
