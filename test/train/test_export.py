# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A run becomes a checkpoint that ships: small, without training heads, with a card read from its log."""

import json

import pytest
import torch

from vla_driver.model.config import VlaConfig
from vla_driver.model.native.loading import load_model
from vla_driver.model.native.vla import VlaModel
from vla_driver.train.export import export_run
from vla_driver.types import InvalidInput


@pytest.fixture
def trained(tmp_path):
    torch.manual_seed(0)
    folder = tmp_path / 'second'
    VlaModel(VlaConfig(blind=True)).save_pretrained(folder)
    settings = {'seed': 5, 'clips': 4, 'ticks': 6, 'learning_rate': 3e-4}
    log = [
        {'kind': 'start', 'episodes': 7, 'ticks': 700, 'device': 'cpu', 'threads': 2, 'init': '', 'settings': settings},
        {'kind': 'train', 'step': 40, 'seconds': 120.0},
        {'kind': 'validation', 'ade_1s': 0.125},
    ]
    (folder / 'log.jsonl').write_text('\n'.join(json.dumps(entry) for entry in log))
    return folder


def test_export_keeps_the_weights_and_drops_the_heads(trained, tmp_path):
    scores = tmp_path / 'closed_loop_test.json'
    scores.write_text(json.dumps({'success_rate': 0.75, 'policy': 'model'}))
    parameters, written = export_run(trained, tmp_path / 'shipped', [scores])
    before, after = load_model(trained, auxiliary=False), load_model(tmp_path / 'shipped')
    assert after.dtype == torch.float32 and not after.config.auxiliary
    for (name, ours), theirs in zip(before.state_dict().items(), after.state_dict().values(), strict=True):
        torch.testing.assert_close(ours.to(torch.bfloat16).float(), theirs, msg=name)
    size = (tmp_path / 'shipped' / 'model.safetensors').stat().st_size
    assert size == written and parameters == sum(p.numel() for p in after.parameters())
    assert size < 0.6 * (trained / 'model.safetensors').stat().st_size
    card = (tmp_path / 'shipped' / 'README.md').read_text()
    assert '| second | 5 | 7 | 700 | 40 | 2 | 4 clips of 6 ticks | 0.0003 | random |' in card
    assert '| ade_1s | 0.125 |' in card and '| success_rate | 0.75 |' in card


def test_a_folder_without_a_log_is_refused(trained, tmp_path):
    (trained / 'log.jsonl').unlink()
    with pytest.raises(InvalidInput, match=r'log\.jsonl'):
        export_run(trained, tmp_path / 'shipped')


def test_nothing_is_written_over_unasked(trained, tmp_path):
    export_run(trained, tmp_path / 'shipped')
    with pytest.raises(InvalidInput, match=r'already holds config\.json and model\.safetensors'):
        export_run(trained, tmp_path / 'shipped')
    export_run(trained, tmp_path / 'shipped', replace=True)
    before = (trained / 'model.safetensors').read_bytes()
    with pytest.raises(InvalidInput, match='is the run itself'):
        export_run(trained, trained, replace=True)
    assert (trained / 'model.safetensors').read_bytes() == before


def test_a_run_without_a_step_is_refused_before_anything_is_written(trained, tmp_path):
    log = (trained / 'log.jsonl').read_text().splitlines()
    (trained / 'log.jsonl').write_text(log[0])
    with pytest.raises(InvalidInput, match='holds no step yet'):
        export_run(trained, tmp_path / 'shipped')
    assert not (tmp_path / 'shipped').exists()


@pytest.mark.parametrize(
    ('towns', 'words'),
    [
        (None, 'privileged expert.\n'),
        (['train_grid', 'town7'], 'expert (2 towns: town7, train_grid; none of validation and test).'),
        (['val_rand', *(f't{k}' for k in range(9))], 'and 4 more; of the validation and test towns: val_rand).'),
    ],
)
def test_the_card_says_of_towns_what_the_log_says(trained, tmp_path, towns, words):
    log = [json.loads(line) for line in (trained / 'log.jsonl').read_text().splitlines()]
    if towns is not None:
        log[0]['towns'] = towns
    (trained / 'log.jsonl').write_text('\n'.join(json.dumps(entry) for entry in log))
    export_run(trained, tmp_path / 'shipped')
    card = (tmp_path / 'shipped' / 'README.md').read_text()
    assert words in card
    assert 'Trained from random weights on drives' in card
