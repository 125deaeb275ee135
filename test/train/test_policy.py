# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Imitation of the expert: runs that are resumed exactly, shared among processes, and learn what they are shown."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vla_driver.data.clips import ClipDataset, find_episodes, split_episodes
from vla_driver.model.native.loading import load_model
from vla_driver.model.native.vla import VlaModel
from vla_driver.policies.loading import load_policy
from vla_driver.policies.reasoners import load_reasoner
from vla_driver.train.anchors import fit_anchors
from vla_driver.train.distributed.zero import Sharing
from vla_driver.train.policy import PolicyRun, _shares, run_of, train_policy
from vla_driver.train.policy_trainer import PolicyConfig, PolicyTrainer
from vla_driver.train.record import read_log
from vla_driver.train.state import STATE_FOLDER
from vla_driver.types import InvalidInput

_LEARNING = {field.name for field in fields(PolicyConfig)}


@pytest.fixture
def train(episodes: Path, small_model_file: Path) -> Callable[..., dict[str, float]]:
    """Return a runner with small settings: (out, **fields of PolicyConfig and PolicyRun) -> the last figures.

    small: whether the model is a small one; else it is nano, or that of `init`.
    """

    def run(out: Path, small: bool = True, **changes: Any) -> dict[str, float]:
        settings = {'clips': 1, 'ticks': 3} | changes
        config = PolicyConfig(**{name: settings.pop(name) for name in _LEARNING & settings.keys()})
        # One thread: such small products gain nothing from two, and beside other work two wait for each other.
        given = {
            'architecture': small_model_file if small else None,
            'validate_clips': 2,
            'device': 'cpu',
            'threads': 1,
        }
        return train_policy(PolicyRun(settings.pop('data', [episodes]), out, config, **given | settings))

    return run


def test_resuming_is_exact(train: Any, tmp_path: Path, interrupted_at: Any, assert_same_state: Any) -> None:
    """Six steps, and three steps, an interruption and three more, end in the same weights, averages and moments."""
    whole, halves = tmp_path / 'whole', tmp_path / 'halves'
    train(whole, steps=6)
    with interrupted_at(PolicyTrainer, 3):
        train(halves, steps=6)
    assert json.loads((halves / STATE_FOLDER / 'state.json').read_text())['step'] == 3
    train(halves, steps=6, resume=True, small=False)
    state = assert_same_state(whole, halves)
    assert any(name.startswith('optimizer.exp_avg_sq.') for name in state)
    assert any(name.startswith('averaged.') for name in state)


def test_writes_what_others_need(train: Any, tmp_path: Path, episodes: Path) -> None:
    figures = train(tmp_path / 'run', steps=2)
    assert {'ade_1s', 'ade_2s', 'ade_3s', 'anchor_accuracy', 'go_accuracy', 'light_error_m'} <= figures.keys()
    assert all(np.isfinite(value) for value in figures.values())
    assert 0 <= figures['go_accuracy'] <= 1
    (start,) = read_log(tmp_path / 'run', 'start')
    assert start['settings']['seed'] == 0
    assert read_log(tmp_path / 'run', 'validation')[-1]['step'] == 2
    entry = read_log(tmp_path / 'run', 'train')[-1]
    assert {'loss', 'flow', 'depth', 'light', 'lr', 'grad_norm', 'ticks_per_s'} <= entry.keys()
    assert not list((tmp_path / 'run').rglob('*.pt'))
    split = json.loads((tmp_path / 'run' / 'split.json').read_text())
    assert [Path(path).name for path in split['validation']] == [
        path.name for path in split_episodes(find_episodes([episodes]))[1]
    ]
    policy = load_policy(tmp_path / 'run')
    assert policy.config.action_config.control_std[0] > 0.1
    assert policy.model.flow.anchors[..., 0].std() > 0.1
    # Anchors differ in how fast to go; all of them go straight on.
    straight = policy.model.flow.denormalise(policy.model.flow.anchors.float())[..., 1]
    assert straight.abs().max() < 1e-4


def test_learns_its_data(train: Any, tmp_path: Path) -> None:
    train(tmp_path / 'run', steps=150, learning_rate=3e-3, stage='policy')
    losses = read_log(tmp_path / 'run', 'train')
    assert losses[-1]['anchor'] < 0.9 * losses[0]['anchor']
    assert losses[-1]['position'] < 0.9 * losses[0]['position']


def test_starts_from_a_checkpoint(train: Any, tmp_path: Path) -> None:
    train(tmp_path / 'first', steps=2)
    before = load_model(tmp_path / 'first')
    init = {'init': str(tmp_path / 'first'), 'learning_rate': 1e-6}
    train(tmp_path / 'second', steps=1, **init, small=False)
    after = load_model(tmp_path / 'second')
    # The anchors are part of what the weights mean: they are kept.
    assert torch.equal(after.flow.anchors, before.flow.anchors)
    torch.testing.assert_close(after.language.norm.weight, before.language.norm.weight, atol=1e-4, rtol=0)
    train(tmp_path / 'third', steps=1, seed=7, refit_anchors=True, **init, small=False)
    refitted = load_model(tmp_path / 'third')
    assert not torch.equal(refitted.flow.anchors, before.flow.anchors)
    assert refitted.config.action_config.control_std == before.config.action_config.control_std
    assert refitted.flow.classifier[-1].weight.abs().max() < 1e-5  # one step of 1e-6 after starting anew
    torch.testing.assert_close(refitted.language.norm.weight, before.language.norm.weight, atol=1e-4, rtol=0)


def test_blind_control_trains(train: Any, tmp_path: Path) -> None:
    figures = train(tmp_path / 'run', steps=2, blind=True)
    assert not load_policy(tmp_path / 'run').needs.pictures
    assert 'loss_depth' not in figures
    with pytest.raises(InvalidInput, match='--blind is False'):
        train(tmp_path / 'sees', steps=1, init=str(tmp_path / 'run'))


def test_bad_settings_are_refused(train: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r'--steps is 0'):
        train(tmp_path / 'run', steps=0)
    with pytest.raises(InvalidInput, match='drop one of them'):
        train(tmp_path / 'run', steps=1, stage='vision', blind=True)
    with pytest.raises(InvalidInput, match='--batch 3 does not divide among --processes 2'):
        train(tmp_path / 'run', steps=1, processes=2, clips=3)
    with pytest.raises(InvalidInput, match='--batch 3 does not divide among --shares 2'):
        train(tmp_path / 'run', steps=1, shares=2, clips=3)
    with pytest.raises(InvalidInput, match='--shares 3 do not divide among --processes 2'):
        train(tmp_path / 'run', steps=1, processes=2, shares=3, clips=6)
    with pytest.raises(InvalidInput, match=r'--line-share 1\.5: expected a share between 0 and 1'):
        train(tmp_path / 'run', steps=1, line_share=1.5)
    with pytest.raises(InvalidInput, match='--zero 3; allowed: 1, 2'):
        Sharing(zero=3)
    train(tmp_path / 'run', steps=1)
    with pytest.raises(InvalidInput, match='already holds a run'):
        train(tmp_path / 'run', steps=1)
    with pytest.raises(InvalidInput, match='seed: 0 there, 5 here'):
        train(tmp_path / 'run', steps=2, resume=True, seed=5)
    with pytest.raises(InvalidInput, match='not found'):
        train(tmp_path / 'other', steps=1, init='no-such-model')
    if not torch.cuda.is_available():
        with pytest.raises(InvalidInput, match=r"'cuda': torch .* sees 0 CUDA devices"):
            train(tmp_path / 'other', steps=1, device='cuda')


def test_shares_take_the_mean_gradient(train: Any, tmp_path: Path) -> None:
    """A step of two shares moves the weights as the mean gradient of their two batches does, in one process."""
    out = tmp_path / 'run'
    train(out, steps=1, shares=2, clips=2, stage='policy')
    state = load_file(out / STATE_FOLDER / 'state.safetensors')
    split = json.loads((out / 'split.json').read_text())
    gradients: list[dict[str, torch.Tensor]] = []
    config = load_model(out).config
    dataset = ClipDataset([Path(path) for path in split['train']], config, ticks=3)
    for share in range(2):
        torch.manual_seed(0)
        model = VlaModel(config)
        fit_anchors(model, *dataset.controls(), seed=0)
        trainer = PolicyTrainer(model, PolicyConfig(stage='policy', steps=1, clips=2, ticks=3, shares=2))
        trainer._forward(dataset.training_batch(0, share, 1), share).loss.backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    mean = {name: 0.5 * (gradients[0][name] + gradients[1][name]) for name in gradients[0]}
    norm = float(torch.stack([gradient.norm() for gradient in mean.values()]).norm())
    for name, gradient in mean.items():
        moment = 0.02 * (gradient * min(1.0, 1.0 / norm)) ** 2  # (1 - beta2) g^2 after the first step
        torch.testing.assert_close(state[f'optimizer.exp_avg_sq.{name}'], moment, rtol=1e-3, atol=1e-9, msg=name)


def test_shares_of_a_run_stay_as_they_were(
    train: Any, tmp_path: Path, interrupted_at: Any, assert_same_state: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run of two shares is resumed with two, without being told; what is asked for instead is taken, and said."""
    whole, halves = tmp_path / 'whole', tmp_path / 'halves'
    train(whole, steps=4, shares=2, clips=2, stage='policy')
    with interrupted_at(PolicyTrainer, 2):
        train(halves, steps=4, shares=2, clips=2, stage='policy')
    train(halves, steps=4, clips=2, stage='policy', resume=True, small=False)
    assert_same_state(whole, halves)
    assert 'shares' not in capsys.readouterr().out
    run = PolicyRun([], halves, PolicyConfig(steps=6, clips=3), resume=True, processes=3)
    assert _shares(run) == 3
    assert 'steps of 2 shares, which do not divide among 3 processes' in capsys.readouterr().out


def test_a_run_goes_through_json(tmp_path: Path) -> None:
    run = PolicyRun([tmp_path], tmp_path / 'out', PolicyConfig(steps=3), features=tmp_path, sharing=Sharing(zero=2))
    assert run_of(json.loads(json.dumps(asdict(run), default=str))) == run


@pytest.mark.parametrize('processes', [1, 2])
def test_frozen_training_leaves_the_encoder_and_moves_the_rest(train: Any, tmp_path: Path, processes: int) -> None:
    """Alone, and as the command starts several processes, which encode a share of the episodes each."""
    if processes > 1:
        pytest.importorskip('deepspeed', reason='the extra `distributed` is not installed')
    first, second = tmp_path / 'first', tmp_path / 'second'
    train(first, steps=1, clips=2)
    figures = train(second, steps=3, clips=2, processes=processes, init=str(first), freeze_vision=True, small=False)
    assert 'ade_1s' in figures and 'loss_depth' not in figures
    before, after = load_model(first).state_dict(), load_model(second).state_dict()
    for name, value in before.items():
        if name.startswith('vision.'):
            assert torch.equal(after[name], value), name
    assert not torch.equal(after['language.layers.0.q.weight'], before['language.layers.0.q.weight'])
    assert list((second / 'features').glob('*/*.npy'))
    assert read_log(second, 'start')[0]['settings']['stage'] == 'policy'


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({}, 'give --init CKPT of a model that sees'),
        ({'blind': True, 'init': 'x'}, 'keeps a trained encoder'),
        ({'stage': 'vision', 'init': 'x'}, 'keeps what --stage vision trains'),
    ],
)
def test_freezing_without_a_trained_encoder_is_refused(
    train: Any, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=message):
        train(tmp_path / 'out', steps=1, freeze_vision=True, small=False, **settings)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({}, 'give --init CKPT of a model that has one'),
        ({'stage': 'reflex', 'init': 'x'}, 'for --stage policy or all, .* not for reflex'),
        ({'stage': 'policy', 'init': 'x', 'refit_anchors': True}, 'drop one of them'),
        ({'stage': 'policy', 'init': 'x'}, 'encoder that must stay, too: give --freeze-vision'),
    ],
)
def test_freezing_the_reflex_where_it_makes_no_sense_is_refused(
    train: Any, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=message):
        train(tmp_path / 'out', steps=1, freeze_reflex=True, small=False, **settings)


def test_a_frozen_reflex_answers_as_before(train: Any, tmp_path: Path) -> None:
    """All that the first answers are made of stays bit by bit; the rest learns."""
    first, second = tmp_path / 'first', tmp_path / 'second'
    train(first, steps=1)
    train(second, steps=2, stage='policy', init=str(first), freeze_reflex=True, freeze_vision=True, small=False)
    before, after = load_model(first).state_dict(), load_model(second).state_dict()
    for name in before:
        if name.startswith(('ego.', 'view.', 'reflexes.', 'vision.')):
            assert torch.equal(before[name], after[name]), name
    assert not torch.equal(after['language.layers.0.q.weight'], before['language.layers.0.q.weight'])
    assert not torch.equal(after['flow.hidden.weight'], before['flow.hidden.weight'])


def test_a_run_of_minutes_goes_by_the_clock(train: Any, tmp_path: Path) -> None:
    train(tmp_path / 'run', minutes=0.02)
    (start,) = read_log(tmp_path / 'run', 'start')
    assert start['settings']['minutes'] == 0.02 and start['settings']['steps'] is None
    assert read_log(tmp_path / 'run', 'train')[-1]['seconds'] >= 1.2
    with pytest.raises(InvalidInput, match='how long'):
        train(tmp_path / 'other')


def test_a_run_whose_episodes_are_gone_is_not_resumed(train: Any, tmp_path: Path) -> None:
    train(tmp_path / 'run', steps=1)
    split = json.loads((tmp_path / 'run' / 'split.json').read_text())
    split['train'].append(str(tmp_path / 'lost.npz'))
    (tmp_path / 'run' / 'split.json').write_text(json.dumps(split))
    with pytest.raises(InvalidInput, match=r'1 episodes of the run in .* are gone, the first: .*lost\.npz'):
        train(tmp_path / 'run', steps=2, resume=True)


def test_words_are_added_to_a_model_that_has_none(train: Any, tmp_path: Path, small_model_file: Path) -> None:
    train(tmp_path / 'mute', steps=1)
    words = tmp_path / 'words.json'
    words.write_text('{"words_config": {"grammar": 1}}')
    with pytest.raises(InvalidInput, match='has no words'):
        load_reasoner(tmp_path / 'mute', device='cpu')
    given = {'init': str(tmp_path / 'mute'), 'small': False, 'architecture': words, 'learning_rate': 1e-6}
    figures = train(tmp_path / 'speaks', steps=1, **given)
    assert {'loss_words', 'loss_drafts', 'loss_gate'} <= figures.keys()
    before, after = load_model(tmp_path / 'mute'), load_model(tmp_path / 'speaks')
    torch.testing.assert_close(after.language.norm.weight, before.language.norm.weight, atol=1e-4, rtol=0)
    assert after.config.action_config.control_std == before.config.action_config.control_std
    assert load_reasoner(tmp_path / 'speaks', device='cpu').engine.engine == 'torch'
    # What a run has begun with, it is continued with; the other way, words cannot be half there.
    train(tmp_path / 'speaks', steps=2, resume=True, small=False, learning_rate=1e-6)
    weights = load_file(tmp_path / 'speaks' / 'model.safetensors')
    save_file({k: v for k, v in weights.items() if k != 'words.norm.weight'}, tmp_path / 'speaks' / 'model.safetensors')
    with pytest.raises(InvalidInput, match='1 weights are missing'):
        load_model(tmp_path / 'speaks', auxiliary=True)
    words.write_text('[1]')
    with pytest.raises(InvalidInput, match='a list, expected an object'):
        train(tmp_path / 'other', steps=1, **given)


@pytest.mark.parametrize('experts', [0, 4])
def test_words_alone_leave_driving_bit_by_bit(
    train: Any, tmp_path: Path, small_model_file: Path, reasoned_episodes: Path, experts: int
) -> None:
    settings = json.loads(small_model_file.read_text())
    settings['language_config'] |= {'num_experts': experts, 'experts_per_token': 2, 'expert_size': 16}
    sizes = tmp_path / 'sizes.json'
    sizes.write_text(json.dumps(settings))
    train(tmp_path / 'mute', steps=1, architecture=sizes)
    words = tmp_path / 'words.json'
    words.write_text('{"words_config": {"grammar": 1}}')
    given = {'init': str(tmp_path / 'mute'), 'small': False, 'stage': 'words', 'data': [reasoned_episodes]}
    first = train(tmp_path / 'stammers', steps=1, architecture=words, clips=2, **given)
    last = train(tmp_path / 'speaks', steps=30, architecture=words, learning_rate=1e-2, clips=2, **given)
    assert last['loss_words'] < first['loss_words']
    assert last['loss_flow'] == first['loss_flow']
    before, after = (load_file(tmp_path / name / 'model.safetensors') for name in ('mute', 'speaks'))
    assert all(torch.equal(after[name], value) for name, value in before.items())
    losses = read_log(tmp_path / 'speaks', 'train')
    assert set(losses[-1]) >= {'words', 'drafts', 'gate'}
    assert 'flow' not in losses[-1]
    with pytest.raises(InvalidInput, match='this model has none'):
        train(tmp_path / 'other', steps=1, **given)
    with pytest.raises(InvalidInput, match='give --init CKPT of a model that drives'):
        train(tmp_path / 'other', steps=1, stage='words')
    with pytest.raises(InvalidInput, match='--refit-anchors does not'):
        train(tmp_path / 'other', steps=1, refit_anchors=True, architecture=words, **given)


def test_a_resumed_run_keeps_what_it_has_kept(train: Any, tmp_path: Path) -> None:
    train(tmp_path / 'base', steps=1)
    init = {'init': str(tmp_path / 'base'), 'small': False}
    frozen = {'stage': 'policy', 'freeze_vision': True, 'freeze_reflex': True}
    train(tmp_path / 'run', steps=1, **frozen, **init)
    with pytest.raises(InvalidInput, match='other options than it began with: give --freeze-vision, give --freeze-ref'):
        train(tmp_path / 'run', steps=2, stage='policy', resume=True, small=False)
    before = load_model(tmp_path / 'run').state_dict()
    train(tmp_path / 'run', steps=2, resume=True, small=False, **frozen)
    after = load_model(tmp_path / 'run').state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith('vision.'))


def test_weights_that_lie_there_are_not_written_over(train: Any, tmp_path: Path) -> None:
    train(tmp_path / 'run', steps=1)
    shutil.rmtree(tmp_path / 'run' / STATE_FOLDER)
    with pytest.raises(InvalidInput, match=r'already holds config\.json and model\.safetensors'):
        train(tmp_path / 'run', steps=1)


def test_the_log_names_the_towns(train: Any, tmp_path: Path) -> None:
    train(tmp_path / 'run', steps=1)
    assert read_log(tmp_path / 'run', 'start')[0]['towns'] == ['town_0', 'town_1']
