# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Intervals are reproducible, cover what they should, and refuse what they cannot answer."""

from __future__ import annotations

import numpy as np
import pytest

from vla_driver.statistics import Interval, bracketed, mean_ci, median_ci, ratio_ci, wilson_ci
from vla_driver.types import InvalidInput


def known(interval: Interval) -> list[float]:
    assert interval is not None
    return interval


def test_the_interval_of_a_mean_matches_the_normal_one_for_many_values() -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, size=400)
    low, high = known(mean_ci(values))
    spread = 1.96 * values.std() / 20.0
    assert low == pytest.approx(values.mean() - spread, abs=0.02)
    assert high == pytest.approx(values.mean() + spread, abs=0.02)
    assert mean_ci(values) == [low, high]


def test_the_interval_covers_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(300):
        low, high = known(mean_ci(rng.exponential(1.0, size=80), resamples=1000))
        hits += low <= 1.0 <= high
    assert 0.89 <= hits / 300 <= 0.98


def test_a_ratio_weighs_units_by_their_size() -> None:
    low, high = known(ratio_ci([2.0, 2.0, 2.0], [4.0, 4.0, 4.0]))
    assert low == high == 0.5
    low, high = known(ratio_ci([0.0, 10.0], [1.0, 1.0]))
    assert (low, high) == (0.0, 10.0)


def test_one_unit_has_no_interval() -> None:
    """It would be of no width, whatever the errors are."""
    assert mean_ci([3.0]) is None
    assert median_ci([3.0]) is None
    assert ratio_ci([3.0], [4.0]) is None
    assert ratio_ci([0.0], [0.0]) is None
    assert ratio_ci([3.0, 0.0], [4.0, 0.0]) is None  # the other one knows nothing
    assert bracketed(None, '+.1f') == ''
    assert bracketed(mean_ci([1.0, 1.0]), '+.1f') == ' [+1.0, +1.0]'


def test_wilson_has_a_width_when_all_succeed() -> None:
    low, high = wilson_ci(50, 50)
    assert low == pytest.approx(0.9287, abs=1e-3)
    assert high == 1.0
    # Agresti and Coull, The American Statistician 52 (1998): 1 of 10.
    assert wilson_ci(1, 10) == pytest.approx((0.0179, 0.4042), abs=1e-3)


def test_nothing_to_draw_from_is_an_error() -> None:
    with pytest.raises(InvalidInput, match='no units'):
        mean_ci([])
    with pytest.raises(InvalidInput, match='the same'):
        ratio_ci([1.0], [1.0, 2.0])
    with pytest.raises(InvalidInput, match='5 of 3'):
        wilson_ci(5, 3)
