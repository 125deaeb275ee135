# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What a plan is worth, factor by factor, on streets made by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np
import pytest

from vla_driver.sim.world import vehicle
from vla_driver.train.reinforcement.rewards import NAMES, Scores, judge, overlap
from vla_driver.train.reinforcement.scene import Plans, SceneState

Street, Plan = Callable[..., SceneState], Callable[..., Plans]


def _figures(scores: Scores, row: int = 0) -> dict[str, float]:
    return {name: float(getattr(scores, name)[row]) for name in NAMES}


def test_straight_on_along_an_empty_street_is_worth_everything(street: Street, plan: Plan) -> None:
    assert set(_figures(judge(street(), plan(8.0))).values()) == {1.0}


def test_a_plan_through_a_standing_car_is_worth_nothing(street: Street, plan: Plan) -> None:
    scene = street(others=[(25.0, 0.0, 0.0, 0.0)])
    plans = reduce(Plans.joined, [plan(8.0), plan(8.0, -2.5)])
    scores = judge(scene, plans)
    assert scores.no_collision.tolist() == [0.0, 1.0]
    assert scores.reward[0] == 0.0 and scores.reward[1] > 0.5
    assert scores.time_to_collision.tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ('other', 'speed', 'acceleration', 'free'),
    [
        ((-12.0, 0.0, 0.0, 9.0), 2.0, 0.0, 1.0),  # from behind
        ((20.0, 0.0, np.pi, 4.0), 0.0, 0.0, 1.0),  # into the ego, which stands
        ((20.0, 0.0, np.pi, 4.0), 4.0, 0.0, 0.0),  # both drive
        ((15.0, -16.0, np.pi / 2, 6.0), 5.0, 0.0, 0.0),  # crossing
        ((15.0, -16.0, np.pi / 2, 6.0), 5.0, -3.0, 1.0),  # let through
        ((2.0, 0.5, 0.0, 0.0), 5.0, 0.0, 1.0),  # touches the ego from the start: nothing helps
    ],
)
def test_who_is_at_fault(
    street: Street,
    plan: Plan,
    other: tuple[float, float, float, float],
    speed: float,
    acceleration: float,
    free: float,
) -> None:
    assert judge(street(speed, [other]), plan(speed, acceleration)).no_collision[0] == free


def test_driving_up_close_shortens_the_time_to_collision(street: Street, plan: Plan) -> None:
    # It stops after 12.8 m, before a car that stands 13.2 m ahead, or 15 m.
    gap, expert = vehicle.FRONT_M + 2.3, plan(8.0, -2.5)
    scores = judge(street(others=[(gap + 13.2, 0.0, 0.0, 0.0)], expert=expert), expert)
    assert scores.no_collision[0] == 1.0 and scores.time_to_collision[0] == 0.0
    assert judge(street(others=[(gap + 15.0, 0.0, 0.0, 0.0)]), expert).time_to_collision[0] == 1.0
    assert scores.reward[0] == pytest.approx(7.0 / 12.0)
    assert judge(street(others=[(30.0, 3.0, np.pi, 5.0)]), plan(8.0)).time_to_collision[0] == 1.0  # oncoming, beside


def test_the_road_ends_at_its_edge(street: Street, plan: Plan) -> None:
    assert judge(street(), plan(8.0, 0.0, 0.02)).on_road[0] == 0.0
    assert judge(street(half_width_m=40.0), plan(8.0, 0.0, 0.02)).on_road[0] == 1.0
    assert judge(street(half_width_m=0.9), plan(8.0)).on_road[0] == 0.0  # never comes back onto it


def test_what_is_planned_beyond_four_seconds_is_not_judged(street: Street, plan: Plan) -> None:
    gap = vehicle.FRONT_M + 2.3
    for ahead_m, free in [(31.0, 0.0), (39.0, 1.0)]:  # reached after 3.9 s, after 4.9 s
        assert judge(street(others=[(gap + ahead_m, 0.0, 0.0, 0.0)]), plan(8.0)).no_collision[0] == free
    assert judge(street(others=[(gap + 34.0, 0.0, 0.0, 0.0)]), plan(8.0)).time_to_collision[0] == 0.0


def test_a_red_line_is_not_crossed(street: Street, plan: Plan) -> None:
    scene = street(stop_m=20.0, expert=plan(8.0, -2.0))
    scores = judge(scene, reduce(Plans.joined, [plan(8.0), plan(8.0, -2.0)]))
    assert scores.no_red.tolist() == [0.0, 1.0] and scores.reward[0] == 0.0
    # Green while the bumper passes, red behind it.
    scene.stop_m[: int(20.0 / 8.0 / 0.25) + 2] = np.inf
    assert judge(scene, plan(8.0)).no_red[0] == 1.0


def test_hard_controls_are_no_comfort(street: Street, plan: Plan) -> None:
    scene = street(half_width_m=100.0)
    for acceleration, curvature, comfort in [(-5.0, 0.0, 0.0), (2.6, 0.0, 0.0), (-2.0, 0.0, 1.0), (0.0, 0.09, 0.0)]:
        assert judge(scene, plan(8.0, acceleration, curvature)).comfort[0] == comfort


def test_progress_is_a_share_of_the_experts_way(street: Street, plan: Plan) -> None:
    scene = street()
    assert judge(scene, plan(8.0, -2.0)).progress[0] == pytest.approx(0.5, abs=0.02)
    assert judge(scene, plan(8.0, 1.0)).progress[0] == 1.0
    assert judge(street(expert=plan(8.0, -8.0)), plan(0.0)).progress[0] == 1.0  # he stops, so may it
    # Where his plan meets somebody, the best of those that do not is the yardstick.
    blocked = street(others=[(25.0, 0.0, 0.0, 0.0)])
    scores = judge(blocked, reduce(Plans.joined, [plan(8.0, -2.5), plan(8.0, -4.0)]))
    assert scores.progress[0] == 1.0 and scores.progress[1] == pytest.approx(2.5 / 4.0, abs=0.02)


def test_boxes_overlap_as_the_simulator_says() -> None:
    rng = np.random.default_rng(3)
    centres, yaws = rng.uniform(-4, 4, (2, 400, 2)), rng.uniform(-4, 4, (2, 400))
    sizes = rng.uniform(0.5, 5.0, (2, 400, 2))
    found = overlap(centres[0], yaws[0], sizes[0], centres[1], yaws[1], sizes[1])
    boxes = [
        [vehicle.rectangle(*c, y, *s) for c, y, s in zip(*part, strict=True)]
        for part in zip(centres, yaws, sizes, strict=True)
    ]
    assert found.tolist() == [vehicle.rectangles_overlap(a, b) for a, b in zip(*boxes, strict=True)]
    assert 50 < found.sum() < 350
