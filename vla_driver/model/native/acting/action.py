# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The action expert: one query per waypoint, and per other, reads the cached prefix and the rest of them in one pass.

As in pi0 (arXiv 2410.24164) and Alpamayo-R1 (arXiv 2511.00088) it is as deep as the language model and
attends, layer by layer, to that layer's cached keys and values; its own weights may be narrower.  The
queries see the whole prefix and one another, so running them alone on the cache equals running the full
sequence under the mixed mask.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_driver.model.config import VlaConfig
from vla_driver.model.layers.attention import attention, split_heads
from vla_driver.model.layers.feed_forward import SwiGlu
from vla_driver.model.layers.norms import RMSNorm
from vla_driver.model.native.acting.sight import AgentSight
from vla_driver.model.tokens import Prefix


class ActionLayer(nn.Module):
    """Queries [B, T, A] attend to [prefix | queries], then a SwiGLU."""

    def __init__(self, config: VlaConfig):
        super().__init__()
        language, action = config.language_config, config.action_config
        d = action.hidden_size
        self.heads, self.kv_heads = language.num_attention_heads, language.num_key_value_heads
        head_dim = language.hidden_size // self.heads
        self.norm1 = RMSNorm(d, language.rms_norm_eps)
        self.q = nn.Linear(d, self.heads * head_dim, bias=False)
        self.kv = nn.Linear(d, 2 * self.kv_heads * head_dim, bias=False)
        self.out = nn.Linear(self.heads * head_dim, d, bias=False)
        self.norm2 = RMSNorm(d, language.rms_norm_eps)
        self.mlp = SwiGlu(d, action.intermediate_size)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Keys and values [B, Hkv, L, head_dim] are the prefix's at this depth."""
        normed = self.norm1(x)
        own_keys, own_values = (split_heads(part, self.kv_heads) for part in self.kv(normed).chunk(2, dim=-1))
        mixed = attention(
            split_heads(self.q(normed), self.heads),
            torch.cat([keys, own_keys.to(keys.dtype)], dim=2),
            torch.cat([values, own_values.to(values.dtype)], dim=2),
        )
        x = x + self.out(mixed)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class ActionExpert(nn.Module):
    """Prefix to one hidden state per waypoint, and behind these one per other that may be forecast."""

    def __init__(self, config: VlaConfig):
        super().__init__()
        action, language = config.action_config, config.language_config
        self.queries = nn.Parameter(torch.randn(action.horizon, action.hidden_size) * config.initializer_range)
        self.agent_queries = None
        if action.num_agents:
            self.agent_queries = nn.Parameter(torch.randn(action.num_agents, action.hidden_size))
            self.sight = AgentSight(config)
        self.condition = nn.Linear(language.hidden_size, action.hidden_size)
        self.layers = nn.ModuleList(ActionLayer(config) for _ in range(language.num_hidden_layers))
        self.norm = RMSNorm(action.hidden_size, language.rms_norm_eps)

    def forward(self, prefix: Prefix, condition: Tensor) -> Tensor:
        """Return h [B, T + num_agents, A].  condition [B, D]: ego state and navigation, given to every query."""
        x = self.condition(condition).unsqueeze(1)
        queries = self.queries if self.agent_queries is None else torch.cat([self.queries, self.agent_queries])
        x = x + queries.to(x.dtype)
        for layer, keys, values in zip(self.layers, prefix.keys, prefix.values, strict=True):
            x = layer(x, keys, values)
        out: Tensor = self.norm(x)
        if self.agent_queries is None:
            return out
        own = self.queries.shape[0]
        return torch.cat([out[:, :own], self.sight(out[:, own:], prefix.sight)], dim=1)
