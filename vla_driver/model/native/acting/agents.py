# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Everybody else: who is there, and their part of the flow that plans everybody's future at once.

Queries beside those of the waypoints read the prefix in the action expert's one pass; a head says of each whether
somebody is there, who, where and how fast.  In the flow, each takes a few tokens behind the ego's, in the same blocks
(a joint decoder, as that of Diffusion-Planner, arXiv 2501.15564), but the ego's tokens read one another alone.  An
other's flow starts at its own motion held on: no acceleration, no curvature.  With a start so near, few steps do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vla_driver.model.config import ActionConfig
from vla_driver.model.native.acting.sight import PLACE_KNEE_M
from vla_driver.model.native.acting.unicycle import compress

SPEED_UNIT_MPS = 10.0
#: The usual body, of which a size is a factor.
BODY_M = (4.5, 1.8)
#: Most queries find nobody; so they begin by saying.
_EXISTENCE_BIAS = -1.5


@dataclass(frozen=True)
class AgentStates:
    """What is said of A others, in base_link at t0.

    existence, person [B, A]: logits of being there, and of being a person (else a vehicle); place [B, A, 2]: see
    `compress_places`; heading [B, A, 2]: cosine and sine of the yaw, not quite of unit length; speed [B, A] in units of
    10 m/s; log_size [B, A, 2]: of length and width as factors of the usual ones.
    """

    existence: Tensor
    person: Tensor
    place: Tensor
    heading: Tensor
    speed: Tensor
    log_size: Tensor

    @property
    def pose(self) -> Tensor:
        """[B, A, 3]: x, y in metres, yaw in radians."""
        yaw = torch.atan2(self.heading[..., 1], self.heading[..., 0])
        return torch.cat([PLACE_KNEE_M * torch.sinh(self.place), yaw.unsqueeze(-1)], dim=-1)

    @property
    def speed_mps(self) -> Tensor:
        """[B, A], never negative."""
        return (self.speed * SPEED_UNIT_MPS).clamp(min=0.0)

    @property
    def size_m(self) -> Tensor:
        """[B, A, 2]: length, width."""
        return self.log_size.clamp(-3.0, 3.0).exp() * self.log_size.new_tensor(BODY_M)

    def features(self) -> Tensor:
        """Return [B, A, 9]: what the flow is told of it, in plain numbers."""
        columns = torch.stack([self.existence.sigmoid(), self.person.sigmoid(), self.speed], dim=-1)
        return torch.cat([columns, self.place, self.heading, self.log_size], dim=-1)

    def table(self) -> Tensor:
        """Return [B, A, 8]: existence and person as probabilities, x, y, yaw, speed, length, width in SI units.

        It is what leaves the model: `forecasts_of` of policies/native_plans.py reads it.
        """
        columns = torch.stack([self.existence.sigmoid(), self.person.sigmoid()], dim=-1)
        return torch.cat([columns, self.pose, self.speed_mps.unsqueeze(-1), self.size_m], dim=-1)


class AgentDecoder(nn.Module):
    """The others' head, and their entrance to and exit from the flow.  Controls inside are normalised."""

    def __init__(self, config: ActionConfig, trunk: int):
        """trunk: width of the reflex's trunk."""
        super().__init__()
        self.config = config
        width, d = config.hidden_size, config.flow_hidden_size
        self.tokens_each = config.horizon // config.agent_stride
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 9))
        # The reflex, which reads the panorama place by place, learns first where somebody is.
        self.of_reflex = nn.Linear(trunk, 9 * config.num_agents, bias=False)
        self.hidden = nn.Linear(width, d)
        self.state = nn.Linear(9, d, bias=False)
        self.part = nn.Parameter(0.3 * torch.randn(self.tokens_each, d))
        self.input = nn.Linear(2 * config.agent_stride, d)
        self.output = nn.Linear(d, 2 * config.agent_stride)

    def states(self, h: Tensor, trunk: Tensor | None = None) -> AgentStates:
        """Return what hidden states h [B, A, width] say, and the reflex's trunk [B, H] if there is one, in float32.

        The first two channels of h are a place already (`AgentSight`), compressed.
        """
        out = self.head(h).float()
        if trunk is not None:
            out = out + self.of_reflex(trunk).float().unflatten(-1, (-1, 9))
        return AgentStates(
            existence=out[..., 0] + _EXISTENCE_BIAS,
            person=out[..., 1],
            place=out[..., 2:4] + h[..., :2].float(),
            heading=out[..., 4:6] + out.new_tensor([0.5, 0.0]),
            speed=out[..., 6] + 0.3,
            log_size=out[..., 7:9],
        )

    def condition(self, h: Tensor, states: AgentStates) -> Tensor:
        """Return what tells the flow about each other [B, A * tokens, d]; the states are taken as given."""
        told = self.hidden(h)
        told = told + self.state(states.features().detach().to(told.dtype))
        return (told.unsqueeze(2) + self.part.to(told.dtype)).flatten(1, 2)

    def enter(self, x: Tensor) -> Tensor:
        """Controls [B, A, T, 2] to tokens [B, A * tokens, d]."""
        out: Tensor = self.input(x.unflatten(2, (self.tokens_each, -1)).flatten(3).flatten(1, 2))
        return out

    def leave(self, tokens: Tensor) -> Tensor:
        """Tokens [B, A * tokens, d] to velocities [B, A, T, 2]."""
        out = self.output(tokens).unflatten(1, (-1, self.tokens_each))
        velocity: Tensor = out.unflatten(-1, (-1, 2)).flatten(2, 3)
        return velocity

    def starts(self, like: Tensor, noise: Tensor | None) -> Tensor:
        """Return where the flow of all others starts [B, A, T, 2]: motion held on, with noise of unit variance."""
        shape = (len(like), self.config.num_agents, self.config.horizon, 2)
        if noise is None:
            return like.new_zeros(shape)
        return noise * like.new_tensor(list(self.config.agent_sigmas))

    def normalise(self, controls: Tensor) -> Tensor:
        """Controls [..., 2] (m/s^2, 1/m) to the flow's units, as the ego's are."""
        return compress(controls, self.config.curvature_knee_per_m) / self._std(controls)

    def denormalise(self, controls: Tensor, person: Tensor) -> Tensor:
        """Return the inverse, within limits: normalised controls [B, A, T, 2], person [B, A] bool."""
        acceleration, bend = (controls * self._std(controls)).unbind(dim=-1)
        low, high = self.config.acceleration_limits_mps2
        knee = self.config.curvature_knee_per_m
        vehicles, people = (math.asinh(limit / knee) for limit in self.config.agent_curvature_limits_per_m)
        limit = (vehicles + (people - vehicles) * person.to(bend.dtype)).unsqueeze(-1)
        bend = torch.minimum(torch.maximum(bend, -limit), limit)
        return torch.stack([acceleration.clamp(low, high), knee * torch.sinh(bend)], dim=-1)

    def _std(self, like: Tensor) -> Tensor:
        return like.new_tensor(list(self.config.agent_control_std))
