# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The language model: reads [visual | memory | ego | navigation | scene queries] once into a Prefix.

None of these tokens is text and none has an order of its own (the visual ones carry their rays), so the
prefix attends bidirectionally and without rotary positions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_driver.model.attention import attention
from vla_driver.model.config import LanguageConfig
from vla_driver.model.pruning.base import take
from vla_driver.model.pruning.in_model import PrefillPruning
from vla_driver.model.tokens import Prefix


class RMSNorm(nn.Module):
    """Root-mean-square norm (arXiv 1910.07467) over the last axis."""

    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [..., dim]."""
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


class SwiGlu(nn.Module):
    """Gated feed-forward network (arXiv 2002.05202): down(silu(gate(x)) * up(x))."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.gate_up = nn.Linear(dim, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., dim]."""
        out: Tensor = self.down(self.hidden(x))
        return out

    def hidden(self, x: Tensor) -> Tensor:
        """Return what `down` brings back to the width: [..., dim] -> [..., hidden]."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return F.silu(gate) * up


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, L, heads * head_dim] -> [B, heads, L, head_dim]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class LanguageLayer(nn.Module):
    """Pre-norm attention and SwiGLU; also returns its keys and values for the cache."""

    def __init__(self, config: LanguageConfig):
        super().__init__()
        d = config.hidden_size
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        head_dim = d // self.heads
        self.norm1 = RMSNorm(d, config.rms_norm_eps)
        self.q = nn.Linear(d, d, bias=False)
        self.kv = nn.Linear(d, 2 * self.kv_heads * head_dim, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        self.norm2 = RMSNorm(d, config.rms_norm_eps)
        self.mlp = SwiGlu(d, config.intermediate_size)

    def forward(self, x: Tensor, last: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Transform x [B, L, D]; return it with its keys and values [B, Hkv, L, head_dim].

        last: transform the last so many tokens alone, and return those; keys and values are of all.
        """
        x, keys, values = self.attend(x, last)
        return x + self.mlp(self.norm2(x)), keys, values

    def attend(self, x: Tensor, last: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the first half of `forward`, before the feed-forward network."""
        normed = self.norm1(x)
        keys, values = (split_heads(part, self.kv_heads) for part in self.kv(normed).chunk(2, dim=-1))
        if last is not None:
            x, normed = x[:, -last:], normed[:, -last:]
        return x + self.out(attention(split_heads(self.q(normed), self.heads), keys, values)), keys, values

    def queries(self, x: Tensor) -> Tensor:
        """Return the queries [B, H, T, head_dim] of the inputs x [B, T, D] of some tokens."""
        return split_heads(self.q(self.norm1(x)), self.heads)


class LanguageModel(nn.Module):
    """A stack of LanguageLayers over embeddings."""

    def __init__(self, config: LanguageConfig):
        super().__init__()
        self.layers = nn.ModuleList(LanguageLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def prefill(self, embeddings: Tensor, scene_queries: int, pruning: PrefillPruning | None = None) -> Prefix:
        """Read embeddings [B, L, D], the last `scene_queries` of which are the scene queries.

        pruning: drops visual tokens between layers; the layers after hold fewer keys and values.
        """
        x, keys, values = embeddings, [], []
        for number, layer in enumerate(self.layers):
            before = x
            # Of the last layer, others read keys and values; what it makes of the tokens matters for the queries alone.
            final = number == len(self.layers) - 1 and (pruning is None or not pruning.due(number))
            x, k, v = layer(x, scene_queries if final else None)
            keys.append(k)
            values.append(v)
            if pruning is not None and pruning.due(number):
                assert isinstance(layer, LanguageLayer)
                x, _ = pruning.step(number, x, layer.queries(take(before, pruning.text)), k)
        return Prefix(tuple(keys), tuple(values), self.norm(x[:, x.shape[1] - scene_queries :]))
