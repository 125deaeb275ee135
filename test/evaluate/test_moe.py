# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Dense against experts: the same start, the same data, honest counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_driver.commands.evaluate.moe import aims_of
from vla_driver.data.clips import ClipDataset, find_episodes
from vla_driver.evaluate.moe.comparison import compare
from vla_driver.evaluate.moe.models import count_parameters, make_models
from vla_driver.evaluate.moe.run import DENSE, EQUAL_TIME, EXPERTS, MoeRun
from vla_driver.model.native.loading import load_model
from vla_driver.types import InvalidInput, Observation

SIZES: dict[str, Any] = {'num_experts': 8, 'experts_per_token': 2, 'expert_size': 16, 'shared_size': 32}


@pytest.fixture
def moe_run(episodes: Path, episode_checkpoint: Callable[..., Path], tmp_path: Path) -> Callable[..., MoeRun]:
    """Return a maker of runs on random episodes, with the encoder of a small checkpoint."""
    encoder = episode_checkpoint()

    def make(**changes: Any) -> MoeRun:
        small = {'engine': 'torch', 'clips': 1, 'ticks': 3, 'validate_clips': 4, 'pace_rounds': 2, 'tick_rounds': 3}
        return MoeRun([episodes], str(encoder), tmp_path / 'work', SIZES, **small | changes)

    return make


def test_both_start_alike_but_for_the_experts(moe_run: Callable[..., MoeRun]) -> None:
    run = moe_run(steps=1)
    encoder = load_model(run.encoder)
    controls = ClipDataset(find_episodes(run.data), encoder.config, ticks=3).controls()
    models = make_models(run, controls, encoder)
    dense, experts = (models[name].state_dict() for name in (DENSE, EXPERTS))
    differing = {name for name in dense.keys() ^ experts.keys() if '.mlp.' not in name}
    assert not differing
    for name in dense.keys() & experts.keys():
        assert np.array_equal(dense[name].numpy(), experts[name].numpy()), name
    frozen = {name: value for name, value in encoder.state_dict().items() if name.startswith('vision.blocks.')}
    assert frozen
    for name, value in frozen.items():
        assert np.array_equal(dense[name].numpy(), value.numpy()), name
    trained = {name for name, value in models[DENSE].named_parameters() if value.requires_grad}
    assert not [name for name in trained if name.startswith(('vision.stem.', 'vision.blocks.'))]
    assert [name for name in trained if name.startswith('vision.')]  # the merger
    sizes = {name: count_parameters(model) for name, model in models.items()}
    one = 3 * 32 * 64  # a dense layer; the one with experts: shared, eight of 16, a router
    assert sizes[DENSE] == {'feed_forward': 2 * one, 'active': 2 * one, 'all': sizes[DENSE]['all']}
    assert sizes[EXPERTS]['feed_forward'] == one + 3 * 32 * (32 + 8 * 16) + 8 * 32
    assert sizes[EXPERTS]['active'] == one + 3 * 32 * (32 + 2 * 16) + 8 * 32


def test_layers_with_experts_are_those_asked_for_not_the_encoders(moe_run: Callable[..., MoeRun]) -> None:
    run = moe_run(steps=1)
    encoder = load_model(run.encoder)
    encoder.config.language_config.expert_layers = [0]
    controls = ClipDataset(find_episodes(run.data), encoder.config, ticks=3).controls()

    def layers(**changes: Any) -> tuple[int, ...]:
        model = make_models(moe_run(steps=1, changes=changes), controls, encoder)[EXPERTS]
        return model.config.language_config.routed_layers

    assert layers() == (1,)  # all but the first
    assert layers(language_config={'expert_layers': [0, 1]}) == (0, 1)


def test_the_report_holds_what_was_measured(
    moe_run: Callable[..., MoeRun], observe: Callable[..., Observation]
) -> None:
    words: list[str] = []
    told: list[int] = []
    report, trained = compare(moe_run(steps=2), [observe(0), observe(1)], tell=words.append, on_step=told.append)
    assert report['steps'][DENSE] == report['steps'][EXPERTS] == 2
    assert report['steps'][EQUAL_TIME] == max(1, round(2 / report['step_ratio']))
    assert told == [sum(report['steps'].values())] * len(told) and len(told) == told[0]
    assert report['parameters_ratio'] == pytest.approx((1 + 2.5) / 2, rel=0.05)
    assert 1.0 <= report['load_max_over_uniform'] <= 8 / 2
    assert report['tick_ratio'] == report['tick_ratio_torch'] > 0
    assert report['prefill_ms'][EXPERTS] < report['tick_ms'][EXPERTS]
    for name in (DENSE, EXPERTS, EQUAL_TIME):
        assert np.isfinite(report[f'loss_{name}'])
        assert report[f'l2_m_{name}'] == report[f'figures_{name}']['ade_3s']
    difference = trained[EXPERTS].losses - trained[DENSE].losses
    assert report['loss_moe_less_dense'] == pytest.approx(difference.mean())
    at, loads = trained[EXPERTS].loads
    assert at == [1, 2]
    assert loads['layer 1'].shape == (2, 8)
    assert any('at equal time' in line for line in words)


def test_what_was_trained_is_not_trained_again(
    moe_run: Callable[..., MoeRun], observe: Callable[..., Observation]
) -> None:
    steps: list[int] = []

    def again(**changes: Any) -> tuple[dict[str, Any], int]:
        steps.clear()
        report, _ = compare(moe_run(**changes), [observe(0)], tell=lambda line: None, on_step=steps.append)
        return report, len(steps)

    (first, trained), (second, none) = again(steps=2), again(steps=2)
    assert trained == sum(first['steps'].values()) and none == 0
    for name in ('loss_moe', 'loss_dense', 'step_ratio', 'seconds', 'load_entropy', 'loss_moe_less_dense_ci'):
        assert first[name] == second[name], name
    assert again(steps=2, seed=1)[1] > 0


@pytest.mark.parametrize('length', [{}, {'steps': 1, 'minutes': 1.0}])
def test_a_length_is_given_once(moe_run: Callable[..., MoeRun], length: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match='one of --steps and --minutes'):
        compare(moe_run(**length), [])


def test_aims() -> None:
    report = {
        'parameters_ratio': 4.1,
        'tick_ratio': 1.2,
        'loss_moe': 1.0,
        'loss_dense': 1.1,
        'load_max_over_uniform': 1.9,
    }
    assert aims_of(report) == {
        'parameters_ratio': True,
        'tick_ratio': False,
        'loss': True,
        'load_max_over_uniform': True,
    }
