# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What the slow half said, as tokens that the action expert reads behind the prefix.

Two tokens, what to do and why, run through the language model's layers: they read the prefix and each other, and the
prefix does not read them.  So one prefix serves the fast half with and without an intent, and the slow half, which must
not be told its own answer.  With its weight an intent fades into the learned null intent, in front of the first layer:
at weight 0 the tokens are the null intent's, bit by bit.

Guidance (classifier-free: Ho and Salimans, arXiv 2207.12598; of intents: MindVLA-U1, arXiv 2605.12624) exaggerates
what an intent changes: v = v0 + s (v_z - v0), of the flow's velocities and of the anchors' logits; s = 1 costs nothing.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from vla_driver.model.config import VlaConfig
from vla_driver.model.layers.attention import attention, split_heads
from vla_driver.model.layers.decoder import LanguageLayer
from vla_driver.model.native.language import LanguageModel
from vla_driver.model.tokens import IntentInputs, Prefix
from vla_driver.types import HazardKind, MetaAction

#: How many tokens say an intent.
INTENT_TOKENS = 2


def null_inputs(rows: int, device: torch.device | str = 'cpu') -> IntentInputs:
    """Return inputs that say nothing, B = rows."""
    kinds = torch.zeros(rows, 3, dtype=torch.int64, device=device)
    return IntentInputs(kinds, torch.zeros(rows, 7, device=device))


class IntentEncoder(nn.Module):
    """IntentInputs to tokens [B, 2, D]: what to do, and why."""

    def __init__(self, config: VlaConfig):
        super().__init__()
        width = config.language_config.hidden_size
        self.ttl_s = config.intent_ttl_s
        self.meta_action = nn.Embedding(len(MetaAction), width)
        self.hazard = nn.Embedding(len(HazardKind), width)
        self.camera = nn.Embedding(len(config.image_sizes) + 1, width)
        self.what = nn.Sequential(nn.Linear(5, width), nn.GELU(), nn.Linear(width, width))
        self.why = nn.Sequential(nn.Linear(5, width), nn.GELU(), nn.Linear(width, width))
        self.null = nn.Parameter(torch.zeros(INTENT_TOKENS, width))

    def forward(self, inputs: IntentInputs) -> Tensor:
        """Return [B, 2, D]; at weight 0 exactly the null intent."""
        target, target_known, hazard_m, hazard_known, age_s, confidence, weight = inputs.numbers.unbind(dim=-1)
        when = [age_s / self.ttl_s, confidence]
        what = self.what(torch.stack([target / 10, torch.tanh(target), target_known, *when], dim=-1))
        near = hazard_known * torch.exp(-hazard_m.clamp(min=0.0) / 8.0)
        why = self.why(torch.stack([hazard_m.clamp(-10.0, 60.0) / 30.0, near, hazard_known, *when], dim=-1))
        meta_action, hazard, camera = inputs.kinds.unbind(dim=-1)
        what = what + self.meta_action(meta_action).to(what.dtype)
        # One after the other: with OpenVINO 2026.4 the order matters (docs/decisions.md).
        why = why + self.hazard(hazard).to(why.dtype) + self.camera(camera).to(why.dtype)
        said, null = torch.stack([what, why], dim=1), self.null.to(what.dtype)
        return null + weight.to(said.dtype)[:, None, None] * (said - null)


def read_behind(language: LanguageModel, prefix: Prefix, x: Tensor) -> Prefix:
    """Return the prefix with keys and values of further tokens x [B, N, D] behind it.

    They read the prefix and one another; the prefix stays as it was.
    """
    keys, values = [], []
    for number, (layer, before_k, before_v) in enumerate(zip(language.layers, prefix.keys, prefix.values, strict=True)):
        assert isinstance(layer, LanguageLayer)
        normed = layer.norm1(x)
        own_k, own_v = (split_heads(part, layer.kv_heads) for part in layer.kv(normed).chunk(2, dim=-1))
        k, v = (
            torch.cat([before_k, own_k.to(before_k.dtype)], dim=2),
            torch.cat([before_v, own_v.to(before_v.dtype)], dim=2),
        )
        keys.append(k)
        values.append(v)
        if number < len(language.layers) - 1:  # nobody reads what the last layer makes of them
            x = x + layer.out(attention(split_heads(layer.q(normed), layer.heads), k, v))
            x = x + layer.mlp(layer.norm2(x))
    return dataclasses.replace(prefix, keys=tuple(keys), values=tuple(values))


def indecision(logits: Tensor) -> Tensor:
    """Return the entropy of the anchors' votes [..., anchors], from 0 (one has all) to 1 (all have as many)."""
    shares = torch.softmax(logits, dim=-1)
    return -(shares * torch.log(shares.clamp(min=1e-12))).sum(dim=-1) / torch.log(
        torch.tensor(float(logits.shape[-1]), device=logits.device)
    )
