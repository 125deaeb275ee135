# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from vla_driver.model.layers.attention import split_heads
from vla_driver.model.native.vla import VlaModel


def _whole_sequence(model: VlaModel, embeddings: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
    """Run [prefix | action queries] through both stacks together, layer by layer, under one explicit mask."""
    language, action = model.language, model.action
    x, y = embeddings, action.condition(condition).unsqueeze(1) + action.queries
    prefix, total = x.shape[1], x.shape[1] + y.shape[1]
    mask = torch.ones(total, total, dtype=torch.bool)
    mask[:prefix, prefix:] = False  # the prefix does not see the queries; all else is visible
    for expert, own in zip(language.layers, action.layers, strict=True):
        heads, kv_heads = expert.heads, expert.kv_heads
        normed = expert.norm1(x), own.norm1(y)
        q = torch.cat([split_heads(expert.q(normed[0]), heads), split_heads(own.q(normed[1]), heads)], dim=2)
        keys, values = (
            torch.cat([split_heads(a, kv_heads), split_heads(b, kv_heads)], dim=2)
            for a, b in zip(expert.kv(normed[0]).chunk(2, -1), own.kv(normed[1]).chunk(2, -1), strict=True)
        )
        mixed = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, enable_gqa=True)
        mixed = mixed.transpose(1, 2).flatten(2)
        x, y = x + expert.out(mixed[:, :prefix]), y + own.out(mixed[:, prefix:])
        x, y = x + expert.mlp(expert.norm2(x)), y + own.mlp(own.norm2(y))
    return action.norm(y)


def test_queries_on_the_cache_equal_the_whole_sequence(small_model: Callable[..., VlaModel]) -> None:
    model = small_model()
    embeddings, condition = torch.randn(2, 37, 32), torch.randn(2, 32)
    with torch.no_grad():
        prefix = model.language.prefill(embeddings, scene_queries=3)
        cached = model.action(prefix, condition)
        whole = _whole_sequence(model, embeddings, condition)
    assert cached.shape == (2, 20, 24)
    assert (cached - whole).abs().max() <= 1e-5


def test_every_query_sees_the_prefix_and_the_other_queries(small_model: Callable[..., VlaModel]) -> None:
    model = small_model()
    embeddings, condition = torch.randn(1, 10, 32), torch.randn(1, 32)
    with torch.no_grad():
        before = model.action(model.language.prefill(embeddings, 3), condition)
        changed = embeddings.clone()
        changed[:, 0] += 1.0
        assert ((model.action(model.language.prefill(changed, 3), condition) - before).abs().amax(-1) > 1e-6).all()
        model.action.queries[-1] += 1.0
        after = model.action(model.language.prefill(embeddings, 3), condition)
    assert ((after - before).abs().amax(-1) > 1e-6).all()
