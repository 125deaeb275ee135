# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How words are learned: cross-entropy of what is chosen (teacher forcing), of the drafts, and of the gate.

Words reach what was read with a share of their gradient alone (`words_config.prefix_gradient`; cf. the knowledge
insulation of arXiv 2505.23705, which shields a language model from its action expert; here driving is shielded from
words).  Drafts and gate reach nothing but themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_driver.model.tokens import ClipBatch, Prefix
from vla_driver.model.words.gate import gate_loss
from vla_driver.model.words.labels import Spoken, spoken, statements
from vla_driver.model.words.speaker import Speaker
from vla_driver.model.words.vocabulary import ACTIONS, CROSSING, NOTHING, PERSON
from vla_driver.types import MetaAction

#: A third of the ticks hold or gain speed for nothing, and in one of a hundred somebody crosses: by weight, the
#: common does not drown the rare.  What is said of how sure the model is undoes it (decoding.py).
WORD_WEIGHTS: Final = {
    NOTHING: 0.5,
    ACTIONS[MetaAction.KEEP]: 0.7,
    ACTIONS[MetaAction.START]: 2.0,
    PERSON: 1.5,
    CROSSING: 3.0,
}


@dataclass(frozen=True)
class WordScores:
    """What teacher forcing says of a batch.  logits [B, W, V]: of the words that are allowed, else -inf."""

    spoken: Spoken
    logits: Tensor
    hidden: Tensor


def word_weights(speaker: Speaker) -> Tensor:
    """Return [V] the weights of the words in the loss."""
    weights = speaker.embedding.weight.new_ones(len(speaker.grammar.vocabulary), dtype=torch.float32)
    for word, weight in WORD_WEIGHTS.items():
        weights[speaker.grammar.vocabulary.id(word)] = weight
    return weights


def scaled_gradient(prefix: Prefix, share: float) -> Prefix:
    """Return the same prefix, through whose keys and values a share of the gradient flows back."""
    keys, values = (
        tuple(x.detach() if share == 0.0 else x.detach() + share * (x - x.detach()) for x in part)
        for part in (prefix.keys, prefix.values)
    )
    return dataclasses.replace(prefix, keys=keys, values=values)


def score(speaker: Speaker, layers: Iterable[nn.Module], prefix: Prefix, batch: ClipBatch, shown: Tensor) -> WordScores:
    """Read the sentences that the labels ask for.  shown [B, C]: cameras that the prefix holds something of."""
    cameras = speaker.grammar.cameras
    what = spoken(speaker.grammar, statements(batch.labels, batch.inputs.speed_mps, shown, cameras), shown)
    hidden, _ = speaker.read(layers, prefix, what.read)
    return WordScores(what, speaker.logits(hidden).masked_fill(~what.allowed, -torch.inf), hidden)


def word_losses(
    speaker: Speaker,
    layers: Iterable[nn.Module],
    prefix: Prefix,
    batch: ClipBatch,
    shown: Tensor,
    prefix_gradient: float,
) -> dict[str, Tensor]:
    """Return 'words', 'drafts' and 'gate'.  All are 0, and reach every weight, where nothing is known.

    Processes that share a step add up their gradients, and must have the same ones.  shown [B, C]: cameras that the
    prefix holds something of; prefix_gradient: share of the gradient that reaches it.
    """
    scores = score(speaker, layers, scaled_gradient(prefix, prefix_gradient), batch, shown)
    what = scores.spoken
    weight = word_weights(speaker)[what.said] * what.choice
    error = F.cross_entropy(scores.logits.transpose(1, 2), what.said, reduction='none')
    words = (error * weight).sum() / weight.sum().clamp(min=1.0)
    gate = gate_loss(speaker.gate, prefix.scene, what.meaning, what.known, batch.stamp_s, batch.ticks, speaker.training)
    return {'words': words, 'drafts': _draft_loss(speaker, scores), 'gate': gate}


def _draft_loss(speaker: Speaker, scores: WordScores) -> Tensor:
    """Compare what each head drafts at a choice with the choice that comes so many later."""
    what, hidden = scores.spoken, scores.hidden.detach()
    embedding = speaker.embedding.weight.detach().float()
    total, count = hidden.new_zeros(()), what.choice.sum().clamp(min=1)
    later = torch.arange(what.choice.shape[1], device=hidden.device)
    for ahead, head in enumerate(speaker.drafts, start=1):
        # For each place that is a choice, the place of the choice `ahead` later; none: the place itself, not counted.
        wanted = what.order.unsqueeze(2) + ahead
        found = (what.order.unsqueeze(1) == wanted) & what.choice.unsqueeze(1) & what.choice.unsqueeze(2)
        there = found.any(dim=2)
        place = torch.where(found, later, 0).sum(dim=2)
        target = what.said.gather(1, place)
        allowed = what.allowed.gather(1, place.unsqueeze(2).expand(-1, -1, what.allowed.shape[2]))
        with torch.autocast(hidden.device.type, enabled=False):
            logits = F.linear(head(hidden), embedding)
        logits = logits.masked_fill(~allowed, -torch.inf)
        target = torch.where(there, target, allowed.float().argmax(dim=2))
        error = F.cross_entropy(logits.transpose(1, 2), target, reduction='none')
        total = total + torch.where(there, error, 0.0 * error).sum()
    return total / count
