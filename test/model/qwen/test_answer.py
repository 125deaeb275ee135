# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Answers are read in full or refused by name; waypoints become what a car can drive."""

from __future__ import annotations

import numpy as np
import pytest

from vla_driver.geometry.unicycle import integrate
from vla_driver.model.qwen.answer import AnswerFault, parse_intent, parse_waypoints
from vla_driver.model.qwen.waypoints import fit_trajectory
from vla_driver.planning.guard import GuardLimits, infeasibility
from vla_driver.types import EgoState, InvalidInput, MalformedAnswer, MetaAction, Plan

POINTS = '[2.50, 0.00], [5.00, 0.10], [7.50, 0.20], [10.00, 0.40], [12.50, 0.60], [15.00, 0.90]'


def answer(points: str = POINTS, header: str = '[x, y]:') -> str:
    return f'<PLANNING>Waypoints for 3 s at 0.5 s, metres. {header} {points}</PLANNING>'


@pytest.mark.parametrize(
    'text',
    [
        answer(),
        f'Some words before. {answer()}',
        answer(POINTS.replace(', [', ',\n  [')),
        answer(POINTS + '.'),
        answer(POINTS.replace('[2.50, 0.00]', '[+2.5, -.0]')),
        answer(header='[x,y] :'),
    ],
)
def test_good_answers(text: str) -> None:
    points = parse_waypoints(text)
    assert points.shape == (6, 2)
    np.testing.assert_allclose(points[[0, 5]], [[2.5, 0.0], [15.0, 0.9]])


@pytest.mark.parametrize(
    ('text', 'fault'),
    [
        ('', 'empty'),
        (' \n', 'empty'),
        ('I cannot help with that.', 'no_opening_tag'),
        (answer().replace('<PLANNING>', ''), 'no_opening_tag'),
        (answer().replace('</PLANNING>', ''), 'no_closing_tag'),
        (answer().lower(), 'no_opening_tag'),
        ('</PLANNING> [x, y]: ' + POINTS + ' <PLANNING>', 'no_opening_tag'),
        (answer() + answer(), 'repeated_tag'),
        (answer(header=''), 'no_header'),
        (answer(header='[y, x]:'), 'no_header'),
        (answer(header='[x, y]: [x, y]:'), 'repeated_header'),
        (answer(''), 'too_few_points'),
        (answer('[1.0, 0.0], [2.0, 0.0]'), 'too_few_points'),
        (answer(POINTS + ', [17.5, 1.0]'), 'too_many_points'),
        (answer(POINTS.replace('5.00', 'nan')), 'not_finite'),
        (answer(POINTS.replace('5.00', '-inf')), 'not_finite'),
        (answer(POINTS.replace('5.00', '9' * 400)), 'not_finite'),
        (answer(POINTS.replace('5.00', '5.0.0')), 'bad_point'),
        (answer(POINTS.replace('5.00', '5e3')), 'bad_point'),
        (answer(POINTS.replace('5.00', '')), 'bad_point'),
        (answer(POINTS.replace('[5.00, 0.10]', '[5.00]')), 'bad_point'),
        (answer(POINTS.replace('[5.00, 0.10]', '[5.00, 0.10, 0.0]')), 'bad_point'),
        (answer(POINTS.replace('0.90]', '0.90')), 'bad_point'),
        (answer(POINTS.replace(', [7.50', ' or [7.50')), 'stray_text'),
        (answer(POINTS.replace('15.00', '150.00')), 'jump'),
        (answer(POINTS.replace('2.50', '-40', 1)), 'jump'),
    ],
)
def test_malformed_answers_are_named(text: str, fault: str) -> None:
    with pytest.raises(MalformedAnswer) as caught:
        parse_waypoints(text)
    assert caught.value.fault is AnswerFault(fault)
    assert isinstance(caught.value, InvalidInput)
    assert len(str(caught.value)) < 300


def test_intents() -> None:
    meanings = {'hold': MetaAction.KEEP, 'halt': MetaAction.STOP}
    assert parse_intent('So: <INTENT> halt </INTENT>', meanings) is MetaAction.STOP
    for text, fault in (('<INTENT>fly</INTENT>', 'unknown_intent'), ('stop', 'no_opening_tag'), ('', 'empty')):
        with pytest.raises(MalformedAnswer) as caught:
            parse_intent(text, meanings)
        assert caught.value.fault is AnswerFault(fault)


@pytest.mark.parametrize('reference', [0.0, 0.94])
@pytest.mark.parametrize(
    ('speed', 'acceleration', 'curvature'),
    [(10.0, 0.0, 0.0), (10.0, 1.0, 0.02), (0.0, 0.0, 0.0), (0.0, 1.5, 0.1), (5.0, -3.0, 0.05), (15.0, -4.0, -0.01)],
)
def test_waypoints_of_a_drive_give_that_drive(
    speed: float, acceleration: float, curvature: float, reference: float
) -> None:
    true = integrate(speed, np.full(12, acceleration), np.full(12, curvature))
    ahead = reference * np.stack([np.cos(true.yaw_rad) - 1.0, np.sin(true.yaw_rad)], axis=1)
    fitted = fit_trajectory(np.round((true.positions_m + ahead)[1::2], 2), speed, reference)
    assert len(fitted) == 20
    np.testing.assert_allclose(fitted.positions_m[:12], true.positions_m, atol=0.05)
    plan = Plan(0.0, fitted, EgoState(0.0, 0.0, 0.0, 0.0, speed), 'test')
    assert infeasibility(plan, GuardLimits()) == ''
    # From 3 s on: the speed stays, the wheel is straight after 1 s.
    np.testing.assert_allclose(fitted.speed_mps[12:], fitted.speed_mps[11])
    np.testing.assert_allclose(fitted.curvature_per_m[15:], 0.0)


@pytest.mark.parametrize(
    ('points', 'speed'),
    [
        ([[0, 3], [0, 6], [0, 9], [0, 12], [0, 15], [0, 18]], 8.0),  # sideways
        ([[20, 0], [40, 0], [60, 0], [80, 0], [100, 0], [120, 0]], 0.0),  # 40 m/s at once
        ([[-2, 0], [-4, 0], [-6, 0], [-8, 0], [-10, 0], [-12, 0]], 5.0),  # backwards
        ([[3, 0], [6, 4], [9, -4], [12, 4], [15, -4], [18, 4]], 6.0),  # zigzag
    ],
)
def test_what_no_car_can_drive_is_refused(points: list[list[float]], speed: float) -> None:
    with pytest.raises(MalformedAnswer, match='comes no closer') as caught:
        fit_trajectory(np.array(points, dtype=float), speed)
    assert caught.value.fault is AnswerFault.NOT_DRIVABLE
