# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Unmasked attention: two batched products on the CPU, the fused kernel elsewhere; how much of it tokens receive."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attention(q: Tensor, k: Tensor, v: Tensor, apart: Tensor | None = None) -> Tensor:
    """Attend q [B, H, L, d] over k, v [B, Hkv, S, d] (H a multiple of Hkv): [B, L, H * d].

    apart [B, L, S]: true where a query does not see a key; None: all see all.

    For a few hundred tokens in bfloat16 on the CPU, torch's fused kernel takes twice (forward) to nearly
    three times (with backward) as long as the plain products, which run on AVX512-BF16.
    """
    if q.device.type != 'cpu':
        seen = None if apart is None else ~apart.unsqueeze(1)
        mixed = F.scaled_dot_product_attention(q, k, v, seen, enable_gqa=q.shape[1] != k.shape[1])
        return mixed.transpose(1, 2).flatten(2)
    if q.shape[1] != k.shape[1]:
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    batch, heads, queries, dim = q.shape
    q, k, v = (x.reshape(batch * heads, -1, dim) for x in (q, k, v))
    scores = torch.baddbmm(q.new_empty(1), q, k.transpose(1, 2), beta=0, alpha=dim**-0.5)
    if apart is not None:
        scores = scores.masked_fill(apart.repeat_interleave(heads, dim=0), -torch.inf)
    mixed = torch.bmm(scores.softmax(dim=-1), v)
    return mixed.reshape(batch, heads, queries, dim).transpose(1, 2).reshape(batch, queries, heads * dim)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, L, heads * head_dim] -> [B, heads, L, head_dim]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def column_sums(q: Tensor, k: Tensor) -> Tensor:
    """Return how much attention each token receives [I, P], from q, k [I, H, P, d]: summed over queries, mean of heads.

    The mean over tokens is 1 whatever the size of the picture, so those of different cameras compare.
    """
    with torch.autocast(q.device.type, enabled=False):
        scores = q.float() @ k.float().transpose(-1, -2) * q.shape[-1] ** -0.5
        return scores.softmax(dim=-1).sum(dim=-2).mean(dim=1)
