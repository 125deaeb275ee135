# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A mixture of experts in the place of a feed-forward network: many small ones, of which a token is read by a few.

    y = shared(x) + sum over the K experts i that the router chose: weight_i * expert_i(x)

Every expert is a SwiGLU.  Routing (layers/routing.py) is apart from computing, `SwiGluExperts`, in whose place
something of the same call may stand that sends tokens to other processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_driver.model.layers.feed_forward import SwiGlu
from vla_driver.model.layers.routing import Router, Routing, balance_loss

#: Rows to which groups are padded where kernels are compiled for each number of them.
BLOCK: Final = 32

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
        x, gate_up, down = x.to(dtype), self.gate_up.to(dtype), self.down.to(dtype)
        if torch.compiler.is_exporting() and self.backend != 'dense':
            out: Tensor = routed_experts(x, routing.index, routing.weight, gate_up, down)
            return out
        return BACKENDS[self.backend](x, routing, gate_up, down)


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
    counts = routing.counts()
    # A table and not `order // k`: dividing integers is slow.
    token = torch.arange(tokens, device=x.device).repeat_interleave(k)[order]
    place = torch.arange(len(order), device=x.device)
    rows, weight = x[token], routing.weight.flatten()[order, None].to(x.dtype)
    if x.device.type == 'cpu' and x.dtype == torch.bfloat16:
        # Groups padded with rows of zeros to whole blocks: oneDNN compiles a kernel for every new number of rows, which
        # takes longer than the product, and keeps a thousand of them.
        padded = (counts + BLOCK - 1) // BLOCK * BLOCK
        place = place + ((padded.cumsum(0) - padded) - (counts.cumsum(0) - counts))[expert]
        counts, length = padded, int(padded.sum())
        rows, weight = (part.new_zeros(length, part.shape[1]).index_copy(0, place, part) for part in (rows, weight))
    ends = counts.cumsum(0).to(torch.int32)
    hidden = _swiglu(F.grouped_mm(rows, gate_up.transpose(1, 2), offs=ends)) * weight
    answers = F.grouped_mm(hidden, down.transpose(1, 2), offs=ends)
    # Back into the order of the tokens and summed there: the same sum on every run, unlike an `index_add` on a GPU.
    back = torch.empty_like(order).scatter_(0, order, place)
    return answers[back].view(tokens, k, -1).sum(dim=1)


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
BACKENDS: Final[dict[str, Backend]] = {'grouped': grouped, 'dense': dense, 'loop': loop}


@torch.library.custom_op('vla_driver::routed_experts', mutates_args=())
def routed_experts(x: Tensor, index: Tensor, weight: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """`grouped` as one operation: how many tokens an expert reads is known only when a graph runs.

    model/export/experts.py says what becomes of it in ONNX.
    """
    return grouped(x, Routing(index, weight, weight), gate_up, down)


@routed_experts.register_fake
def _(x: Tensor, *_: Tensor) -> Tensor:
    return torch.empty_like(x)


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
        self.counting = True
        self._losses: list[Tensor] = []
        self._last: Routing | None = None
        self._listening: list[Routing] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, D]."""
        flat = x.reshape(-1, x.shape[-1])
        routing: Routing = self.router(flat)
        out: Tensor = self.experts(flat, routing).view(x.shape)
        if self.shared is not None:
            out = out + self.shared(x)
        if not torch.compiler.is_compiling():  # an exporter must not see what is remembered
            self._remember(routing, x.shape[:-1])
        if self._listening is not None:
            self._listening.append(routing)
        return out

    def _remember(self, routing: Routing, shape: torch.Size) -> None:
        self._last = Routing(routing.index, routing.weight.detach(), routing.scores.detach())
        # A frozen router is not to be balanced: whoever freezes it wants it to stay as it is.
        if not (self.training and self.counting and self.router.weight.requires_grad):
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


@contextlib.contextmanager
def uncounted(module: nn.Module) -> Iterator[None]:
    """Within it, passes through a module's mixtures are neither counted nor have a balance loss: they move no bias."""
    layers = [layer for layer in expert_layers(module).values() if layer.counting]
    for layer in layers:
        layer.counting = False
    try:
        yield
    finally:
        for layer in layers:
            layer.counting = True


@contextlib.contextmanager
def overheard(module: nn.Module) -> Iterator[list[Routing]]:
    """Within it, what is routed in a module's mixtures is put into the list, in the order in which it comes.

    Unlike `last_routing`, an exporter can follow this.
    """
    heard: list[Routing] = []
    layers = list(expert_layers(module).values())
    for layer in layers:
        layer._listening = heard
    try:
        yield heard
    finally:
        for layer in layers:
            layer._listening = None


def expert_layers(module: nn.Module) -> dict[str, ExpertsFeedForward]:
    """Return the mixtures within a module, by the names that they have there, in order."""
    return {name: part for name, part in module.named_modules() if isinstance(part, ExpertsFeedForward)}
