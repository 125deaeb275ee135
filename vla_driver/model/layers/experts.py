# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A mixture of experts in the place of a feed-forward network: many small ones, of which a token is read by a few.

    y = shared(x) + sum over the K experts i that the router chose: weight_i * expert_i(x)

Every expert is a SwiGLU.  Routing (layers/routing.py) is apart from computing, `SwiGluExperts`, in whose place
something of the same call may stand that sends tokens to other processes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_driver.model.layers.feed_forward import SwiGlu
from vla_driver.model.layers.routing import Router, Routing, balance_loss

#: x [T, D], routing, gate_up [N, 2I, D], down [N, D, I] -> [T, D], all of one type.
Backend = Callable[[Tensor, Routing, Tensor, Tensor], Tensor]


class SwiGluExperts(nn.Module):
    """N gated feed-forward networks of hidden width I, each for the tokens that are routed to it."""

    #: Its weights go into matrix products: `store_for_inference` keeps them in the type of those.
    multiplies = True

    def __init__(self, dim: int, num_experts: int, hidden: int, backend: str = 'grouped'):
        """backend: a key of BACKENDS."""
        super().__init__()
        self.backend = backend
        self.gate_up = nn.Parameter(torch.empty(num_experts, 2 * hidden, dim))
        self.down = nn.Parameter(torch.empty(num_experts, dim, hidden))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start each expert as a network of its own would start."""
        for weight in (self.gate_up, self.down):
            nn.init.trunc_normal_(weight, std=0.5 * weight.shape[-1] ** -0.5)

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        """Return the weighted sum of the chosen experts' answers: [T, D] -> [T, D], in the type of the products."""
        kind = x.device.type
        # Autocast knows `linear` and `matmul`, but not grouped products.
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.gate_up.dtype
        return BACKENDS[self.backend](x.to(dtype), routing, self.gate_up.to(dtype), self.down.to(dtype))


def loop(x: Tensor, routing: Routing, gate_up: Tensor, down: Tensor) -> Tensor:
    """Ask expert after expert.  The plainest form, which the others are compared with."""
    out = torch.zeros_like(x)
    for expert in range(len(gate_up)):
        token, place = torch.where(routing.index == expert)
        hidden = _swiglu(x[token] @ gate_up[expert].T) * routing.weight[token, place, None].to(x.dtype)
        out = out.index_add(0, token, hidden @ down[expert].T)
    return out


def grouped(x: Tensor, routing: Routing, gate_up: Tensor, down: Tensor) -> Tensor:
    """Sort by expert and multiply group by group: two grouped products, whatever the number of experts."""
    tokens, k = routing.index.shape
    expert, order = torch.sort(routing.index.flatten(), stable=True)
    ends = torch.searchsorted(expert, torch.arange(len(gate_up), device=x.device), right=True).to(torch.int32)
    # A table and not `order // k`: dividing integers is slow.
    token = torch.arange(tokens, device=x.device).repeat_interleave(k)[order]
    hidden = _swiglu(F.grouped_mm(x[token], gate_up.transpose(1, 2), offs=ends))
    hidden = hidden * routing.weight.flatten()[order, None].to(x.dtype)
    answers = F.grouped_mm(hidden, down.transpose(1, 2), offs=ends)
    # Back into the order of the tokens and summed there: the same sum on every run, unlike an `index_add` on a GPU.
    back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=x.device))
    return answers[back].view(tokens, k, -1).sum(dim=1)


def sliced(x: Tensor, routing: Routing, gate_up: Tensor, down: Tensor) -> Tensor:
    """Sort by expert and multiply slice by slice: the work of `grouped` in operations that a graph has.

    The lengths of the slices are known only when it runs; all other shapes are static.
    """
    tokens, k = routing.index.shape
    experts, chosen = len(gate_up), routing.index.flatten()
    hot = F.one_hot(chosen, experts).to(torch.int32)
    # A stable sort by counting: what an exporter makes of `sort` differs from engine to engine where numbers are tied.
    ends = hot.sum(dim=0).cumsum(dim=0)
    place = (hot.cumsum(dim=0) - 1).gather(1, chosen[:, None])[:, 0] + F.pad(ends, (1, 0))[chosen]
    order = torch.zeros_like(chosen).scatter(0, place, torch.arange(len(chosen), device=x.device))
    token = torch.arange(tokens, device=x.device).repeat_interleave(k)[order]
    cuts = [0, *_cuts(ends)]

    def each(rows: Tensor, weights: Tensor) -> Tensor:
        return torch.cat([rows[cuts[n] : cuts[n + 1]] @ weights[n].T for n in range(experts)])

    hidden = _swiglu(each(x[token], gate_up)) * routing.weight.flatten()[order, None].to(x.dtype)
    return each(hidden, down)[place].view(tokens, k, -1).sum(dim=1)


def _cuts(ends: Tensor) -> list[int]:
    """Return growing numbers as such, and tell an exporter, which does not know them, that they grow from zero on."""
    cuts: list[int] = ends.tolist()
    for before, after in itertools.pairwise([0, *cuts]):
        torch._check(after >= 0)
        torch._check(after - before >= 0)
    return cuts


def dense(x: Tensor, routing: Routing, gate_up: Tensor, down: Tensor) -> Tensor:
    """Let every expert read every token and count those that were not chosen as zero.

    N / K times the work, but static shapes and ordinary products: for graphs, where experts are few and small.
    """
    tokens, experts = routing.scores.shape
    counts = torch.zeros_like(routing.scores).scatter(1, routing.index, routing.weight).to(x.dtype)
    hidden = _swiglu(torch.matmul(x, gate_up.transpose(1, 2))) * counts.T.unsqueeze(-1)  # [N, T, I]
    width = hidden.shape[-1]
    folded = down.permute(0, 2, 1).reshape(experts * width, -1)
    return hidden.transpose(0, 1).reshape(tokens, experts * width) @ folded


def _swiglu(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


#: All of them the same sum, within the rounding of their types.
BACKENDS: Final[dict[str, Backend]] = {'grouped': grouped, 'sliced': sliced, 'dense': dense, 'loop': loop}


class ExpertsFeedForward(nn.Module):
    """Shared network, router and experts, with a record of who was asked.

    counts: [N] int64, tokens per expert since `take_counts`, in training; None before any.
    """

    def __init__(
        self,
        dim: int,
        num_experts: int,
        experts_per_token: int,
        expert_size: int,
        shared_size: int = 0,
        *,
        route_scale: float = 1.0,
        backend: str = 'grouped',
    ):
        """shared_size: hidden width of the network that reads every token, 0 for none."""
        super().__init__()
        self.shared = SwiGlu(dim, shared_size) if shared_size else None
        self.router = Router(dim, num_experts, experts_per_token, route_scale)
        self.experts = SwiGluExperts(dim, num_experts, expert_size, backend)
        self.counts: Tensor | None = None
        self._losses: list[Tensor] = []
        self._last: Routing | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, D]."""
        flat = x.reshape(-1, x.shape[-1])
        routing: Routing = self.router(flat)
        out: Tensor = self.experts(flat, routing).view(x.shape)
        if self.shared is not None:
            out = out + self.shared(x)
        if not torch.compiler.is_compiling():  # an exporter must not see what is remembered
            self._remember(routing, x.shape[:-1])
        return out

    def _remember(self, routing: Routing, shape: torch.Size) -> None:
        self._last = Routing(routing.index, routing.weight.detach(), routing.scores.detach())
        if not self.training:
            return
        counts = routing.counts()
        self.counts = counts if self.counts is None else self.counts + counts
        if torch.is_grad_enabled():
            scores = routing.scores.view(*shape, routing.num_experts)
            self._losses.append(balance_loss(scores, self.router.experts_per_token))

    def take_counts(self) -> Tensor:
        """Return the counts [N] since the last call, and start again from zero."""
        counts, self.counts = self.counts, None
        return torch.zeros_like(self.router.bias, dtype=torch.int64) if counts is None else counts

    def take_losses(self) -> list[Tensor]:
        """Return the balance loss of every pass in training since the last call."""
        losses, self._losses = self._losses, []
        return losses

    @property
    def last_routing(self) -> Routing | None:
        """Where the tokens of the last pass went; None before any."""
        return self._last


def expert_layers(module: nn.Module) -> dict[str, ExpertsFeedForward]:
    """Return the mixtures within a module, by the names that they have there, in order."""
    return {name: part for name, part in module.named_modules() if isinstance(part, ExpertsFeedForward)}
