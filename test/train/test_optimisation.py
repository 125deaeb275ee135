# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The optimiser's step: rates, decay, and weights that stay as they are where a run diverges."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vla_driver.train.optimisation import cosine_factor, decay_groups, finish_step, set_rate, stable_factor
from vla_driver.types import InvalidInput


def test_learning_rate_rises_stays_and_falls() -> None:
    assert stable_factor(0.0, 0) == pytest.approx(0.01)
    assert stable_factor(0.2, 500) == 1.0
    assert stable_factor(0.5, 500) == 1.0
    late = [stable_factor(progress, 5000) for progress in (0.6, 0.8, 0.95, 1.0)]
    assert late == sorted(late, reverse=True)
    assert late[-1] == pytest.approx(0.02)


def test_cosine_schedule() -> None:
    factors = [cosine_factor(step, 1000, 100) for step in range(1001)]
    assert factors[0] == pytest.approx(0.01, rel=0.01)
    assert max(factors) == pytest.approx(factors[99], rel=0.02)
    assert factors[550] == pytest.approx(0.5, abs=0.1) and factors[1000] == pytest.approx(0.02)


def test_matrices_decay_and_vectors_do_not() -> None:
    layer = nn.Linear(3, 2)
    decayed, plain = decay_groups(layer.parameters(), 0.05, factor=0.1)
    assert decayed['params'] == [layer.weight] and plain['params'] == [layer.bias]
    assert (decayed['weight_decay'], plain['weight_decay']) == (0.05, 0.0)
    assert decayed['factor'] == plain['factor'] == 0.1


def test_groups_have_their_factor_of_the_rate() -> None:
    first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    groups = [*decay_groups(first.parameters(), 0.0, factor=0.1), *decay_groups(second.parameters(), 0.0)]
    optimizer = torch.optim.AdamW(groups, lr=1.0)
    set_rate(optimizer, 0.5)
    assert [group['lr'] for group in optimizer.param_groups] == [0.05, 0.05, 0.5, 0.5]


@pytest.mark.parametrize(('loss', 'norm'), [(float('nan'), 1.0), (1.0, float('inf'))])
def test_a_step_that_diverged_leaves_the_weights(loss: float, norm: float) -> None:
    layer = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    before = layer.weight.detach().clone()
    layer(torch.ones(3)).sum().backward()
    with pytest.raises(InvalidInput, match=r'diverged at step 7: loss .*, gradient norm .* lower --learning-rate'):
        finish_step(optimizer, 7, loss, norm)
    assert torch.equal(layer.weight, before) and layer.weight.grad is None
    layer(torch.ones(3)).sum().backward()
    finish_step(optimizer, 7, 1.0, 1.0)
    assert (before - layer.weight).allclose(torch.full((2, 3), 0.1)) and layer.weight.grad is None
