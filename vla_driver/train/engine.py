# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What moves the weights of a training run: one process by itself here, several in distributed/zero.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from vla_driver.train.optimisation import decay_groups, finish_step, set_rate
from vla_driver.train.state import prefixed, restore_optimizer, tensors_of, under

#: Gives the loss of a batch, a scalar with gradient.
Loss = Callable[[], Tensor]


class Engine(Protocol):
    """Gradients in, weights out; and all that must be kept of it, whole, whoever holds which part.

    spreads: whether experts are spread, so that all processes must ask them equally often.
    """

    @property
    def spreads(self) -> bool:
        """Whether this process holds some of the experts alone."""
        ...

    def begin(self, probe: Loss) -> None:
        """Get ready for the first step; probe: gives the loss of a batch such as will come, and may be asked or not."""
        ...

    def backward(self, loss: Tensor, parts: int) -> None:
        """Add the gradient of one of the `parts` losses, whose mean over all processes is the loss of a step."""
        ...

    def step(self, rate: float, number: int, loss: float) -> float:
        """Move the weights by learning rate `rate`, drop the gradients, return their norm before it was clipped.

        Raises `InvalidInput` where loss or norm is not finite; the weights are then as before.
        """
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Return 'model.NAME', 'averaged.NAME' and 'optimizer.KEY.NAME' (`train/state.py`); all processes take part."""
        ...

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take what `tensors` gave, whatever engine gave it; before `begin`."""
        ...


class LocalEngine:
    """AdamW in one process."""

    spreads = False

    def __init__(
        self,
        model: nn.Module,
        averaged: nn.Module,
        *,
        learning_rate: float,
        weight_decay: float,
        max_norm: float,
        before_step: Callable[[], None],
    ):
        """before_step: called when the weights are about to move."""
        self.model, self.averaged, self.max_norm = model, averaged, max_norm
        self.optimizer = adamw(decay_groups(model.parameters(), weight_decay), learning_rate)
        self.optimizer.register_step_pre_hook(lambda *_: before_step())
        self._parameters = list(model.parameters())

    def begin(self, probe: Loss) -> None:
        """See `Engine`."""

    def backward(self, loss: Tensor, parts: int) -> None:
        """See `Engine`."""
        (loss / parts if parts > 1 else loss).backward()  # type: ignore[no-untyped-call]

    def step(self, rate: float, number: int, loss: float) -> float:
        """See `Engine`."""
        set_rate(self.optimizer, rate)
        norm = float(nn.utils.clip_grad_norm_(self._parameters, self.max_norm))
        finish_step(self.optimizer, number, loss, norm)
        return norm

    def tensors(self) -> dict[str, Tensor]:
        """See `Engine`."""
        return tensors_of(self.model, self.optimizer) | prefixed('averaged.', self.averaged)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """See `Engine`."""
        self.model.load_state_dict(under('model.', tensors))
        self.averaged.load_state_dict(under('averaged.', tensors))
        restore_optimizer(self.model, self.optimizer, tensors)


def adamw(groups: list[dict[str, object]], learning_rate: float) -> torch.optim.AdamW:
    """Return the optimiser of imitation."""
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), fused=True)
