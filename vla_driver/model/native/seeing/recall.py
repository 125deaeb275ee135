# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What the reflex knows of earlier ticks: one picture does not say whether the queue ahead moves.

The language model reads what is remembered token by token; the reflex, which reads everything at once and is trained on
ten times as many ticks, gets all of it in one vector, added to what was read off the panorama.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_driver.model.config import VlaConfig
from vla_driver.model.tokens import Remembered

#: Channels kept of each remembered token, and hidden width.
_CHANNELS, _HIDDEN = 16, 256


class Recall(nn.Module):
    """Remembered tokens to one vector [B, H]; nothing before it is trained, and where nothing is remembered little."""

    def __init__(self, config: VlaConfig, places: int):
        """places: how many tokens are remembered of a tick."""
        super().__init__()
        ticks = len(config.memory_config.ages_s)
        self.places = places
        self.squeeze = nn.Linear(config.language_config.hidden_size, _CHANNELS)
        self.join = nn.Linear(ticks * (places * _CHANNELS + 6), _HIDDEN)
        self.out = nn.Linear(_HIDDEN, config.view_config.hidden_size)

    def forward(self, remembered: Remembered) -> Tensor:
        """Return [B, H]; tokens that are not among those selected count as dark."""
        x, y, yaw = remembered.motion.unbind(dim=-1)
        known = remembered.valid.to(x.dtype).unsqueeze(-1)
        motion = torch.stack(
            [x / 10, y / 10, torch.cos(yaw), torch.sin(yaw), remembered.age_s, torch.ones_like(x)], dim=-1
        )
        squeezed = self.squeeze(remembered.features)
        if remembered.places is not None:
            empty = squeezed.new_zeros(*squeezed.shape[:2], self.places, squeezed.shape[-1])
            squeezed = empty.index_copy(2, remembered.places, squeezed)
        known = known.to(squeezed.dtype)
        told = torch.cat([squeezed.flatten(2) * known, motion.to(squeezed.dtype) * known], dim=-1)
        out: Tensor = self.out(F.gelu(self.join(told.flatten(1))))
        return out
