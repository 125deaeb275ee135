# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How much the experts of a model read, as a planner reported it while it drove, and how even that was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from vla_driver.types import FloatArray

#: A report holds for pictures that are so near to its own, in seconds.
_NEAR_S: Final = 0.5
#: Who reads less than this share of an even load does not take part.
_IDLE: Final = 0.1


@dataclass(frozen=True)
class ReceivedLoad:
    """Of the tick of the pictures of `stamp_s`: language layer -> load of its experts [N], 1 for an even one."""

    stamp_s: float
    load: Mapping[int, FloatArray]


def nearest_load(loads: Sequence[ReceivedLoad], stamp_s: float) -> Mapping[int, FloatArray]:
    """Return the load that was reported nearest to a time, within half a second; {} where there is none."""
    near = min(loads, key=lambda one: abs(one.stamp_s - stamp_s), default=None)
    return {} if near is None or abs(near.stamp_s - stamp_s) > _NEAR_S else near.load


def load_figures(loads: Sequence[ReceivedLoad]) -> dict[str, Any] | None:
    """Return how even the load was, by layer, for JSON; None where nobody reported any.

    load: each expert's mean over the reports; most, least: of these; most_at_once: the largest of any report; idle:
    experts that read less than a tenth of an even share on average.
    """
    if not loads:
        return None
    layers: dict[str, Any] = {}
    for layer in sorted({number for one in loads for number in one.load}):
        of_layer = np.array([one.load[layer] for one in loads if layer in one.load])
        mean = of_layer.mean(axis=0)
        layers[str(layer)] = {
            'load': [round(float(value), 4) for value in mean],
            'most': float(mean.max()),
            'least': float(mean.min()),
            'most_at_once': float(of_layer.max()),
            'idle': int((mean < _IDLE).sum()),
        }
    return {'reports': len(loads), 'layers': layers}
