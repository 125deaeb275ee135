# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Confidence intervals: percentile bootstrap over whole units (routes, segments of a bag).

A fixed seed makes every interval reproducible.  The unit that is drawn must be the independent one:
a route of a closed-loop evaluation, a stretch of several seconds of a bag, never a single tick.  One unit says nothing
of how far units differ: where there are fewer than two, there is no interval, None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from vla_driver.types import FloatArray, InvalidInput

CONFIDENCE: Final = 0.95
RESAMPLES: Final = 10_000
LEAST_UNITS: Final = 2
_SEED: Final = 20_26

#: [low, high]; None where there are fewer than LEAST_UNITS units.
Interval = list[float] | None


def _draws(units: int, resamples: int) -> npt.NDArray[np.int64]:
    if units < 1:
        raise InvalidInput('bootstrap: no units to draw from, expected at least one')
    return np.random.default_rng(_SEED).integers(0, units, size=(resamples, units))


def _percentiles(values: FloatArray, units: int) -> Interval:
    if units < LEAST_UNITS:
        return None
    tail = 50.0 * (1.0 - CONFIDENCE)
    low, high = np.percentile(values, [tail, 100.0 - tail])
    return [float(low), float(high)]


def mean_ci(values: npt.ArrayLike, resamples: int = RESAMPLES) -> Interval:
    """Return the 95 % bootstrap interval of the mean of `values` [N]."""
    array = np.asarray(values, dtype=np.float64)
    return _percentiles(array[_draws(len(array), resamples)].mean(axis=1), len(array))


def median_ci(values: npt.ArrayLike, resamples: int = RESAMPLES) -> Interval:
    """Return the 95 % bootstrap interval of the median of `values` [N]."""
    array = np.asarray(values, dtype=np.float64)
    return _percentiles(np.median(array[_draws(len(array), resamples)], axis=1), len(array))


def ratio_ci(numerators: npt.ArrayLike, denominators: npt.ArrayLike, resamples: int = RESAMPLES) -> Interval:
    """Return the 95 % interval of sum(numerators) / sum(denominators), units [N] drawn whole.

    This is the interval of a rate such as collisions per km, or of a mean over units of unequal size.
    A unit with an empty denominator knows nothing of the ratio and is no unit; draws of such alone are left out.
    """
    top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if top.shape != bottom.shape:
        raise InvalidInput(f'bootstrap: {top.shape} numerators and {bottom.shape} denominators, expected the same')
    draws = _draws(len(top), resamples)
    tops, bottoms = top[draws].sum(axis=1), bottom[draws].sum(axis=1)
    usable = bottoms > 0
    return _percentiles(tops[usable] / bottoms[usable], int((bottom > 0).sum()))


def bracketed(interval: Sequence[float] | None, spec: str) -> str:
    """Return ' [low, high]' to stand behind a figure, each in the format `spec`; '' where there is no interval."""
    return '' if interval is None else f' [{interval[0]:{spec}}, {interval[1]:{spec}}]'


def wilson_ci(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a proportion.

    Unlike the bootstrap it has a width when every trial ended alike (E. B. Wilson, JASA 22, 1927).
    """
    if not 0 <= successes <= trials or trials < 1:
        raise InvalidInput(f'proportion: {successes} of {trials}, expected 0 <= successes <= trials and a trial')
    z = 1.959963984540054
    p = successes / trials
    centre = p + z * z / (2 * trials)
    spread = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
