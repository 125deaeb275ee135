# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How much each expert of a model read at one tick, as a status of the planner's diagnostics and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from vla_driver.bag.loads import ReceivedLoad
from vla_driver.ros.wire.diagnostics import Level, Status
from vla_driver.types import FloatArray, InvalidInput

#: What the status is called, and what the keys of its lists of numbers begin with; the layer's number follows.
STATUS: Final = 'experts'
_LAYER: Final = 'load_layer_'


def load_status(stamp_s: float, load: Mapping[int, FloatArray]) -> Status:
    """Return the status of the tick of the pictures of `stamp_s`: language layer -> load [N], 1 for an even one."""
    values: dict[str, object] = {'stamp_s': f'{stamp_s:.9f}'}
    for layer, one in load.items():
        values[f'{_LAYER}{layer}'] = json.dumps([round(float(value), 3) for value in one])
    most = max((float(one.max()) for one in load.values()), default=1.0)
    return Status(STATUS, Level.OK, f'the busiest reads {most:.1f} times an even share', values)


def from_load_values(values: Mapping[str, str]) -> ReceivedLoad:
    """Return the load of a status's values; raise InvalidInput where they are none."""
    try:
        stamp_s = float(values['stamp_s'])
        load = {
            int(key.removeprefix(_LAYER)): np.array(json.loads(value), dtype=np.float64)
            for key, value in values.items()
            if key.startswith(_LAYER)
        }
    except (KeyError, ValueError, TypeError) as error:
        raise InvalidInput(f'diagnostics: status {STATUS!r} cannot be read ({error!r}): {dict(values)}') from error
    good = all(one.ndim == 1 and len(one) and np.isfinite(one).all() and (one >= 0.0).all() for one in load.values())
    if not (good and load and math.isfinite(stamp_s)):
        raise InvalidInput(
            f'diagnostics: status {STATUS!r}: expected a stamp and lists of loads of 0 and more: {values}'
        )
    return ReceivedLoad(stamp_s, load)
