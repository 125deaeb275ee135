# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The language models of Qwen2.5-VL and Qwen3-VL, layer by layer: prefill with a cache, then one token at a time.

The layers are those of transformers; the loop is ours, because an in-model pruner drops tokens between two layers.
The cache is then ragged (later layers hold fewer tokens), so neither positions nor masks may be taken from its
length: positions come from `Sequence.next_position`, and a generated token may look at everything that is cached.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from vla_driver.model.layers.gather import take
from vla_driver.model.pruning.in_model import NOTHING_LEAVES, PrefillRun
from vla_driver.model.qwen.sequence import Sequence
from vla_driver.types import InvalidInput


class LanguageRunner:
    """Prefill and decoding with the language model inside a ...ForConditionalGeneration.  Batch 1."""

    def __init__(self, model: Any) -> None:
        """Raises `InvalidInput` for a model with sliding-window layers: no published driving checkpoint has them."""
        self.model = model
        self.language = model.model.language_model
        kinds = set(getattr(self.language.config, 'layer_types', None) or ['full_attention'])
        if kinds != {'full_attention'}:
            raise InvalidInput(f'language model with layers of kind {sorted(kinds)}; supported: full_attention')
        self._eager = self.language.config._attn_implementation == 'eager'

    @property
    def depth(self) -> int:
        """The number of layers."""
        return len(self.language.layers)

    def prefill(self, sequence: Sequence, run: PrefillRun = NOTHING_LEAVES) -> tuple[Tensor, DynamicCache]:
        """Return the last token's logits [1, vocabulary] and the cache of a whole or pruned sequence."""
        language, cache = self.language, DynamicCache(config=self.language.config)
        hidden = sequence.embeddings
        cos, sin = language.rotary_emb(hidden, sequence.positions.to(hidden.device))
        visual, levels = sequence.visual, sequence.deepstack
        for number, layer in enumerate(language.layers):
            before = hidden
            mask = _causal_mask(hidden) if self._eager else None
            hidden = layer(
                hidden,
                attention_mask=mask,
                position_embeddings=(cos, sin),
                past_key_values=cache,
                use_cache=True,
            )
            if number < len(levels):
                hidden = hidden.index_add(1, visual.to(hidden.device), levels[number].to(hidden.dtype).unsqueeze(0))
            if run.due(number):
                at = run.text
                queries = self._queries(layer, take(before, at), take(cos, at), take(sin, at))
                visible = torch.arange(before.shape[1], device=at.device) <= at[:, None, :, None]
                hidden, keep = run.step(number, hidden, queries, cache.layers[number].keys, visible)
                cos, sin = take(cos, keep), take(sin, keep)
                stays = torch.isin(visual, keep[0])
                visual = torch.searchsorted(keep[0], visual[stays])
                levels = tuple(level[stays.to(level.device)] for level in levels)
        return self._logits(hidden[:, -1:]), cache

    def step(self, token: int, position: int, cache: DynamicCache) -> Tensor:
        """Return the logits [1, vocabulary] after one more token, given at `position`; the cache grows by it."""
        device = self.language.embed_tokens.weight.device
        hidden = self.language.embed_tokens(torch.full((1, 1), token, dtype=torch.int64, device=device))
        place = torch.full((3, 1, 1), position, dtype=torch.int64, device=device)
        rotary = self.language.rotary_emb(hidden, place)
        for layer in self.language.layers:
            hidden = layer(
                hidden, attention_mask=None, position_embeddings=rotary, past_key_values=cache, use_cache=True
            )
        return self._logits(hidden)

    def greedy(self, sequence: Sequence, run: PrefillRun = NOTHING_LEAVES) -> Iterator[int]:
        """Yield one token after the other, the likeliest each time, without end.

        Next position = largest position of the *whole* sequence + 1, then one more each time.
        """
        logits, cache = self.prefill(sequence, run)
        position = sequence.next_position
        while True:
            token = int(logits[0].argmax())
            yield token
            logits = self.step(token, position, cache)
            position += 1

    def _logits(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.model.lm_head(self.language.norm(hidden))[:, -1]
        return out

    @staticmethod
    def _queries(layer: Any, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return the rotated queries [1, H, T, d] that `layer` makes of its input hidden [1, T, D]."""
        from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb

        attention = layer.self_attn
        queries = attention.q_proj(layer.input_layernorm(hidden)).unflatten(-1, (-1, attention.head_dim))
        if hasattr(attention, 'q_norm'):  # Qwen3-VL
            queries = attention.q_norm(queries)
        queries = queries.transpose(1, 2)
        rotated: Tensor = apply_rotary_pos_emb(queries, queries, cos, sin)[0]
        return rotated


def _causal_mask(hidden: Tensor) -> Tensor:
    """Return the additive causal mask [1, 1, L, L] of eager attention; other kernels know that they are causal."""
    length = hidden.shape[1]
    lowest = torch.finfo(hidden.dtype).min
    mask = torch.full((length, length), lowest, dtype=hidden.dtype, device=hidden.device)
    return mask.triu(1)[None, None]
