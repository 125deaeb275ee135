# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Plans named by what they do."""

import numpy as np
import pytest

from vla_driver.planning.meta_action import meta_action, target_speed_mps
from vla_driver.types import MetaAction


@pytest.mark.parametrize(
    ('speed', 'acceleration', 'expected'),
    [
        (0.0, 0.0, MetaAction.WAIT),
        (0.0, 1.0, MetaAction.START),
        (8.0, 0.0, MetaAction.KEEP),
        (5.0, 1.0, MetaAction.SPEED_UP),
        (8.0, -1.0, MetaAction.SLOW_DOWN),
        (6.0, -2.5, MetaAction.STOP),
    ],
)
def test_plans_are_named_by_what_they_do(speed: float, acceleration: float, expected: MetaAction) -> None:
    planned = np.maximum(0.0, speed + acceleration * 0.25 * np.arange(1, 21))
    assert meta_action(speed, planned) is expected
    assert target_speed_mps(planned) == pytest.approx(max(0.0, speed + 3.0 * acceleration))


def test_a_stop_that_goes_on_is_still_a_stop() -> None:
    planned = np.concatenate([np.linspace(4.0, 0.0, 10), np.linspace(0.5, 5.0, 10)])
    assert meta_action(5.0, planned) is MetaAction.STOP
