# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The training loop's state: model, averaged weights, optimiser, progress; saved and resumed exactly."""

from __future__ import annotations

import copy
import json
import math
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vla_driver.model.native.vla import VlaModel
from vla_driver.model.precision import autocast
from vla_driver.model.tokens import ClipBatch, to_device
from vla_driver.types import InvalidInput

STATE_FOLDER = 'state'


@dataclass(frozen=True)
class TrainerConfig:
    """Settings that a resumed run must share with the run it continues."""

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


def learning_rate_factor(
    progress: float, step: int, *, warmup: int = 100, stable: float = 0.5, floor: float = 0.02
) -> float:
    """Return the factor of the learning rate: warm-up, stable, then cosine decay (WSD, arXiv 2404.06395).

    progress: 0 to 1 over the whole run, in steps or in minutes; step: counted from 0, for the warm-up.
    """
    rise = min(1.0, (step + 1) / warmup)
    if progress <= stable:
        return rise
    fall = min(1.0, (progress - stable) / (1.0 - stable))
    return rise * (floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * fall)))


class Trainer:
    """One training run.  `train_step` advances it; `save` and `load` keep it."""

    def __init__(self, model: VlaModel, config: TrainerConfig, device: str | torch.device = 'cpu', rank: int = 0):
        """Train as process number `rank` of config.processes, which start with equal weights."""
        self.config, self.device, self.rank = config, torch.device(device), rank
        self.model = model.to(self.device).train()
        # The averaged weights drive; averaging makes up for the noise of small batches.
        self.averaged = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.step, self.elapsed_s = 0, 0.0
        decayed = [p for p in self.model.parameters() if p.ndim >= 2]
        plain = [p for p in self.model.parameters() if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [{'params': decayed, 'weight_decay': config.weight_decay}, {'params': plain, 'weight_decay': 0.0}],
            lr=config.learning_rate,
            betas=(0.9, 0.98),
            fused=True,
        )
        self._parameters = list(self.model.parameters())
        self._averages = list(self.averaged.parameters())

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
        rate = self.config.learning_rate * learning_rate_factor(self.progress, self.step)
        for group in self.optimizer.param_groups:
            group['lr'] = rate
        with autocast(self.device):
            out = self.model(batch, stage=self.config.stage)
        out.loss.backward()
        if self.config.processes > 1:
            self._average_over_processes()
        norm = nn.utils.clip_grad_norm_(self._parameters, self.config.max_grad_norm)
        if not math.isfinite(float(norm)) or not math.isfinite(float(out.loss.detach())):
            self.optimizer.zero_grad(set_to_none=True)
            raise InvalidInput(
                f'training diverged at step {self.step}: loss {float(out.loss.detach())}, gradient norm {float(norm)}; '
                'resume from the last checkpoint with a lower --learning-rate, and check the data'
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        # Early averages forget fast, or they would long remember the random start.
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self._averages, self._parameters, 1.0 - decay)
        losses = {name: float(value) for name, value in out.losses.items()}
        return {'loss': float(out.loss.detach()), **losses, 'lr': rate, 'grad_norm': float(norm)}

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
        """Write the averaged model (for driving and --init) to `folder` and the run's state beside it.

        The state is replaced as a whole: a crash while saving leaves the previous one.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.averaged.save_pretrained(folder)
        temporary, final = folder / f'.{STATE_FOLDER}.tmp', folder / STATE_FOLDER
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        save_file(self._tensors(), temporary / 'state.safetensors')
        note = {'step': self.step, 'elapsed_s': self.elapsed_s, 'config': asdict(self.config)}
        (temporary / 'state.json').write_text(json.dumps(note, indent=2) + '\n', encoding='utf-8')
        previous = folder / f'.{STATE_FOLDER}.old'
        shutil.rmtree(previous, ignore_errors=True)
        if final.exists():
            os.replace(final, previous)
        os.replace(temporary, final)
        shutil.rmtree(previous, ignore_errors=True)

    def _tensors(self) -> dict[str, Tensor]:
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        tensors = {f'model.{name}': value for name, value in self.model.state_dict().items()}
        tensors |= {f'averaged.{name}': value for name, value in self.averaged.state_dict().items()}
        for parameter, state in self.optimizer.state.items():
            tensors |= {f'optimizer.{key}.{names[parameter]}': value for key, value in state.items()}
        return {name: value.contiguous() for name, value in tensors.items()}

    def load(self, folder: Path) -> None:
        """Continue the run saved in `folder`; raise `InvalidInput` where there is none or its settings differ.

        Only its length and the averaging may differ: a run can be prolonged.
        """
        state = folder / STATE_FOLDER
        if not (state / 'state.json').is_file():
            state = folder / f'.{STATE_FOLDER}.old'
        if not (state / 'state.json').is_file():
            raise InvalidInput(f'{folder} holds no training state to resume; leave out --resume to start there')
        note = json.loads((state / 'state.json').read_text(encoding='utf-8'))
        free = ('steps', 'minutes', 'ema_decay')
        ours = {key: value for key, value in asdict(self.config).items() if key not in free}
        theirs = {key: value for key, value in note['config'].items() if key not in free}
        differing = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
        if differing:
            pairs = ', '.join(f'{key}: {theirs.get(key)} there, {ours.get(key)} here' for key in differing)
            raise InvalidInput(f'cannot resume {folder} with other settings ({pairs}); give the same ones')
        tensors = load_file(state / 'state.safetensors', device=str(self.device))
        self.model.load_state_dict(_under('model.', tensors))
        self.averaged.load_state_dict(_under('averaged.', tensors))
        keys: dict[str, dict[str, Tensor]] = {}
        for name, value in _under('optimizer.', tensors).items():
            key, _, parameter = name.partition('.')
            keys.setdefault(parameter, {})[key] = value
        for name, parameter in self.model.named_parameters():
            if name in keys:
                self.optimizer.state[parameter] = keys[name]
        self.step, self.elapsed_s = int(note['step']), float(note['elapsed_s'])


def _step_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _under(prefix: str, tensors: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
