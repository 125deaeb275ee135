# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import shapely

from vla_driver.geometry import boxes


def test_overlap_is_what_polygons_say() -> None:
    rng = np.random.default_rng(0)
    pose = rng.uniform([-4, -4, -3.2], [4, 4, 3.2], (500, 2, 3))
    corners = boxes.corners(pose, rng.uniform(0.3, 5.0, (500, 2, 2)))
    ours = boxes.overlap(corners[:, 0], corners[:, 1])
    theirs = [shapely.Polygon(a).intersects(shapely.Polygon(b)) for a, b in corners]
    assert ours.tolist() == theirs
    assert 0.2 < ours.mean() < 0.8


def test_every_one_with_every_other() -> None:
    corners = boxes.corners([[0.0, 0.0, 0.0], [3.0, 0.0, 0.5], [9.0, 0.0, 1.0]], [[4.0, 2.0]] * 3)
    found = boxes.overlap(corners[:, None], corners[None])
    assert found.tolist() == [[True, True, False], [True, True, False], [False, False, True]]
