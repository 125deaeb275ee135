# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What will probably be looked at, by the rhythm of cameras and ticks."""

from __future__ import annotations

import pytest

from vla_driver.observation.foresight import Foresight


def at_20_hz(tick_s: float | None = None) -> Foresight:
    """Return one that knows the front camera's rhythm, and ticks of one length; a tick begins at 10 s."""
    foresight = Foresight('front')
    for k in range(6):
        foresight.arrived('front', 100.0 + 0.05 * k, 0.05 * k)
    for k in range(5 if tick_s is not None else 0):
        foresight.tick_began(float(k))
        foresight.tick_ended(k + (tick_s or 0.0))
    return foresight


def test_a_free_planner_takes_whatever_comes():
    assert Foresight('front').is_taken(0.0)
    foresight = at_20_hz(0.3)
    assert foresight.is_taken(10.0)


@pytest.mark.parametrize(
    ('after_s', 'taken'),
    [(0.0, False), (0.04, False), (0.06, True), (0.1, True), (0.14, True), (0.16, False), (9.0, False)],
)
def test_a_busy_one_takes_the_last_set_before_its_end(after_s: float, taken: bool):
    foresight = at_20_hz(0.1)
    foresight.tick_began(10.0)
    assert foresight.is_taken(10.0 + after_s) is taken


def test_one_slow_tick_is_no_rule_and_two_are():
    foresight = at_20_hz(0.04)
    foresight.tick_began(10.0)
    foresight.tick_ended(10.4)
    foresight.tick_began(11.0)
    assert foresight.is_taken(11.0)
    foresight.tick_ended(11.4)
    foresight.tick_began(12.0)
    assert not foresight.is_taken(12.0)


def test_without_any_experience_a_busy_planner_takes_nothing():
    foresight = at_20_hz()
    foresight.tick_began(10.0)
    assert not foresight.is_taken(10.1)


def test_of_a_faster_camera_the_picture_nearest_to_a_front_one_is_matched():
    foresight = at_20_hz()  # the last stamp is 100.25 s
    for k in range(6):
        foresight.arrived('back', 100.15 + 0.02 * k, 0.0)
    matched = [
        foresight.is_matched('back', 100.25 + away_s) for away_s in (-0.02, -0.009, 0.0, 0.009, 0.02, 0.03, 0.045)
    ]
    assert matched == [False, True, True, True, False, False, True]
    assert all(foresight.is_matched('front', 100.25 + 0.01 * k) for k in range(5))


def test_all_pictures_of_a_camera_as_slow_as_the_front_one_are_matched():
    foresight = at_20_hz()
    for k in range(6):
        foresight.arrived('back', 100.02 + 0.05 * k, 0.0)
    assert foresight.is_matched('back', 100.32)
    assert foresight.is_matched('left', 100.32)  # never seen: nothing is known against it


def test_after_a_jump_of_time_the_stamps_tell_nothing():
    foresight = at_20_hz()
    for k in range(6):
        foresight.arrived('back', 100.15 + 0.02 * k, 0.0)
    assert not foresight.is_matched('back', 100.275)
    foresight.jumped()
    assert foresight.is_matched('back', 100.275)
