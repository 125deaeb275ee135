# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The reflex knows of earlier ticks: one picture does not say who moves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from vla_driver.model.native.vla import VlaModel
from vla_driver.model.tokens import ClipBatch, Remembered
from vla_driver.train.architecture import grown


@pytest.fixture
def model(small_model: Callable[..., VlaModel]) -> VlaModel:
    """A small model that recalls, and does not yet say what."""
    return small_model(memory_config={'recall': True}, view_config={'reads': 'kept', 'coverage': True}).eval()


@pytest.fixture
def remembered(model: VlaModel) -> Remembered:
    """What two rows remember of two ticks."""
    count, width = len(model.memory_pool.camera), model.config.language_config.hidden_size
    rays = torch.nn.functional.normalize(torch.randn(2, count, 3), dim=-1)
    return Remembered(
        features=torch.randn(2, 2, count, width),
        rays=rays,
        origins=torch.zeros(2, count, 3),
        motion=torch.randn(2, 2, 3),
        age_s=torch.tensor([[0.5, 1.0], [0.5, 1.0]]),
        valid=torch.ones(2, 2, dtype=torch.bool),
    )


def speak(model: VlaModel) -> None:
    """Let what is recalled count."""
    torch.nn.init.normal_(model.recall.out.weight, std=0.5)


def test_what_is_grown_says_nothing_until_it_is_trained(
    small_model: Callable[..., VlaModel], remembered: Remembered
) -> None:
    model = grown(small_model(), {'memory_config': {'recall': True}})
    assert torch.equal(model.recalled(remembered), torch.zeros(2, model.config.view_config.hidden_size))


def test_without_it_nothing_is_recalled(small_model: Callable[..., VlaModel], remembered: Remembered) -> None:
    model = small_model()
    assert not model.config.recalls and model.recalled(remembered) is None
    assert not any(name.startswith('recall.') for name in model.state_dict())
    assert not small_model(blind=True, memory_config={'recall': True}).config.recalls


def test_it_says_how_the_ticks_differ_and_not_what_a_lost_one_held(model: VlaModel, remembered: Remembered) -> None:
    speak(model)
    with torch.no_grad():
        said = model.recalled(remembered)
        for name in ('features', 'motion', 'age_s'):
            other = dataclasses.replace(remembered, **{name: getattr(remembered, name) + 0.5})
            assert (model.recalled(other) - said).abs().max() > 1e-3
        lost = dataclasses.replace(remembered, valid=torch.tensor([[True, False], [True, True]]))
        changed = torch.cat([lost.features[:, :1], lost.features[:, 1:] + 1.0], dim=1)
        torch.testing.assert_close(
            model.recalled(dataclasses.replace(lost, features=changed))[0], model.recalled(lost)[0]
        )
        assert (model.recalled(lost)[0] - said[0]).abs().max() > 1e-3


def test_of_tokens_that_were_selected_each_keeps_its_place(model: VlaModel, remembered: Remembered) -> None:
    speak(model)
    count = len(model.memory_pool.camera)
    order = torch.randperm(count)
    with torch.no_grad():
        torch.testing.assert_close(model.recalled(remembered.select(order)), model.recalled(remembered))
        few = remembered.select(torch.tensor([1, 4, 6])).select(torch.tensor([2, 0]))
        assert few.places is not None and few.places.tolist() == [6, 1]
        moved = dataclasses.replace(few, places=torch.tensor([1, 6]))
        assert (model.recalled(few) - model.recalled(moved)).abs().max() > 1e-3


def test_both_stages_teach_it_and_the_reflex_stage_leaves_the_memory(
    model: VlaModel, clip_batch: Callable[..., ClipBatch]
) -> None:
    model.train()
    for stage in ('reflex', 'policy'):
        torch.manual_seed(0)
        model.zero_grad()
        speak(model)
        model(clip_batch(model.config, clips=2, ticks=3), stage=stage).loss.backward()
        assert model.recall.squeeze.weight.grad.abs().max() > 0
        pooled = [p.grad for p in model.memory_pool.parameters() if p.grad is not None]
        assert (stage == 'policy') is (bool(pooled) and max(float(g.abs().max()) for g in pooled) > 0)
