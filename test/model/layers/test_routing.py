# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Routing: choice by score and bias, weights by score alone, a bias that evens the load, the balance loss."""

from __future__ import annotations

import math

import pytest
import torch

from vla_driver.model.layers.routing import Router, balance_loss, bias_change, load_figures


def test_the_bias_chooses_and_does_not_weigh() -> None:
    router = Router(8, 5, 2, route_scale=3.0)
    x = torch.randn(7, 8)
    router.bias[4] = 10.0
    routing = router(x)
    assert (routing.index == 4).any(dim=1).all()
    scores = torch.sigmoid(x @ router.weight.T)
    chosen = scores.gather(1, routing.index)
    torch.testing.assert_close(routing.weight, 3.0 * chosen / chosen.sum(dim=1, keepdim=True))
    torch.testing.assert_close(routing.scores, scores)


def test_only_weights_learn() -> None:
    router = Router(8, 5, 2)
    router(torch.randn(7, 8)).weight.square().sum().backward()
    assert router.weight.grad is not None
    assert router.weight.grad.abs().max() > 0
    assert [name for name, _ in router.named_parameters()] == ['weight']


def test_the_bias_stays_in_float32_and_keeps_its_value() -> None:
    router = Router(8, 5, 2)
    router.bias[1] = 1.0009765625  # 1 + 2^-10, which bfloat16 does not hold
    router.to(torch.bfloat16)
    assert router.weight.dtype == torch.bfloat16
    assert router.bias.dtype == torch.float32
    assert float(router.bias[1]) == 1.0009765625
    assert router(torch.randn(3, 8)).scores.dtype == torch.float32


def test_the_bias_moves_against_the_load() -> None:
    change = bias_change(torch.tensor([10, 0, 5, 5]), 0.01)
    torch.testing.assert_close(change, torch.tensor([-0.01, 0.01, 0.0, 0.0]))
    change = bias_change(torch.tensor([9, 1, 1, 1]), 0.01)
    torch.testing.assert_close(change, torch.tensor([-0.015, 0.005, 0.005, 0.005]))
    assert abs(float(change.sum())) < 1e-7


def test_the_bias_evens_a_skewed_stream() -> None:
    generator = torch.Generator().manual_seed(3)
    router = Router(16, 8, 2)
    common = 2.0 * torch.randn(16, generator=generator)  # what all tokens share: a few experts like it, others never

    def load() -> torch.Tensor:
        with torch.no_grad():
            return router(common + torch.randn(256, 16, generator=generator)).counts()

    before, _ = load_figures(load())
    for _ in range(300):
        router.bias += bias_change(load(), 0.01)
    after, entropy = load_figures(load())
    assert before > 2.5
    assert after < 1.5
    assert entropy > 0.97


def test_the_balance_loss_is_its_formula() -> None:
    scores = torch.sigmoid(torch.randn(3, 10, 6)).requires_grad_()
    expected = 0.0
    for row in scores.tolist():
        for expert in range(6):
            among = sum(expert in sorted(range(6), key=lambda e: -token[e])[:2] for token in row)
            share = sum(token[expert] / sum(token) for token in row) / 10
            expected += 6 / (2 * 10) * among * share / 3
    loss = balance_loss(scores, 2)
    assert math.isclose(loss.item(), expected, rel_tol=1e-5)
    loss.backward()
    assert scores.grad is not None
    assert scores.grad.abs().max() > 0


def test_the_balance_loss_is_one_where_all_is_even_and_more_where_not() -> None:
    even = torch.full((1, 6, 6), 0.1) + 0.8 * torch.eye(6)
    assert math.isclose(float(balance_loss(even, 1)), 1.0, rel_tol=1e-5)
    one = torch.full((1, 6, 6), 0.1)
    one[..., 2] = 0.9
    assert float(balance_loss(one, 1)) > 3.0


def test_load_figures() -> None:
    assert load_figures(torch.tensor([5, 5, 5, 5])) == pytest.approx((1.0, 1.0))
    largest, entropy = load_figures(torch.tensor([20, 0, 0, 0]))
    assert largest == 4.0
    assert entropy < 1e-6
