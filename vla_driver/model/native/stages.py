# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The native vision-language-action model, put together, stage by stage.

    inputs -> encode -> visual tokens -> (TokenStage) -+
    memory of earlier ticks ---------------------------+-> prefill -> Prefix -> tell -> act -> h -> decode -> controls
    ego state, navigation -----------------------------+               intent --+

Driving (policies/native.py) calls the stages one by one; training (training.py) runs them over clips.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vla_driver.model.config import VlaConfig
from vla_driver.model.layers.experts import SwiGluExperts
from vla_driver.model.layers.gather import take
from vla_driver.model.layers.norms import RMSNorm
from vla_driver.model.layers.rays import RayEmbedding
from vla_driver.model.layers.routing import Router
from vla_driver.model.native.acting.action import ActionExpert
from vla_driver.model.native.acting.flow import Decoded, FlowBlock, FlowDecoder
from vla_driver.model.native.acting.reflex import Reflex, ReflexHead
from vla_driver.model.native.auxiliary import SCENE_QUERIES, DenseHead, PlanHead, SceneHead
from vla_driver.model.native.intent import IntentEncoder, null_inputs, read_behind
from vla_driver.model.native.language import LanguageModel
from vla_driver.model.native.seeing.ego import EgoEncoder
from vla_driver.model.native.seeing.memory import MemoryPool, MemoryReader, PooledTokens
from vla_driver.model.native.seeing.recall import Recall
from vla_driver.model.native.seeing.view import ViewReader
from vla_driver.model.native.seeing.vision import VisionEncoder, VisionOutput
from vla_driver.model.pruning.base import KeptTokens, kept_alone
from vla_driver.model.pruning.in_model import NOTHING_LEAVES, Layout
from vla_driver.model.pruning.stage import KEEP_ALL, TokenStage
from vla_driver.model.tokens import IntentInputs, ModelInputs, Prefix, Remembered, Sight, VisualTokens
from vla_driver.model.words.speaker import DraftHead, Speaker


class VlaStages(PreTrainedModel):
    """See the module's docstring.  Sizes come from `VlaConfig`."""

    config_class = VlaConfig
    base_model_prefix = 'vla'
    main_input_name = 'batch'
    # A checkpoint in training holds heads that driving does without.
    _keys_to_ignore_on_load_unexpected = (r'^dense_head\.', r'^scene_head\.', r'^plan_head\.')

    def __init__(self, config: VlaConfig):
        super().__init__(config)
        width = config.language_config.hidden_size
        if not config.blind:
            self.vision = VisionEncoder(config)
            self.memory_pool = MemoryPool(config)
            self.memory = MemoryReader(config)
            self.position = RayEmbedding(width, config.vision_config.ray_octaves)
            self.view = ViewReader(config)
            if config.recalls:
                self.recall = Recall(config, len(self.memory_pool.camera))
        self.ego = EgoEncoder(config)
        self.kinds = nn.Parameter(torch.zeros(3, width))  # what a token is: visual, remembered, ego and navigation
        self.scene_queries = nn.Parameter(torch.randn(SCENE_QUERIES, width) * config.initializer_range)
        self.language = LanguageModel(config.language_config)
        if config.intent:
            self.intents = IntentEncoder(config)
        self.action = ActionExpert(config)
        self.reflexes = ReflexHead(config)
        self.flow = FlowDecoder(config)
        if config.words_config.grammar:
            self.words = Speaker(config, SCENE_QUERIES)
        if config.auxiliary:
            self.scene_head = SceneHead(config)
            self.plan_head = PlanHead(config)
            if not config.blind:
                self.dense_head = DenseHead(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise one module (called by transformers for whatever a checkpoint does not hold)."""
        std = self.config.initializer_range
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity='relu')
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=max(std, 0.5 * module.in_features**-0.5))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, Router | SwiGluExperts):
            module.reset_parameters()
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=std)
        elif isinstance(module, RMSNorm):
            nn.init.ones_(module.weight)
        elif isinstance(module, nn.LayerNorm) and module.elementwise_affine:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        if not self.config.blind and self.view.coverage and module is self.view.seen:
            nn.init.zeros_(self.view.seen.weight)  # a checkpoint that did not know of holes reads as before
        if self.config.recalls and module is self.recall.out:
            nn.init.zeros_(module.weight)  # a checkpoint that knew of the present alone drives as before
        if isinstance(module, DraftHead):
            nn.init.zeros_(module.up.weight)
        if isinstance(module, FlowDecoder):
            # The velocity starts at zero: before any training the plan is the anchor itself.
            nn.init.zeros_(module.output.weight)
            if module.others is not None:
                nn.init.zeros_(module.others.output.weight)
            for block in module.blocks:
                assert isinstance(block, FlowBlock)
                nn.init.zeros_(block.modulation.weight)

    def save_pretrained(self, save_directory: Any, *args: Any, **options: Any) -> None:
        """As `PreTrainedModel` does; a model that speaks writes its vocabulary as well."""
        super().save_pretrained(save_directory, *args, **options)
        if self.config.words_config.grammar:
            self.words.grammar.vocabulary.save(Path(save_directory))

    def encode(self, inputs: ModelInputs, stage: TokenStage = KEEP_ALL) -> VisionOutput:
        """Pictures to visual tokens; stage: as in `VisionEncoder`."""
        out: VisionOutput = self.vision(inputs, stage)
        return out

    def pool(self, tokens: VisualTokens, kept: KeptTokens | None = None) -> PooledTokens:
        """Visual tokens to what is remembered of this tick.

        kept: what a stage has left of them; a model that reads the kept ones alone remembers these alone.
        """
        if kept is not None and self.config.reads_kept:
            tokens = dataclasses.replace(tokens, features=kept_alone(tokens.features, kept))
        out: PooledTokens = self.memory_pool(tokens)
        return out

    def prefill(
        self,
        ego: Tensor,
        tokens: VisualTokens | None,
        remembered: Remembered | None,
        kept: KeptTokens | None = None,
        stage: TokenStage = KEEP_ALL,
        behind: Tensor | None = None,
    ) -> Prefix:
        """Read ego tokens [B, 3, D] with everything seen and remembered (None for the blind control).

        kept: what a stage has left of the tokens; each keeps the position of its own ray.  stage: may let more of them
        leave between the layers.  behind: as in `LanguageModel.prefill`.
        """
        x, read, view = self._sequence(ego, tokens, remembered, kept)
        run = NOTHING_LEAVES
        if tokens is not None:
            asking = ego.shape[1] + SCENE_QUERIES
            run = stage.within_prefill(tokens, partial(_layout, tokens, x, asking), x, len(self.language.layers))
        sight = None
        if tokens is not None and self.config.action_config.num_agents:
            sight = _sight(tokens, kept, x)
        prefix = self.language.prefill(x, SCENE_QUERIES, run, behind)
        return dataclasses.replace(prefix, read=read, view=view, sight=sight)

    def read(
        self,
        ego: Tensor,
        tokens: VisualTokens | None,
        remembered: Remembered | None,
        kept: KeptTokens | None = None,
        stage: TokenStage = KEEP_ALL,
        intent: IntentInputs | None = None,
    ) -> tuple[Prefix, tuple[Prefix, Tensor]]:
        """Return `prefill`, and what `tell` makes of it: in one pass, where no token leaves between the layers.

        What was said takes two tokens; a pass of their own through every layer and its experts would cost as many
        operations as the whole sequence does, if small ones.
        """
        if not self.config.intent or stage.leaves_within:
            prefix = self.prefill(ego, tokens, remembered, kept, stage)
            return prefix, self.tell(prefix, ego, intent)
        said = self.intents(null_inputs(len(ego), ego.device) if intent is None else intent)
        told = self.prefill(ego, tokens, remembered, kept, stage, said)
        more = said.shape[1]
        keys, values = (tuple(part[:, :, :-more] for part in parts) for parts in (told.keys, told.values))
        return dataclasses.replace(told, keys=keys, values=values), (told, torch.cat([ego, said], dim=1))

    def _sequence(
        self, ego: Tensor, tokens: VisualTokens | None, remembered: Remembered | None, kept: KeptTokens | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return what the language model reads, [B, L, D], and what was read off the panorama (`Prefix`).

        In order: visual tokens, remembered ones, view tokens, ego and navigation, scene queries.
        """
        kinds, parts = self.kinds.to(ego.dtype), [ego + self.kinds[2].to(ego.dtype)]
        read, view = None, None
        if remembered is not None:
            parts.insert(0, self.memory(remembered, self.position) + kinds[1])
        if tokens is not None:
            features, valid = tokens.features, tokens.valid
            spread = self.view.spread(tokens.rays, tokens.origins)
            position = self.position(tokens.rays, tokens.origins)  # of all tokens: known from the tick before
            shown, whole = (features, spread, valid), None
            if kept is not None:
                position, valid = take(position, kept.index), take(valid, kept.index)
                features = take(features, kept.index) if kept.features is None else kept.features
                if self.config.view_config.reads != 'all':
                    shown = features, take(spread, kept.index), valid
                if self.config.view_config.reads == 'usual':
                    whole = (spread * tokens.valid.unsqueeze(-1)).sum(dim=1)
            read, said = self.view(*shown, whole)
            recalled = self.recalled(remembered)
            if recalled is not None:
                # Not `read + recalled`: OpenVINO 2026.4 joins such a sum with the product in front of it, and compiling
                # in float32 ends the process (docs/decisions.md).
                read = torch.stack([read, recalled]).sum(dim=0)
            view = said.sum(dim=1)
            # A missing camera has no position: a rig that never had it and one that lost it look the same.
            position = position.to(features.dtype) * valid.unsqueeze(-1).to(features.dtype)
            parts.insert(-1, said)
            parts.insert(0, features + position + kinds[0])
        parts.append(self.scene_queries.to(ego.dtype).expand(len(ego), -1, -1))
        return torch.cat(parts, dim=1), read, view

    def recalled(self, remembered: Remembered | None) -> Tensor | None:
        """Return what the reflex knows of earlier ticks [B, H], part of `Prefix.read`; None where it knows nothing."""
        if remembered is None or not self.config.recalls:
            return None
        out: Tensor = self.recall(remembered)
        return out

    def tell(self, prefix: Prefix, ego: Tensor, intent: IntentInputs | None = None) -> tuple[Prefix, Tensor]:
        """Return prefix and ego tokens as the action expert gets them: behind them what the slow half said.

        None: nothing was said, the null intent.  A model that takes no intents gets back what it gave.
        """
        if not self.config.intent:
            return prefix, ego
        said = self.intents(null_inputs(len(ego), ego.device) if intent is None else intent)
        return read_behind(self.language, prefix, said), torch.cat([ego, said], dim=1)

    def act(self, prefix: Prefix, ego: Tensor) -> Tensor:
        """Prefix to one hidden state per waypoint, and per other behind these: [B, T + num_agents, A].

        Both as `tell` returns them.
        """
        condition = ego.sum(dim=1)
        if prefix.view is not None:
            condition = condition + prefix.view
        out: Tensor = self.action(prefix, condition)
        return out

    def reflex(self, prefix: Prefix, ego: Tensor) -> Reflex:
        """Prefix and ego tokens to the first answers, on which the flow builds."""
        out: Reflex = self.reflexes(prefix.read, ego)
        return out

    def decode(self, hidden: Tensor, reflex: Reflex, noise: Tensor | None = None) -> Tensor:
        """Hidden states to controls [B, T, 2] in m/s^2 and 1/m: the likeliest anchor, the steering, then the flow."""
        return self.decode_all(hidden, reflex, noise).controls

    def decode_all(
        self,
        hidden: Tensor,
        reflex: Reflex,
        noise: Tensor | None = None,
        unguided: Tensor | None = None,
        guidance: float = 1.0,
        others: bool = True,
    ) -> Decoded:
        """Return `decode`, and what the others will do where the model forecasts them and they are asked for.

        unguided: hidden states told the null intent; what the intent changes is then taken `guidance` times.
        """
        votes = self.flow.classify(hidden, reflex)
        if unguided is not None:
            untold = self.flow.classify(unguided, reflex)
            votes = untold + guidance * (votes - untold)
        decoded = self.flow.decode(hidden, votes.argmax(dim=-1), noise, reflex, unguided, guidance, others)
        return dataclasses.replace(decoded, votes=votes)


def _sight(tokens: VisualTokens, kept: KeptTokens | None, x: Tensor) -> Sight:
    """Return the visual tokens at the beginning of the sequence x [B, L, D], with what is known of their rays."""
    known = tokens.rays, tokens.origins, tokens.valid
    rays, origins, valid = known if kept is None else (take(value, kept.index) for value in known)
    return Sight(x[:, : valid.shape[1]], rays, origins, valid)


def _layout(tokens: VisualTokens, x: Tensor, asking: int) -> Layout:
    """Return where the sequence x [B, L, D] holds what.

    The ego, navigation and scene tokens, the last `asking` ones, take the part of the text: nothing is causal here, so
    all of them are "the end of the prompt".
    """
    batch, length = x.shape[:2]
    positions = torch.arange(length, device=x.device).expand(batch, -1)
    return Layout(
        visual=positions[:, : len(tokens.camera)],
        text=positions[:, length - asking :],
        camera=tokens.camera,
        names=tokens.names,
        valid=tokens.valid,
        last=asking,
    )
