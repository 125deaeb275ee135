# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Which experts read which token: sigmoid scores, a bias that moves against the load, and a small balance loss.

DeepSeekMoE (arXiv 2401.06066) as in DeepSeek-V3 (arXiv 2412.19437, section 2.1.2).  Balancing without a loss that
fights the task: arXiv 2408.15664.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Routing:
    """Where T tokens go, each to K of N experts.

    index: [T, K] int64, no expert twice in a row; weight: [T, K] float32, what each answer counts; scores: [T, N]
    float32 in 0..1, without the bias.
    """

    index: Tensor
    weight: Tensor
    scores: Tensor

    @property
    def num_experts(self) -> int:
        """N."""
        return self.scores.shape[-1]

    def counts(self) -> Tensor:
        """Return how many tokens each expert reads: [N] int64, their sum is T * K: no token is dropped."""
        chosen = self.index.flatten()
        # Not `bincount`, for which a GPU waits.
        return torch.zeros(self.num_experts, dtype=torch.int64, device=chosen.device).scatter_add_(
            0, chosen, torch.ones_like(chosen)
        )

    def load(self) -> Tensor:
        """Return how much each expert reads, over an even share: [N] float64, 1 on average."""
        counts = self.counts().double()
        return counts / counts.mean()


def load_of(routings: Sequence[Routing]) -> Tensor:
    """Return the loads of layers one after another, [1, layers, N] float32, each as `Routing.load`.

    Comparisons and a mean: every engine has these, unlike counting by adding into places.
    """
    experts = torch.arange(routings[0].num_experts)
    shares = [(one.index.reshape(-1, 1) == experts).float().mean(dim=0) for one in routings]
    return torch.stack(shares).unsqueeze(0) * len(experts)


class Router(nn.Module):
    """Chooses K of N experts for each token.

    s = sigmoid(x W^T);  chosen are the K largest of s + bias;  they count s / sum of the chosen s, times `route_scale`
    (arXiv 2412.19437, equations 13 to 16).  All of it in float32, whatever the rest computes in: a rounded score is
    another choice.
    """

    bias: Tensor

    def __init__(self, dim: int, num_experts: int, experts_per_token: int, route_scale: float = 1.0):
        super().__init__()
        self.experts_per_token, self.route_scale = experts_per_token, route_scale
        self.weight = nn.Parameter(torch.empty(num_experts, dim))
        # No gradient reaches it: it has no part in the weights.  `balance` moves it.
        self.register_buffer('bias', torch.zeros(num_experts))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start from small scores of either sign and without bias."""
        nn.init.trunc_normal_(self.weight, std=0.5 * self.weight.shape[1] ** -0.5)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Routing:
        """Route tokens x [T, D]."""
        with _in_float32(x.device.type):
            scores = torch.sigmoid(F.linear(x.float(), self.weight.float()))
        index = torch.topk(scores.detach() + self.bias, self.experts_per_token, dim=-1).indices
        weight = scores.gather(-1, index)
        return Routing(index, weight / weight.sum(dim=-1, keepdim=True) * self.route_scale, scores)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Router:
        """Move with the module (device), but keep the bias in float32: its steps are lost in bfloat16."""
        before = self.bias
        super()._apply(fn, recurse)
        if self.bias.dtype != torch.float32:
            self.bias = before.to(self.bias.device, torch.float32)
        return self


def _in_float32(device: str) -> AbstractContextManager[Any]:
    """Return a context without autocast; nothing at all where there is none, which an exporter can follow."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def balance_loss(scores: Tensor, experts_per_token: int) -> Tensor:
    """Return the sequence-wise balance loss of scores [B, L, N], a mean over the B sequences; 1 where all is even.

    sum_i f_i P_i;  f_i = N / (K L) * (tokens among whose K best scores i is);  P_i = mean over tokens of
    s_i / sum_j s_j
    (arXiv 2412.19437, equations 17 to 20, without alpha).  Only P has a gradient.
    """
    length, experts = scores.shape[-2:]
    best = torch.topk(scores.detach(), experts_per_token, dim=-1).indices
    chosen = torch.zeros_like(scores).scatter(-1, best, 1.0)
    frequency = chosen.sum(dim=-2) * (experts / (experts_per_token * length))
    share = (scores / scores.sum(dim=-1, keepdim=True)).mean(dim=-2)
    return (frequency * share).sum(dim=-1).mean()


def bias_change(counts: Tensor, step: float) -> Tensor:
    """Return by how much the bias [N] moves for counts [N] of tokens: down where more than the mean came, else up.

    step * sign(mean - count), then centred, so that biases do not drift together (torchtitan's form of the rule of
    arXiv 2408.15664, algorithm 1).
    """
    load = counts.float()
    change = step * torch.sign(load.mean() - load)
    return change - change.mean()


def load_figures(counts: Tensor) -> tuple[float, float]:
    """Return of counts [N]: the largest load over the mean one, and the entropy over that of an even load (0 to 1)."""
    share = counts.double() / counts.sum().clamp(min=1)
    entropy = -(share * share.clamp(min=1e-12).log()).sum() / math.log(len(counts))
    return float(share.max() * len(counts)), float(entropy)
