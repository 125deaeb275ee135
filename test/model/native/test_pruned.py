# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A model that reads kept tokens alone: nothing goes past the pruner, and training drops tokens in the loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from vla_driver.model.native.pruned import PrunedTraining, Reading, difference, read_panorama, teach_itself
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.pruning.base import KeptTokens
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.controls import RandomPruner
from vla_driver.model.tokens import ClipBatch, Remembered

KEPT = {'reads': 'kept', 'coverage': True, 'hidden_size': 48}


@pytest.fixture
def model(small_model: Callable[..., VlaModel]) -> VlaModel:
    """A small model that reads kept tokens alone."""
    return small_model(view_config=KEPT)


def _remembered(model: VlaModel, batch: ClipBatch, kept: KeptTokens, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return plan and memory where what is dropped holds something else."""
    tokens, ego = model.encode(batch.inputs).tokens, model.ego(batch.inputs)
    dropped = torch.ones(tokens.features.shape[:2]).scatter(1, kept.index, 0.0).unsqueeze(-1)
    generator = torch.Generator().manual_seed(3)
    changed = tokens.features + noise * dropped * torch.randn(tokens.features.shape, generator=generator)
    tokens = dataclasses.replace(tokens, features=changed)
    pooled = model.pool(tokens, kept)
    rows, ages = len(ego), len(model.config.memory_config.ages_s)
    remembered = Remembered(
        features=pooled.features.unsqueeze(1).expand(-1, ages, -1, -1),
        rays=pooled.rays,
        origins=pooled.origins,
        motion=torch.zeros(rows, ages, 3),
        age_s=torch.full((rows, ages), 0.5),
        valid=torch.ones(rows, ages, dtype=torch.bool),
    )
    prefix = model.prefill(ego, tokens, remembered, kept)
    return model.decode(model.act(prefix, ego), model.reflex(prefix, ego)), pooled.features


@torch.no_grad()
@pytest.mark.parametrize(('reads', 'passes_by'), [('kept', False), ('all', True)])
def test_nothing_goes_past_the_pruner(
    reads: str, passes_by: bool, small_model: Callable[..., VlaModel], clip_batch: Callable[..., ClipBatch]
) -> None:
    model = small_model(view_config={**KEPT, 'reads': reads})
    batch = clip_batch(model.config, clips=1, ticks=2)
    kept = RandomPruner().select(model.encode(batch.inputs).tokens, TokenBudget(ratio=0.5))
    plan, memory = _remembered(model, batch, kept, 0.0)
    other_plan, other_memory = _remembered(model, batch, kept, 5.0)
    assert torch.equal(plan, other_plan) is not passes_by
    assert torch.equal(memory, other_memory) is not passes_by


@torch.no_grad()
def test_a_hole_is_not_taken_for_black(model: VlaModel, clip_batch: Callable[..., ClipBatch]) -> None:
    tokens = model.encode(clip_batch(model.config, clips=1, ticks=1).inputs).tokens
    black = dataclasses.replace(tokens, features=torch.zeros_like(tokens.features))
    nothing = KeptTokens(torch.arange(4).unsqueeze(0))
    model.view.squeeze.bias.zero_()
    assert (read_panorama(model, black, None) - read_panorama(model, black, nothing)).abs().max() > 1e-3
    model.view.seen.weight.zero_()
    torch.testing.assert_close(read_panorama(model, black, None), read_panorama(model, black, nothing))


def test_a_checkpoint_that_did_not_know_of_holes_reads_as_before(small_config: Callable) -> None:
    from vla_driver.model.native.seeing.view import ViewReader

    torch.manual_seed(0)
    model = VlaModel(small_config(view_config=KEPT))
    assert isinstance(model.view, ViewReader)
    assert not model.view.seen.weight.any()


@torch.no_grad()
def test_ratio_and_pruner_are_drawn_and_some_steps_drop_nothing(
    model: VlaModel, clip_batch: Callable[..., ClipBatch]
) -> None:
    tokens = model.encode(clip_batch(model.config, clips=1, ticks=2).inputs).tokens
    training = PrunedTraining([RandomPruner(), RandomPruner(1)], max_ratio=0.8, whole=0.25)
    torch.manual_seed(0)
    drawn = [(training.draw(tokens, tokens.features[:, :3]), training.drawn) for _ in range(80)]
    counts = [tokens.features.shape[1] if kept is None else kept.index.shape[1] for kept, _ in drawn]
    assert min(counts) < 0.35 * max(counts)
    assert 8 <= sum(kept is None for kept, _ in drawn) <= 35
    assert {name for _, (name, _) in drawn} >= {'none', 'random'}
    assert all(ratio <= 0.8 for _, (_, ratio) in drawn)


def test_it_is_taught_by_itself_unpruned(model: VlaModel, clip_batch: Callable[..., ClipBatch]) -> None:
    batch = clip_batch(model.config, clips=2, ticks=2)
    with torch.no_grad():
        tokens, ego = model.encode(batch.inputs).tokens, model.ego(batch.inputs)
    every = KeptTokens(torch.arange(tokens.features.shape[1]).expand(len(ego), -1))
    half = RandomPruner().select(tokens, TokenBudget(ratio=0.5))
    model.eval()
    losses = []
    for kept in (every, half):
        read = read_panorama(model, tokens, kept)
        losses.append(teach_itself(model, tokens, ego, read, model.reflexes(read, ego))['itself'])
    assert float(losses[0].detach()) == pytest.approx(0.0, abs=1e-5) and float(losses[1].detach()) > 0.01
    losses[1].backward()
    assert model.view.read.weight.grad is not None and model.view.read.weight.grad.abs().max() > 0


@torch.no_grad()
def test_differences_are_shares_of_the_variance(model: VlaModel, clip_batch: Callable[..., ClipBatch]) -> None:
    batch = clip_batch(model.config, clips=4, ticks=1)
    tokens, ego = model.encode(batch.inputs).tokens, model.ego(batch.inputs)
    read = read_panorama(model, tokens, None)
    whole = Reading(read, model.reflexes(read, ego))
    apart = difference(Reading(read.mean(dim=0).expand_as(read), whole.reflex), whole)
    # The mean explains nothing: all of the variance is left, of four samples three quarters of the unbiased one.
    assert float(apart['read']) == pytest.approx(0.75, abs=1e-4)
    assert float(apart['bend']) == 0.0 and abs(float(apart['votes'])) < 1e-6


@pytest.mark.parametrize('stage', ['reflex', 'policy'])
def test_training_drops_tokens_in_the_loop(stage: str, model: VlaModel, clip_batch: Callable[..., ClipBatch]) -> None:
    model.train()
    model.pruning = PrunedTraining([RandomPruner()], whole=0.0)
    torch.manual_seed(0)
    out = model(clip_batch(model.config, clips=2, ticks=2), stage=stage)
    assert float(out.losses['itself']) > 0
    out.loss.backward()
    model.eval()
    assert 'itself' not in model(clip_batch(model.config, clips=2, ticks=2), stage=stage).losses
