# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Loads of experts are seen: who is asked too much is red, who is never asked is dark, in the right place."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from vla_driver.show.experts import draw_tick_loads, draw_training_loads, load_colours, load_strip, save_png
from vla_driver.types import InvalidInput


def test_colours_tell_idle_even_and_crowded() -> None:
    idle, even, crowded = load_colours(np.array([0.0, 1.0, 3.0])).astype(int)
    assert idle.max() < 60
    assert even[1] > even[0] + 100  # green
    assert crowded[0] > crowded[1] + 100  # red


def test_over_steps_each_expert_has_its_row() -> None:
    load = np.ones((10, 4))
    load[5:, 2] = 3.0
    load[5:, 0] = 0.0
    sheet = draw_training_loads(list(range(0, 100, 10)), {'layer 1': load, 'layer 2': np.ones((10, 4))}, width=424)
    rows = [sheet[26 + 40 * expert + 20] for expert in range(4)]  # 26 px of words, 40 px for each of four experts
    red, green = (row[300].astype(int) for row in (rows[2], rows[1]))
    assert red[0] > red[1] + 100
    assert green[1] > green[0] + 100
    assert rows[0][300].max() < 60
    assert rows[2][100][1] > 150  # even before
    assert sheet.shape == (2 * (26 + 160 + 12), 424, 3)


def test_bars_of_a_tick_grow_with_the_load() -> None:
    sheet = draw_tick_loads({'layer 1': np.array([0.0, 0.5, 1.0, 2.0])}, width=424, height=110)
    lit = [(sheet[27:104, 12 + 100 * expert + 50].max(axis=1) > 100).sum() for expert in range(4)]
    assert lit[0] < lit[1] < lit[2] < lit[3]


def test_a_strip_has_a_row_for_each_layer_and_a_cell_for_each_expert() -> None:
    loads = {3: np.array([0.0, 1.0, 3.0, 0.0]), 2: np.array([1.0, 1.0, 1.0, 1.0])}
    strip = load_strip(loads, 262)  # 26 px of the layer's number, 36 of the largest load: 50 px a cell
    assert strip.shape == (19 + 2 * 15 + 4, 262, 3)
    above, below = (strip[row, 26 + 25 :: 50][:4].astype(int) for row in (19 + 5, 19 + 15 + 5))
    assert (above[:, 1] > above[:, 0] + 100).all()  # layer 2 comes first, and is even
    assert below[1, 1] > below[1, 0] + 100
    assert below[2, 0] > below[2, 1] + 100
    assert below[0].max() < 60 and below[3].max() < 60
    with pytest.raises(InvalidInput, match='nothing to draw'):
        load_strip({}, 262)


def test_a_png_keeps_colours(tmp_path: Path) -> None:
    image = np.zeros((4, 5, 3), np.uint8)
    image[..., 0] = 200
    save_png(tmp_path / 'new' / 'a.png', image)
    read = cv2.imread(str(tmp_path / 'new' / 'a.png'))
    assert read is not None
    np.testing.assert_array_equal(cv2.cvtColor(read, cv2.COLOR_BGR2RGB), image)
    with pytest.raises(InvalidInput, match=r'expected a name that ends in \.png'):
        save_png(tmp_path / 'a.jpg', image)


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(InvalidInput, match='nothing to draw'):
        draw_training_loads([], {})
    with pytest.raises(InvalidInput, match='nothing to draw'):
        draw_tick_loads({})
    with pytest.raises(InvalidInput, match=r'loads of a: \(2, 3\), expected \[1, experts\]'):
        draw_training_loads([1], {'a': np.ones((2, 3))})
