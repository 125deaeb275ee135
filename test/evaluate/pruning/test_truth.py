# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What is true of a recorded tick: which tokens are foreground, where the road ends, where the car went."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vla_driver.data.foreground.masks import Foreground
from vla_driver.evaluate.pruning.truth import RoadArea, foreground_tokens, most_telling, read_ticks


def test_road_needs_a_quarter_of_a_cell_and_small_things_a_fiftieth() -> None:
    mask = np.zeros((20, 40), np.uint8)  # two cells of 20 x 20 = 400 pixels
    mask[:5, :20] = Foreground.ROAD  # 100 of 400
    mask[:5, 20:39] = Foreground.ROAD  # 95 of 400
    foreground, small = foreground_tokens(mask, 1, 2)
    assert foreground.tolist() == [[True, False]]
    assert small.tolist() == [[False, False]]
    mask[10, 20:28] = Foreground.SIGN  # 8 of 400
    foreground, small = foreground_tokens(mask, 1, 2)
    assert foreground.tolist() == [[True, True]]
    assert small.tolist() == [[False, True]]
    mask[10, 20] = Foreground.BACKGROUND
    assert not foreground_tokens(mask, 1, 2)[1].any()


def test_ticks_of_a_bag_carry_their_future_and_their_masks(labelled_bag: Path) -> None:
    ticks = list(read_ticks(labelled_bag))
    # Pictures at 0.0, 0.5 ... 4.5 s; 3 s of driving follow on the first four.
    assert [round(tick.observation.stamp_s - 100.0, 3) for tick in ticks] == [0.0, 0.5, 1.0, 1.5]
    np.testing.assert_allclose(ticks[1].driven[:, 0], 4.0 + 8.0 * np.arange(0.5, 3.1, 0.5), atol=1e-6)
    assert ticks[0].agents is not None
    assert [box.shape for box in ticks[0].agents] == [(1, 5)] * 6
    assert ticks[0].driven_off_road is None
    truth = ticks[0].tokens('front', 2, 4)
    assert truth is not None
    # The car covers columns 200 to 280 of 320 (cells 2 and 3 of 80 pixels each) and rows 60 to 120 of 192.
    assert truth[1].tolist() == [[False, False, True, True], [False, False, True, True]]
    assert truth[0].tolist() == [[False, False, True, True], [True, True, True, True]]
    assert ticks[0].tokens('back', 2, 4)[1].sum() == 0  # type: ignore[index]
    assert ticks[0].tokens('roof', 2, 4) is None
    assert most_telling(ticks) == 0


def test_a_footprint_is_off_the_road_when_one_corner_is() -> None:
    pytest.importorskip('sumolib')
    from vla_driver.sim.world.towns import load_network

    path = Path(__file__).parents[2] / 'networks' / 'crossroads.net.xml'
    lane = next(
        lane
        for edge in load_network(path).getEdges(withInternal=False)
        for lane in edge.getLanes()
        if lane.allows('passenger') and lane.getLength() > 30.0
    )
    (x0, y0), (x1, y1) = (point[:2] for point in (lane.getShape()[0], lane.getShape()[-1]))
    yaw = float(np.arctan2(y1 - y0, x1 - x0))
    middle = np.array([0.5 * (x0 + x1), 0.5 * (y0 + y1), yaw])
    aside = middle + [30.0 * np.sin(yaw), -30.0 * np.cos(yaw), 0.0]
    edge = middle + [1.6 * np.sin(yaw), -1.6 * np.cos(yaw), 0.0]  # half a car over a lane of 3.2 m
    turned = middle + [0.0, 0.0, 0.5 * np.pi]  # across the lane: the nose 3.7 m to the left, the tail over the edge
    assert RoadArea(path).leaves([middle, aside, edge]).tolist() == [False, True, True]
    assert RoadArea(path).leaves([turned]).shape == (1,)
