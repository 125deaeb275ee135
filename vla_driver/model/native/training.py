# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How the native model is trained by imitation: what it is made to do without, and the losses.

Training takes clips, encodes every picture once, and uses it both as a present and as a memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vla_driver.model.layers.experts import expert_layers, uncounted
from vla_driver.model.native.acting.reflex import Reflex
from vla_driver.model.native.auxiliary import SCENE_QUERIES
from vla_driver.model.native.pruned import PrunedTraining, read_panorama, teach_itself
from vla_driver.model.native.seeing.memory import clip_memory
from vla_driver.model.native.seeing.vision import VisionOutput
from vla_driver.model.native.stages import VlaStages
from vla_driver.model.native.telling import told_in_training
from vla_driver.model.pruning.base import KeptTokens
from vla_driver.model.tokens import ClipBatch, IntentInputs, ModelInputs, Prefix, Remembered, VisualTokens
from vla_driver.model.words.labels import shown_cameras
from vla_driver.model.words.losses import word_losses

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
    'itself': 0.5,
    'words': 0.3,
    'drafts': 0.1,
    'gate': 0.1,
    'agent_tokens': 0.5,
    'agent_found': 0.5,
    'agent_state': 0.3,
    'agent_flow': 0.5,
    'agent_position': 0.3,
}
#: Of the mixtures of experts; its weight is `language_config.balance_loss`.
BALANCE = 'balance'


@dataclass
class Dropouts:
    """Chances, in training, that something is withheld.

    speed: without it, imitation learns to stand because it stands (arXiv 1904.08980).  camera: one other than the front
    one is lost.  memory: a remembered tick is.  rear: the language model does not read the cameras that look back; they
    matter least, and a step without them takes two thirds of the time.  intent: the slow half says nothing; wrong: it
    says something that is not so (`telling.py`).
    """

    speed: float = 0.5
    camera: float = 0.03
    memory: float = 0.1
    rear: float = 0.6
    intent: float = 0.15
    wrong: float = 0.15


@dataclass(frozen=True)
class VlaOutput:
    """loss: the weighted sum; losses: each term, detached.

    hidden [B, T + num_agents, A] of the waypoints and the others, reflex the first answers, scene [B, Q, D].
    """

    loss: Tensor
    losses: dict[str, Tensor]
    hidden: Tensor
    reflex: Reflex
    scene: Tensor


def perceive(
    model: VlaStages, dropouts: Dropouts, batch: ClipBatch, ego: Tensor, pruning: PrunedTraining | None = None
) -> tuple[VisionOutput | None, Remembered | None, KeptTokens | None]:
    """Encode the pictures of all ticks of the clips once, and remember them for the later ticks.

    ego [B, 3, D]: ego and navigation tokens, which some pruners look at.
    """
    if model.config.blind:
        return None, None, None
    seen = _look(model, dropouts, batch.inputs)
    kept = None if pruning is None else pruning.draw(seen.tokens, ego)
    drop = dropouts.memory if model.training else 0.0
    memory = clip_memory(
        model.pool(seen.tokens, kept), batch.pose, batch.stamp_s, batch.ticks, model.config.memory_config, drop
    )
    # Who drops tokens otherwise needs no second way to do so, and the step is short already.
    if kept is None and model.training and float(torch.rand(())) < dropouts.rear:
        ahead = torch.tensor(['back' not in name for name in model.config.camera_names])
        device = seen.tokens.camera.device
        pooled_of = torch.tensor(model.memory_pool.camera)
        fewer = dataclasses.replace(
            seen, tokens=seen.tokens.select(ahead.to(device)[seen.tokens.camera].nonzero()[:, 0])
        )
        return fewer, memory.select(ahead[pooled_of].nonzero()[:, 0].to(device)), None
    return seen, memory, kept


def losses_of(
    model: VlaStages,
    dropouts: Dropouts,
    batch: ClipBatch,
    stage: str = 'all',
    pruning: PrunedTraining | None = None,
) -> VlaOutput:
    """Return losses of one batch of clips.  stage 'vision': dense heads only; 'policy': all but these; 'all'.

    'reflex': the reflex alone, whose output has no hidden states; 'words': words alone, on a prefix without gradient.
    pruning: drops visual tokens in training.
    """
    pruning = pruning if model.training and not model.config.blind else None
    if stage == 'words':
        return _word_losses_alone(model, dropouts, batch, pruning)
    if stage == 'reflex':
        return _reflex_losses(model, dropouts, batch, pruning)
    ego = model.ego(batch.inputs, _speed_known(model, dropouts, batch.inputs))
    seen, memory, kept = perceive(model, dropouts, batch, ego, pruning)
    losses: dict[str, Tensor] = {}
    if model.config.auxiliary and seen is not None and stage != 'policy':
        losses |= model.dense_head.losses(seen.patches, batch.labels)
    prefix = model.prefill(ego, seen.tokens if seen is not None else None, memory, kept)
    reflex = model.reflex(prefix, ego)
    if kept is not None and seen is not None:
        losses |= teach_itself(model, seen.tokens, ego, prefix.read, reflex, model.recalled(memory))
    if model.config.auxiliary:
        losses |= model.scene_head.losses(prefix.scene, reflex.trunk, batch.labels)
    if model.config.words_config.grammar and stage != 'vision':
        losses |= _word_losses(model, batch, seen, kept, prefix, model.config.words_config.prefix_gradient)
    hidden = model.act(*model.tell(prefix, ego, _told(model, dropouts, batch)))
    if stage != 'vision':
        controls, speed = batch.labels.controls, batch.inputs.speed_mps
        losses |= model.reflexes.losses(reflex, model.flow.normalise(controls)[..., 1])
        losses |= model.flow.losses(hidden, controls, speed, reflex, batch.labels.agents)
        if model.config.action_config.num_agents:
            least = model.config.action_config.agent_pixels
            losses |= model.action.sight.losses(prefix.sight, batch.labels.agents, least)
        if model.config.auxiliary:
            losses |= model.plan_head.losses(model.flow.split(hidden)[0], model.flow, controls, speed)
    losses |= _balance(model)
    weights = LOSS_WEIGHTS | {BALANCE: model.config.language_config.balance_loss}
    return _weigh(losses, hidden, reflex, prefix.scene, weights)


def _look(model: VlaStages, dropouts: Dropouts, inputs: ModelInputs) -> VisionOutput:
    """Encode; in training, some cameras fail."""
    if model.training and dropouts.camera > 0:
        keep = torch.rand(inputs.present.shape, device=inputs.present.device) >= dropouts.camera
        keep[:, 0] = True  # camera_names begins with the anchor camera
        inputs = dataclasses.replace(inputs, present=inputs.present & keep)
    return model.encode(inputs)


def _reflex_losses(model: VlaStages, dropouts: Dropouts, batch: ClipBatch, pruning: PrunedTraining | None) -> VlaOutput:
    """Return the losses of reflex and flow alone: an eighth of the work, for the language model is not asked."""
    inputs, labels = batch.inputs, batch.labels
    ego, read = model.ego(inputs, _speed_known(model, dropouts, inputs)), None
    tokens, kept, recalled = None, None, None
    if not model.config.blind:
        tokens = _look(model, dropouts, inputs).tokens
        kept = None if pruning is None else pruning.draw(tokens, ego)
        read = read_panorama(model, tokens, kept)
        recalled = _recalled_alone(model, dropouts, batch, tokens, kept)
        read = read if recalled is None else read + recalled
    reflex: Reflex = model.reflexes(read, ego)
    losses = model.reflexes.losses(reflex, model.flow.normalise(labels.controls)[..., 1])
    losses |= model.flow.losses(None, labels.controls, inputs.speed_mps, reflex)
    if kept is not None and tokens is not None:
        losses |= teach_itself(model, tokens, ego, read, reflex, recalled)
    scene = ego.new_zeros(len(ego), SCENE_QUERIES, ego.shape[-1])
    if model.config.auxiliary:
        losses |= model.scene_head.losses(scene, reflex.trunk, labels)
    return _weigh(losses, ego.new_zeros(0), reflex, scene)


def _recalled_alone(
    model: VlaStages, dropouts: Dropouts, batch: ClipBatch, tokens: VisualTokens, kept: KeptTokens | None
) -> Tensor | None:
    """Return what the reflex recalls [B, H]; the memory gets no gradient, for the language model reads it too."""
    if not model.config.recalls:
        return None
    with torch.no_grad():
        pooled = model.pool(tokens, kept)
    drop = dropouts.memory if model.training else 0.0
    return model.recalled(clip_memory(pooled, batch.pose, batch.stamp_s, batch.ticks, model.config.memory_config, drop))


def _word_losses(
    model: VlaStages,
    batch: ClipBatch,
    seen: VisionOutput | None,
    kept: KeptTokens | None,
    prefix: Prefix,
    gradient: float,
) -> dict[str, Tensor]:
    rows, cameras = len(batch.stamp_s), len(model.config.camera_names)
    shown = shown_cameras(None if seen is None else seen.tokens, rows, cameras, batch.stamp_s.device, kept)
    # Experts are balanced for what is read at every tick; sentences are few, alike, and padded.
    with uncounted(model.language):
        return word_losses(model.words, model.language.layers, prefix, batch, shown, gradient)


def _word_losses_alone(
    model: VlaStages, dropouts: Dropouts, batch: ClipBatch, pruning: PrunedTraining | None
) -> VlaOutput:
    """Return the losses of words: nothing that the fast half does is computed, and what is read gets no gradient."""
    with torch.no_grad(), uncounted(model.language):
        ego = model.ego(batch.inputs, _speed_known(model, dropouts, batch.inputs))
        seen, memory, kept = perceive(model, dropouts, batch, ego, pruning)
        prefix = model.prefill(ego, seen.tokens if seen is not None else None, memory, kept)
        reflex = model.reflex(prefix, ego)
    return _weigh(_word_losses(model, batch, seen, kept, prefix, 0.0), ego.new_zeros(0), reflex, prefix.scene)


def _speed_known(model: VlaStages, dropouts: Dropouts, inputs: ModelInputs) -> Tensor | None:
    """Return which rows [B] are told their speed; None: all."""
    if not model.training or dropouts.speed <= 0:
        return None
    return torch.rand(inputs.speed_mps.shape, device=inputs.speed_mps.device) >= dropouts.speed


def _balance(model: VlaStages) -> dict[str, Tensor]:
    """Return the balance loss of all passes since the last call, a mean; nothing without experts or in evaluation."""
    losses = [loss for layer in expert_layers(model.language).values() for loss in layer.take_losses()]
    return {BALANCE: torch.stack(losses).mean()} if losses else {}


def _told(model: VlaStages, dropouts: Dropouts, batch: ClipBatch) -> IntentInputs | None:
    """Return what the slow half says in training; nothing in validation: then figures are of the fast half alone."""
    if not (model.training and model.config.intent) or batch.labels.told is None:
        return None
    return told_in_training(batch.labels.told, dropouts.intent, dropouts.wrong)


def _weigh(
    losses: dict[str, Tensor],
    hidden: Tensor,
    reflex: Reflex,
    scene: Tensor,
    weights: Mapping[str, float] = LOSS_WEIGHTS,
) -> VlaOutput:
    total = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
    return VlaOutput(total, {name: value.detach() for name, value in losses.items()}, hidden, reflex, scene)
