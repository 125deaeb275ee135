# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What training runs share of an optimiser step: how the learning rate goes, which weights decay, when to give up."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from vla_driver.types import InvalidInput


def stable_factor(progress: float, step: int, *, warmup: int = 100, stable: float = 0.5, floor: float = 0.02) -> float:
    """Return the factor of the learning rate: warm-up, stable, then cosine decay (WSD, arXiv 2404.06395).

    progress: 0 to 1 over the whole run, in steps or in minutes; step: counted from 0, for the warm-up.
    """
    rise = min(1.0, (step + 1) / warmup)
    if progress <= stable:
        return rise
    fall = min(1.0, (progress - stable) / (1.0 - stable))
    return rise * (floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * fall)))


def cosine_factor(step: int, steps: int, warmup: int, floor: float = 0.02) -> float:
    """Return the factor of the learning rate at `step`, counted from 0: linear warm-up, then half a cosine."""
    rise = min(1.0, (step + 1) / max(1, warmup))
    return rise * (floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / steps))))


def decay_groups(parameters: Iterable[nn.Parameter], weight_decay: float, **more: Any) -> list[dict[str, Any]]:
    """Return two groups for an optimiser: matrices, which decay, and vectors, which do not; `more` goes into both."""
    every = list(parameters)
    return [
        {'params': [p for p in every if (p.ndim >= 2) is decays], 'weight_decay': weight_decay if decays else 0.0}
        | more
        for decays in (True, False)
    ]


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group, times the group's 'factor' where it has one."""
    for group in optimizer.param_groups:
        group['lr'] = rate * group['factor'] if 'factor' in group else rate


def finish_step(optimizer: torch.optim.Optimizer, step: int, loss: float, norm: float) -> None:
    """Move the weights and drop the gradients; raise `InvalidInput` instead where loss or gradient norm is not finite.

    The weights are then as before the step.
    """
    try:
        check_finite(step, loss, norm)
    except InvalidInput:
        optimizer.zero_grad(set_to_none=True)
        raise
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def check_finite(step: int, loss: float, norm: float) -> None:
    """Raise `InvalidInput` where loss or gradient norm is not finite: the run has diverged."""
    if not math.isfinite(norm) or not math.isfinite(loss):
        raise InvalidInput(
            f'training diverged at step {step}: loss {loss}, gradient norm {norm}; '
            'resume from the last checkpoint with a lower --learning-rate, and check the data'
        )
