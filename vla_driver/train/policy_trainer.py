# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The state of a policy's training: model, averaged weights, optimiser, progress; saved and resumed exactly."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed
from torch import nn

from vla_driver.model.native.vla import VlaModel
from vla_driver.model.precision import autocast
from vla_driver.model.tokens import ClipBatch, to_device
from vla_driver.train.experts import ExpertBalance
from vla_driver.train.optimisation import decay_groups, finish_step, set_rate, stable_factor
from vla_driver.train.state import load_state, prefixed, restore_optimizer, save_state, tensors_of, under

#: Steps in which the learning rate rises.
WARM_UP = 100


@dataclass(frozen=True)
class PolicyConfig:
    """Settings that a resumed run must share with the run it continues, but for its length and the averaging.

    steps, minutes: the run's length, by one of them; clips, ticks: a step takes so many clips of so many ticks;
    processes: among which the clips are shared; prune: pruners by name, one of which drops tokens at a step.
    """

    stage: str = 'all'
    steps: int | None = None
    minutes: float | None = None
    clips: int = 4
    processes: int = 1
    ticks: int = 6
    seed: int = 0
    learning_rate: float = 6e-4
    weight_decay: float = 0.05
    ema_decay: float = 0.998
    max_grad_norm: float = 1.0
    prune: tuple[str, ...] = ()


class PolicyTrainer:
    """One training run.  `train_step` advances it; `save` and `load` keep it."""

    def __init__(self, model: VlaModel, config: PolicyConfig, device: str | torch.device = 'cpu', rank: int = 0):
        """Train as process number `rank` of config.processes, which start with equal weights."""
        self.config, self.device, self.rank = config, torch.device(device), rank
        self.model = model.to(self.device).train()
        # The averaged weights drive; averaging makes up for the noise of small batches.
        pruning, self.model.pruning = self.model.pruning, None  # whose pruners need no copies
        self.averaged = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.model.pruning = pruning
        self.step, self.elapsed_s = 0, 0.0
        groups = decay_groups(self.model.parameters(), config.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)
        self.balance = ExpertBalance(self.model, model.config.language_config.bias_step)
        self.balance.watch(self.optimizer)
        self._parameters = list(self.model.parameters())
        # The routers' biases belong to the scores, which are averaged.
        self._moving = [*self._parameters, *self.balance.biases()]
        self._averages = [*self.averaged.parameters(), *ExpertBalance(self.averaged, 0.0).biases()]

    @property
    def progress(self) -> float:
        """How much of the run is done, 0 to 1: by steps where their number is given, else by minutes."""
        if self.config.steps is not None:
            return min(1.0, self.step / self.config.steps)
        assert self.config.minutes is not None
        return min(1.0, self.elapsed_s / (60 * self.config.minutes))

    def train_step(self, on_cpu: ClipBatch) -> dict[str, float]:
        """Take one optimiser step and return its losses, learning rate and gradient norm.

        Raises InvalidInput when the loss is not finite; the weights are then as before the step.
        """
        batch = to_device(on_cpu, self.device)
        # Chance is a function of the step, as the data is: nothing has to be restored to resume exactly.
        torch.manual_seed(_step_seed(self.config.seed, self.step, self.rank))
        factor = stable_factor(self.progress, self.step, warmup=WARM_UP)
        rate = self.config.learning_rate * factor
        set_rate(self.optimizer, rate)
        # Loads are uneven from the first step on: biases do not wait for the rate to rise.
        self.balance.factor = stable_factor(self.progress, WARM_UP, warmup=WARM_UP)
        with autocast(self.device):
            out = self.model(batch, stage=self.config.stage)
        out.loss.backward()
        if self.config.processes > 1:
            self._average_over_processes()
        norm = float(nn.utils.clip_grad_norm_(self._parameters, self.config.max_grad_norm))
        finish_step(self.optimizer, self.step, float(out.loss.detach()), norm)
        self.step += 1
        # Early averages forget fast, or they would long remember the random start.
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self._averages, self._moving, 1.0 - decay)
        losses = {name: float(value) for name, value in out.losses.items()}
        figures = {'loss': float(out.loss.detach()), **losses, 'lr': rate, 'grad_norm': norm}
        return figures | self.balance.figures()

    def _average_over_processes(self) -> None:
        """Replace gradients and the elapsed time by their means over all processes.

        One exchange a step: unlike threads within each product, processes hardly wait for each other, which
        counts where the cores are shared with other work.
        """
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        clock = torch.tensor([self.elapsed_s], dtype=torch.float32)
        flat = torch.cat([clock, *(gradient.flatten() for gradient in gradients)])
        torch.distributed.all_reduce(flat)
        flat /= self.config.processes
        self.elapsed_s = float(flat[0])
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, mean in zip(gradients, flat[1:].split(sizes), strict=True):
            gradient.copy_(mean.view_as(gradient))

    # --- keeping ---------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write the averaged model (for driving and --init) to `folder` and the run's state below it."""
        folder.mkdir(parents=True, exist_ok=True)
        self.averaged.save_pretrained(folder)
        tensors = tensors_of(self.model, self.optimizer) | prefixed('averaged.', self.averaged)
        save_state(folder, tensors, step=self.step, elapsed_s=self.elapsed_s, config=asdict(self.config))

    def load(self, folder: Path) -> None:
        """Continue the run saved in `folder`; raise `InvalidInput` where there is none or its settings differ.

        Only its length and the averaging may differ: a run can be prolonged.
        """
        free = ('steps', 'minutes', 'ema_decay')
        state = load_state(folder, asdict(self.config), self.device, free=free)
        self.model.load_state_dict(under('model.', state.tensors))
        self.averaged.load_state_dict(under('averaged.', state.tensors))
        restore_optimizer(self.model, self.optimizer, state.tensors)
        self.step, self.elapsed_s = state.step, state.elapsed_s


def _step_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))
