# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""All ways to compute experts give one sum, drop nothing, and leave their weights where they belong."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vla_driver.model.config import EXPERTS_BACKENDS
from vla_driver.model.layers.experts import BACKENDS, BLOCK, ExpertsFeedForward, SwiGluExperts, uncounted
from vla_driver.model.layers.routing import Router
from vla_driver.model.precision import autocast, store_for_inference


def _answers(backend: str, x: Tensor, *, skewed: bool = False) -> list[Tensor]:
    """Return the answer to x and the gradients of everything that has a part in it."""
    torch.manual_seed(1)
    router, experts = Router(32, 6, 3, 1.5), SwiGluExperts(32, 6, 16, backend)
    if skewed:
        router.bias.copy_(torch.tensor([5.0, 5.0, 5.0, 0.0, 0.0, 0.0]))
    x = x.clone().requires_grad_()
    out = experts(x, router(x))
    # A bare sum: its gradient has stride 0, which grouped products do not take as it is.
    out.sum().backward()
    grads = [t.grad for t in (x, router.weight, experts.gate_up, experts.down)]
    assert all(grad is not None for grad in grads)
    return [out.detach(), *(grad for grad in grads if grad is not None)]


def test_the_config_names_the_backends() -> None:
    assert tuple(BACKENDS) == EXPERTS_BACKENDS


@pytest.mark.parametrize('backend', ['grouped', 'dense'])
@pytest.mark.parametrize('skewed', [False, True], ids=['spread', 'half of the experts unasked'])
@pytest.mark.parametrize('tokens', [1, 37])
def test_backends_agree_forward_and_backward(backend: str, skewed: bool, tokens: int) -> None:
    x = torch.randn(tokens, 32)
    for ours, reference in zip(_answers(backend, x, skewed=skewed), _answers('loop', x, skewed=skewed), strict=True):
        torch.testing.assert_close(ours, reference, atol=2e-5, rtol=1e-5)


def test_the_sum_is_the_formula() -> None:
    layer = ExpertsFeedForward(32, 6, 2, 16, 24, route_scale=2.0).eval()
    x = torch.randn(1, 5, 32)
    scores = torch.sigmoid(x[0] @ layer.router.weight.T)
    assert layer.shared is not None
    with torch.no_grad():
        for token, row in enumerate(x[0]):
            best = scores[token].argsort(descending=True)[:2].tolist()
            expected = layer.shared(row)
            for expert in best:
                gate, up = (layer.experts.gate_up[expert] @ row).chunk(2)
                answer = layer.experts.down[expert] @ (torch.nn.functional.silu(gate) * up)
                expected = expected + 2.0 * scores[token, expert] / scores[token, best].sum() * answer
            torch.testing.assert_close(layer(x)[0, token], expected, atol=1e-5, rtol=1e-5)


def test_no_token_is_dropped_however_skewed() -> None:
    layer = ExpertsFeedForward(32, 6, 2, 16).train()
    layer.router.bias[0] = 100.0  # every token goes to the first expert, which no capacity would hold
    x = torch.randn(4, 11, 32)
    layer(x)
    layer(x)
    counts = layer.take_counts()
    assert int(counts[0]) == 2 * 44
    assert int(counts.sum()) == 2 * 44 * 2
    assert int(layer.take_counts().sum()) == 0


@pytest.mark.parametrize('backend', sorted(BACKENDS))
def test_bfloat16_under_autocast_and_stored(bfloat16: None, backend: str) -> None:
    torch.manual_seed(2)
    layer = ExpertsFeedForward(32, 6, 2, 16, 24, backend=backend).eval()
    x = torch.randn(2, 9, 32)
    with torch.no_grad():
        exact = layer(x)
        with autocast('cpu'):
            rounded = layer(x)
        chosen = layer.last_routing
        store_for_inference(layer, 'cpu')
        with autocast('cpu'):
            stored = layer(x)
    assert layer.experts.gate_up.dtype == torch.bfloat16
    # The router chooses in float32: another score is another expert.
    assert layer.router.weight.dtype == layer.router.bias.dtype == torch.float32
    assert chosen is not None
    assert layer.last_routing is not None
    assert torch.equal(chosen.index, layer.last_routing.index)
    assert torch.equal(rounded, stored)
    assert float((rounded - exact).abs().max()) < 0.02 * float(exact.abs().max())


def test_bfloat16_gradients(bfloat16: None) -> None:
    torch.manual_seed(2)
    layer = ExpertsFeedForward(32, 6, 2, 16)
    x = torch.randn(2, 9, 32)
    layer(x).square().sum().backward()
    exact = [p.grad.clone() for p in layer.parameters() if p.grad is not None]
    layer.zero_grad()
    with autocast('cpu'):
        out = layer(x)
    out.float().square().sum().backward()
    for ours, reference in zip((p.grad for p in layer.parameters()), exact, strict=True):
        assert ours is not None
        assert float((ours - reference).norm()) < 0.05 * float(reference.norm())


def test_uncounted_passes_move_nothing() -> None:
    layer = ExpertsFeedForward(16, 4, 2, 8).train()
    x = torch.randn(2, 5, 16)
    with uncounted(layer):
        layer(x)
        assert layer.last_routing is not None  # whoever wants to know may still look
    assert layer.take_counts().sum() == 0
    assert layer.take_losses() == []
    layer(x)
    assert layer.take_counts().sum() == 2 * 5 * 2
    assert len(layer.take_losses()) == 1


@pytest.mark.parametrize('skewed', [False, True], ids=['spread', 'half of the experts unasked'])
def test_bfloat16_groups_are_padded_to_whole_blocks(monkeypatch: pytest.MonkeyPatch, skewed: bool) -> None:
    """oneDNN compiles a kernel for every new number of rows: slow, and some hundred MB within sixty steps."""
    ends, product = [], F.grouped_mm

    def seen(rows: Tensor, weights: Tensor, offs: Tensor) -> Tensor:
        ends.append(offs.tolist())
        assert len(rows) == offs[-1]
        return product(rows, weights, offs=offs)

    monkeypatch.setattr(F, 'grouped_mm', seen)
    torch.manual_seed(4)
    layer = ExpertsFeedForward(32, 6, 2, 16).to(torch.bfloat16)
    if skewed:
        layer.router.bias.copy_(torch.tensor([5.0, 5.0, 0.0, 0.0, 0.0, 0.0]))
    x, answers = torch.randn(1, 77, 32, dtype=torch.bfloat16), []
    for backend in ('grouped', 'loop'):
        layer.experts.backend = backend
        layer.zero_grad()
        out = layer(x)
        out.float().square().sum().backward()
        answers.append([out.detach(), *(p.grad for p in layer.parameters() if p.grad is not None)])
    assert len(ends) == 2
    assert all(end % BLOCK == 0 for row in ends for end in row)
    for ours, reference in zip(*answers, strict=True):
        assert float((ours - reference).float().norm()) < 0.02 * float(reference.float().norm())
