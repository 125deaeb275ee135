# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A picture of the film shows kept tokens and the experts' load where there are any, and is of one size always."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vla_driver.bag.read import BagReader
from vla_driver.policies.constant_velocity import ConstantVelocityPolicy
from vla_driver.show.drawing import Scene
from vla_driver.show.film import tick_picture

CELL = (160, 96)


def test_parts_of_a_tick_are_drawn_beside_the_path(labelled_bag: Path) -> None:
    with BagReader(labelled_bag) as bag:
        observation = next(iter(bag.observations()))
    plan = ConstantVelocityPolicy().plan(observation)
    plain = tick_picture(observation, plan, Scene(), CELL)
    np.testing.assert_array_equal(plain, tick_picture(observation, plan, Scene(), CELL, kept=None, load={}))

    left = np.zeros((2, 2), bool)
    left[:, 0] = True
    pruned = tick_picture(observation, plan, Scene(), CELL, kept={'front_left': left})
    assert pruned.shape == plain.shape
    # Below the camera's name and beside the border of the cells.
    np.testing.assert_array_equal(pruned[30:80, 4:70], plain[30:80, 4:70])
    assert pruned[30:80, 90:156].mean() < 0.6 * plain[30:80, 90:156].mean()
    np.testing.assert_array_equal(pruned[:, 170:], plain[:, 170:])  # of other cameras nothing is said

    loaded = tick_picture(observation, plan, Scene(), CELL, load={2: np.array([2.0, 0.0])})
    assert loaded.shape == plain.shape
    cameras = 3 * CELL[0] + 8
    np.testing.assert_array_equal(loaded[:, :cameras], plain[:, :cameras])
    strip = loaded[-15:, cameras + 6 :].astype(int)
    assert (strip[..., 0] > strip[..., 1] + 100).any()  # the crowded expert is red
