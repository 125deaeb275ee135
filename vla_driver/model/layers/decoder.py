# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""One layer of the language model: unmasked attention, full or sparse, and a gated feed-forward network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_driver.model.attention_pattern import LocalStrided
from vla_driver.model.config import LanguageConfig
from vla_driver.model.layers.attention import attention, split_heads
from vla_driver.model.layers.experts import ExpertsFeedForward
from vla_driver.model.layers.feed_forward import SwiGlu
from vla_driver.model.layers.flex_attention import sparse_attention
from vla_driver.model.layers.norms import RMSNorm
from vla_driver.model.layers.sparse_attention import masked_local_strided


class LanguageLayer(nn.Module):
    """Pre-norm attention and SwiGLU, or experts; also returns its keys and values for the cache.

    attention: who sees whom, 'full' or 'local_strided' (`sparse_attention.py`).  Sparse it is among the tokens that a
    layer transforms; whoever reads its keys and values from outside, or is among the `last`, sees all of them.
    """

    def __init__(self, config: LanguageConfig, attention: str = 'full', *, experts: bool = False):
        """experts: whether a mixture of them takes the place of the one feed-forward network."""
        super().__init__()
        self.sparse, self.window, self.unit = attention != 'full', config.attention_window, config.attention_unit
        d = config.hidden_size
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        head_dim = d // self.heads
        self.norm1 = RMSNorm(d, config.rms_norm_eps)
        self.q = nn.Linear(d, d, bias=False)
        self.kv = nn.Linear(d, 2 * self.kv_heads * head_dim, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        self.norm2 = RMSNorm(d, config.rms_norm_eps)
        self.mlp: SwiGlu | ExpertsFeedForward
        if experts:
            self.mlp = ExpertsFeedForward(
                d,
                config.num_experts,
                config.experts_per_token,
                config.expert_size,
                config.shared_size,
                route_scale=config.route_scale,
                backend=config.experts_backend,
            )
        else:
            self.mlp = SwiGlu(d, config.intermediate_size)

    def forward(self, x: Tensor, last: int | None = None, behind: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Transform x [B, L, D]; return it with its keys and values [B, Hkv, L, head_dim].

        last: transform the last so many tokens alone, and return those; keys and values are of all.  behind: so many
        more tokens stand behind those L, in x, keys and values: they read all, but these do not read them; with `last`
        they are not transformed.
        """
        x, keys, values = self.attend(x, last, behind)
        return x + self.mlp(self.norm2(x)), keys, values

    def attend(self, x: Tensor, last: int | None = None, behind: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Return the first half of `forward`, before the feed-forward network."""
        normed = self.norm1(x)
        keys, values = (split_heads(part, self.kv_heads) for part in self.kv(normed).chunk(2, dim=-1))
        end = x.shape[1] - behind
        if last is not None:
            x, normed, behind = x[:, end - last : end], normed[:, end - last : end], 0
        queries = split_heads(self.q(normed), self.heads)
        own = queries[:, :, : x.shape[1] - behind], keys[:, :, :end], values[:, :, :end]
        if self.sparse and last is None and torch.compiler.is_exporting():
            mixed = masked_local_strided(*own, self.window, self.unit)
        elif self.sparse and last is None:
            mixed = sparse_attention(*own, LocalStrided.of(end, self.window, self.unit))
        else:
            mixed = attention(*own)
        if behind:
            mixed = torch.cat([mixed, attention(queries[:, :, end:], keys, values)], dim=1)
        return x + self.out(mixed), keys, values

    def extend(self, x: Tensor, keys: Tensor, values: Tensor, apart: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Transform tokens x [B, W, D] that follow others; return them with their own keys and values.

        keys, values [B, Hkv, S, head_dim]: of the others at this depth; apart [B, W, S + W] bool: true where a token
        does not see another.
        """
        normed = self.norm1(x)
        own_keys, own_values = (split_heads(part, self.kv_heads) for part in self.kv(normed).chunk(2, dim=-1))
        mixed = attention(
            split_heads(self.q(normed), self.heads),
            torch.cat([keys.to(own_keys.dtype), own_keys], dim=2),
            torch.cat([values.to(own_values.dtype), own_values], dim=2),
            apart,
        )
        x = x + self.out(mixed)
        return x + self.mlp(self.norm2(x)), own_keys, own_values

    def queries(self, x: Tensor) -> Tensor:
        """Return the queries [B, H, T, head_dim] of the inputs x [B, T, D] of some tokens."""
        return split_heads(self.q(self.norm1(x)), self.heads)
