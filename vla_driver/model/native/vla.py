# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The native vision-language-action model, put together.

    inputs -> encode -> visual tokens -> (pruner) -+
    memory of earlier ticks -----------------------+-> prefill -> Prefix -> act -> h -> decode -> controls
    ego state, navigation -------------------------+

`forward` is training: it takes clips, encodes every picture once, and uses it both as a present and as a
memory.  Driving (policies/native.py) calls the stages one by one.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vla_driver.model.config import VlaConfig
from vla_driver.model.layers.norms import RMSNorm
from vla_driver.model.layers.rays import RayEmbedding
from vla_driver.model.native.action import ActionExpert
from vla_driver.model.native.auxiliary import SCENE_QUERIES, DenseHead, PlanHead, SceneHead
from vla_driver.model.native.flow import FlowBlock, FlowDecoder
from vla_driver.model.native.language import LanguageModel
from vla_driver.model.native.memory import MemoryPool, MemoryReader, PooledTokens, clip_memory
from vla_driver.model.native.reflex import Reflex, ReflexHead
from vla_driver.model.native.view import ViewReader
from vla_driver.model.native.vision import PrunedVision, VisionEncoder, VisionOutput
from vla_driver.model.pruning.base import KeptTokens, take
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.early import EarlyPruner
from vla_driver.model.pruning.in_model import InModelPruner, Layout, PrefillPruning
from vla_driver.model.tokens import ClipBatch, ModelInputs, Prefix, Remembered, VisualTokens

#: Weights of the losses in their sum.
LOSS_WEIGHTS = {
    'flow': 1.0,
    'steer': 1.0,
    'anchor': 0.5,
    'position': 0.3,
    'direct': 0.3,
    'speed': 0.3,
    'depth': 0.5,
    'semantic': 0.5,
    'light': 0.5,
    'lead': 0.3,
    'hazard': 0.3,
}


class EgoEncoder(nn.Module):
    """Ego state and navigation to three tokens: [ego | command | target points]."""

    def __init__(self, config: VlaConfig):
        super().__init__()
        self.config = config
        width = config.language_config.hidden_size
        self.ego = nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, width))
        self.unknown_speed = nn.Parameter(torch.zeros(width))
        self.command = nn.Embedding(4, width)
        self.distance = nn.Sequential(nn.Linear(2, width), nn.GELU(), nn.Linear(width, width))
        self.targets = nn.Sequential(nn.Linear(4 * (1 + 2 * 3), width), nn.GELU(), nn.Linear(width, width))

    def forward(self, inputs: ModelInputs, speed_known: Tensor | None = None) -> Tensor:
        """Return [B, 3, D]; rows where speed_known [B] is false get the learned "unknown" ego token."""
        clip, scale = self.config.command_distance_clip_m, self.config.target_scale_m
        speed = inputs.speed_mps
        # tanh tells standing from creeping, the linear term how fast.
        ego = self.ego(torch.stack([speed / 10, torch.tanh(speed), inputs.yaw_rate_rps * 2], dim=-1))
        if speed_known is not None:
            ego = torch.where(speed_known.unsqueeze(-1), ego, self.unknown_speed.to(ego.dtype))
        distance = inputs.command_distance_m.clamp(0.0, clip) / clip
        near = torch.exp(-inputs.command_distance_m.clamp(min=0.0) / 8.0)
        command = self.distance(torch.stack([distance, near], dim=-1))
        command = command + self.command(inputs.command).to(command.dtype)
        targets = (inputs.targets_m / scale).clamp(-4.0, 4.0).flatten(1)
        angles = (targets.unsqueeze(-1) * torch.pi * 2.0 ** torch.arange(-1, 2, device=targets.device)).flatten(1)
        target_token = self.targets(torch.cat([targets, angles.sin(), angles.cos()], dim=-1))
        return torch.stack([ego, command, target_token], dim=1)


@dataclass(frozen=True)
class VlaOutput:
    """loss: the weighted sum; losses: each term, detached.

    hidden [B, T, A] of the waypoints, reflex the first answers, scene [B, Q, D].
    """

    loss: Tensor
    losses: dict[str, Tensor]
    hidden: Tensor
    reflex: Reflex
    scene: Tensor


class VlaModel(PreTrainedModel):
    """See the module's docstring.  Sizes come from `VlaConfig`."""

    config_class = VlaConfig
    base_model_prefix = 'vla'
    main_input_name = 'batch'
    # A checkpoint in training holds heads that driving does without.
    _keys_to_ignore_on_load_unexpected = (r'^dense_head\.', r'^scene_head\.', r'^plan_head\.')

    #: Chances, in training, that the speed is withheld, that a camera other than the front one is lost, and that
    #: a remembered tick is.  Without the first, imitation learns to stand because it stands (arXiv 1904.08980).
    speed_dropout = 0.5
    camera_dropout = 0.03
    memory_dropout = 0.1
    #: Share of the training steps in which the language model does not read the cameras that look back: they matter
    #: least, and a step without them takes two thirds of the time.
    rear_dropout = 0.6

    def __init__(self, config: VlaConfig):
        super().__init__(config)
        width = config.language_config.hidden_size
        if not config.blind:
            self.vision = VisionEncoder(config)
            self.memory_pool = MemoryPool(config)
            self.memory = MemoryReader(config)
            self.position = RayEmbedding(width, config.vision_config.ray_octaves)
            self.view = ViewReader(config)
        self.ego = EgoEncoder(config)
        self.kinds = nn.Parameter(torch.zeros(3, width))  # what a token is: visual, remembered, ego and navigation
        self.scene_queries = nn.Parameter(torch.randn(SCENE_QUERIES, width) * config.initializer_range)
        self.language = LanguageModel(config.language_config)
        self.action = ActionExpert(config)
        self.reflexes = ReflexHead(config)
        self.flow = FlowDecoder(config)
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
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=std)
        elif isinstance(module, RMSNorm):
            nn.init.ones_(module.weight)
        elif isinstance(module, nn.LayerNorm) and module.elementwise_affine:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        if isinstance(module, FlowDecoder):
            # The velocity starts at zero: before any training the plan is the anchor itself.
            nn.init.zeros_(module.output.weight)
            for block in module.blocks:
                assert isinstance(block, FlowBlock)
                nn.init.zeros_(block.modulation.weight)

    # --- the stages ------------------------------------------------------------------------------------

    def encode(self, inputs: ModelInputs, attention: bool = False) -> VisionOutput:
        """Pictures to visual tokens (a pruner works on its `tokens`); attention: as in `VisionEncoder`."""
        out: VisionOutput = self.vision(inputs, attention)
        return out

    def encode_pruned(self, inputs: ModelInputs, pruner: EarlyPruner, budget: TokenBudget) -> PrunedVision:
        """As `encode`, with tokens leaving inside the vision encoder."""
        return self.vision.forward_pruned(inputs, pruner, budget)

    def pool(self, tokens: VisualTokens) -> PooledTokens:
        """Visual tokens to what is remembered of this tick."""
        out: PooledTokens = self.memory_pool(tokens)
        return out

    def prefill(
        self,
        ego: Tensor,
        tokens: VisualTokens | None,
        remembered: Remembered | None,
        kept: KeptTokens | None = None,
    ) -> Prefix:
        """Read ego tokens [B, 3, D] with everything seen and remembered (None for the blind control).

        kept: what a pruner has left of the tokens; each keeps the position of its own ray.
        """
        x, read, view = self._sequence(ego, tokens, remembered, kept)
        return dataclasses.replace(self.language.prefill(x, SCENE_QUERIES), read=read, view=view)

    def prefill_pruned(
        self,
        ego: Tensor,
        tokens: VisualTokens,
        remembered: Remembered | None,
        pruner: InModelPruner,
        budget: TokenBudget,
    ) -> tuple[Prefix, PrefillPruning]:
        """As `prefill`, with tokens leaving inside the language model; also return the run, which says which stayed.

        The ego, navigation and scene tokens, at the end of the sequence, take the part of the text: nothing is causal
        here, so all of them are "the end of the prompt".
        """
        x, read, view = self._sequence(ego, tokens, remembered, None)
        batch, length = x.shape[:2]
        asking = ego.shape[1] + SCENE_QUERIES
        positions = torch.arange(length, device=x.device).expand(batch, -1)
        layout = Layout(
            visual=positions[:, : len(tokens.camera)],
            text=positions[:, length - asking :],
            camera=tokens.camera,
            names=tokens.names,
            valid=tokens.valid,
            last=asking,
        )
        run = PrefillPruning(pruner, budget, layout, x, len(self.language.layers))
        return dataclasses.replace(self.language.prefill(x, SCENE_QUERIES, run), read=read, view=view), run

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
            view = said.sum(dim=1)
            # A missing camera has no position: a rig that never had it and one that lost it look the same.
            position = position.to(features.dtype) * valid.unsqueeze(-1).to(features.dtype)
            parts.insert(-1, said)
            parts.insert(0, features + position + kinds[0])
        parts.append(self.scene_queries.to(ego.dtype).expand(len(ego), -1, -1))
        return torch.cat(parts, dim=1), read, view

    def act(self, prefix: Prefix, ego: Tensor) -> Tensor:
        """Prefix to one hidden state per waypoint [B, T, A]."""
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
        anchor = self.flow.classify(hidden, reflex).argmax(dim=-1)
        return self.flow.denormalise(self.flow.sample(hidden, anchor, noise, reflex))

    # --- training --------------------------------------------------------------------------------------

    def perceive(self, batch: ClipBatch) -> tuple[VisionOutput | None, Remembered | None]:
        """Encode the pictures of all ticks of the clips once, and remember them for the later ticks."""
        if self.config.blind:
            return None, None
        seen = self._look(batch.inputs)
        drop = self.memory_dropout if self.training else 0.0
        memory = clip_memory(
            self.pool(seen.tokens), batch.pose, batch.stamp_s, batch.ticks, self.config.memory_config, drop
        )
        if self.training and float(torch.rand(())) < self.rear_dropout:
            ahead = torch.tensor(['back' not in name for name in self.config.camera_names])
            device = seen.tokens.camera.device
            pooled_of = torch.tensor(self.memory_pool.camera)
            kept = dataclasses.replace(
                seen, tokens=seen.tokens.select(ahead.to(device)[seen.tokens.camera].nonzero()[:, 0])
            )
            return kept, memory.select(ahead[pooled_of].nonzero()[:, 0].to(device))
        return seen, memory

    def _look(self, inputs: ModelInputs) -> VisionOutput:
        """Encode; in training, some cameras fail."""
        if self.training and self.camera_dropout > 0:
            keep = torch.rand(inputs.present.shape, device=inputs.present.device) >= self.camera_dropout
            keep[:, 0] = True  # camera_names begins with the anchor camera
            inputs = dataclasses.replace(inputs, present=inputs.present & keep)
        return self.encode(inputs)

    def _reflex_losses(self, batch: ClipBatch) -> VlaOutput:
        """Return the losses of reflex and flow alone: an eighth of the work, for the language model is not asked."""
        inputs, labels = batch.inputs, batch.labels
        ego, read = self.ego(inputs, self._speed_known(inputs)), None
        if not self.config.blind:
            tokens = self._look(inputs).tokens
            spread = self.view.spread(tokens.rays, tokens.origins)
            read, _ = self.view(tokens.features, spread, tokens.valid)
        reflex: Reflex = self.reflexes(read, ego)
        losses = self.reflexes.losses(reflex, self.flow.normalise(labels.controls)[..., 1])
        losses |= self.flow.losses(None, labels.controls, inputs.speed_mps, reflex)
        scene = ego.new_zeros(len(ego), SCENE_QUERIES, ego.shape[-1])
        if self.config.auxiliary:
            losses |= self.scene_head.losses(scene, reflex.trunk, labels)
        return self._weigh(losses, ego.new_zeros(0), reflex, scene)

    def _speed_known(self, inputs: ModelInputs) -> Tensor | None:
        """Return which rows [B] are told their speed; None: all."""
        if not self.training or self.speed_dropout <= 0:
            return None
        return torch.rand(inputs.speed_mps.shape, device=inputs.speed_mps.device) >= self.speed_dropout

    def _weigh(self, losses: dict[str, Tensor], hidden: Tensor, reflex: Reflex, scene: Tensor) -> VlaOutput:
        total = torch.stack([LOSS_WEIGHTS[name] * value for name, value in losses.items()]).sum()
        return VlaOutput(total, {name: value.detach() for name, value in losses.items()}, hidden, reflex, scene)

    def forward(self, batch: ClipBatch, stage: str = 'all') -> VlaOutput:
        """Return losses of one batch of clips.  stage 'vision': dense heads only; 'policy': all but these; 'all'.

        'reflex': the reflex alone, whose output has no hidden states.
        """
        if stage == 'reflex':
            return self._reflex_losses(batch)
        seen, memory = self.perceive(batch)
        losses: dict[str, Tensor] = {}
        if self.config.auxiliary and seen is not None and stage != 'policy':
            losses |= self.dense_head.losses(seen.patches, batch.labels)
        ego = self.ego(batch.inputs, self._speed_known(batch.inputs))
        prefix = self.prefill(ego, seen.tokens if seen is not None else None, memory)
        reflex = self.reflex(prefix, ego)
        if self.config.auxiliary:
            losses |= self.scene_head.losses(prefix.scene, reflex.trunk, batch.labels)
        hidden = self.act(prefix, ego)
        if stage != 'vision':
            controls, speed = batch.labels.controls, batch.inputs.speed_mps
            losses |= self.reflexes.losses(reflex, self.flow.normalise(controls)[..., 1])
            losses |= self.flow.losses(hidden, controls, speed, reflex)
            if self.config.auxiliary:
                losses |= self.plan_head.losses(hidden, self.flow, controls, speed)
        return self._weigh(losses, hidden, reflex, prefix.scene)
