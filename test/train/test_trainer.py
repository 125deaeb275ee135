# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vla_driver.data.clips import ClipDataset, find_episodes, split_episodes
from vla_driver.model.native.loading import load_model
from vla_driver.model.native.vla import VlaModel
from vla_driver.policies.loading import load_policy
from vla_driver.train import policy as command
from vla_driver.train.anchors import fit_anchors
from vla_driver.train.trainer import STATE_FOLDER, Trainer, TrainerConfig, learning_rate_factor
from vla_driver.types import InvalidInput


@pytest.fixture
def train(episodes: Path, small_model_file: Path) -> Any:
    """Run the command with small settings: (out, *more arguments) -> figures of the last validation."""

    def run(out: Path, *more: str, small: bool = True) -> dict[str, float]:
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        config = ['--config', str(small_model_file)] if small else []
        common = ['--data', str(episodes), '--out', str(out), '--batch', '1', '--ticks', '3', '--validate-clips', '2']
        # One thread: such small products gain nothing from two, and beside other work two wait for each other.
        common += ['--device', 'cpu', '--threads', '1']
        return command.train_policy(parser.parse_args([*common, *config, *more]))

    return run


def _entries(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / 'log.jsonl').read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if entry['kind'] == kind]


def test_resuming_is_exact(train: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """Six steps, and three steps, an interruption and three more, end in the same weights, averages and moments."""
    whole, halves = tmp_path / 'whole', tmp_path / 'halves'
    train(whole, '--steps', '6')
    step = Trainer.train_step

    def interrupt(self: Trainer, batch: Any) -> dict[str, float]:
        if self.step == 3:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(Trainer, 'train_step', interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(halves, '--steps', '6')
    monkeypatch.setattr(Trainer, 'train_step', step)
    assert json.loads((halves / STATE_FOLDER / 'state.json').read_text())['step'] == 3
    train(halves, '--steps', '6', '--resume', small=False)
    one = load_file(whole / STATE_FOLDER / 'state.safetensors')
    other = load_file(halves / STATE_FOLDER / 'state.safetensors')
    assert one.keys() == other.keys()
    assert any(name.startswith('optimizer.exp_avg_sq.') for name in one)
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=0.0, atol=1e-6, msg=name)


def test_writes_what_others_need(train: Any, tmp_path: Path, episodes: Path) -> None:
    figures = train(tmp_path / 'run', '--steps', '2')
    assert {'ade_1s', 'ade_2s', 'ade_3s', 'anchor_accuracy', 'go_accuracy', 'light_error_m'} <= figures.keys()
    assert all(np.isfinite(value) for value in figures.values())
    assert 0 <= figures['go_accuracy'] <= 1
    (start,) = _entries(tmp_path / 'run', 'start')
    assert start['settings']['seed'] == 0
    assert _entries(tmp_path / 'run', 'validation')[-1]['step'] == 2
    entry = _entries(tmp_path / 'run', 'train')[-1]
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
    train(tmp_path / 'run', '--steps', '150', '--learning-rate', '3e-3', '--stage', 'policy')
    losses = _entries(tmp_path / 'run', 'train')
    assert losses[-1]['anchor'] < 0.9 * losses[0]['anchor']
    assert losses[-1]['position'] < 0.9 * losses[0]['position']


def test_starts_from_a_checkpoint(train: Any, tmp_path: Path) -> None:
    train(tmp_path / 'first', '--steps', '2')
    before = load_model(tmp_path / 'first')
    init = ['--init', str(tmp_path / 'first'), '--learning-rate', '1e-6']
    train(tmp_path / 'second', '--steps', '1', *init, small=False)
    after = load_model(tmp_path / 'second')
    # The anchors are part of what the weights mean: they are kept.
    assert torch.equal(after.flow.anchors, before.flow.anchors)
    torch.testing.assert_close(after.language.norm.weight, before.language.norm.weight, atol=1e-4, rtol=0)
    train(tmp_path / 'third', '--steps', '1', '--seed', '7', '--refit-anchors', *init, small=False)
    refitted = load_model(tmp_path / 'third')
    assert not torch.equal(refitted.flow.anchors, before.flow.anchors)
    assert refitted.config.action_config.control_std == before.config.action_config.control_std
    assert refitted.flow.classifier[-1].weight.abs().max() < 1e-5  # one step of 1e-6 after starting anew
    torch.testing.assert_close(refitted.language.norm.weight, before.language.norm.weight, atol=1e-4, rtol=0)


def test_blind_control_trains(train: Any, tmp_path: Path) -> None:
    figures = train(tmp_path / 'run', '--steps', '2', '--blind')
    assert not load_policy(tmp_path / 'run').needs.pictures
    assert 'loss_depth' not in figures
    with pytest.raises(InvalidInput, match='--blind is False'):
        train(tmp_path / 'sees', '--steps', '1', '--init', str(tmp_path / 'run'))


def test_bad_settings_are_refused(train: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r'--steps is 0'):
        train(tmp_path / 'run', '--steps', '0')
    with pytest.raises(InvalidInput, match='drop one of them'):
        train(tmp_path / 'run', '--steps', '1', '--stage', 'vision', '--blind')
    with pytest.raises(InvalidInput, match='--batch 3 does not divide'):
        train(tmp_path / 'run', '--steps', '1', '--processes', '2', '--batch', '3')
    train(tmp_path / 'run', '--steps', '1')
    with pytest.raises(InvalidInput, match='already holds a run'):
        train(tmp_path / 'run', '--steps', '1')
    with pytest.raises(InvalidInput, match='seed: 0 there, 5 here'):
        train(tmp_path / 'run', '--steps', '2', '--resume', '--seed', '5')
    with pytest.raises(InvalidInput, match='not found'):
        train(tmp_path / 'other', '--steps', '1', '--init', 'no-such-model')
    if not torch.cuda.is_available():
        with pytest.raises(InvalidInput, match=r"'cuda': torch .* sees 0 CUDA devices"):
            train(tmp_path / 'other', '--steps', '1', '--device', 'cuda')


def test_divergence_stops_the_run(train: Any, tmp_path: Path, monkeypatch: Any) -> None:
    train(tmp_path / 'run', '--steps', '1')
    model = load_model(tmp_path / 'run')
    trainer = Trainer(model, TrainerConfig(steps=10, clips=1, ticks=3))
    with torch.no_grad():
        model.language.norm.weight[0] = float('nan')
    split = json.loads((tmp_path / 'run' / 'split.json').read_text())
    dataset = ClipDataset([Path(path) for path in split['train']], model.config, ticks=3)
    weight = model.flow.input.weight.detach().clone()
    with pytest.raises(InvalidInput, match='diverged at step 0'):
        trainer.train_step(dataset.training_batch(0, 0, 1))
    assert torch.equal(model.flow.input.weight, weight)
    assert trainer.step == 0


def test_learning_rate_rises_stays_and_falls() -> None:
    assert learning_rate_factor(0.0, 0) == pytest.approx(0.01)
    assert learning_rate_factor(0.2, 500) == 1.0
    assert learning_rate_factor(0.5, 500) == 1.0
    late = [learning_rate_factor(progress, 5000) for progress in (0.6, 0.8, 0.95, 1.0)]
    assert late == sorted(late, reverse=True)
    assert late[-1] == pytest.approx(0.02)


def test_processes_take_the_mean_gradient(train: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """A step of two processes moves the weights as the mean gradient of their two batches does."""
    out = tmp_path / 'run'
    figures = train(out, '--steps', '1', '--processes', '2', '--batch', '2', '--stage', 'policy')
    assert figures['ade_3s'] > 0
    state = load_file(out / STATE_FOLDER / 'state.safetensors')
    split = json.loads((out / 'split.json').read_text())
    gradients: list[dict[str, torch.Tensor]] = []

    def keep(self: Trainer) -> None:
        gradients.append({name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None})

    monkeypatch.setattr(Trainer, '_average_over_processes', keep)
    for rank in range(2):
        config = load_model(out).config
        dataset = ClipDataset([Path(path) for path in split['train']], config, ticks=3)
        torch.manual_seed(0)
        model = VlaModel(config)
        fit_anchors(model, *dataset.controls(), seed=0)
        trainer = Trainer(model, TrainerConfig(stage='policy', steps=1, clips=2, ticks=3, processes=2), rank=rank)
        trainer.train_step(dataset.training_batch(0, rank, 1))
    mean = {name: 0.5 * (gradients[0][name] + gradients[1][name]) for name in gradients[0]}
    norm = float(torch.stack([gradient.norm() for gradient in mean.values()]).norm())
    for name, gradient in mean.items():
        moment = 0.02 * (gradient * min(1.0, 1.0 / norm)) ** 2  # (1 - beta2) g^2 after the first step
        torch.testing.assert_close(state[f'optimizer.exp_avg_sq.{name}'], moment, rtol=1e-3, atol=1e-9, msg=name)
