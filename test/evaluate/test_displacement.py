# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Open-loop figures against hand-computed ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vla_driver.evaluate.displacement import STEP_TIMES_S, at_horizons, overlaps_any, planned_poses, score, summarise
from vla_driver.geometry import se2, unicycle
from vla_driver.types import EgoState, InvalidInput, Plan

NO_AGENTS = np.zeros((0, 5))


def straight(speed: float, stamp_s: float = 0.0, steps: int = 20) -> Plan:
    trajectory = unicycle.integrate(speed, np.zeros(steps), np.zeros(steps))
    return Plan(stamp_s, trajectory, EgoState(stamp_s, 0.0, 0.0, 0.0, speed), 'test')


def driven_straight(speed: float) -> np.ndarray:
    return np.column_stack([speed * STEP_TIMES_S, np.zeros(6), np.zeros(6)])


def test_planned_poses_are_taken_every_half_second() -> None:
    np.testing.assert_allclose(planned_poses(straight(4.0))[:, 0], [2, 4, 6, 8, 10, 12])


def test_the_two_protocols_differ_as_published() -> None:
    """An error that grows by 0.5 m per step: at 3 s it is 3 m, on the way to 3 s it is 1.75 m on average."""
    sample = score(straight(5.0), [0, 0, 0], driven_straight(4.0))
    np.testing.assert_allclose(sample.error_m, [0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
    np.testing.assert_allclose(at_horizons(sample.error_m, 'UniAD'), [1.0, 2.0, 3.0])
    np.testing.assert_allclose(at_horizons(sample.error_m, 'ST-P3/VAD'), [0.75, 1.25, 1.75])


def test_the_error_does_not_depend_on_where_the_car_stands() -> None:
    here = score(straight(5.0), [0, 0, 0], driven_straight(4.0)).error_m
    pose = np.array([120.0, -40.0, 2.5])
    there = score(straight(5.0), pose, se2.compose(pose, driven_straight(4.0))).error_m
    np.testing.assert_allclose(here, there, atol=1e-9)


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises(InvalidInput, match='UniAD, ST-P3/VAD'):
        at_horizons(np.zeros(6), 'uniad')


def test_a_short_plan_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r'ends after 2\.50 s'):
        planned_poses(straight(5.0, steps=10))


@pytest.mark.parametrize(
    ('x', 'y', 'hit'),
    [
        (3.7 + 2.2, 0.0, True),  # the ego's front is 3.7 m before its rear axle, the box reaches 2.25 m back
        (3.7 + 2.3, 0.0, False),
        (-0.9 - 2.2, 0.0, True),
        (-0.9 - 2.3, 0.0, False),
        (0.0, 1.8, True),
        (0.0, 1.9, False),
    ],
)
def test_boxes_overlap_exactly(x: float, y: float, hit: bool) -> None:
    box = np.array([[x, y, 0.0, 4.5, 1.8]])
    assert overlaps_any([0.0, 0.0, 0.0], box) is hit
    # The same scene turned and moved.
    pose = np.array([10.0, -7.0, 0.7])
    moved = se2.compose(pose, [x, y, 0.0])
    assert overlaps_any(pose, np.array([[*moved, 4.5, 1.8]])) is hit


def test_a_collision_counts_only_where_the_driven_car_had_none() -> None:
    ahead = np.array([[20.0, 0.0, 0.0, 4.5, 1.8]])
    agents = [ahead] * 6
    into_it = score(straight(8.0), [0, 0, 0], driven_straight(2.0), agents)
    assert into_it.collides is not None
    assert into_it.truth_collides is not None
    # At 2.0 and 2.5 s the ego covers 15.1-19.7 m and 19.1-23.7 m; the box 17.75-22.25 m.
    np.testing.assert_array_equal(into_it.collides, [False, False, False, True, True, False])
    assert not into_it.truth_collides.any()
    both = score(straight(8.0), [0, 0, 0], driven_straight(8.0), agents)
    assert both.collides is not None
    assert both.truth_collides is not None
    assert not both.collides.any()
    assert both.truth_collides.any()


def test_summary_has_figures_by_protocol_with_intervals() -> None:
    samples = []
    for k in range(40):
        plan = straight(4.0 + 0.1 * (k % 5), stamp_s=float(k))
        samples.append(score(plan, [0, 0, 0], driven_straight(4.0), [NO_AGENTS] * 6, bag='a'))
    summary = summarise(samples)
    assert summary['samples'] == 40
    assert summary['segments'] == 4
    assert summary['samples_with_agents'] == 40
    # Mean speed error 0.2 m/s: 0.6 m after 3 s.
    assert summary['UniAD']['l2_m']['3s'] == pytest.approx(0.6)
    assert summary['UniAD']['collision_rate']['3s'] == 0.0
    low, high = summary['ST-P3/VAD']['l2_m_ci']['mean']
    assert low <= summary['ST-P3/VAD']['l2_m']['mean'] <= high
    assert math.isclose(summary['UniAD']['l2_m']['mean'], 0.4, abs_tol=1e-9)


def test_one_segment_has_figures_but_no_interval() -> None:
    samples = [score(straight(4.0 + 0.1 * k, stamp_s=0.1 * k), [0, 0, 0], driven_straight(4.0)) for k in range(9)]
    summary = summarise(samples)
    assert summary['segments'] == 1 and summary['UniAD']['l2_m']['3s'] > 1.0
    assert summary['UniAD']['l2_m_ci'] == dict.fromkeys(('1s', '2s', '3s', 'mean'))


def test_without_samples_there_is_no_figure() -> None:
    with pytest.raises(InvalidInput, match='no samples'):
        summarise([])
