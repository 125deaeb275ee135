# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Several answers of the flow to one tick, with how likely each is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vla_driver.model.native.acting.agents import AgentStates
from vla_driver.model.native.acting.flow import FlowDecoder
from vla_driver.model.native.acting.reflex import Reflex
from vla_driver.types import InvalidInput


@dataclass(frozen=True)
class Samples:
    """K joint futures of everybody, the likeliest first.

    controls [B, K, T, 2] of the ego (m/s^2, 1/m); probability [B, K], adding up to 1; agents: the others' states, the
    same in all; agent_controls [B, K, A, T, 2]; None where none are forecast.
    """

    controls: Tensor
    probability: Tensor
    agents: AgentStates | None = None
    agent_controls: Tensor | None = None


def draw(
    flow: FlowDecoder, h: Tensor, reflex: Reflex | None, count: int, generator: torch.Generator | None = None
) -> Samples:
    """Return `count` samples: one from each of the likeliest anchors, with noise around it.

    The first is the plan itself, without noise.  Of more samples than anchors, the anchors take turns, and share
    their probability.  generator: of the noise, on the CPU.  Raises `InvalidInput` for a count below 1.
    """
    if count < 1:
        raise InvalidInput(f'{count} samples, expected at least 1')
    batch, config = len(h), flow.config
    logits = flow.classify(h, reflex)
    order = logits.argsort(dim=-1, descending=True, stable=True)
    turns = torch.arange(count, device=h.device) % order.shape[-1]
    anchors = order[:, turns]  # [B, K]
    shared = torch.bincount(turns)[turns]
    probability = logits.softmax(dim=-1).gather(1, anchors) / shared
    probability = probability / probability.sum(dim=-1, keepdim=True)
    bodies = 1 + (config.num_agents if flow.others is not None else 0)
    noise = torch.randn(batch, count, bodies, config.horizon, 2, generator=generator).to(h.device)
    noise[:, 0] = 0.0
    noise = noise.flatten(0, 1)
    many = Reflex(*(value.repeat_interleave(count, dim=0) for value in vars(reflex).values())) if reflex else None
    decoded = flow.decode(
        h.repeat_interleave(count, dim=0), anchors.flatten(), noise if bodies > 1 else noise[:, 0], many
    )
    states = None
    if decoded.agents is not None:
        states = AgentStates(*(value[::count] for value in vars(decoded.agents).values()))
    return Samples(
        controls=decoded.controls.unflatten(0, (batch, count)),
        probability=probability,
        agents=states,
        agent_controls=None if decoded.agent_controls is None else decoded.agent_controls.unflatten(0, (batch, count)),
    )
