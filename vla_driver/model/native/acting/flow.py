# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The flow decoder: anchored flow matching over unicycle controls, two uniform Euler steps.

Time runs from 0 (start) to 1 (data): x_t = (1 - t) x0 + t x1, and the network predicts v = x1 - x0.
The start is not white noise but an anchor, a typical course of controls, with a little noise around it
(DiffusionDrive, arXiv 2411.15139).  So the way to the data is short and nearly straight, and two steps
are enough; without anchors, two steps land between the modes.

With `num_agents` the flow is everybody's: behind the ego's tokens come the others' (agents.py), and all attend to all.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_driver.model.config import SOLVERS, ActionConfig, VlaConfig
from vla_driver.model.layers.attention import attention
from vla_driver.model.native.acting.agent_losses import flow_losses, nobody_known, state_losses, targets_of
from vla_driver.model.native.acting.agents import AgentDecoder, AgentStates
from vla_driver.model.native.acting.reflex import Reflex
from vla_driver.model.native.acting.unicycle import Rollout, compress, integrate
from vla_driver.model.tokens import AgentLabels
from vla_driver.types import InvalidInput


def time_grid(steps: int) -> list[float]:
    """Return the uniform grid 0 = t_0 < ... < t_steps = 1.

    Written out because ready-made schedulers may put (nearly) the whole way into the first step.
    """
    return [index / steps for index in range(steps + 1)]


def solve(velocity: Callable[[Tensor, float], Tensor], x: Tensor, steps: int, solver: str = 'euler') -> Tensor:
    """Follow dx/dt = velocity(x, t) from t = 0 to 1 in uniform steps; 'midpoint' asks twice a step."""
    for start, end in itertools.pairwise(time_grid(steps)):
        v = velocity(x, start)
        if solver == 'midpoint':
            half = 0.5 * (end - start)
            v = velocity(x + half * v, start + half)
        x = x + (end - start) * v
    return x


def position_loss(predicted: Tensor, target: Tensor, speed_mps: Tensor, dt_s: float) -> Tensor:
    """Mean weighted error, in metres and smooth at zero, of driving controls [B, T, 2] instead of the target's.

    Along and across are judged apart, each with the other control right: who brakes too late has a wrong
    speed, not a wrong path, and must not be taught another curvature for it.  Near waypoints weigh more: the
    vehicle follows the first two seconds and then plans anew, while errors grow with time of themselves.
    Sideways errors weigh more, because a lane leaves less room than the road ahead.  Below half a metre the
    loss is square: an absolute error would answer "straight on" to every doubt, straight on being the most
    frequent truth, and the vehicle would drift out of its lane.
    """
    truth = integrate(speed_mps, target, dt_s).positions_m
    along = integrate(speed_mps, torch.stack([predicted[..., 0], target[..., 1]], dim=-1), dt_s).positions_m
    across = integrate(speed_mps, torch.stack([target[..., 0], predicted[..., 1]], dim=-1), dt_s).positions_m
    seconds = dt_s * torch.arange(1, truth.shape[-2] + 1, device=truth.device)
    weight = 1.0 / (0.5 + seconds)
    weight = (weight / weight.mean()).unsqueeze(-1)
    error = F.smooth_l1_loss(along, truth, beta=0.5, reduction='none').sum(dim=-1, keepdim=True)
    error = error + 4.0 * F.smooth_l1_loss(across, truth, beta=0.5, reduction='none').sum(dim=-1, keepdim=True)
    return (error * weight).mean()


@dataclass(frozen=True)
class Decoded:
    """What the flow answers: controls [B, T, 2] of the ego in m/s^2 and 1/m.

    agents, agent_controls [B, A, T, 2] (m/s^2, 1/m): the others' states and motion; None where none are forecast.
    votes [B, anchors]: the logits by which the flow's start was chosen; None where it was given.
    """

    controls: Tensor
    agents: AgentStates | None = None
    agent_controls: Tensor | None = None
    votes: Tensor | None = None


class FlowBlock(nn.Module):
    """Bidirectional transformer block modulated by the flow time (adaLN-zero, arXiv 2212.09748)."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim, elementwise_affine=False)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, elementwise_affine=False)
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)
        self.modulation = nn.Linear(dim, 6 * dim)

    def forward(self, x: Tensor, time: Tensor, own: int | None = None) -> Tensor:
        """Transform x [B, T, d] at time embedding [B, d].

        own: so many tokens, the first, read one another alone; the rest read all.  None: all read all.
        """
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(F.silu(time)).unsqueeze(1).chunk(6, dim=-1)
        q, k, v = self.qkv(self.norm1(x) * (1 + scale1) + shift1).unflatten(-1, (3, self.heads, -1)).unbind(dim=2)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        if own is None:
            mixed = attention(q, k, v)
        else:
            alone = attention(q[:, :, :own], k[:, :, :own], v[:, :, :own])
            mixed = torch.cat([alone, attention(q[:, :, own:], k, v)], dim=1)
        x = x + gate1 * self.proj(mixed)
        out: Tensor = x + gate2 * self.fc2(F.gelu(self.fc1(self.norm2(x) * (1 + scale2) + shift2)))
        return out


class FlowDecoder(nn.Module):
    """Hidden states of the waypoints to controls.  Controls inside are normalised; see `denormalise`."""

    def __init__(self, config: VlaConfig):
        super().__init__()
        action: ActionConfig = config.action_config
        self.config = action
        d = action.flow_hidden_size
        self.input = nn.Linear(2, d)
        self.hidden = nn.Linear(action.hidden_size, d)
        self.of_reflex = nn.Linear(config.view_config.hidden_size, d, bias=False)
        # Which waypoint a token is: hidden states say it too, the reflex alone does not.
        self.waypoint = nn.Parameter(0.3 * torch.randn(action.horizon, d))
        self.time = nn.Sequential(nn.Linear(1 + 2 * 4, d), nn.SiLU(), nn.Linear(d, d))
        self.blocks = nn.ModuleList(FlowBlock(d, action.flow_num_heads) for _ in range(action.flow_num_layers))
        self.norm = nn.LayerNorm(d)
        self.output = nn.Linear(d, 2)
        self.classifier = nn.Sequential(
            nn.Linear(action.hidden_size, 2 * d), nn.GELU(), nn.Linear(2 * d, action.num_anchors)
        )
        # Typical courses of normalised accelerations, straight on: k-means, fitted by training and saved.
        self.register_buffer('anchors', torch.zeros(action.num_anchors, action.horizon, 2))
        self.anchors: Tensor
        self.others = AgentDecoder(action, config.view_config.hidden_size) if action.num_agents else None
        self.solve_with(action.solver, action.num_steps)

    def solve_with(self, solver: str, steps: int) -> None:
        """Integrate with another solver or number of steps from now on; what was trained stays.

        Raises `InvalidInput` for unknown ones.
        """
        if solver not in SOLVERS:
            raise InvalidInput(f'solver {solver!r}, allowed: {", ".join(SOLVERS)}')
        if steps < 1:
            raise InvalidInput(f'{steps} steps of the solver, expected at least 1')
        self.solver, self.steps = solver, steps

    @torch.no_grad()
    def silence_hidden(self) -> None:
        """Let hidden states say nothing until they have been trained; what they say is added to the reflex."""
        for layer in (self.hidden, self.classifier[-1]):
            assert isinstance(layer, nn.Linear)
            layer.weight.zero_()
            layer.bias.zero_()

    def denormalise(self, controls: Tensor) -> Tensor:
        """Normalised controls [..., 2] to (m/s^2, 1/m), within the vehicle's limits."""
        mean, std = self._statistics(controls)
        acceleration, bend = (controls * std + mean).unbind(dim=-1)
        low, high = self.config.acceleration_limits_mps2
        knee = self.config.curvature_knee_per_m
        limit = math.asinh(self.config.curvature_limit_per_m / knee)
        return torch.stack([acceleration.clamp(low, high), knee * torch.sinh(bend.clamp(-limit, limit))], dim=-1)

    def normalise(self, controls: Tensor) -> Tensor:
        """The inverse of `denormalise` (without limits)."""
        mean, std = self._statistics(controls)
        return (compress(controls, self.config.curvature_knee_per_m) - mean) / std

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        config = self.config
        return like.new_tensor(list(config.control_mean)), like.new_tensor(list(config.control_std))

    def rollout(self, controls: Tensor, speed_mps: Tensor) -> Rollout:
        """Drive normalised controls [..., T, 2] from speed_mps [...]."""
        return integrate(speed_mps, self.denormalise(controls), self.config.dt_s)

    def split(self, h: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the hidden states of the waypoints [B, T, A] and of the others [B, num_agents, A], if any."""
        if self.others is None:
            return h, None
        return h[:, : self.config.horizon], h[:, self.config.horizon :]

    def classify(self, h: Tensor | None, reflex: Reflex | None = None) -> Tensor:
        """Hidden states [B, T, A] to logits [B, anchors], with the reflex's votes; h None: the votes alone.

        Others' hidden states behind the waypoints' are not asked.
        """
        if h is None:
            assert reflex is not None
            return reflex.votes
        out: Tensor = self.classifier(self.split(h)[0].mean(dim=1)).float()
        return out if reflex is None else out + reflex.votes

    def condition(self, h: Tensor | None, reflex: Reflex | None) -> Tensor:
        """Return what tells the flow where to go [B, T or 1, d]: hidden states and the reflex, or one of them."""
        if h is None:
            assert reflex is not None
            told: Tensor = self.of_reflex(reflex.trunk).unsqueeze(1)
            return told
        hidden: Tensor = self.hidden(self.split(h)[0])
        return hidden if reflex is None else hidden + self.of_reflex(reflex.trunk).unsqueeze(1)

    def velocity(self, x: Tensor, t: Tensor, hidden: Tensor, others: Tensor | None = None) -> Tensor:
        """Predict v at x, both [B, T, 2], at t [B]; hidden [B, T or 1, d]: from `condition`.

        others [B, A * tokens, d], from `AgentDecoder.condition`: x and v are then [B, 1 + A, T, 2], the ego's first.
        Others read what the ego is about to do, but not the ego them: its plan is the same whether anybody asks for
        their futures, and in training it does not see the truth shine through theirs.  What they mean for it, hidden
        states say.
        """
        angles = torch.pi * t.unsqueeze(-1) * 2.0 ** torch.arange(4, device=t.device)
        time = self.time(torch.cat([t.unsqueeze(-1), angles.sin(), angles.cos()], dim=-1))
        joint = self.others if others is not None else None
        tokens = self.input(x if joint is None else x[:, 0]) + hidden + self.waypoint.to(hidden.dtype)
        if joint is not None and others is not None:
            tokens = torch.cat([tokens, joint.enter(x[:, 1:]) + others], dim=1)
        for block in self.blocks:
            tokens = block(tokens, time.to(tokens.dtype), None if joint is None else x.shape[2])
        tokens = self.norm(tokens)
        if joint is None:
            out: Tensor = self.output(tokens)
            return out.float()
        own, rest = self.output(tokens[:, : x.shape[2]]), joint.leave(tokens[:, x.shape[2] :])
        return torch.cat([own.unsqueeze(1), rest], dim=1).float()

    def starts(self, anchor: Tensor, bend: Tensor | None, noise: Tensor | None) -> Tensor:
        """Return where the flow starts [B, T, 2]: accelerations of anchors [B] (indices), curvatures `bend` [B, T].

        bend: normalised, from the reflex; None for the anchors' own.  noise [B, T, 2] of unit variance, or
        None for the middle of the start; steering is given more exactly than an anchor is.
        """
        x = self.anchors[anchor].float()
        sigma = x.new_tensor([self.config.anchor_sigma, self.config.anchor_sigma])
        if bend is not None:
            x = torch.stack([x[..., 0], bend], dim=-1)
            sigma = x.new_tensor([self.config.anchor_sigma, self.config.steer_sigma])
        return x if noise is None else x + sigma * noise

    def sample(
        self, h: Tensor | None, anchor: Tensor, noise: Tensor | None = None, reflex: Reflex | None = None
    ) -> Tensor:
        """Integrate the flow from `starts`: normalised controls [B, T, 2]."""
        return self.sample_all(h, anchor, noise, reflex)[0]

    def sample_all(
        self,
        h: Tensor | None,
        anchor: Tensor,
        noise: Tensor | None = None,
        reflex: Reflex | None = None,
        unguided: Tensor | None = None,
        guidance: float = 1.0,
        others: bool = True,
    ) -> tuple[Tensor, AgentStates | None, Tensor | None]:
        """Return `sample`, the others' states, and their normalised controls [B, A, T, 2]; None without others.

        others: whether they are asked for; the ego's plan is the same without.
        noise: [B, T, 2], of the ego alone, or [B, 1 + A, T, 2].  unguided: hidden states without what h was told;
        the difference that it makes to the velocity is then taken `guidance` times (classifier-free guidance, arXiv
        2207.12598).
        """
        ego_noise = noise if noise is None or noise.dim() == 3 else noise[:, 0]
        x = self.starts(anchor, None if reflex is None else reflex.bend, ego_noise)
        states, toward = self._toward(h, reflex, others)
        if states is not None and self.others is not None:
            starts = self.others.starts(x, noise[:, 1:] if noise is not None and noise.dim() == 4 else None)
            x = torch.cat([x.unsqueeze(1), starts], dim=1)
        velocity = toward
        if unguided is not None:
            _, plainly = self._toward(unguided, reflex, others)

            def velocity(x: Tensor, t: float) -> Tensor:
                without = plainly(x, t)
                return without + guidance * (toward(x, t) - without)

        x = solve(velocity, x, self.steps, self.solver)
        return (x, None, None) if states is None else (x[:, 0], states, x[:, 1:])

    def _toward(
        self, h: Tensor | None, reflex: Reflex | None, others: bool
    ) -> tuple[AgentStates | None, Callable[[Tensor, float], Tensor]]:
        """Return the others' states, if any, and the velocity at x [B, ...] and a time, told by hidden states."""
        hidden = self.condition(h, reflex)
        states, told = None, None
        if others and self.others is not None and h is not None:
            asked = self.split(h)[1]
            assert asked is not None
            states = self.others.states(asked, None if reflex is None else reflex.trunk)
            told = self.others.condition(asked, states)
        return states, lambda x, t: self.velocity(x, x.new_full((x.shape[0],), t), hidden, told)

    def decode(
        self,
        h: Tensor | None,
        anchor: Tensor,
        noise: Tensor | None,
        reflex: Reflex | None,
        unguided: Tensor | None = None,
        guidance: float = 1.0,
        others: bool = True,
    ) -> Decoded:
        """Return `sample_all` in units of the road."""
        own, states, motion = self.sample_all(h, anchor, noise, reflex, unguided, guidance, others)
        controls = self.denormalise(own)
        if states is None or motion is None or self.others is None:
            return Decoded(controls)
        return Decoded(controls, states, self.others.denormalise(motion, states.person > 0))

    def nearest_anchors(self, controls: Tensor, speed_mps: Tensor) -> Tensor:
        """Distances [B, anchors] between normalised controls [B, T, 2] and the anchors, all driven from speed_mps [B].

        In metres along the path, because what counts is where the vehicle is and when, the first seconds more than
        the last (as in `position_loss`); steering is the reflex's, so anchors differ in their accelerations alone.
        A little of the distance between accelerations breaks ties, such as the many ways of standing still.
        """
        with torch.no_grad():
            anchors = self._straight(self.anchors.float()).unsqueeze(0)
            own = self.rollout(self._straight(controls), speed_mps).positions_m[..., 0]
            speeds = speed_mps.unsqueeze(1).expand(-1, anchors.shape[1])
            theirs = self.rollout(anchors.expand(len(controls), -1, -1, -1), speeds).positions_m[..., 0]
            seconds = self.config.dt_s * torch.arange(1, own.shape[-1] + 1, device=own.device)
            weight = 1.0 / (0.5 + seconds)
            metres = ((theirs - own.unsqueeze(1)).abs() * (weight / weight.mean())).mean(dim=-1)
            difference = (anchors - controls.unsqueeze(1))[..., 0].square().mean(dim=-1).sqrt()
            return metres + 0.1 * difference

    def _straight(self, controls: Tensor) -> Tensor:
        """Return normalised controls [..., 2] with the same accelerations, straight on."""
        mean, std = self._statistics(controls)
        return torch.stack([controls[..., 0], torch.full_like(controls[..., 1], float(-mean[1] / std[1]))], dim=-1)

    def _training_starts(self, distance: Tensor, logits: Tensor, repeats: int) -> Tensor:
        """Return anchors [B, repeats] to start from: the likeliest one, the others near the expert's course.

        Were starts drawn without regard to the answer, the flow would learn the mean of all answers wherever it starts:
        where "go" has a chance of one in ten, a standing vehicle creeps, and one that should stop brakes too weakly.
        Starting near the answer alone would teach it to stay where it starts, and nobody would correct the classifier.
        """
        near = torch.multinomial(torch.softmax(-distance / 0.5, dim=-1), max(1, repeats - 1), replacement=True)
        return torch.cat([logits.argmax(dim=-1, keepdim=True), near], dim=1)[:, :repeats]

    def losses(
        self,
        h: Tensor | None,
        controls: Tensor,
        speed_mps: Tensor,
        reflex: Reflex | None = None,
        agents: AgentLabels | None = None,
    ) -> dict[str, Tensor]:
        """Flow-matching, anchor and rollout losses; controls [B, T, 2] in m/s^2 and 1/m, speed_mps [B].

        h None: the flow is told by the reflex alone, and plans for the ego alone.
        reflex: its votes are trained with the anchors' logits; its curvatures are taken as given.
        agents: who else was there; None: nobody knows, and what is said of others is not judged.
        """
        target = self.normalise(controls)
        distance = self.nearest_anchors(target, speed_mps)
        logits = self.classify(h, reflex)
        repeats = self.config.flow_repeats
        anchor = self._training_starts(distance, logits.detach(), repeats).flatten()
        x1 = target.repeat_interleave(repeats, dim=0)
        steering = None if reflex is None else reflex.bend.detach().repeat_interleave(repeats, dim=0)
        x0 = self.starts(anchor, steering, torch.randn_like(x1))
        # Half of the times are 0: there lies the longest of the few steps taken at inference.
        t = (2 * torch.rand(len(x1), device=x1.device) - 1).clamp(min=0.0)
        told, goals, found = None, None, {}
        if self.others is not None and h is not None:
            asked = self.split(h)[1]
            assert asked is not None
            states = self.others.states(asked, None if reflex is None else reflex.trunk)
            goals = nobody_known(states, x1.shape[1]) if agents is None else targets_of(self.others, states, agents)
            found = state_losses(states, goals)
            told = self.others.condition(asked, states).repeat_interleave(repeats, dim=0)
            theirs = goals.controls.repeat_interleave(repeats, dim=0)
            x0 = torch.cat([x0.unsqueeze(1), self.others.starts(x0, torch.randn_like(theirs))], dim=1)
            x1 = torch.cat([x1.unsqueeze(1), theirs], dim=1)
        left = (1 - t).reshape(-1, *(1 for _ in x1.shape[1:]))
        x = left * x0 + (1 - left) * x1
        v = self.velocity(x, t, self.condition(h, reflex).repeat_interleave(repeats, dim=0), told)
        reached, wanted = x + left * v, x1 - x0
        if goals is not None and self.others is not None:
            found |= flow_losses(self.others, v[:, 1:], wanted[:, 1:], reached[:, 1:], goals, repeats)
            v, wanted, reached, x1 = v[:, 0], wanted[:, 0], reached[:, 0], x1[:, 0]
        speed = speed_mps.repeat_interleave(repeats, dim=0)
        predicted, truth = self.denormalise(reached), self.denormalise(x1)
        speeds = [integrate(speed, driven, self.config.dt_s).speed_mps for driven in (predicted, truth)]
        return {
            'flow': F.mse_loss(v, wanted),
            'anchor': F.cross_entropy(logits, distance.argmin(dim=-1)),
            'position': position_loss(predicted, truth, speed, self.config.dt_s),
            'speed': (speeds[0] - speeds[1]).abs().mean(),
            **found,
        }
