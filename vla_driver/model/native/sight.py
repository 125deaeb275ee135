# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Where the queries of others look: each among the visual tokens, whose rays say where on the ground that is.

A query that had to say a place in plain numbers would have to learn the geometry of all cameras.  Here every visual
token guesses how far away what it shows is, and a little to which side; with its ray, that is a place.  A query's
place is the mean of the tokens' places, weighted by its attention.  Attention prefers tokens near the query's own
place of reference, so that from the beginning queries look at different ones (as anchors do, arXiv 2109.07107).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vla_driver.model.config import VlaConfig
from vla_driver.model.tokens import Sight

#: Places are compressed as asinh(metres / this): near ones exactly, far ones coarsely.
PLACE_KNEE_M = 10.0
#: What a token shows is this far away, as long as it does not know better; and at most so far.
_USUAL_M, _FARTHEST_M = 15.0, 80.0
#: A token is about a tenth of a radian wide.
_WIDTH_RAD = 0.15
_KEY_WIDTH = 64


def compress_places(positions_m: Tensor) -> Tensor:
    """Return positions in metres as they are predicted."""
    return torch.asinh(positions_m / PLACE_KNEE_M)


class AgentSight(nn.Module):
    """Hidden states of the others' queries to the same, having looked; the first two channels become a place."""

    def __init__(self, config: VlaConfig):
        super().__init__()
        action, width = config.action_config, config.language_config.hidden_size
        self.places = nn.Parameter(spread_places(action.num_agents))
        self.nearness = nn.Parameter(torch.zeros(()))
        if not config.blind:
            self.query = nn.Linear(action.hidden_size, _KEY_WIDTH)
            self.key = nn.Linear(width, _KEY_WIDTH)
            self.value = nn.Linear(width, action.hidden_size)
            self.where = nn.Linear(width, 2)

    def forward(self, h: Tensor, sight: Sight | None) -> Tensor:
        """Return h [B, A, width]; without sight every query is at its place of reference."""
        if sight is None:
            return torch.cat([self.places.to(h.dtype).expand(len(h), -1, -1), h[..., 2:]], dim=-1)
        places = self._places_of(sight)  # [B, N, 2]
        apart = (self.places.unsqueeze(1) - places.unsqueeze(1)).square().sum(dim=-1)  # [B, A, N]
        scores = (self.query(h) @ self.key(sight.tokens).transpose(1, 2)).float() * _KEY_WIDTH**-0.5
        scores = scores - self.nearness.exp() * apart
        # Where no camera sees anything, all are equally little looked at.
        weights = scores.masked_fill(~sight.valid.unsqueeze(1), -1e4).softmax(dim=-1)
        looked = h + weights.to(h.dtype) @ self.value(sight.tokens)
        return torch.cat([(weights @ places).to(h.dtype), looked[..., 2:]], dim=-1)

    def _places_of(self, sight: Sight) -> Tensor:
        """Return where what each token shows stands [B, N, 2], compressed, in float32."""
        far, aside = self.where(sight.tokens).float().unbind(dim=-1)
        distance = (math.log(_USUAL_M) + far).clamp(0.0, math.log(_FARTHEST_M)).exp().unsqueeze(-1)
        flat = sight.rays[..., :2].float()
        ahead = flat / flat.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        left = torch.stack([-ahead[..., 1], ahead[..., 0]], dim=-1)
        turned = ahead + _WIDTH_RAD * torch.tanh(aside).unsqueeze(-1) * left
        return compress_places(sight.origins[..., :2].float() + distance * turned)


def spread_places(count: int) -> Tensor:
    """Return `count` places [A, 2], compressed: from near to far over the ground ahead and beside, as seeds lie."""
    index = torch.arange(count, dtype=torch.float32)
    radius = 6.0 + 40.0 * ((index + 0.5) / max(1, count)).square()
    angle = torch.remainder(index * math.pi * (3.0 - math.sqrt(5.0)) + math.pi, 2 * math.pi) - math.pi
    # Two thirds of what matters lies ahead: angles are drawn together towards the front.
    angle = angle * (0.35 + 0.65 * angle.abs() / math.pi)
    return compress_places(torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1))
