# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Loads of experts as they were reported: the one that belongs to a picture, and how even they were over a drive."""

from __future__ import annotations

import numpy as np
import pytest

from vla_driver.bag.loads import ReceivedLoad, load_figures, nearest_load


def test_a_picture_has_the_nearest_report_and_none_from_far_away() -> None:
    loads = [ReceivedLoad(10.0 + 0.3 * k, {2: np.array([float(k), 1.0])}) for k in range(3)]
    assert nearest_load(loads, 10.35)[2][0] == 1.0
    assert nearest_load(loads, 11.05)[2][0] == 2.0
    assert nearest_load(loads, 11.2) == {}
    assert nearest_load([], 10.0) == {}


def test_figures_of_a_drive() -> None:
    assert load_figures([]) is None
    loads = [
        ReceivedLoad(1.0, {2: np.array([4.0, 0.0, 0.0, 0.0]), 3: np.ones(4)}),
        ReceivedLoad(2.0, {2: np.array([0.0, 2.0, 1.8, 0.2]), 3: np.ones(4)}),
    ]
    figures = load_figures(loads)
    assert figures is not None
    assert figures['reports'] == 2
    second = figures['layers']['2']
    assert second['load'] == pytest.approx([2.0, 1.0, 0.9, 0.1])
    assert (second['most'], second['most_at_once'], second['idle']) == (2.0, 4.0, 0)
    even = {'load': [1.0] * 4, 'most': 1.0, 'least': 1.0, 'most_at_once': 1.0, 'idle': 0}
    assert figures['layers']['3'] == even
    assert load_figures(loads[:1])['layers']['2']['idle'] == 3  # type: ignore[index]
