# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A group of plans, and which way a policy moves by their rewards."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from vla_driver.model.native.acting.reflex import Reflex
from vla_driver.model.native.vla import VlaModel
from vla_driver.train.reinforcement.group import (
    EXPLORED,
    Group,
    advantages,
    courses,
    decoder_loss,
    sample_group,
    vote_divergence,
    vote_loss,
)


def _asked(model: VlaModel, rows: int = 3) -> tuple[torch.Tensor, Reflex]:
    action, view = model.config.action_config, model.config.view_config
    hidden = torch.randn(rows, action.horizon, action.hidden_size)
    trunk = torch.randn(rows, view.hidden_size)
    return hidden, Reflex(torch.randn(rows, action.horizon), torch.randn(rows, action.num_anchors), trunk)


def test_a_group_holds_the_plan_the_likeliest_anchors_and_pairs_around_the_plan(
    small_model: Callable[..., VlaModel],
) -> None:
    model = small_model()
    hidden, reflex = _asked(model)
    with torch.no_grad():
        group = sample_group(model.flow, hidden, reflex, 8)
        driven = model.decode(hidden, reflex)
    assert group.controls.shape == (3, 4, 20, 2) and group.explored.shape == (3, 4, 20, 2)
    torch.testing.assert_close(model.flow.denormalise(group.controls[:, 0]), driven)
    assert all(len(set(row)) == 4 for row in group.anchor.tolist())
    assert torch.equal(group.logits.argmax(dim=-1), group.anchor[:, 0])
    torch.testing.assert_close(group.explored.mean(dim=1), group.controls[:, 0], rtol=0.0, atol=1e-5)
    # What was added is of the two courses alone, as much as the noise says.
    course = courses(20, group.explored)
    added = torch.einsum('bmtc,ptc->bmp', group.explored - group.controls[:, :1], course)
    torch.testing.assert_close(
        added / course.square().sum(dim=(1, 2)), group.noise * torch.tensor(EXPLORED), rtol=0.0, atol=1e-5
    )
    assert sample_group(model.flow, hidden, reflex, 3).explored.shape[1] == 0
    assert sample_group(model.flow, hidden, reflex, 400).controls.shape[1] == 6  # no more than there are


def test_advantages_have_no_mean_and_small_differences_stay_small() -> None:
    weight = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.25, 0.25]])
    found = advantages(torch.tensor([[0.0, 1.0, 1.0], [0.90, 0.91, 0.90]]), weight)
    torch.testing.assert_close((weight * found).sum(dim=-1), torch.zeros(2))
    assert (weight * found.square()).sum(dim=-1)[0] == pytest.approx(1.0)
    assert found[1].abs().max() < 0.1


def _group(logits: torch.Tensor, mean: torch.Tensor, noise: torch.Tensor) -> Group:
    empty = torch.zeros(len(logits), 0, 20, 2)
    return Group(empty, empty, logits, logits.detach().argsort(dim=-1, descending=True)[:, :3], mean, noise)


def test_votes_move_to_the_better_anchor_and_stay_where_all_are_equal() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0, -1.0], [3.0, 1.0, 0.0, -1.0]], requires_grad=True)
    group = _group(logits, torch.zeros(2, 2), torch.zeros(2, 0, 2))
    vote_loss(group, torch.tensor([[0.0, 1.0, 0.0], [0.8, 0.8, 0.8]]), 2.0).backward()
    assert logits.grad is not None
    assert logits.grad[0, 1] < 0 < logits.grad[0, 0]
    torch.testing.assert_close(logits.grad[1], torch.zeros(4))
    # It is the expectation over the votes: at temperature 1, what REINFORCE has in the mean.
    sharp = torch.tensor([[0.5, 0.2, 0.0]], requires_grad=True)
    reward = torch.tensor([[0.2, 0.9, 0.4]])
    (expected,) = torch.autograd.grad((sharp.softmax(dim=-1) * reward).sum(), sharp)
    (found,) = torch.autograd.grad(
        -vote_loss(_group(sharp, torch.zeros(1, 2), torch.zeros(1, 0, 2)), reward, 1.0), sharp
    )
    torch.testing.assert_close(found / found.norm(), expected / expected.norm())


def test_the_flow_moves_towards_what_was_better() -> None:
    mean = torch.zeros(1, 2, requires_grad=True)
    noise = torch.tensor([[[1.0, 0.5], [0.3, -1.0], [-1.0, -0.5], [-0.3, 1.0]]])
    reward = noise[..., 0] * 0.5  # more acceleration is better, steering makes no difference
    decoder_loss(_group(torch.zeros(1, 4), mean, noise), reward).backward()
    assert mean.grad is not None
    assert mean.grad[0, 0] < 0 and abs(mean.grad[0, 1] * EXPLORED[1]) < abs(mean.grad[0, 0] * EXPLORED[0])
    even = torch.zeros(1, 2, requires_grad=True)
    decoder_loss(_group(torch.zeros(1, 4), even, noise), torch.full((1, 4), 0.7)).backward()
    torch.testing.assert_close(even.grad, torch.zeros(1, 2))


def test_the_gradient_reaches_the_flow_through_its_steps(small_model: Callable[..., VlaModel]) -> None:
    model = small_model()
    hidden, reflex = _asked(model)
    group = sample_group(model.flow, hidden, reflex, 8)
    decoder_loss(group, torch.rand(3, 4)).backward()
    gradient = model.flow.output.weight.grad
    assert gradient is not None and float(gradient.abs().max()) > 0


def test_divergence_is_nothing_from_itself() -> None:
    logits = torch.randn(4, 6)
    assert float(vote_divergence(logits, logits)) == pytest.approx(0.0, abs=1e-6)
    assert float(vote_divergence(logits, -logits)) > 0.1
