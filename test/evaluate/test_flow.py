# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Solvers and steps against the reference, and forecasts against constant velocity: every figure has an expectation."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vla_driver.cli import main
from vla_driver.data.clips import ClipDataset, find_episodes
from vla_driver.evaluate.flow import REFERENCE, SETTINGS, evaluate_flow
from vla_driver.evaluate.forecasts import ForecastFigures
from vla_driver.model.native.acting.agents import AgentStates
from vla_driver.model.native.acting.sight import compress_places
from vla_driver.model.native.loading import load_model
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.tokens import AgentLabels
from vla_driver.types import InvalidInput


@pytest.fixture
def forecaster(episodes: Path, tiny_settings: Callable[[], dict[str, Any]]) -> VlaModel:
    """A small model of four others, whose flow bends."""
    from vla_driver.model.config import VlaConfig

    settings = tiny_settings()
    settings['action_config']['num_agents'] = 4
    torch.manual_seed(0)
    model = VlaModel(VlaConfig(**settings)).eval()
    with torch.no_grad():
        model.flow.anchors.normal_()
        for parameter in model.flow.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def _states(labels: AgentLabels, shift_m: float = 0.0) -> AgentStates:
    """Return the truth as if a model had said it, everybody `shift_m` to the left."""
    place = labels.pose[..., :2] + torch.tensor([0.0, shift_m])
    yaw = labels.pose[..., 2]
    return AgentStates(
        existence=torch.where(labels.present, 3.0, -3.0),
        person=torch.where(labels.person, 3.0, -3.0),
        place=compress_places(place),
        heading=torch.stack([yaw.cos(), yaw.sin()], dim=-1),
        speed=labels.speed_mps / 10.0,
        log_size=torch.zeros_like(labels.size_m),
    )


def _true_controls(labels: AgentLabels) -> torch.Tensor:
    from vla_driver.model.native.acting.agent_motion import controls_of

    flat = [value.flatten(0, 1) for value in (labels.pose, labels.speed_mps, labels.future, labels.future_valid)]
    return controls_of(flat[0], flat[1], flat[2], flat[3], 0.25).unflatten(0, labels.present.shape)


def test_true_forecasts_beat_constant_velocity(agent_labels: Callable[..., AgentLabels]) -> None:
    labels = agent_labels(12)
    labels.pixels[:, 4] = 0.0  # nobody sees the farthest
    figures = ForecastFigures(0.25, 0.5, 16.0)
    controls = _true_controls(labels).unsqueeze(1)
    figures.add(_states(labels), torch.cat([controls, torch.zeros_like(controls)], dim=1), labels)
    found = figures.summary()
    assert (found['seen'], found['found_share'], found['true_share']) == (48, 1.0, 1.0)
    assert found['state'] == pytest.approx({'place_m': 0.0, 'speed_mps': 0.0, 'yaw_deg': 0.0, 'kind': 1.0}, abs=1e-3)
    model, still = (found['all'][f'{name}_from_found_state'] for name in ('model', 'constant_velocity'))
    assert model['ade_m'] == pytest.approx(0.0, abs=0.1)
    assert model['miss'] == 0.0
    assert still['ade_m'] > 1.0
    assert still['miss'] > 0.3
    assert found['moving']['count'] < found['all']['count'] == 48


def test_the_best_of_the_samples_counts_and_the_first_one_is_the_forecast(
    agent_labels: Callable[..., AgentLabels],
) -> None:
    labels, figures = agent_labels(6), ForecastFigures(0.25, 0.5, 16.0)
    controls = _true_controls(labels).unsqueeze(1)
    figures.add(_states(labels), torch.cat([torch.zeros_like(controls), controls], dim=1), labels)
    model = figures.summary()['all']['model_from_found_state']
    assert model['minade_m'] == pytest.approx(0.0, abs=0.1)
    assert model['ade_m'] > 1.0
    assert model['min_miss'] == 0.0
    assert model['miss'] > 0.3


def test_who_is_too_far_off_is_not_found_and_counts_as_a_false_alarm(agent_labels: Callable[..., AgentLabels]) -> None:
    labels, figures = agent_labels(6, count=1), ForecastFigures(0.25, 0.5, 16.0)
    figures.add(_states(labels, shift_m=6.0), _true_controls(labels).unsqueeze(1), labels)
    found = figures.summary()
    assert (found['found_share'], found['true_share'], found['futures']) == (0.0, 0.0, 0)
    unknown = dataclasses.replace(labels, known=torch.zeros_like(labels.known))
    figures.add(_states(labels), _true_controls(labels).unsqueeze(1), unknown)
    assert figures.summary()['seen'] == 6, 'drives that did not record others say nothing'


def test_settings_differ_by_the_solver_alone(forecaster: VlaModel, episodes: Path, float32: None) -> None:
    dataset = ClipDataset(find_episodes([episodes]), forecaster.config, augment=False, ticks=2)
    found = evaluate_flow(forecaster, dataset.validation_batches(1, 1), samples=2, timed=3)
    assert [(row['solver'], row['steps']) for row in found['rows']] == list(SETTINGS)
    rows = {(row['solver'], row['steps']): row for row in found['rows']}
    assert rows[REFERENCE]['relative_to_50'] == 0.0
    assert rows[REFERENCE]['time_to_reference'] == 1.0
    # More steps come closer, and midpoint closer than Euler; few are faster than fifty.
    assert abs(rows['midpoint', 3]['relative_to_50']) < abs(rows['euler', 1]['relative_to_50'])
    assert rows['euler', 2]['time_to_reference'] < 0.5
    assert all(row['minade_m'] <= row['ade_m'] and 0 <= row['drivable'] <= 1 for row in found['rows'])
    assert 'others' not in found
    assert (forecaster.flow.solver, forecaster.flow.steps) == ('euler', 2)


def test_the_command_says_and_writes_it(
    forecaster: VlaModel, episodes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forecaster.save_pretrained(tmp_path / 'model')
    arguments = [
        '--checkpoint',
        str(tmp_path / 'model'),
        '--data',
        str(episodes),
        '--clips',
        '2',
        '--samples',
        '2',
        '--timed',
        '1',
    ]
    assert main(['evaluate', 'flow', *arguments, '--json', str(tmp_path / 'flow.json'), '--device', 'cpu']) == 0
    assert 'midpoint' in capsys.readouterr().out
    written = json.loads((tmp_path / 'flow.json').read_text())
    assert {'solver', 'steps', 'minade_m', 'relative_to_50', 'ms'} <= set(written['rows'][0])
    assert all(np.isfinite(row['minade_m']) for row in written['rows'])


def test_solver_and_steps_can_be_chosen_at_load(forecaster: VlaModel, tmp_path: Path) -> None:
    forecaster.save_pretrained(tmp_path / 'model')
    assert (load_model(tmp_path / 'model').flow.solver, load_model(tmp_path / 'model').flow.steps) == ('euler', 2)
    other = load_model(tmp_path / 'model', solver='midpoint', steps=3)
    assert (other.flow.solver, other.flow.steps) == ('midpoint', 3)
    h, anchor = torch.randn(1, 24, 32), torch.tensor([0])
    assert not torch.allclose(other.flow.sample(h, anchor), load_model(tmp_path / 'model').flow.sample(h, anchor))
    with pytest.raises(InvalidInput, match="solver 'rk4', allowed: euler, midpoint"):
        load_model(tmp_path / 'model', solver='rk4')
    with pytest.raises(InvalidInput, match='0 steps'):
        load_model(tmp_path / 'model', steps=0)


def test_held_out_of_a_single_episode_there_is_nothing(
    episodes: Path, episode_checkpoint: Any, tmp_path: Path, one_error: Any
) -> None:
    (tmp_path / 'one').mkdir()
    shutil.copy(find_episodes([episodes])[0], tmp_path / 'one')
    words = ['evaluate', 'flow', '--checkpoint', str(episode_checkpoint()), '--data', str(tmp_path / 'one')]
    assert '--held-out: of a single episode nothing is held out' in one_error([*words, '--held-out'])
