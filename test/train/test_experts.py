# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A model with experts is trained, balanced, saved and loaded like any other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from torch import Tensor

from vla_driver.model.config import LanguageConfig, VlaConfig
from vla_driver.model.layers.experts import expert_layers
from vla_driver.model.native.loading import load_model
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.tokens import ClipBatch
from vla_driver.train.experts import ExpertBalance, LoadMeter
from vla_driver.train.policy import PolicyRun, train_policy
from vla_driver.train.policy_trainer import PolicyConfig, PolicyTrainer
from vla_driver.train.record import read_log
from vla_driver.types import InvalidInput

EXPERTS: dict[str, Any] = {'num_experts': 4, 'experts_per_token': 2, 'expert_size': 16, 'shared_size': 16}


@pytest.fixture
def experts_model(small_config: Callable[..., VlaConfig]) -> VlaModel:
    """A small model, the second of whose two layers has experts."""
    config = small_config()
    config.language_config = LanguageConfig(**config.language_config.to_dict() | EXPERTS)
    torch.manual_seed(0)
    return VlaModel(config)


def test_biases_and_loads_after_a_step(experts_model: VlaModel, clip_batch: Callable[..., ClipBatch]) -> None:
    trainer = PolicyTrainer(experts_model, PolicyConfig(steps=3, clips=1))
    ((name, layer),) = expert_layers(experts_model).items()
    assert name == 'language.layers.1.mlp'
    before = layer.experts.gate_up.detach().clone()
    figures = trainer.train_step(clip_batch(experts_model.config))
    step = experts_model.config.language_config.bias_step
    assert 0 < float(layer.router.bias.abs().max()) <= 2 * step
    assert not torch.equal(layer.experts.gate_up, before)
    loads = [figures[f'load_1_{number:02d}'] for number in range(4)]
    assert sum(loads) == pytest.approx(4.0)
    assert figures['load_max'] == figures['load_max_1'] == pytest.approx(max(loads))
    assert 0.0 < figures['load_entropy_1'] <= 1.0
    assert figures['balance'] == pytest.approx(1.0, abs=0.5)
    # Down where the load was above the mean.
    for load, bias in zip(loads, layer.router.bias.tolist(), strict=True):
        if abs(load - 1.0) > 1e-6:
            assert (bias < 0) == (load > 1.0) or abs(bias) < step
    averaged = expert_layers(trainer.averaged)[name].router.bias
    assert 0 < float(averaged.abs().max()) <= float(layer.router.bias.abs().max())


def test_the_balance_loss_weighs_as_the_config_says(
    experts_model: VlaModel, clip_batch: Callable[..., ClipBatch]
) -> None:
    batch = clip_batch(experts_model.config)
    totals = []
    for weight in (0.0, 10.0):
        experts_model.config.language_config.balance_loss = weight
        torch.manual_seed(0)
        out = experts_model.train()(batch)
        totals.append((float(out.loss), float(out.losses['balance'])))
    (without, _), (with_, balance) = totals
    assert with_ - without == pytest.approx(10.0 * balance, rel=1e-3)
    assert 'balance' not in experts_model.eval()(batch).losses


def test_a_dense_model_has_none_of_it(small_model: Callable[..., VlaModel], clip_batch: Callable[..., Any]) -> None:
    model = small_model()
    trainer = PolicyTrainer(model, PolicyConfig(steps=3, clips=1))
    figures = trainer.train_step(clip_batch(model.config))
    assert not [name for name in figures if 'load' in name or 'balance' in name]
    meter = LoadMeter(model.language)
    meter.count()
    assert meter.figures() == {}


def test_counts_of_all_processes_count(experts_model: VlaModel, monkeypatch: pytest.MonkeyPatch) -> None:
    language = experts_model.language.train()
    layer = next(iter(expert_layers(language).values()))
    language.prefill(torch.randn(2, 9, 32), 3)
    others = torch.tensor([[1000, 0, 0, 0]])

    def all_reduce(counts: Tensor) -> None:
        counts += others

    monkeypatch.setattr(torch.distributed, 'is_initialized', lambda: True)
    monkeypatch.setattr(torch.distributed, 'all_reduce', all_reduce)
    ExpertBalance(language, 0.01).move()
    assert layer.router.bias.argmin() == 0
    assert float(layer.router.bias[1:].min()) > 0


def test_a_checkpoint_keeps_the_bias(experts_model: VlaModel, tmp_path: Path) -> None:
    layer = expert_layers(experts_model)['language.layers.1.mlp']
    layer.router.bias.copy_(torch.tensor([0.1234567, -0.2, 0.3, 0.0]))
    experts_model.to(torch.bfloat16).save_pretrained(tmp_path / 'half')
    loaded = expert_layers(load_model(tmp_path / 'half'))['language.layers.1.mlp']
    assert torch.equal(loaded.router.bias, layer.router.bias)
    assert loaded.router.bias.dtype == torch.float32
    assert torch.equal(loaded.experts.down, layer.experts.down.float())


def test_a_run_logs_loads_and_is_resumed(
    tmp_path: Path, episodes: Path, small_model_file: Path, assert_same_state: Callable[..., dict[str, Tensor]]
) -> None:
    settings = json.loads(small_model_file.read_text())
    settings['language_config'] |= EXPERTS
    architecture = tmp_path / 'experts.json'
    architecture.write_text(json.dumps(settings))

    def run(out: str, steps: int, *, resume: bool = False) -> None:
        config = PolicyConfig(steps=steps, clips=1, ticks=3)
        train_policy(
            PolicyRun([episodes], tmp_path / out, config, resume=resume, architecture=architecture, validate_clips=2)
        )

    run('whole', 4)
    (last,) = read_log(tmp_path / 'whole', 'train')
    assert sum(last[f'load_1_{number:02d}'] for number in range(4)) == pytest.approx(4.0, abs=1e-4)
    (held_out,) = read_log(tmp_path / 'whole', 'validation')
    assert held_out['load_max_1'] >= 1.0
    run('halves', 4)
    state = assert_same_state(tmp_path / 'whole', tmp_path / 'halves')
    assert state['model.language.layers.1.mlp.router.bias'].abs().max() > 0
    run('whole', 6, resume=True)
    assert read_log(tmp_path / 'whole', 'train')[-1]['step'] == 6


@pytest.mark.parametrize(
    ('entries', 'message'),
    [
        ({'experts_per_token': 1}, r'experts_per_token is 1, expected 2 to 3'),
        ({'experts_per_token': 4}, r'experts_per_token is 4, expected 2 to 3'),
        ({'expert_size': 20}, r'expert_size is 20, expected a multiple of 8'),
        ({'num_experts': -1}, r'num_experts is -1'),
        ({'expert_layers': [4]}, r'expert_layers is \[4\], expected different numbers from 0 to 3'),
        ({'expert_layers': []}, r'expert_layers is \[\]'),
        ({'experts_backend': 'eager'}, r"'eager', expected one of: grouped, dense, loop"),
        ({'bias_step': float('nan')}, r'bias_step is nan'),
    ],
)
def test_wrong_entries_are_refused(entries: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        LanguageConfig(**EXPERTS | entries)


def test_a_frozen_router_stays_as_it_is(experts_model: VlaModel) -> None:
    language = experts_model.language.train().requires_grad_(False)
    layer = next(iter(expert_layers(language).values()))
    language.prefill(torch.randn(2, 9, 32, requires_grad=True), 3)
    assert not layer.take_losses()
    ExpertBalance(language, 0.01).move()
    assert not layer.router.bias.any()
