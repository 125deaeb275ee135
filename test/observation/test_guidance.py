# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Target points and turns that are made from a dense route."""

from __future__ import annotations

import numpy as np
import pytest

from vla_driver.geometry import se2
from vla_driver.observation.guidance import TARGET_SPACING_M, WITHIN_M, RouteGuide, turns_of
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
