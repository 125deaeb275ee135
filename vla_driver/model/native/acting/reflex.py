# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Reflexes: first answers, straight from the panorama and the navigation, on which the flow builds.

How fast to go is a choice among several answers (go or wait): the reflex votes for anchors, beside the action expert.
How to steer has one answer once the navigation is known: the reflex gives the curvatures at which the flow starts.
Left to the deep path alone, both are learned slowly, and the small corrections that keep a lane are lost in the
noise of the large gradients of turns and of braking.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_driver.model.config import VlaConfig

#: Some tens of thousands of ticks are few for a map with own weights for every place.
_DROPOUT = 0.15


@dataclass(frozen=True)
class Reflex:
    """bend [B, T]: curvatures as `FlowDecoder.normalise` scales them; votes [B, anchors]: added to the anchors'
    logits; trunk [B, H]: what both were read from, for the scene heads of training.
    """  # fmt: skip

    bend: Tensor
    votes: Tensor
    trunk: Tensor


class ReflexHead(nn.Module):
    """What was read off the panorama [B, H] (nothing, for the blind control) and ego tokens [B, 3, D] to a Reflex."""

    def __init__(self, config: VlaConfig):
        super().__init__()
        action, width = config.action_config, config.view_config.hidden_size
        inputs = (0 if config.blind else width) + config.language_config.hidden_size
        self.trunk = nn.Linear(inputs, width)
        self.bend = nn.Linear(width, action.horizon)
        self.bend_straight = nn.Linear(inputs, action.horizon)
        # Own speed against the gap, and the gap against the leader's speed: a product, and so one layer more.
        self.votes = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, action.num_anchors))
        self.dt_s = action.dt_s

    def forward(self, read: Tensor | None, ego: Tensor) -> Reflex:
        """Return the reflex, in float32."""
        x = ego.sum(dim=1)
        if read is not None:
            x = torch.cat([F.dropout(read, _DROPOUT, self.training), x], dim=-1)
        trunk = F.dropout(F.gelu(self.trunk(x)), _DROPOUT, self.training)
        bend = self.bend_straight(x) + self.bend(trunk)
        return Reflex(bend.float(), self.votes(trunk).float(), trunk)

    def losses(self, reflex: Reflex, bend: Tensor) -> dict[str, Tensor]:
        """Mean squared error of the normalised curvatures [B, T], the near ones weighing more (see `position_loss`)."""
        seconds = self.dt_s * torch.arange(1, bend.shape[-1] + 1, device=bend.device)
        weight = 1.0 / (0.5 + seconds)
        return {'steer': ((reflex.bend - bend).square() * (weight / weight.mean())).mean()}
