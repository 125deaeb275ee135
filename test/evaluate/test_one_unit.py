# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Whoever prints an interval does without where one unit has none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vla_driver.commands.evaluate import attention, closed_loop, fast_slow, moe, tick_time, words
from vla_driver.evaluate.fast_slow.interference import _figures
from vla_driver.evaluate.pruning.report import _with_ci
from vla_driver.evaluate.words.report import _cell
from vla_driver.train.reinforcement.measure import Measured, compare, described

Capture = pytest.CaptureFixture[str]


def test_closed_loop_of_one_route(capsys: Capture) -> None:
    keys = [key for key, _, _ in closed_loop._SHOWN]
    figures: dict[str, Any] = dict.fromkeys(keys, 1.0) | {f'{key}_ci': None for key in keys} | {'routes': 1}
    closed_loop._print_table(figures, signed=True)
    text = capsys.readouterr().out
    assert 'CI' not in text and 'too few routes for an interval' in text and '+1.0' in text
    closed_loop._print_table(figures | {f'{key}_ci': [0.5, 2.0] for key in keys} | {'routes': 2})
    text = capsys.readouterr().out
    assert '  driving_score             1.0     95 % CI [0.5, 2.0]\n' in text and 'too few' not in text


def test_arms_of_one_route(capsys: Capture) -> None:
    row: dict[str, Any] = {'routes': 1, 'agreement': None, 'told_share': 0.0}
    for key, _ in fast_slow._SHOWN:
        row |= {key: 1.0, f'{key}_difference': 0.5, f'{key}_difference_ci': None}
    fast_slow._print({'fast': row})
    assert '+0.5' in (text := capsys.readouterr().out) and '[' not in text


def test_ticks_of_one_pair_of_blocks() -> None:
    one = ([1.0, 2.0, 3.0], [1.0, 2.0, 2.0])
    assert _figures([one])['tick_p99_ratio_ci'] is None
    assert len(_figures([one, one])['tick_p99_ratio_ci']) == 2


def test_times_of_one_round(capsys: Capture) -> None:
    assert tick_time._widest([None]) == 'too few rounds for an interval'
    assert tick_time._widest([None, [1.0, 2.0], [1.0, 4.0]]) == 'widest 95 % interval [1.00, 4.00]'
    attention._print([{'tokens': 8, 'window': 2, 'decode_ratio': 1.5, 'decode_ratio_ci': None}], {}, {'decode': None})
    assert '1.50' in (text := capsys.readouterr().out) and '[' not in text


def test_a_mixture_of_one_batch_and_round(capsys: Capture) -> None:
    arms = ('dense', 'moe', 'moe_equal_time')
    ratios = (
        'step_ratio',
        'tick_ratio',
        'tick_ratio_torch',
        'prefill_ratio',
        *(f'loss_{arm}_less_dense' for arm in arms),
    )
    report: dict[str, Any] = {'steps': dict.fromkeys(arms, 1), 'aims': {}, 'load_max_over_uniform': 1.0}
    report |= {f'{name}_{arm}': 1.0 for name in ('loss', 'l2_m') for arm in arms}
    report |= dict.fromkeys((*ratios, 'parameters_ratio', 'parameters_ratio_all', 'active_ratio'), 1.0)
    moe._print(report | {f'{name}_ci': None for name in ratios})
    assert 'tick_ratio: 1.000\n' in (text := capsys.readouterr().out) and '[' not in text


def test_pages_and_words_of_one_drive(capsys: Capture) -> None:
    row = {'driving_score': 61.0, 'driving_score_ci': None}
    assert _with_ci(row, 'driving_score', 1, '+') == '+61.0'
    assert _with_ci(row | {'driving_score_ci': [1.0, 2.0]}, 'driving_score', 1) == '61.0 [1.0, 2.0]'
    assert _cell({'meaning': 0.5, 'meaning_ci': None}, 'meaning') == '0.500'
    words._print(
        {
            'checkpoint': 'c',
            'ticks': 1,
            'drives': 1,
            'accuracy': {'model': {'meaning': 0.5, 'meaning_ci': None}},
            'decoding': {'passes': 1.0, 'words': 1.0},
            'gate': dict.fromkeys(('asked_share', 'gate', 'always', 'timer'), 0.5),
            'reliability': {'calibration_error': 0.0},
        }
    )
    assert '[' not in capsys.readouterr().out


def test_what_reinforcement_changed_on_one_drive() -> None:
    before = Measured({'reward': np.array([0.1, 0.2])}, np.zeros(2, np.int64))
    after = Measured({'reward': np.array([0.3, 0.2])}, before.episode)
    assert described(compare(before, after)).splitlines()[-1] == 'reward: 0.1500 -> 0.2500, +0.1000'
