# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The state of a policy's training: model, averaged weights, optimiser, progress; saved and resumed exactly.

A step takes the mean of the losses of its shares.  One process computes all of them, several a part each; so the run is
the same, but for rounding, however many processes there are, and goes on with another number of them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vla_driver.model.native.training import BALANCE, LOSS_WEIGHTS, VlaOutput
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.precision import autocast
from vla_driver.model.tokens import ClipBatch, to_device
from vla_driver.train.distributed.crew import Crew
from vla_driver.train.engine import Engine, LocalEngine
from vla_driver.train.experts import ExpertBalance
from vla_driver.train.optimisation import stable_factor
from vla_driver.train.record import mean_of
from vla_driver.train.state import load_state, save_state, under
from vla_driver.types import InvalidInput

if TYPE_CHECKING:
    from vla_driver.train.distributed.zero import Sharing

#: Steps in which the learning rate rises.
WARM_UP = 100


@dataclass(frozen=True)
class PolicyConfig:
    """Settings that a resumed run must share with the run it continues, but for its length and the averaging.

    steps, minutes: the run's length, by one of them; clips, ticks: a step takes so many clips of so many ticks;
    shares: parts of a step's clips that are drawn, and computed, by themselves; processes divide them among each other;
    prune: pruners by name, one of which drops tokens at a step; line_share: share of the clips that are told where to
    go by the line of the way alone.
    """

    stage: str = 'all'
    steps: int | None = None
    minutes: float | None = None
    clips: int = 4
    shares: int = 1
    ticks: int = 6
    seed: int = 0
    learning_rate: float = 6e-4
    weight_decay: float = 0.05
    ema_decay: float = 0.998
    max_grad_norm: float = 1.0
    prune: tuple[str, ...] = ()
    line_share: float = 0.0


class PolicyTrainer:
    """One training run.  `train_step` advances it; `save` and `load` keep it."""

    warm_up = WARM_UP

    def __init__(
        self,
        model: VlaModel,
        config: PolicyConfig,
        device: str | torch.device = 'cpu',
        crew: Crew | None = None,
        sharing: Sharing | None = None,
    ):
        """Train as one of a crew (None: alone), all with equal weights at first; sharing: how they part the work."""
        self.config, self.device, self.crew = config, torch.device(device), crew or Crew()
        self.model = model.to(self.device).train()
        # The averaged weights drive; averaging makes up for the noise of small batches.
        pruning, self.model.pruning = self.model.pruning, None  # whose pruners need no copies
        self.averaged = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.model.pruning = pruning
        self.step, self.elapsed_s = 0, 0.0
        self.balance = ExpertBalance(self.model, model.config.language_config.bias_step)
        learning: dict[str, Any] = {
            'learning_rate': config.learning_rate,
            'weight_decay': config.weight_decay,
            'max_norm': config.max_grad_norm,
            'before_step': self.balance.move,
        }
        self.engine: Engine
        self._averaging = self.averaged
        self._pairs: tuple[list[Tensor], list[Tensor]] | None = None
        if self.crew.size == 1:
            self.engine = LocalEngine(self.model, self.averaged, **learning)
        else:
            from vla_driver.train.distributed.zero import Sharing, ZeroEngine

            # What is averaged may be parted among processes; `averaged` is whole where it is saved and validated.
            self._averaging = copy.deepcopy(self.averaged)
            self.engine = ZeroEngine(self.model, self._averaging, self.crew, sharing or Sharing(), **learning)

    @property
    def progress(self) -> float:
        """How much of the run is done, 0 to 1: by steps where their number is given, else by minutes."""
        if self.config.steps is not None:
            return min(1.0, self.step / self.config.steps)
        assert self.config.minutes is not None
        return min(1.0, self.elapsed_s / (60 * self.config.minutes))

    @property
    def mine(self) -> range:
        """The shares of every step that this process computes."""
        each = self.config.shares // self.crew.size
        return range(self.crew.rank * each, (self.crew.rank + 1) * each)

    def train_step(self, on_cpu: ClipBatch | Sequence[ClipBatch]) -> dict[str, float]:
        """Take one optimiser step and return its losses, learning rate and gradient norm, those of all processes.

        on_cpu: a batch for each of this process's shares (`mine`).
        Raises InvalidInput when the loss is not finite; the weights are then as before the step.
        """
        batches = [on_cpu] if isinstance(on_cpu, ClipBatch) else on_cpu
        self._agree(batches)
        self.engine.begin(lambda: self._forward(batches[0], self.mine[0]).loss)
        rate = self.config.learning_rate * stable_factor(self.progress, self.step, warmup=self.warm_up)
        # Loads are uneven from the first step on: biases do not wait for the rate to rise.
        self.balance.factor = stable_factor(self.progress, self.warm_up, warmup=self.warm_up)
        rows = []
        for share, batch in zip(self.mine, batches, strict=True):
            out = self._forward(batch, share)
            self.engine.backward(out.loss, len(batches))
            losses = {name: float(value) for name, value in out.losses.items()}
            rows.append({'loss': float(out.loss.detach()), **losses})
        figures = self._means(rows)
        norm = self.engine.step(rate, self.step, figures['loss'])
        self.step += 1
        self._average()
        return figures | {'lr': rate, 'grad_norm': norm} | self.balance.figures()

    def _agree(self, batches: Sequence[ClipBatch]) -> None:
        """Let all processes go by one clock, or each would have its own learning rate, and stop when one is asked to.

        Raises `InvalidInput` where spread experts would be asked by some of them and not by others.
        """
        if self.crew.size == 1:
            return
        kinds = [float(label is None) for batch in batches for label in (batch.labels.reason, batch.labels.told)]
        self.elapsed_s, stopping, *shares = self.crew.mean(
            [self.elapsed_s, float(self.crew.stopping), *kinds], self.device
        )
        self.crew.stopping = stopping > 0
        if self.engine.spreads and any(0.0 < share < 1.0 for share in shares):
            raise InvalidInput(
                'some of the clips of this step have labels of words and intents and others have none, so that not all '
                'processes would ask the experts as often; train on episodes of one version, or with --expert-parallel '
                '1, which leaves all experts in every process'
            )

    def _means(self, rows: Sequence[dict[str, float]]) -> dict[str, float]:
        """Return the mean of each loss over the shares of all processes that have it."""
        if self.crew.size == 1:
            return mean_of(rows)
        names = ('loss', *LOSS_WEIGHTS, BALANCE)
        sums = [sum(row.get(name, 0.0) for row in rows) for name in names]
        counts = [float(sum(name in row for row in rows)) for name in names]
        means = self.crew.mean([*sums, *counts], self.device)
        totals = zip(names, means[: len(names)], means[len(names) :], strict=True)
        return {name: total / count for name, total, count in totals if count > 0}

    def _forward(self, on_cpu: ClipBatch, share: int) -> VlaOutput:
        batch = to_device(on_cpu, self.device)
        # Chance is a function of step and share, as the data is: nothing has to be restored to resume exactly.
        torch.manual_seed(step_seed(self.config.seed, self.step, share))
        with autocast(self.device):
            out: VlaOutput = self.model(batch, stage=self.config.stage)
        return out

    @torch.no_grad()
    def _average(self) -> None:
        # Early averages forget fast, or they would long remember the random start.
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        if self._pairs is None:
            # The routers' biases belong to the scores, which are averaged.
            moving = [*self.model.parameters(), *self.balance.biases()]
            self._pairs = [*self._averaging.parameters(), *ExpertBalance(self._averaging, 0.0).biases()], moving
        torch._foreach_lerp_(*self._pairs, 1.0 - decay)

    # --- keeping ---------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write the averaged model (for driving and --init) to `folder` and the run's state below it.

        All processes of the crew take part; the leading one writes.
        """
        tensors = self.engine.tensors()
        if not self.crew.leads:
            return
        folder.mkdir(parents=True, exist_ok=True)
        if self._averaging is not self.averaged:
            self.averaged.load_state_dict(under('averaged.', tensors))
        self.averaged.save_pretrained(folder)
        save_state(folder, tensors, step=self.step, elapsed_s=self.elapsed_s, config=asdict(self.config))

    def load(self, folder: Path) -> None:
        """Continue the run saved in `folder`; raise `InvalidInput` where there is none or its settings differ.

        Only its length, the averaging and the shares may differ: a run can be prolonged, by any number of processes.
        """
        free = ('steps', 'minutes', 'ema_decay', 'shares', 'processes')
        state = load_state(folder, asdict(self.config), self.device, free=free)
        self.engine.restore(state.tensors)
        if self._averaging is not self.averaged:
            self.averaged.load_state_dict(under('averaged.', state.tensors))
        self.step, self.elapsed_s = state.step, state.elapsed_s


def step_seed(seed: int, step: int, share: int) -> int:
    """Return the seed of what is drawn in one share of a step."""
    return int(np.random.SeedSequence([seed, step, share]).generate_state(1, np.uint64)[0] >> np.uint64(1))
