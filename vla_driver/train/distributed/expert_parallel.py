# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Experts spread over processes: each holds some of every layer's, and tokens travel to theirs and back.

    route (as ever) -> all-to-all -> own experts -> all-to-all -> weighted sum

Groups, plan of the exchange and its differentiable form are DeepSpeed's (those of its AutoEP); the router stays the
model's own, and no token is dropped.
"""

from __future__ import annotations

from typing import Any

import deepspeed.comm
import torch
from deepspeed.module_inject.auto_ep_layer import _AllToAllV, compute_split_plan
from deepspeed.moe.layer import MoE
from deepspeed.utils import groups
from torch import Tensor, nn

from vla_driver.model.layers.experts import BACKENDS, ExpertsFeedForward, SwiGluExperts, expert_layers
from vla_driver.model.layers.routing import Routing
from vla_driver.types import InvalidInput


class ParallelExperts(MoE):  # type: ignore[misc]
    """The experts of one layer that one process holds, called as the whole `SwiGluExperts` is.

    It is an `MoE` to DeepSpeed's engine, which by that keeps gradients of experts apart from those of the rest; gate
    and layer of that class, which know softmax scores and a capacity, are not made.
    """

    def __init__(self, experts: SwiGluExperts, ranks: int):
        """Take the experts of this process out of the whole; ranks: processes that hold all experts together."""
        nn.Module.__init__(self)
        self.num_experts, self.ep_size = len(experts.gate_up), ranks
        self.num_local_experts = self.num_experts // ranks
        self.expert_group_name = f'ep_size_{ranks}'
        self.backend, self.enable_expert_tensor_parallelism = experts.backend, False
        self.group = expert_group(ranks)
        first = deepspeed.comm.get_rank(self.group) * self.num_local_experts
        for name, whole in experts.named_parameters():
            own = nn.Parameter(whole.detach()[first : first + self.num_local_experts].clone(), whole.requires_grad)
            # How DeepSpeed knows parameters that are not the same in all processes.
            own.allreduce, own.group_name = False, self.expert_group_name  # type: ignore[attr-defined]
            self.register_parameter(name, own)

    def set_deepspeed_parallelism(self, use_data_before_expert_parallel_: bool = False) -> None:
        """Do nothing: the groups are there already."""

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        """Return the weighted sum of the chosen experts' answers: [T, D] -> [T, D], in the type of the products."""
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.gate_up.dtype
        tokens, k = routing.index.shape
        order = torch.argsort(routing.index.flatten(), stable=True)
        token = torch.arange(tokens, device=x.device).repeat_interleave(k)[order]
        plan = compute_split_plan(routing.index, self.num_experts, self.ep_size, self.num_local_experts, self.group)
        came = _AllToAllV.apply(self.group, x.to(dtype)[token], plan.input_splits, plan.output_splits)
        # They come process by process, from each in the order of the experts.
        owner = torch.arange(self.num_local_experts, device=x.device).repeat(self.ep_size)
        owner = owner.repeat_interleave(plan.local_counts_by_source.flatten().long())
        own = Routing(
            owner.unsqueeze(1), came.new_ones(len(came), 1), came.new_zeros(len(came), self.num_local_experts)
        )
        answers = BACKENDS[self.backend](came, own, self.gate_up.to(dtype), self.down.to(dtype))
        back = _AllToAllV.apply(self.group, answers, plan.output_splits, plan.input_splits)
        place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=x.device))
        return (back[place].view(tokens, k, -1) * routing.weight.unsqueeze(-1).to(dtype)).sum(dim=1)

    def whole(self, own: Tensor) -> Tensor:
        """Return a tensor [N, ...] of all experts from this process's part [N / ranks, ...]; all take part."""
        parts = [torch.empty_like(own) for _ in range(self.ep_size)]
        torch.distributed.all_gather(parts, own.contiguous(), group=self.group)
        return torch.cat(parts)

    def part(self, whole: Tensor) -> Tensor:
        """Return this process's part of a tensor [N, ...] of all experts."""
        return whole.chunk(self.ep_size)[deepspeed.comm.get_rank(self.group)]


def expert_group(ranks: int) -> Any:
    """Return the group of processes that hold all experts together with this one; made at the first call."""
    name = f'ep_size_{ranks}'
    if name not in groups._get_expert_parallel_group_dict():
        groups._create_expert_and_data_parallel(ranks)
    return groups._get_expert_parallel_group(name)


def spread_experts(model: nn.Module, ranks: int) -> dict[str, ParallelExperts]:
    """Put this process's experts in the place of all; return them by the name of their module.

    Raises `InvalidInput` where the experts of a layer do not divide among `ranks`.
    """
    spread = {}
    for name, layer in expert_layers(model).items():
        if layer.router.weight.shape[0] % ranks:
            raise InvalidInput(
                f'--expert-parallel {ranks}: the {layer.router.weight.shape[0]} experts of {name} do not divide among '
                'so many processes'
            )
        assert isinstance(layer, ExpertsFeedForward)
        layer.experts = ParallelExperts(layer.experts, ranks)  # type: ignore[assignment]
        spread[f'{name}.experts'] = layer.experts
    return spread  # type: ignore[return-value]
