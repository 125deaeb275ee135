# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`vla_driver evaluate attention`: rows for every number of tokens, exponents that are those of the times."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vla_driver.cli import main
from vla_driver.evaluate.cost.attention import KINDS, AttentionBench, growth, measure_attention, pays_from
from vla_driver.types import InvalidInput


def test_writes_its_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / 'attention.json'
    settings = ['--tokens', '40', '80', '--heads', '2', '--head-dim', '8', '--rounds', '3', '--threads', '1']
    assert main(['evaluate', 'attention', *settings, '--json', str(file)]) == 0
    written = json.loads(file.read_text())
    assert [row['tokens'] for row in written['rows']] == [40, 80]
    for row in written['rows']:
        assert row['window'] == 16 and row['full_kernel'] in ('fused', 'products')
        for kind in KINDS:
            low, high = row[f'{kind}_ratio_ci']
            assert 0 < low <= row[f'{kind}_ratio'] <= high
            assert row[f'{kind}_full_ms'] > 0 and row[f'{kind}_sparse_ms'] > 0
    measured = ('forward', 'forward_backward')
    assert set(written['exponents']) == {f'{kind}_{which}' for kind in measured for which in ('full', 'sparse')}
    assert 'pays from' in capsys.readouterr().out


def test_sparse_attention_is_faster_among_many_tokens() -> None:
    """At 2048 tokens it computes a twentieth; a third of the time is a bound that no machine misses."""
    (row,) = measure_attention(AttentionBench(heads=4, rounds=3), [2048])
    assert row['forward_full_ms'] > row['forward_sparse_ms']
    assert row['forward_backward_ratio'] > 1.0


def test_growth_is_the_exponent_of_the_times() -> None:
    rows = [
        {
            'tokens': n,
            'forward_full_ms': 1e-6 * n**2,
            'forward_sparse_ms': 1e-4 * n**1.5,
            'forward_backward_full_ms': 3e-6 * n**2,
            'forward_backward_sparse_ms': 2e-4 * n,
        }
        for n in (512, 1024, 8192)
    ]
    want = {
        'forward_full': 2.0, 'forward_sparse': 1.5, 'forward_backward_full': 2.0, 'forward_backward_sparse': 1.0
    }  # fmt: skip
    assert growth(rows) == pytest.approx(want)
    assert growth(rows[:1]) == {}


def test_pays_where_all_larger_ones_are_faster() -> None:
    rows = [{'tokens': n, 'x_ratio': ratio} for n, ratio in ((64, 1.2), (128, 0.9), (256, 1.1), (512, 3.0))]
    assert pays_from(rows, 'x') == 256
    assert pays_from([{'tokens': 64, 'x_ratio': 1.0}], 'x') is None


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidInput, match='3 heads'):
        AttentionBench(heads=3)
    with pytest.raises(InvalidInput, match='2 rounds'):
        AttentionBench(rounds=2)
    with pytest.raises(InvalidInput, match='window 10, unit 4'):
        AttentionBench(window=10, unit=4)
