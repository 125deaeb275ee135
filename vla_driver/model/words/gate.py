# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""When thinking is worth it: a small gate that sees what was last said, and whether it still holds.

It reads the hidden state of the scene queries, frozen (its loss reaches nothing but itself), with the last statement
and its age, and gives the chance that action, hazard or camera would now be said otherwise.  In training, what was last
said is what the labels said at an earlier tick of the same clip, or now and then at a tick of another one.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_driver.model.config import VlaConfig
from vla_driver.model.tokens import AGE, IntentInputs
from vla_driver.model.words.labels import ACTIONS, HAZARDS

#: Channels of the embedding of each part of a statement.
_PART: Final = 16
#: Ages are told in these.
_AGE_SCALE_S: Final = 3.0
#: Share of the statements that are of another clip.
_STRANGERS: Final = 0.15


class Gate(nn.Module):
    """Scene queries and the last statement to the logit that it no longer holds."""

    def __init__(self, config: VlaConfig, scene_queries: int):
        super().__init__()
        width, inner = scene_queries * config.language_config.hidden_size, config.words_config.gate_size
        self.action = nn.Embedding(len(ACTIONS), _PART)
        self.hazard = nn.Embedding(len(HAZARDS), _PART)
        self.camera = nn.Embedding(1 + len(config.camera_names), _PART)  # the first: none
        self.inner = nn.Linear(width + 3 * _PART + 1, inner)
        self.output = nn.Linear(inner, 1)

    def forward(self, scene: Tensor, said: Tensor, age_s: Tensor) -> Tensor:
        """Return float32 logits [B] from scene [B, Q, D], said [B, 3] (`Spoken.meaning`) and age_s [B]."""
        parts = [self.action(said[:, 0]), self.hazard(said[:, 1]), self.camera(1 + said[:, 2])]
        age = (age_s / _AGE_SCALE_S).clamp(0.0, 2.0).unsqueeze(1)
        x = torch.cat([scene.detach().flatten(1).float(), *parts, age], dim=1)
        logits: Tensor = self.output(F.gelu(self.inner(x)))
        return logits.squeeze(1).float()

    def outdated(self, scene: Tensor, intent: IntentInputs) -> Tensor:
        """Return the chance [B] that what was said last, as the fast half was told it, no longer holds."""
        said = intent.kinds - intent.kinds.new_tensor([0, 0, 1])  # here, -1 is no camera
        chance: Tensor = self(scene, said, intent.numbers[:, AGE]).sigmoid()
        return chance


def gate_loss(
    gate: Gate, scene: Tensor, meaning: Tensor, known: Tensor, stamp_s: Tensor, ticks: int, training: bool
) -> Tensor:
    """Return the cross-entropy of whether an earlier statement no longer holds.

    meaning [B, 3], known [B]: as of `Spoken`; B = clips x ticks, stamp_s [B].  Not in training: the statement of the
    tick before, or of the clip's first one itself.
    """
    rows = len(known)
    number = torch.arange(rows, device=known.device)
    first = number - number % ticks
    back = torch.ones_like(number)
    if training:
        back = torch.randint(0, ticks, (rows,), device=known.device)
    then = torch.maximum(number - back, first)
    if training:
        stranger = torch.rand(rows, device=known.device) < _STRANGERS
        then = torch.where(stranger, torch.randint(0, rows, (rows,), device=known.device), then)
    age_s = (stamp_s - stamp_s[then]).to(torch.float32)
    same_clip = then // ticks == number // ticks
    age_s = torch.where(same_clip, age_s, _AGE_SCALE_S * torch.rand(rows, device=known.device))
    both = known & known[then]
    said = torch.where(both.unsqueeze(1), meaning[then], 0)
    wrong = (meaning[then] != meaning).any(dim=1)
    error = F.binary_cross_entropy_with_logits(gate(scene, said, age_s), wrong.float(), reduction='none')
    return (error * both).sum() / both.sum().clamp(min=1)
