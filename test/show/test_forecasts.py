# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses

import numpy as np

from vla_driver.geometry import unicycle
from vla_driver.geometry.rig import load_rig
from vla_driver.show import drawing
from vla_driver.show.forecasts import draw_forecasts_in_camera
from vla_driver.types import AgentKind, EgoState, Forecast, Plan

RIG = load_rig('sim')
GREY = np.full((192, 320, 3), 90, np.uint8)


def forecast(x: float, y: float = 0.0, existence: float = 0.9) -> Forecast:
    path = unicycle.integrate_many([[x, y, 0.0]], [5.0], np.zeros((1, 20, 2)))[0]
    return Forecast(AgentKind.VEHICLE, np.array([x, y, 0.0]), 5.0, 4.5, 1.8, path[:, :2], path[:, 2], existence)


def test_a_camera_shows_whom_it_can_see() -> None:
    ahead, behind = (forecast(12.0),), (forecast(-25.0),)
    for camera, forecasts, seen in (
        ('front', ahead, True),
        ('back', ahead, False),
        ('front', behind, False),
        ('back', behind, True),
    ):
        drawn = draw_forecasts_in_camera(GREY.copy(), RIG[camera], forecasts)
        assert (drawn != GREY).any() == seen, camera
    # On the road, below the horizon, where the car stands.
    rows, columns, _ = np.nonzero(draw_forecasts_in_camera(GREY.copy(), RIG['front'], ahead) != GREY)
    assert rows.min() > 80
    assert abs(columns.mean() - 160) < 25


def test_from_above_the_others_futures_are_where_they_are() -> None:
    trajectory = unicycle.integrate(5.0, np.zeros(20), np.zeros(20))
    alone = Plan(0.0, trajectory, EgoState(0.0, 0.0, 0.0, 0.0, 5.0), 'model')
    with_one = dataclasses.replace(alone, forecasts=(forecast(15.0, y=6.0),))
    sheets = [drawing.birds_eye(plan, drawing.Scene()) for plan in (alone, with_one)]
    rows, columns, _ = np.nonzero(sheets[0] != sheets[1])
    assert columns.max() < sheets[0].shape[1] / 2, 'to the left'
    assert rows.max() < sheets[0].shape[0] * 0.75, 'ahead'
