# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Where the queries of others look: each among the visual tokens, whose rays say where on the ground that is.

A query that had to say a place in plain numbers would have to learn the geometry of all cameras.  Here every visual
token says whether it shows somebody, how far away, and a little to which side; with its ray, that is a place.  It is
taught so directly, token by token (`losses`), which takes far fewer pictures than matching alone.  A query's place is
the mean of the tokens' places, weighted by its attention, which goes to tokens that show somebody near the query's
own place of reference: so queries look at different ones from the beginning (as anchors do, arXiv 2109.07107).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_driver.model.config import VlaConfig
from vla_driver.model.tokens import AgentLabels, Sight

#: Places are compressed as asinh(metres / this): near ones exactly, far ones coarsely.
PLACE_KNEE_M = 10.0
#: What a token shows is this far away, as long as it does not know better; and at most so far.
_USUAL_M, _FARTHEST_M = 15.0, 80.0
#: Half of what a token is wide, in radians; who lies within this of its ray, sideways and upwards, is shown by it.
_WIDTH_RAD, _HEIGHT_RAD = 0.08, 0.08
#: The middle of a body is this high above the ground.
_BODY_M = 0.8
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
        self.nearness = nn.Parameter(torch.tensor([math.log(10.0)]))
        if not config.blind:
            self.query = nn.Linear(action.hidden_size, _KEY_WIDTH)
            self.key = nn.Linear(width, _KEY_WIDTH)
            self.value = nn.Linear(width, action.hidden_size)
            self.shows = nn.Sequential(nn.Linear(width, 2 * _KEY_WIDTH), nn.GELU(), nn.Linear(2 * _KEY_WIDTH, 3))

    def forward(self, h: Tensor, sight: Sight | None) -> Tensor:
        """Return h [B, A, width]; without sight every query is at its place of reference."""
        if sight is None:
            return torch.cat([self.places.to(h.dtype).expand(len(h), -1, -1), h[..., 2:]], dim=-1)
        somebody, far, aside = self.read(sight)
        places = compress_places(_placed(sight, far, aside))  # [B, N, 2]
        apart = (self.places.unsqueeze(1) - places.unsqueeze(1)).square().sum(dim=-1)  # [B, A, N]
        scores = (self.query(h) @ self.key(sight.tokens).transpose(1, 2)).float() * _KEY_WIDTH**-0.5
        scores = scores + somebody.unsqueeze(1) - self.nearness.exp() * apart
        # Where no camera sees anything, all are equally little looked at.
        weights = scores.masked_fill(~sight.valid.unsqueeze(1), -1e4).softmax(dim=-1)
        looked = h + weights.to(h.dtype) @ self.value(sight.tokens)
        return torch.cat([(weights @ places).to(h.dtype), looked[..., 2:]], dim=-1)

    def read(self, sight: Sight) -> tuple[Tensor, Tensor, Tensor]:
        """Return what each token says [B, N], in float32: that it shows somebody (logit), how far off, how far aside.

        Distances in metres on the ground from the camera; aside in radians to the left of the token's ray.
        """
        somebody, far, aside = self.shows(sight.tokens).float().unbind(dim=-1)
        distance = (math.log(_USUAL_M) + far).clamp(0.0, math.log(_FARTHEST_M)).exp()
        return somebody - 1.0, distance, _WIDTH_RAD * torch.tanh(aside)

    def losses(self, sight: Sight | None, labels: AgentLabels | None, least_pixels: float) -> dict[str, Tensor]:
        """Return how wrong the tokens are about whom they show: the nearest of those in the way of their ray.

        Who is seen less than least_pixels large is neither asked for nor denied.
        """
        if sight is None:
            return {'agent_tokens': 0.0 * self.places.sum()}
        somebody, far, aside = self.read(sight)
        known = sight.valid
        if labels is None:
            return {'agent_tokens': 0.0 * (somebody + far + aside).sum()}
        known = known & labels.known.unsqueeze(1)
        toward = labels.pose[:, None, :, :2].float() - sight.origins[..., None, :2].float()  # [B, N, A, 2]
        away = toward.norm(dim=-1).clamp(min=0.5)
        rays = sight.rays.float()
        level = rays[..., :2].norm(dim=-1).clamp(min=1e-6)
        cross = rays[..., 0, None] * toward[..., 1] - rays[..., 1, None] * toward[..., 0]
        along = (rays[..., None, :2] * toward).sum(dim=-1)
        turn = torch.atan2(cross, along)
        rise = (
            torch.atan2(_BODY_M - sight.origins[..., 2, None].float(), away)
            - torch.atan2(rays[..., 2], level)[..., None]
        )
        # Near bodies cover more than the token that their middle is in.
        half = torch.atan2(0.3 * labels.size_m.float().amax(dim=-1).unsqueeze(1).expand_as(away), away)
        in_the_way = (turn.abs() < _WIDTH_RAD + half) & (rise.abs() < _HEIGHT_RAD + half) & labels.present.unsqueeze(1)
        seen = in_the_way & (labels.pixels >= least_pixels).unsqueeze(1)
        nearest = away.masked_fill(~seen, torch.inf).min(dim=-1)
        shown = seen.any(dim=-1)
        judged = known & (shown | ~in_the_way.any(dim=-1))
        found = F.binary_cross_entropy_with_logits(somebody, shown.float(), reduction='none')
        shown = shown & known
        index = nearest.indices.unsqueeze(-1)
        distance = torch.where(shown, nearest.values, 1.0).clamp(1.0, _FARTHEST_M)
        side = turn.gather(-1, index).squeeze(-1).clamp(-_WIDTH_RAD, _WIDTH_RAD)
        off = (far.log() - distance.log()).abs() + (aside - side).abs() / _WIDTH_RAD
        count = known.sum().clamp(min=1)
        return {'agent_tokens': (found * judged).sum() / count + (off * shown).sum() / shown.sum().clamp(min=1)}


def _placed(sight: Sight, far: Tensor, aside: Tensor) -> Tensor:
    """Return the places [B, N, 2] in metres that lie so far from the cameras, and so far aside of the rays."""
    flat = sight.rays[..., :2].float()
    ahead = flat / flat.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    left = torch.stack([-ahead[..., 1], ahead[..., 0]], dim=-1)
    turned = torch.cos(aside).unsqueeze(-1) * ahead + torch.sin(aside).unsqueeze(-1) * left
    return sight.origins[..., :2].float() + far.unsqueeze(-1) * turned


def spread_places(count: int) -> Tensor:
    """Return `count` places [A, 2], compressed: from near to far over the ground ahead and beside, as seeds lie."""
    index = torch.arange(count, dtype=torch.float32)
    radius = 6.0 + 40.0 * ((index + 0.5) / max(1, count)).square()
    angle = torch.remainder(index * math.pi * (3.0 - math.sqrt(5.0)) + math.pi, 2 * math.pi) - math.pi
    # Two thirds of what matters lies ahead: angles are drawn together towards the front.
    angle = angle * (0.35 + 0.65 * angle.abs() / math.pi)
    return compress_places(torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1))
