# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How the forecast of others is trained: which query answers for whom, and how far off it is.

Others have no order, so queries and truths are matched anew at every step, one to one and at the least cost (as in
DETR, arXiv 2005.12872).  Who is there but cannot be seen is neither asked for nor held against a query that
guesses it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vla_driver.model.native.acting.agent_motion import controls_of, drive
from vla_driver.model.native.acting.agents import BODY_M, SPEED_UNIT_MPS, AgentDecoder, AgentStates
from vla_driver.model.native.acting.sight import compress_places
from vla_driver.model.tokens import AgentLabels

#: A query this near to somebody unseen is not told that nobody is there.
_NEAR_UNSEEN_M = 4.0
#: Of the costs of a match, in units of a compressed metre.
_EXISTENCE_COST, _PERSON_COST = 0.5, 0.5
#: A wrong place matters more than a wrong size.
_STATE_WEIGHTS = {'place': 3.0, 'heading': 1.0, 'speed': 2.0, 'size': 0.5}
#: Labels of places beyond any reach, or of an end of the recording, must not become infinite costs.
_FARTHEST_M = 200.0


@dataclass(frozen=True)
class AgentTargets:
    """What each of A queries should have said, B rows.

    matched, ignored [B, A] bool: it answers for somebody; it is not judged.  person [B, A] bool; pose [B, A, 3];
    speed_mps [B, A]; size_m [B, A, 2]; future [B, A, T, 3]; valid [B, A, T] bool: only where matched; controls
    [B, A, T, 2]: normalised, of the truth where matched, else of keeping on.
    """

    matched: Tensor
    ignored: Tensor
    person: Tensor
    pose: Tensor
    speed_mps: Tensor
    size_m: Tensor
    future: Tensor
    valid: Tensor
    controls: Tensor


def match(states: AgentStates, labels: AgentLabels, seen: Tensor) -> Tensor:
    """Return [B, A] int64: whom of `labels` each query answers for, -1: nobody.  seen [B, N] bool: who may be chosen.

    Where more are seen than there are queries, the nearest are chosen (labels come nearest first).
    """
    from scipy.optimize import linear_sum_assignment

    with torch.no_grad():
        places = compress_places(labels.pose[..., :2].float().clamp(-_FARTHEST_M, _FARTHEST_M))
        # Straight distances: sums of |x| and |y| are often the same for two ways of sharing.
        cost = torch.cdist(states.place.float(), places)
        cost = cost - _EXISTENCE_COST * states.existence.sigmoid().unsqueeze(-1)
        wrong = (states.person.sigmoid().unsqueeze(-1) - labels.person.float().unsqueeze(1)).abs()
        costs = np.nan_to_num((cost + _PERSON_COST * wrong).cpu().numpy(), nan=1e6, posinf=1e6, neginf=-1e6)
        queries = states.existence.shape[1]
        chosen = np.full(states.existence.shape, -1, dtype=np.int64)
        for row, there in enumerate(seen.cpu().numpy()):
            who = np.flatnonzero(there)[:queries]
            if len(who):
                rows, columns = linear_sum_assignment(costs[row][:, who])
                chosen[row, rows] = who[columns]
    return torch.from_numpy(chosen).to(states.existence.device)


def targets_of(decoder: AgentDecoder, states: AgentStates, labels: AgentLabels) -> AgentTargets:
    """Match the queries with the others that can be seen, and say what each should have said."""
    config = decoder.config
    seen = labels.present & (labels.pixels >= config.agent_pixels)
    index = match(states, labels, seen)
    matched, place = index >= 0, index.clamp(min=0)

    def of(value: Tensor) -> Tensor:
        extra = value.shape[2:]
        return value.gather(1, place.reshape(*place.shape, *(1 for _ in extra)).expand(*place.shape, *extra))

    unseen = labels.present & ~seen
    distance = torch.cdist(states.pose[..., :2].detach().float(), labels.pose[..., :2].float())
    near_unseen = distance.masked_fill(~unseen.unsqueeze(1), torch.inf).amin(dim=-1) < _NEAR_UNSEEN_M
    pose, speed, valid = of(labels.pose), of(labels.speed_mps), of(labels.future_valid) & matched.unsqueeze(-1)
    future = torch.where(valid.unsqueeze(-1), of(labels.future), 0.0)
    motion = controls_of(
        pose.flatten(0, 1), speed.flatten(), future.flatten(0, 1), valid.flatten(0, 1), dt_s=config.dt_s
    )
    person = of(labels.person) & matched
    controls = decoder.normalise(motion.unflatten(0, matched.shape))
    controls = decoder.normalise(decoder.denormalise(controls, person))  # within the limits of what it will say
    return AgentTargets(
        matched=matched,
        ignored=~matched & (near_unseen | ~labels.known.unsqueeze(1)),
        person=person,
        pose=torch.where(matched.unsqueeze(-1), pose.float(), 0.0),
        speed_mps=torch.where(matched, speed.float(), 0.0),
        size_m=torch.where(matched.unsqueeze(-1), of(labels.size_m).float().clamp(min=0.1), 1.0),
        future=future.float(),
        valid=valid,
        controls=torch.where(matched[..., None, None], controls, 0.0),
    )


def nobody_known(states: AgentStates, horizon: int) -> AgentTargets:
    """Return targets that judge nothing, for drives that did not record who was there."""
    none = torch.zeros_like(states.existence, dtype=torch.bool)
    zeros = torch.zeros_like(states.existence)
    steps = zeros.unsqueeze(-1).expand(-1, -1, horizon)
    return AgentTargets(
        matched=none,
        ignored=~none,
        person=none,
        pose=zeros.unsqueeze(-1).expand(-1, -1, 3),
        speed_mps=zeros,
        size_m=torch.ones_like(zeros).unsqueeze(-1).expand(-1, -1, 2),
        future=steps.unsqueeze(-1).expand(-1, -1, -1, 3),
        valid=none.unsqueeze(-1).expand(-1, -1, horizon),
        controls=steps.unsqueeze(-1).expand(-1, -1, -1, 2),
    )


def state_losses(states: AgentStates, targets: AgentTargets) -> dict[str, Tensor]:
    """Return how wrong it is who is there ('agent_found') and in what state ('agent_state')."""
    judged = ~targets.ignored
    found = F.binary_cross_entropy_with_logits(states.existence, targets.matched.float(), reduction='none')
    kind = F.binary_cross_entropy_with_logits(states.person, targets.person.float(), reduction='none')
    yaw = targets.pose[..., 2]
    heading = torch.stack([yaw.cos(), yaw.sin()], dim=-1)
    log_size = (targets.size_m / targets.size_m.new_tensor(BODY_M)).log()
    errors = {
        'place': F.smooth_l1_loss(states.place, compress_places(targets.pose[..., :2]), beta=0.1, reduction='none').sum(
            dim=-1
        ),
        'heading': (states.heading - heading).square().sum(dim=-1),
        'speed': F.smooth_l1_loss(states.speed, targets.speed_mps / SPEED_UNIT_MPS, beta=0.1, reduction='none'),
        'size': (states.log_size - log_size).abs().sum(dim=-1),
    }
    state = sum(weight * errors[name] for name, weight in _STATE_WEIGHTS.items())
    assert isinstance(state, Tensor)
    return {
        'agent_found': _mean(found, judged) + _mean(kind, targets.matched),
        'agent_state': _mean(state, targets.matched),
    }


def flow_losses(
    decoder: AgentDecoder, v: Tensor, wanted: Tensor, predicted: Tensor, targets: AgentTargets, repeats: int
) -> dict[str, Tensor]:
    """Return the flow's error ('agent_flow') and how far off the places are ('agent_position').

    v, wanted [B * repeats, A, T, 2]: velocities; predicted [B * repeats, A, T, 2]: the normalised controls that follow
    from v.  Driven from the true state, so that the flow is not taught to make up for the head's errors.
    """
    pose, speed, person, valid, matched, future = (
        value.repeat_interleave(repeats, dim=0)
        for value in (targets.pose, targets.speed_mps, targets.person, targets.valid, targets.matched, targets.future)
    )
    # A query that answers for nobody is to keep on, whatever that means; little depends on it.
    weight = torch.where(matched.unsqueeze(-1), valid.float(), 0.1 * (~matched.unsqueeze(-1)).float())
    judged = ~targets.ignored.repeat_interleave(repeats, dim=0)
    weight = weight * judged.unsqueeze(-1)
    error = (v - wanted).square().mean(dim=-1)
    path = drive(pose, speed, decoder.denormalise(predicted, person), decoder.config.dt_s).positions_m
    seconds = decoder.config.dt_s * torch.arange(1, path.shape[-2] + 1, device=path.device)
    near = 1.0 / (0.5 + seconds)
    off = F.smooth_l1_loss(path, future[..., :2], beta=0.5, reduction='none').sum(dim=-1) * (near / near.mean())
    return {
        'agent_flow': (error * weight).sum() / weight.sum().clamp(min=1.0),
        'agent_position': _mean(off, valid),
    }


def _mean(value: Tensor, mask: Tensor) -> Tensor:
    """Return the mean where the mask holds; zero, with a gradient, where it never does."""
    return torch.where(mask, value, 0.0).sum() / mask.sum().clamp(min=1)
