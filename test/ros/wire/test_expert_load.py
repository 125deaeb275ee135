# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The load of experts in the planner's diagnostics: written, read back, and refused where it is none."""

import numpy as np
import pytest
from builtin_interfaces.msg import Time

from vla_driver.ros.wire.diagnostics import Level, to_array
from vla_driver.ros.wire.expert_load import from_load_values, load_status
from vla_driver.types import InvalidInput


def test_a_status_and_back():
    load = {2: np.array([0.0, 2.0, 1.0]), 3: np.array([1.25, 0.75, 1.0])}
    status = load_status(1700000012.3, load)
    assert (status.name, status.level) == ('experts', Level.OK)
    assert '2.0 times an even share' in status.message
    (message,) = to_array(Time(), 'planner', [status]).status
    assert message.name == 'planner: experts'
    back = from_load_values({entry.key: entry.value for entry in message.values})
    assert back.stamp_s == pytest.approx(1700000012.3, abs=1e-6)
    assert list(back.load) == [2, 3]
    for layer, one in load.items():
        np.testing.assert_allclose(back.load[layer], one, atol=1e-3)


@pytest.mark.parametrize(
    'values',
    [
        {},
        {'stamp_s': '1.0'},
        {'stamp_s': 'nan', 'load_layer_2': '[1.0]'},
        {'stamp_s': '1.0', 'load_layer_2': '[]'},
        {'stamp_s': '1.0', 'load_layer_2': '[-1.0]'},
        {'stamp_s': '1.0', 'load_layer_2': 'many'},
        {'stamp_s': '1.0', 'load_layer_two': '[1.0]'},
    ],
)
def test_what_is_no_load_is_refused(values):
    with pytest.raises(InvalidInput, match="status 'experts'"):
        from_load_values(values)
