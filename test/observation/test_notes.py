# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Notes: the same sentence with other figures is said once."""

from __future__ import annotations

from vla_driver.observation.notes import Notes
from vla_driver.observation.reasons import without_figures


def test_what_differs_by_figures_alone_is_said_once():
    notes = Notes()
    assert notes.new(['clocks: 0.78 s behind', 'odometry: turned']) == ['clocks: 0.78 s behind', 'odometry: turned']
    assert notes.new(['clocks: -0.8 s behind', 'odometry: derived']) == ['odometry: derived']
    assert notes.new([]) == []


def test_figures_are_left_out():
    assert without_figures('last frame 0.91 s ago (12 so far)') == 'last frame # s ago (# so far)'
    assert without_figures('none') == 'none'
