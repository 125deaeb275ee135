# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Odometry as a curve: between messages too far apart, and where the pose jumps, nothing is known."""

from __future__ import annotations

import numpy as np
import pytest

from vla_driver.bag.track import MAX_GAP_S, Break, OdometryTrack, gaps_text, jumps_text
from vla_driver.types import EgoState

START_S = 1_700_000_000.0


def drive(
    hz: float = 10.0, seconds: float = 6.0, speed: float = 8.0, told: float | None = None, jump_m: float = 0.0
) -> list[EgoState]:
    """Return a straight drive; told: the speed that is said.  After 3 s it goes on `jump_m` to the left."""
    at_s = np.arange(round(seconds * hz)) / hz
    said = speed if told is None else told
    return [EgoState(START_S + t, speed * t, jump_m if t >= 3.0 else 0.0, 0.0, said) for t in at_s]


@pytest.mark.parametrize(('hz', 'jump_m'), [(2.0, 20.0), (5.0, 8.0), (10.0, 3.0), (50.0, 1.5), (50.0, 100.0)])
def test_a_pose_that_jumps_is_a_break(hz: float, jump_m: float) -> None:
    track = OdometryTrack(drive(hz=hz, jump_m=jump_m))
    (jump,) = track.breaks(START_S, START_S + 6.0)
    assert jump.jumps and jump.end_s == pytest.approx(START_S + 3.0) and jump.seconds == pytest.approx(1 / hz)
    assert jump.moved_m == pytest.approx(np.hypot(8.0 / hz, jump_m), abs=1e-6)
    assert np.isnan(track.at(jump.end_s - 0.5 / hz)).all()
    np.testing.assert_allclose(track.at([jump.begin_s, jump.end_s])[:, 1], [0.0, jump_m])
    assert not track.breaks(START_S, jump.begin_s) and not track.breaks(jump.end_s, START_S + 9.0)


def test_what_is_driven_does_not_go_on_across_a_jump() -> None:
    track = OdometryTrack(drive(jump_m=3.0))
    ahead = track.future_poses(START_S + 2.05, dt_s=0.5, steps=4)
    np.testing.assert_allclose(ahead[0], [4.0, 0.0, 0.0], atol=1e-6)
    assert np.isnan(ahead[1:]).all()


@pytest.mark.parametrize('hz', [2.0, 5.0, 50.0])
@pytest.mark.parametrize('told', [8.0, 0.0, -8.0])
def test_a_drive_does_not_jump_whatever_its_twist_says(hz: float, told: float) -> None:
    track = OdometryTrack(drive(hz=hz, told=told))
    assert not track.breaks(START_S, START_S + 6.0)
    assert np.isfinite(track.at(START_S + np.arange(0.0, 5.0, 0.1))).all()


def test_braking_to_a_stop_is_no_jump() -> None:
    at_s = np.arange(0.0, 3.0, 0.4)
    states = [EgoState(t, 8.0 * t - 4.0 * t * t, 0.0, 0.0, 8.0 - 8.0 * t) if t <= 1.0 else EgoState(t, 4.0, 0, 0, 0)
              for t in at_s.tolist()]  # fmt: skip
    assert not OdometryTrack(states).breaks(0.0, 3.0)


def test_an_outlier_is_two_jumps() -> None:
    states = drive()
    states[20] = EgoState(states[20].stamp_s, states[20].x_m, 40.0, 0.0, 8.0)
    assert [one.jumps for one in OdometryTrack(states).breaks(START_S, START_S + 6.0)] == [True, True]


def test_messages_too_far_apart_are_a_gap_however_far_it_went() -> None:
    states = [state for state in drive(jump_m=50.0) if not 2.45 < state.stamp_s - START_S < 3.05]
    track = OdometryTrack(states)
    (gap,) = track.breaks(START_S, START_S + 6.0)
    assert not gap.jumps and gap.seconds == pytest.approx(0.7)
    assert np.isnan(track.at(START_S + 2.7)).all() and np.isfinite(track.at(gap.end_s)).all()
    assert not OdometryTrack(drive(hz=1.0 / MAX_GAP_S)).breaks(START_S, START_S + 6.0)


def test_breaks_are_told_in_words() -> None:
    breaks = [Break(1.0, 2.5, 3.0, False), *(Break(5.0 + k, 5.1 + k, 4.0 + k, True) for k in range(5))]
    assert gaps_text(breaks) == '1 gap of up to 1.50 s in the odometry, where 0.5 s are allowed'
    assert jumps_text(breaks) == (
        'the odometry jumps by 4.0 m at 5.10 s, by 5.0 m at 6.10 s, by 6.0 m at 7.10 s and 2 more'
    )
