# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Arrays and numbers that values are made of: finite, of the right shape, read-only."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from vla_driver.types.errors import InvalidInput

FloatArray = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]


def finite(name: str, value: Any, shape: tuple[int | None, ...] | None = None) -> FloatArray:
    """Return `value` as a read-only float64 array; raise `InvalidInput` unless finite and of `shape`.

    A None in `shape` allows any length on that axis.
    """
    array = np.array(value, dtype=np.float64)
    if shape is not None and (
        array.ndim != len(shape)
        or any(want is not None and want != got for want, got in zip(shape, array.shape, strict=True))
    ):
        raise InvalidInput(f'{name}: shape {array.shape}, expected {shape} (None = any length)')
    if not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(np.atleast_1d(array)))[0].tolist()
        raise InvalidInput(f'{name}: not finite at index {bad}: {np.atleast_1d(array)[tuple(bad)]}')
    array.setflags(write=False)
    return array


def finite_number(name: str, value: float) -> float:
    """Return `value` as a float; raise `InvalidInput` unless it is finite."""
    number = float(value)
    if not math.isfinite(number):
        raise InvalidInput(f'{name} is {number}, expected a finite number')
    return number
