# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Figures of words, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from vla_driver.evaluate.words import figures as of
from vla_driver.evaluate.words.report import chosen_ticks
from vla_driver.evaluate.words.ticks import TickWords
from vla_driver.model.words.grammar import Statement
from vla_driver.types import HazardKind, MetaAction

NOTHING = Statement(MetaAction.KEEP, 8.0)
LIGHT = Statement(MetaAction.STOP, 0.0, HazardKind.RED_LIGHT, 'front', 20.0)
ASIDE = Statement(MetaAction.STOP, 2.0, HazardKind.RED_LIGHT, 'front_left', 10.0)
PERSON = Statement(MetaAction.STOP, 0.0, HazardKind.PERSON, 'front', 10.0)


def _tick(drive: int, tick: int, truth: Statement, said: Statement, sure: float = 0.5, **more: Any) -> TickWords:
    return TickWords(drive, tick, 0.5 * tick, truth, said, sure, passes=2, words=16, **more)


TICKS = [
    _tick(0, 0, NOTHING, NOTHING, 0.95),
    _tick(0, 1, LIGHT, LIGHT, 0.95),
    _tick(0, 2, LIGHT, ASIDE, 0.15),
    _tick(1, 0, PERSON, LIGHT, 0.15),
    _tick(1, 1, PERSON, NOTHING, 0.15),
]


def test_accuracies_by_hand() -> None:
    figures = of.accuracies(of.pairs_of(TICKS))
    assert (figures['ticks'], figures['hazards']) == (5, 4)
    assert figures['meta_action'] == pytest.approx(4 / 5)
    assert figures['hazard'] == pytest.approx(3 / 5)
    assert figures['camera'] == pytest.approx(3 / 5)
    assert figures['hazard_and_camera'] == pytest.approx(2 / 5)
    assert figures['hazard_and_camera_of_hazards'] == pytest.approx(1 / 4)
    assert figures['meaning'] == pytest.approx(2 / 5)
    assert figures['balanced_hazard'] == pytest.approx((1 + 1 + 0) / 3)
    assert figures['balanced_meta_action'] == pytest.approx((1 + 3 / 4) / 2)
    low, high = figures['meaning_ci']
    assert low == 0.0  # a resample may hold the second drive alone
    assert high == pytest.approx(2 / 3)


def test_the_majority_says_one_thing() -> None:
    figures = of.accuracies(of.majority(TICKS))
    assert figures['meta_action'] == pytest.approx(4 / 5)
    assert figures['hazard'] == pytest.approx(2 / 5)
    assert figures['balanced_hazard'] == pytest.approx(1 / 3)


def test_confusion_and_numbers() -> None:
    table = of.confusion(TICKS)
    assert table['hazard']['person'] == {
        'none': 1,
        'red_light': 1,
        'vehicle_ahead': 0,
        'vehicle_crossing': 0,
        'person': 0,
    }
    assert sum(sum(row.values()) for row in table['meta_action'].values()) == 5
    found = of.numbers(TICKS)
    assert found['target_speed_error_mps'] == pytest.approx((0 + 0 + 2 + 0 + 8) / 5)
    assert found['distance_error_m'] == pytest.approx((0 + 10) / 2)


def test_reliability_compares_confidence_with_what_came_of_it() -> None:
    found = of.reliability(TICKS)
    assert found['bins'] == [
        {'ticks': 3, 'confidence': pytest.approx(0.15), 'accuracy': 0.0},
        {'ticks': 2, 'confidence': pytest.approx(0.95), 'accuracy': 1.0},
    ]
    assert found['calibration_error'] == pytest.approx(0.6 * 0.15 + 0.4 * 0.05)


def test_passes_are_counted() -> None:
    assert of.decoding(TICKS) == {'passes': 2.0, 'words': 16.0, 'passes_ratio': 0.125}


def test_the_gate_is_compared_with_a_timer() -> None:
    said = [NOTHING, NOTHING, LIGHT, LIGHT, LIGHT, NOTHING]
    asked = [True, False, True, False, False, True]
    held = [NOTHING, NOTHING, LIGHT, LIGHT, LIGHT, NOTHING]
    ticks = [_tick(0, k, one, one, held=held[k], asked=asked[k]) for k, one in enumerate(said)]
    found = of.gating(ticks)
    assert found['asked_share'] == 0.5
    assert (found['always'], found['gate'], found['changes_caught']) == (1.0, 1.0, 1.0)
    # The timer thinks at ticks 0, 1, 3 and 5, and says of tick 2 what was so at tick 1.
    assert found['timer'] == pytest.approx(5 / 6)


def test_shown_ticks_are_spread_over_what_there_is() -> None:
    many = [_tick(0, k, NOTHING, NOTHING) for k in range(90)] + [_tick(1, k, PERSON, NOTHING) for k in range(3)]
    chosen = chosen_ticks(many, 20)
    assert len(chosen) == 20
    assert sum(one.truth.hazard is HazardKind.PERSON for one in chosen) == 3
    assert len({(one.drive, one.tick) for one in chosen}) == 20
    assert len(chosen_ticks(many[:7], 20)) == 7
