# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Runs of fine-tuning by rewards: exact to resume, true to the encoder, measured before and after."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vla_driver.data.clips import ClipDataset, find_episodes
from vla_driver.model.config import VlaConfig
from vla_driver.model.native.loading import load_model
from vla_driver.model.native.vla import VlaModel
from vla_driver.train.export import export_run
from vla_driver.train.record import read_log
from vla_driver.train.reinforce import REPORT, ReinforceRun, reinforce
from vla_driver.train.reinforcement.judged import JudgedClips
from vla_driver.train.reinforcement.measure import Measured, compare
from vla_driver.train.reinforcement.trainer import ReinforceConfig, ReinforceTrainer
from vla_driver.types import InvalidInput


@pytest.fixture(scope='session')
def driver(tmp_path_factory: pytest.TempPathFactory, episode_model: Callable[..., VlaModel]) -> Path:
    """A small model with anchors, from which its plans differ."""
    model = episode_model(auxiliary=False)
    torch.manual_seed(4)
    with torch.no_grad():
        model.flow.anchors.normal_()
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp('driver')
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def run(tracked_episodes: Path, driver: Path) -> Callable[..., dict[str, Any]]:
    """Return a runner of small runs: (out, resume=False, data=..., **settings) -> the report."""

    def start(out: Path, resume: bool = False, data: Path = tracked_episodes, **changes: Any) -> dict[str, Any]:
        settings = {'steps': 4, 'clips': 1, 'ticks': 2, 'samples': 8, 'start': str(driver)} | changes
        return reinforce(
            ReinforceRun([data], out, ReinforceConfig(**settings), resume, validate=4, threads=1, device='cpu')
        )

    return start


def test_a_run_is_measured_resumed_exactly_and_exported(
    run: Any, driver: Path, tmp_path: Path, tracked_episodes: Path, interrupted_at: Any, assert_same_state: Any
) -> None:
    whole, halves, data = tmp_path / 'whole', tmp_path / 'halves', tmp_path / 'data'
    shutil.copytree(tracked_episodes, data)
    report = run(whole, data=data)
    with interrupted_at(ReinforceTrainer, 2):
        run(halves, data=data)
    # What was collected meanwhile is for the next run.
    shutil.copyfile(find_episodes([data])[0], data / 'earlier_than_all.npz')
    run(halves, resume=True, data=data)
    assert_same_state(whole, halves)
    assert report == json.loads((whole / REPORT).read_text())
    assert report['drives'] == 1 and report['ticks'] > 0
    assert report['reward']['interval'] is None  # one drive
    entry = read_log(whole, 'train')[-1]
    assert 0.0 <= entry['reward'] <= entry['best'] <= 1.0 and {'no_collision', 'on_road', 'no_red'} <= entry.keys()
    # The encoder is the one whose features were read; what comes behind it has learned.
    before, after = load_model(driver).state_dict(), load_model(whole).state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items() if name.startswith('vision.'))
    assert not torch.equal(after['flow.classifier.2.weight'], before['flow.classifier.2.weight'])
    export_run(whole, tmp_path / 'shipped')
    assert load_model(tmp_path / 'shipped').config.auxiliary is False
    card = (tmp_path / 'shipped' / 'README.md').read_text()
    assert '(`train reinforce`): whole.' in card and '| reward | ' in card


def test_a_model_learns_to_stop_for_the_car_ahead(tracked_episodes: Path, driver: Path, tmp_path: Path) -> None:
    """The rewards alone, without any example, make plans better that began as chance had it."""
    model, before = load_model(driver), load_model(driver)
    dataset = ClipDataset(find_episodes([tracked_episodes]), model.config, ticks=1, augment=False)
    batch = JudgedClips(dataset).training_batch(0, 0, 6)
    config = ReinforceConfig(steps=60, clips=6, ticks=1, imitation=0.0, divergence=0.0, learning_rate=1e-2)
    trainer = ReinforceTrainer(model, before, config)
    rewards = [trainer.train_step([batch])['expected'] for _ in range(30)]
    assert np.mean(rewards[-3:]) > np.mean(rewards[:3]) + 0.02


def test_nothing_diverges_before_the_first_step(tracked_episodes: Path, driver: Path) -> None:
    model, before = load_model(driver), load_model(driver)
    dataset = ClipDataset(find_episodes([tracked_episodes]), model.config, ticks=2)
    trainer = ReinforceTrainer(model, before, ReinforceConfig(steps=2, clips=1, ticks=2, learning_rate=0.05))
    clips = JudgedClips(dataset)
    first, second = (trainer.train_step([clips.training_batch(0, 0, 1)])['divergence_loss'] for _ in range(2))
    assert first == pytest.approx(0.0, abs=1e-6) and second > 1e-6


def test_a_model_with_every_part_learns_too(tracked_episodes: Path, small_model_file: Path) -> None:
    """Experts, words, intents and forecasts of others: the group plans for the ego, and imitation holds the rest."""
    torch.manual_seed(2)
    settings = json.loads(small_model_file.read_text()) | {'intent': True, 'words_config': {'grammar': 1}}
    settings['language_config'] |= {'num_experts': 4, 'expert_size': 16, 'shared_size': 16}
    settings['action_config'] |= {'num_agents': 2}
    model = VlaModel(VlaConfig(**settings))
    with torch.no_grad():
        model.flow.anchors.normal_()
    before = copy.deepcopy(model)
    dataset = ClipDataset(find_episodes([tracked_episodes]), model.config, ticks=2)
    trainer = ReinforceTrainer(model, before, ReinforceConfig(steps=2, clips=1, ticks=2, samples=8))
    figures = trainer.train_step([JudgedClips(dataset).training_batch(0, 0, 1)])
    assert figures['divergence_loss'] == pytest.approx(0.0, abs=1e-5)
    assert 0.0 <= figures['reward'] <= 1.0 and np.isfinite(figures['loss'])


def test_a_difference_of_drives_is_given_with_how_sure_it_is() -> None:
    episode = np.repeat(np.arange(8), 5)
    rng = np.random.default_rng(0)
    before = Measured({'reward': rng.uniform(0, 0.5, 40)}, episode)
    better = Measured({'reward': before.figures['reward'] + 0.1}, episode)
    row = compare(before, better)['reward']
    assert row['difference'] == pytest.approx(0.1) and row['interval'] == pytest.approx([0.1, 0.1])
    mixed = Measured({'reward': before.figures['reward'] + np.where(episode % 2, 0.2, -0.2)}, episode)
    low, high = compare(before, mixed)['reward']['interval']
    assert low < -0.05 and high > 0.05


def test_what_cannot_be_judged_is_refused(run: Any, episodes: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match='none of 4 episodes says who was where'):
        run(tmp_path / 'out', data=episodes)
    with pytest.raises(InvalidInput, match='--samples 1'):
        run(tmp_path / 'out', samples=1)
    with pytest.raises(InvalidInput, match='--imitation -1'):
        run(tmp_path / 'out', imitation=-1.0)
    with pytest.raises(InvalidInput, match='how long'):
        run(tmp_path / 'out', steps=None)
