# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Equal reasons count as one, whatever their figures, and cameras that say the same are named together."""

from __future__ import annotations

from vla_driver.observation.reasons import ReasonCounter, beside, grouped, in_words


def test_reasons_that_differ_in_figures_are_one() -> None:
    counter = ReasonCounter()
    counter.update(f'camera back: last frame {k / 7:.2f} s ago' for k in range(30))
    counter.update(['raw image encoding 16UC1', 'raw image encoding 8UC1'])
    assert counter.counts() == {
        'camera back: last frame 4.14 s ago': 30,
        'raw image encoding 16UC1': 1,
        'raw image encoding 8UC1': 1,
    }


def test_memory_is_bounded() -> None:
    counter = ReasonCounter()
    counter.update('x' * k for k in range(1000))
    assert len(counter.counts()) <= 100


def test_cameras_that_say_the_same_equally_often_are_one_reason() -> None:
    counts = {
        'camera front: no frame': 3,
        'camera back: no frame': 3,
        'cameras back_left, back_right: no frame': 3,
        'camera front_left: no frame': 2,
        'route: none received': 7,
    }
    assert grouped(counts) == {
        'route: none received': 7,
        'cameras front, back, back_left, back_right: no frame': 3,
        'camera front_left: no frame': 2,
    }
    assert in_words(counts, 1) == 'route: none received (7 times); 2 more reasons'
    assert in_words({'a': 1}) == 'a (1 time)'
    assert in_words({}) == ''


def test_what_stands_is_said_where_it_says_more() -> None:
    standing = [
        'camera back: last message refused (4 so far): x',
        'odometry: last message refused (2 so far): speed is nan',
    ]
    assert beside({}, standing) == standing
    assert beside({'odometry: none received': 3}, standing) == standing[1:]
    assert beside({'odometry: none received': 3}, ['cameras back, front: last message refused (4 so far): x']) == []
    assert beside({'odometry: none that can be used: speed is nan': 3}, standing) == []
    assert beside({'route: none received (publish)': 3}, ['route: none received']) == []
