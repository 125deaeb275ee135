# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""PlanPruner: it knows what every token contributes to what the model reads, and keeps what the plan needs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vla_driver.model.native.vla import VlaModel
from vla_driver.model.pruning.base import KeptTokens
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.controls import RandomPruner
from vla_driver.model.pruning.registry import make_pruner
from vla_driver.model.pruning.trained.plan import PlanPruner, is_plan_pruner, load_plan_pruner
from vla_driver.model.tokens import ClipBatch, VisualTokens
from vla_driver.policies.native import NativePolicy
from vla_driver.train.pruning.plan_pruner import plan_differences, plan_pruner_of, plan_reactions
from vla_driver.types import InvalidInput

KEPT = {'reads': 'kept', 'coverage': True, 'hidden_size': 48, 'channels': 8}


@pytest.fixture
def model(small_model: Callable[..., VlaModel]) -> VlaModel:
    """A small model that reads kept tokens alone."""
    return small_model(view_config=KEPT)


def _given(model: VlaModel, tokens: VisualTokens, index: torch.Tensor) -> torch.Tensor:
    view = model.view
    there = torch.zeros_like(tokens.valid).scatter(1, index, True)
    return view.before_activation(tokens.features, view.spread(tokens.rays, tokens.origins), tokens.valid & there)


@torch.no_grad()
def test_contributions_of_the_dropped_are_what_the_reading_loses(
    model: VlaModel, clip_batch: Callable[..., ClipBatch]
) -> None:
    tokens = model.encode(clip_batch(model.config, clips=1, ticks=2).inputs).tokens
    count = tokens.features.shape[1]
    pruner = plan_pruner_of(model, torch.eye(48), 48)  # the plan reacts alike to everything: all directions count
    kept = pruner.select(tokens, TokenBudget(ratio=0.5)).index
    lost = _given(model, tokens, torch.arange(count).expand(2, -1)) - _given(model, tokens, kept)
    dropped = torch.ones(2, count).scatter(1, kept, 0.0).unsqueeze(-1)
    change = (pruner.contributions(tokens) * dropped).sum(dim=1)
    torch.testing.assert_close(change.norm(dim=1), 1.1**0.5 * lost.norm(dim=1), rtol=1e-3, atol=1e-5)


@torch.no_grad()
def test_what_is_not_there_contributes_nothing(model: VlaModel, clip_batch: Callable[..., ClipBatch]) -> None:
    tokens = model.encode(clip_batch(model.config, clips=1, ticks=1).inputs).tokens
    gone = tokens.camera == 0
    pruner = plan_pruner_of(model, torch.eye(48), 8)
    parts = pruner.contributions(replace(tokens, valid=tokens.valid & ~gone))
    assert not parts[:, gone].any() and parts[:, ~gone].any()


def test_the_plan_changes_less_than_by_chance(model: VlaModel, clip_batch: Callable[..., ClipBatch]) -> None:
    batches = [clip_batch(model.config, clips=8, ticks=1)]
    reactions = plan_reactions(model.requires_grad_(False), batches, torch.device('cpu'))
    torch.testing.assert_close(reactions, reactions.mT)
    assert torch.linalg.eigvalsh(reactions).min() > -1e-5 * reactions.trace()
    pruner = plan_pruner_of(model, reactions, 16)
    found = plan_differences(model, {'plan': pruner, 'random': RandomPruner()}, batches, torch.device('cpu'))
    for part in ('read', 'bend'):
        assert found[f'plan_{part}_25'] < 0.5 * found[f'random_{part}_25']
        # Of 18 tokens 9 and 6 stay, one of each of six cameras: there is less to choose.
        for ratio in (50, 75):
            assert found[f'plan_{part}_{ratio}'] < 0.85 * found[f'random_{part}_{ratio}']


@torch.no_grad()
def test_it_is_saved_and_loaded_and_known_by_its_name(
    model: VlaModel, tmp_path: Path, clip_batch: Callable[..., ClipBatch]
) -> None:
    pruner = plan_pruner_of(model, torch.eye(48), 8)
    pruner.save_pretrained(tmp_path / 'plan')
    assert is_plan_pruner(tmp_path / 'plan') and not is_plan_pruner(tmp_path)
    tokens = model.encode(clip_batch(model.config, clips=1, ticks=1).inputs).tokens
    for again in (make_pruner('plan', tmp_path / 'pruner', model.config), make_pruner(tmp_path / 'plan')):
        assert isinstance(again, PlanPruner)
        kept: KeptTokens = again.select(tokens, TokenBudget(ratio=0.5))
        assert torch.equal(kept.index, pruner.select(tokens, TokenBudget(ratio=0.5)).index)


def test_what_does_not_fit_is_refused(
    model: VlaModel, tmp_path: Path, small_model: Callable[..., VlaModel], clip_batch: Callable[..., ClipBatch]
) -> None:
    pruner = plan_pruner_of(model, torch.eye(48), 8)
    pruner.save_pretrained(tmp_path)
    other = small_model(view_config={**KEPT, 'cell_deg': 10.0})
    with pytest.raises(InvalidInput, match='another panorama'):
        load_plan_pruner(tmp_path, other.config)
    with pytest.raises(InvalidInput, match='holds no'):
        load_plan_pruner(tmp_path / 'none')
    entries = json.loads((tmp_path / 'config.json').read_text())
    (tmp_path / 'config.json').write_text(json.dumps({**entries, 'directions': 9}))
    with pytest.raises(InvalidInput, match='do not fit'):
        load_plan_pruner(tmp_path)
    tokens = model.encode(clip_batch(model.config, clips=1, ticks=1).inputs).tokens
    wide = replace(tokens, features=torch.zeros(1, tokens.features.shape[1], 40))
    with pytest.raises(InvalidInput, match='width 40'):
        pruner.select(wide, TokenBudget(ratio=0.5))


def test_one_of_other_weights_is_refused(model: VlaModel, small_model: Callable[..., VlaModel]) -> None:
    pruner = plan_pruner_of(model, torch.eye(48), 8)
    pruner.check_weights(model.view.squeeze.weight)
    pruner.check_weights(model.view.squeeze.weight.bfloat16())
    torch.manual_seed(77)
    other = small_model(view_config=KEPT)
    torch.nn.init.normal_(other.view.squeeze.weight)
    with pytest.raises(InvalidInput, match='measured on other weights than the checkpoint has'):
        pruner.check_weights(other.view.squeeze.weight)
    with pytest.raises(InvalidInput, match='measured on other weights'):
        NativePolicy(other, pruner=pruner, budget=TokenBudget(ratio=0.5))
