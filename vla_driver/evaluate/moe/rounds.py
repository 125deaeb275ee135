# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Cases that take turns, and the ratios of what they took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from vla_driver.statistics import median_ci
from vla_driver.types import FloatArray

#: Rounds that are not counted.
WARM_UP: Final = 3


def turned(names: Mapping[str, Any], number: int) -> list[str]:
    """Return the names, each time beginning with another one."""
    order = list(names)
    return order[number % len(order) :] + order[: number % len(order)]


def ratio(name: str, values: FloatArray) -> dict[str, Any]:
    """Return the median of paired ratios and its interval."""
    return {name: float(np.median(values)), f'{name}_ci': median_ci(values)}
