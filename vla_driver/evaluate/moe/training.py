# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How long a step takes, and what comes of many."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing

import numpy as np
import torch

from vla_driver.data.clips import ClipDataset, batches_ahead
from vla_driver.evaluate.moe.rounds import WARM_UP, turned
from vla_driver.evaluate.moe.run import MoeRun, Trained
from vla_driver.model.native.training import LOSS_WEIGHTS
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.tokens import ClipBatch
from vla_driver.train.experts import LoadMeter, layer_number, load_report
from vla_driver.train.policy_trainer import PolicyConfig, PolicyTrainer
from vla_driver.train.validation import validate
from vla_driver.types import FloatArray, InvalidInput


def step_times(models: Mapping[str, VlaModel], run: MoeRun, dataset: ClipDataset) -> dict[str, FloatArray]:
    """Return the seconds of training steps of each model, taken in turn, on copies."""
    config = PolicyConfig(stage='policy', steps=10_000, clips=run.clips, ticks=run.ticks, seed=run.seed)
    trainers = {name: PolicyTrainer(copy.deepcopy(model), config) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for number in range(WARM_UP + run.pace_rounds):
        batch = dataset.training_batch(run.seed, number, run.clips)
        for name in turned(trainers, number):
            begun = time.perf_counter()
            trainers[name].train_step(batch)
            seconds[name].append(time.perf_counter() - begun)
    return {name: np.array(values[WARM_UP:]) for name, values in seconds.items()}


def train_for(
    model: VlaModel,
    run: MoeRun,
    steps: int,
    dataset: ClipDataset,
    held_out: Sequence[ClipBatch],
    on_step: Callable[[], object] | None = None,
) -> Trained:
    """Train a copy of the model for so many steps, and measure it on the held-out clips."""
    config = PolicyConfig(
        stage='policy', steps=steps, clips=run.clips, ticks=run.ticks, seed=run.seed, learning_rate=run.learning_rate
    )
    trainer = PolicyTrainer(copy.deepcopy(model), config)
    every, at = max(1, steps // 200), []
    loads: dict[str, list[FloatArray]] = {}
    begun = time.perf_counter()
    with closing(batches_ahead(dataset, run.seed, 0, run.clips)) as batches:
        while trainer.progress < 1.0:
            trainer.train_step(next(batches))
            if trainer.step % every == 0 and trainer.balance.loads:
                at.append(trainer.step)
                for name, load in trainer.balance.loads.items():
                    loads.setdefault(f'layer {layer_number(name)}', []).append(load.double().numpy())
            if on_step is not None:
                on_step()
    seconds = time.perf_counter() - begun
    figures, losses = measure(trainer.averaged, held_out)
    kept = {name: np.stack(values) for name, values in loads.items()}
    return Trained(trainer.averaged, steps, seconds, figures, losses, (at, kept))


def measure(model: VlaModel, batches: Iterable[ClipBatch]) -> tuple[dict[str, float], FloatArray]:
    """Return the means of `validate` over the batches, with 'loss' and the experts' loads, and each batch's loss.

    loss: the weighted sum of the losses that every model has, without the balance loss.
    """
    rows, sizes, meter = [], [], LoadMeter(model.language)
    for number, batch in enumerate(batches):
        torch.manual_seed(number)  # the noise that the flow starts from
        found = validate(model, [batch])
        meter.count()
        found['loss'] = sum(weight * found.get(f'loss_{name}', 0.0) for name, weight in LOSS_WEIGHTS.items())
        rows.append(found)
        sizes.append(len(batch.inputs.speed_mps))
    if not rows:
        raise InvalidInput('no clips are held out: give at least two episodes, of different names')
    names = [name for name in rows[0] if name == 'loss' or name.startswith(('loss_', 'ade_'))]
    figures = {name: float(np.average([row[name] for row in rows], weights=sizes)) for name in names}
    return figures | load_report(meter.counts), np.array([row['loss'] for row in rows])
