# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A group of plans from each tick, and how a policy learns from which of them were better.

The policy has two parts.  Votes choose an anchor: a categorical distribution.  The flow decodes the chosen anchor:
its answer is the mean of a Gaussian over two numbers, how strongly a smooth course of acceleration, and one of
curvature, is added.  Advantages are relative to the group of the same tick, so no value function is needed (GRPO,
arXiv 2402.03300).  Every step takes new plans, so that the ratio of PPO is 1 and there is nothing to clip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from vla_driver.model.native.acting.flow import FlowDecoder
from vla_driver.model.native.acting.reflex import Reflex

#: Standard deviations of the two numbers, in units of normalised controls: 0.5 m/s^2, and 1.2 per km, with nano.
EXPLORED: Final = (0.5, 0.1)
#: Where rewards hardly differ, their differences are not blown up to those of other ticks (as Dr. GRPO warns, arXiv
#: 2503.20783): the least standard deviation that is divided by.
LEAST_STD: Final = 0.1


@dataclass(frozen=True)
class Group:
    """Plans from B ticks.  Normalised controls: anchors' [B, N, T, 2], the likeliest first, and explored [B, M, T, 2].

    logits [B, K] of all anchors, with gradient; anchor [B, N]: which ones; mean [B, 2]: the likeliest plan's part of
    the two courses, with gradient; noise [B, M, 2]: what was added, of unit variance.
    """

    controls: Tensor
    explored: Tensor
    logits: Tensor
    anchor: Tensor
    mean: Tensor
    noise: Tensor


def courses(horizon: int, like: Tensor) -> Tensor:
    """Return the two smooth courses [2, T, 2]: acceleration that fades out; curvature one way, then the other."""
    phase = math.pi * (torch.arange(horizon, device=like.device, dtype=like.dtype) + 0.5) / horizon
    nothing = torch.zeros_like(phase)
    return torch.stack(
        [
            torch.stack([0.5 + 0.5 * phase.cos(), nothing], dim=-1),
            torch.stack([nothing, phase.cos()], dim=-1),
        ]
    )


def sample_group(flow: FlowDecoder, hidden: Tensor, reflex: Reflex, samples: int) -> Group:
    """Return a group of `samples` plans for each tick, decoded as in driving.

    The first half are the likeliest anchors, none twice: all that have a chance are then judged, and the expectation
    over the votes needs no drawing.  The second half are the plan itself with something added and, mirrored, taken away
    (antithetic pairs: their mean is the plan, so that noise cancels).
    """
    logits = flow.classify(hidden, reflex)
    count = min(max(1, samples - samples // 4 * 2), logits.shape[-1])
    anchor = logits.detach().argsort(dim=-1, descending=True, stable=True)[:, :count]
    with torch.no_grad():
        many = Reflex(*(value.repeat_interleave(count, dim=0) for value in vars(reflex).values()))
        controls = flow.sample(hidden.repeat_interleave(count, dim=0), anchor.flatten(), None, many)
    plan = flow.sample(hidden, anchor[:, 0], None, reflex).float()
    course = courses(plan.shape[1], plan)
    mean = torch.einsum('btc,ptc->bp', plan, course) / course.square().sum(dim=(1, 2))
    half = torch.randn(len(plan), samples // 4, 2, device=plan.device)
    noise = torch.cat([half, -half], dim=1)
    added = torch.einsum('bmp,ptc->bmtc', noise * plan.new_tensor(EXPLORED), course)
    return Group(
        controls=controls.float().unflatten(0, (-1, count)),
        explored=plan.detach().unsqueeze(1) + added,
        logits=logits,
        anchor=anchor,
        mean=mean,
        noise=noise,
    )


def advantages(reward: Tensor, weight: Tensor) -> Tensor:
    """Return rewards [B, N] less their weighted mean, over their weighted deviation (at least `LEAST_STD`)."""
    away = reward - (weight * reward).sum(dim=-1, keepdim=True)
    deviation = (weight * away.square()).sum(dim=-1, keepdim=True).sqrt()
    return away / deviation.clamp(min=LEAST_STD)


def vote_loss(group: Group, reward: Tensor, temperature: float) -> Tensor:
    """Return the policy gradient's loss of the votes; reward [B, N] of the anchors' plans.

    -sum_a w_a A_a log p_a, w the votes among the group at `temperature`, without gradient: the expectation over what
    would be drawn at it, instead of a few draws.  At 1 an anchor that is hardly ever chosen is hardly ever tried.
    """
    chosen = group.logits.detach().gather(1, group.anchor)
    weight = (chosen / temperature).softmax(dim=-1)
    advantage = advantages(reward, weight)
    return -(weight * advantage * group.logits.log_softmax(dim=-1).gather(1, group.anchor)).sum(dim=-1).mean()


def decoder_loss(group: Group, reward: Tensor) -> Tensor:
    """Return the policy gradient's loss of the flow; reward [B, M] of the explored plans.

    Advantages are among plans of one anchor (DiffusionDriveV2, arXiv 2512.07745).  Of a Gaussian, log p =
    -(c - m)^2 / (2 s^2), with c = m + s * noise as taken and m the mean with gradient.
    """
    if not reward.shape[1]:
        return group.mean.sum() * 0.0
    spread = group.mean.new_tensor(EXPLORED)
    taken = group.mean.detach().unsqueeze(1) + spread * group.noise
    log_p = -0.5 * ((taken - group.mean.unsqueeze(1)) / spread).square().sum(dim=-1)
    even = torch.full_like(reward, 1.0 / reward.shape[1])
    return -(advantages(reward, even) * log_p).mean()


def vote_divergence(logits: Tensor, before: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of votes [B, K] from those of the model before, nats."""
    now, then = logits.log_softmax(dim=-1), before.log_softmax(dim=-1)
    return (now.exp() * (now - then)).sum(dim=-1).mean()
