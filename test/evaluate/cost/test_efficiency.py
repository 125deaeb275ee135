# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`vla_driver evaluate efficiency`: operations that can be checked by hand, times on a small model, named errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from vla_driver.cli import main
from vla_driver.evaluate.cost import qwen_models as efficiency_models
from vla_driver.evaluate.cost.efficiency import QwenBench, as_dicts, measure_qwen
from vla_driver.evaluate.cost.native import NativeBench, measure_native
from vla_driver.evaluate.cost.qwen_models import QwenShape, square_or_six
from vla_driver.geometry.rig import load_rig
from vla_driver.model.checkpoint import resolve_checkpoint
from vla_driver.model.config import VlaConfig
from vla_driver.types import InvalidInput

SMALL = QwenShape(
    hidden=2048,
    layers=3,
    heads=16,
    key_value_heads=8,
    intermediate=1024,
    vocabulary=152000,
    tied=True,
    vision_blocks=10,
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model with few layers, under a name of its own."""
    monkeypatch.setattr(efficiency_models, 'SHAPES', {**efficiency_models.SHAPES, 'small': SMALL})


def test_pictures_of_so_many_tokens() -> None:
    assert square_or_six(3249).rows == (57,)
    six = square_or_six(6 * 9 * 16)
    assert (six.rows, six.columns) == ((9,) * 6, (16,) * 6)
    with pytest.raises(InvalidInput, match='neither one square picture nor six'):
        square_or_six(3250)


@pytest.mark.usefixtures('small')
def test_operations_are_those_of_the_formula() -> None:
    """Prefill of L tokens: 2 L (linear weights) + 4 L^2 d a layer, and the logits of one token."""
    bench = QwenBench('small', 144, torch.device('meta'))
    _, scoring, language = bench.flops('none', 144)
    length, d = bench.ids.shape[1], SMALL.hidden
    linear = d * d * 2 + 2 * d * (d // 2) + 3 * d * SMALL.intermediate
    assert scoring == 0
    assert language == SMALL.layers * (2 * length * linear + 4 * length**2 * d) + 2 * d * SMALL.vocabulary
    _, _, pruned = bench.flops('random', 36)
    shorter = length - 108
    assert pruned == SMALL.layers * (2 * shorter * linear + 4 * shorter**2 * d) + 2 * d * SMALL.vocabulary


@pytest.mark.usefixtures('small')
@pytest.mark.parametrize('name', ['none', 'recon', 'vispruner', 'fastv', 'early:4'])
def test_operations_do_not_depend_on_the_device(name: str) -> None:
    """Attention has another kernel on the CPU, of which torch's counter knows nothing by itself."""
    kept = 144 if name == 'none' else 36
    meta, cpu = (QwenBench('small', 144, torch.device(kind), scale=8).flops(name, kept) for kind in ('meta', 'cpu'))
    assert cpu == meta


@pytest.mark.usefixtures('small')
def test_late_pruning_leaves_the_encoder_and_early_pruning_does_not() -> None:
    bench = QwenBench('small', 144, torch.device('meta'))
    whole, late = bench.flops('none', 144), bench.flops('recon', 36)
    assert late[0] == whole[0]
    assert late[1] > 0
    assert late[2] < whole[2]
    blocks = [bench.flops(f'early:{block}', 36)[0] for block in (2, 5, 8)]
    assert blocks == sorted(blocks)
    assert blocks[0] < 0.5 * whole[0]
    inside = bench.flops('fastv', 36)
    assert inside[0] == whole[0]
    assert late[2] < inside[2] < whole[2]
    assert bench.flops('vispruner', 36)[1] > bench.flops('random', 36)[1]


@pytest.mark.usefixtures('small')
def test_times_of_every_row_come_from_one_paired_run() -> None:
    bench = QwenBench('small', 36, torch.device('cpu'), scale=8)
    told: list[str] = []
    names = ('none', 'random', 'divprune', 'vispruner', 'fastv', 'recon', 'early:2')
    rows = list(measure_qwen(bench, (9,), names, repeats=2, answer=2, advance=told.append))
    assert [row.pruner for row in rows] == list(names)
    for row in rows:
        assert row.flops_whole == row.flops_vision + row.flops_pruner + row.flops_language_model
        for value in (row.prefill_ms, row.decode_ms_per_token, row.image_to_plan_ms):
            assert value is not None
            assert value > 0
        assert row.peak_memory_mb is None
    # One round runs every row before the next round begins.
    timed = [what for what in told if what.endswith('times')]
    assert timed[: len(names)] == timed[len(names) :]
    assert as_dicts(rows)[0]['flops_saving'] == 1.0


def test_the_command_writes_rows(tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from vla_driver.commands.evaluate import efficiency as command

    monkeypatch.setattr(command, 'ARCHS', ('small',))
    file = tmp_path / 'e.json'
    words = ['evaluate', 'efficiency', '--arch', 'small', '--tokens', '144', '--keep', '72', '36', '--json', str(file)]
    assert main([*words, '--pruners', 'none', 'random', 'early:4', '--device', 'meta']) == 0
    found = json.loads(file.read_text())
    assert [(row['pruner'], row['kept']) for row in found['rows']] == [
        ('none', 144),
        ('random', 72),
        ('random', 36),
        ('early:4', 72),
        ('early:4', 36),
    ]
    assert found['rows'][0]['prefill_ms'] is None
    assert found['weights'] == 'random'
    assert 'saving' in capsys.readouterr().out


def test_the_native_model_has_the_same_rows(tmp_path: Path) -> None:
    file = tmp_path / 'e.json'
    pruners = ['none', 'random', 'fastv', 'early:1']
    words = ['--arch', 'native', '--pruners', *pruners, '--repeats', '1', '--json', str(file)]
    assert main(['evaluate', 'efficiency', *words]) == 0
    rows = json.loads(file.read_text())['rows']
    assert len(rows) == 1 + 3 * 3
    assert rows[0]['flops_saving'] == 1.0
    assert all(row['flops_saving'] > 1.0 for row in rows[1:])
    assert all(row['decode_ms_per_token'] is None and row['image_to_plan_ms'] > 0 for row in rows)


@pytest.mark.usefixtures('bfloat16')
def test_the_native_model_is_counted_in_bfloat16_too() -> None:
    """As on processors that multiply it natively, where the weights are stored in it."""
    config = VlaConfig.from_pretrained(resolve_checkpoint('nano'))
    bench = NativeBench(config, load_rig('sim'), torch.device('cpu'))
    assert bench.policy.model.language.layers[0].q.weight.dtype == torch.bfloat16
    none, *pruned = measure_native(bench, (33,), ('recon', 'vispruner', 'early:1'), repeats=1)
    assert [row.pruner for row in pruned] == ['recon', 'vispruner', 'early:1']
    assert all(row.flops_whole < none.flops_whole for row in pruned)
    again = [bench.flops(bench.pruner('recon'), 33) for _ in range(2)]
    assert again[0] == again[1] == (pruned[0].flops_vision, pruned[0].flops_pruner, pruned[0].flops_language_model)
    assert pruned[2].flops_vision < none.flops_vision == pruned[0].flops_vision


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--keep', '4000'], 'keep 4000 of 3249 tokens; allowed: 1 to 3249'),
        (['--tokens', '3250'], 'neither one square'),
        (['--scale', '3', '--tokens', '36'], 'scale 3 of qwen2.5-vl-3b; allowed: 1, 2, 4, 8, 16'),
        (['--arch', 'native', '--tokens', '99'], 'tokens 99'),
        (['--arch', 'native', '--device', 'meta'], 'arch native'),
        (['--arch', 'native', '--scale', '2'], 'scale 2'),
        (['--tokens', '36', '--pruners', 'luck'], "'luck'"),
        (['--tokens', '36', '--pruners', 'early:99'], 'allowed: 1 to 31'),
        (['--tokens', '36', '--pruners', 'early:x'], "'early:x'"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['evaluate', 'efficiency', *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason='a GPU is here')
def test_no_gpu_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['evaluate', 'efficiency', '--device', 'cuda']) == 2
    assert 'no GPU that torch can use is here' in capsys.readouterr().err
