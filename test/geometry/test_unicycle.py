# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np

from vla_driver.geometry import se2, unicycle


def test_many_bodies_at_once_move_as_each_alone_does() -> None:
    rng = np.random.default_rng(0)
    pose, speed = rng.uniform(-3, 3, (6, 3)), rng.uniform(0, 6, 6)
    # Some of them brake to a stand and set off again.
    controls = np.stack([rng.uniform(-6, 4, (6, 20)), rng.uniform(-0.2, 0.2, (6, 20))], axis=-1)
    paths = unicycle.integrate_many(pose, speed, controls)
    for start, v, own, path in zip(pose, speed, controls, paths, strict=True):
        alone = unicycle.integrate(v, own[:, 0], own[:, 1])
        expected = se2.compose(start, np.column_stack([alone.positions_m, alone.yaw_rad]))
        np.testing.assert_allclose(path[:, :2], expected[:, :2], atol=1e-9)
        np.testing.assert_allclose(se2.wrap(path[:, 2] - expected[:, 2]), 0.0, atol=1e-9)
