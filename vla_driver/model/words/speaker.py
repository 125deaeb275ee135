# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Words on top of a prefix: embeddings, a norm, and heads that draft; the layers are the language model's own.

Words are causal: each sees the whole prefix and the words before it.  The prefix never sees words, so running these
alone on the cached keys and values equals one pass over both under the mixed mask, and the fast half, which reads the
same prefix, does not notice whether somebody speaks.

Positions are the sines of "Attention Is All You Need" (arXiv 1706.03762, section 3.5), and input and output share their
embeddings (section 3.4), so that there is little to learn that is not learned from driving.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_driver.model.config import VlaConfig
from vla_driver.model.layers.decoder import LanguageLayer
from vla_driver.model.layers.norms import RMSNorm
from vla_driver.model.tokens import Prefix
from vla_driver.model.words.gate import Gate
from vla_driver.model.words.grammar import Grammar
from vla_driver.types import InvalidInput


@dataclass(frozen=True)
class WordCache:
    """Keys and values [B, Hkv, n, head_dim] of n words that were read, for every layer; START is one of them."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    def __len__(self) -> int:
        return self.keys[0].shape[2]

    def first(self, count: int) -> WordCache:
        """Return what is cached of the first `count` words alone."""
        return WordCache(tuple(k[:, :, :count] for k in self.keys), tuple(v[:, :, :count] for v in self.values))


class DraftHead(nn.Module):
    """What comes after what comes next (as in Medusa, arXiv 2401.10774, section 2.1): a residual, at first nothing."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.down = nn.Linear(width, inner)
        self.up = nn.Linear(inner, width, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., D], in the precision of `hidden` whatever the weights are stored in."""
        down, up, bias = (w.to(hidden.dtype) for w in (self.down.weight, self.up.weight, self.down.bias))
        return hidden + F.linear(F.silu(F.linear(hidden, down, bias)), up)


class Speaker(nn.Module):
    """The only weights that words have for themselves.  Sizes come from `VlaConfig.words_config`."""

    def __init__(self, config: VlaConfig, scene_queries: int):
        super().__init__()
        words, language = config.words_config, config.language_config
        self.grammar = Grammar(words.grammar, config.camera_names)
        size = len(self.grammar.vocabulary)
        if words.vocabulary not in (0, size):
            raise InvalidInput(
                f'words_config.vocabulary is {words.vocabulary}, but grammar {words.grammar} with the cameras '
                f'{", ".join(config.camera_names)} has {size} words: leave it at 0'
            )
        if not 0.0 <= words.prefix_gradient <= 1.0 or words.drafts < 0:
            raise InvalidInput(
                f'words_config: prefix_gradient {words.prefix_gradient} and drafts {words.drafts}, expected a share '
                'from 0 to 1 and a number from 0 up'
            )
        if not words.temperature > 0.0:
            raise InvalidInput(f'words_config.temperature is {words.temperature}, expected a positive number')
        words.vocabulary = size
        self.width = language.hidden_size
        self.embedding = nn.Embedding(size, self.width)
        self.norm = RMSNorm(self.width, language.rms_norm_eps)
        self.drafts = nn.ModuleList(
            DraftHead(self.width, words.draft_size) for _ in range(min(words.drafts, self.grammar.choices - 1))
        )
        self.gate = Gate(config, scene_queries)

    def embed(self, ids: Tensor, first: int = 0) -> Tensor:
        """Return [B, W, D] of words ids [B, W], the first of which stands at place `first` (START: 0)."""
        places = torch.arange(first, first + ids.shape[1], device=ids.device)
        return math.sqrt(self.width) * self.embedding(ids) + _sines(places, self.width)

    def read(
        self, layers: Iterable[nn.Module], prefix: Prefix, ids: Tensor, cache: WordCache | None = None
    ) -> tuple[Tensor, WordCache]:
        """Read words ids [B, W] behind those cached (None: they begin with START).

        layers: of the language model (`LanguageLayer`).  Returns what `logits` makes next words of, [B, W, D] in
        float32, and the cache with these words as well.
        """
        read = 0 if cache is None else len(cache)
        x, keys, values = self.embed(ids, read), [], []
        for number, layer in enumerate(layers):
            assert isinstance(layer, LanguageLayer)
            before = [prefix.keys[number]] if cache is None else [prefix.keys[number], cache.keys[number]]
            says = [prefix.values[number]] if cache is None else [prefix.values[number], cache.values[number]]
            count = sum(part.shape[2] for part in before)
            own = ids.shape[1]
            apart = torch.ones(own, count + own, dtype=torch.bool, device=ids.device).triu(count + 1)
            x, k, v = layer.extend(x, torch.cat(before, dim=2), torch.cat(says, dim=2), apart.expand(len(ids), -1, -1))
            keys.append(k if cache is None else torch.cat([cache.keys[number], k], dim=2))
            values.append(v if cache is None else torch.cat([cache.values[number], v], dim=2))
        return self.norm(x.float()), WordCache(tuple(keys), tuple(values))

    def logits(self, hidden: Tensor, ahead: int = 0) -> Tensor:
        """Return float32 [..., V] of the next word; ahead k: of the k-th choice after it (`DraftHead`)."""
        # In bfloat16, two words would often weigh the same, and which is said would be chance.
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.float()
            if ahead:
                hidden = self.drafts[ahead - 1](hidden)
            return F.linear(hidden, self.embedding.weight.float())


def _sines(places: Tensor, width: int) -> Tensor:
    """Return [n, width] sines and cosines of places [n], in float32."""
    rates = torch.exp(-math.log(1e4) / width * torch.arange(0, width, 2, device=places.device))
    angles = places.unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
