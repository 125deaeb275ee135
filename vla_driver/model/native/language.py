# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The language model: reads [visual | memory | view | ego | navigation | scene queries] once into a Prefix.

None of these tokens is text and none has an order of its own (the visual ones carry their rays), so the
prefix attends bidirectionally and without rotary positions.  `LanguageConfig.attention` chooses for each layer whether
its tokens see all others or a sparse pattern of them; who reads the cached prefix sees all of it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_driver.model.config import LanguageConfig
from vla_driver.model.layers.decoder import LanguageLayer
from vla_driver.model.layers.experts import ExpertsFeedForward
from vla_driver.model.layers.gather import take
from vla_driver.model.layers.norms import RMSNorm
from vla_driver.model.layers.routing import Routing
from vla_driver.model.pruning.in_model import NOTHING_LEAVES, PrefillRun
from vla_driver.model.tokens import Prefix


class LanguageModel(nn.Module):
    """A stack of LanguageLayers over embeddings.

    routings: of the last prefix, where its tokens went in each layer that has experts.
    """

    def __init__(self, config: LanguageConfig):
        super().__init__()
        routed = config.routed_layers
        self.layers = nn.ModuleList(
            LanguageLayer(config, kind, experts=number in routed)
            for number, kind in enumerate(config.attention_of_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.routings: dict[int, Routing] = {}

    def prefill(
        self, embeddings: Tensor, scene_queries: int, run: PrefillRun = NOTHING_LEAVES, behind: Tensor | None = None
    ) -> Prefix:
        """Read embeddings [B, L, D], the last `scene_queries` of which are the scene queries.

        run: drops visual tokens between layers; the layers after hold fewer keys and values.  behind [B, W, D]: tokens
        that read these and one another, and are read by none of these; their keys and values come last.  Not both.
        """
        x, keys, values = embeddings, [], []
        more = 0 if behind is None else behind.shape[1]
        if behind is not None:
            x = torch.cat([x, behind.to(x.dtype)], dim=1)
        for number, layer in enumerate(self.layers):
            before = x
            # Of the last layer, others read keys and values; what it makes of the tokens matters for the queries alone.
            final = number == len(self.layers) - 1 and not run.due(number)
            x, k, v = layer(x, scene_queries if final else None, more)
            keys.append(k)
            values.append(v)
            if run.due(number):
                assert isinstance(layer, LanguageLayer)
                x, _ = run.step(number, x, layer.queries(take(before, run.text)), k)
        if not torch.compiler.is_compiling():  # an exporter must not see what is remembered
            self.routings = {
                number: layer.mlp.last_routing
                for number, layer in enumerate(self.layers)
                if isinstance(layer.mlp, ExpertsFeedForward) and layer.mlp.last_routing is not None
            }
        return Prefix(tuple(keys), tuple(values), self.norm(x[:, x.shape[1] - scene_queries :]))
