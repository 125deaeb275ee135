# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A mixture of experts against the dense model that it grew from: at equal active operations, and at equal time.

Both have the same seed, the same data in the same order, and the same weights wherever they have the same parts, but
for the feed-forward networks.  Both read the features of one frozen, trained encoder: what differs is the language
model, and it is what the time goes into.  "Equal time" is counted in steps: how much longer a step takes is measured
in turn, before, so that neighbours on the machine do not decide who trains longer.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from vla_driver.data.clips import ClipDataset, batches_ahead, find_episodes, split_episodes
from vla_driver.data.encoding import encode_episodes
from vla_driver.model.config import VlaConfig
from vla_driver.model.layers.experts import ExpertsFeedForward
from vla_driver.model.native.loading import load_model
from vla_driver.model.native.training import LOSS_WEIGHTS
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.tokens import ClipBatch
from vla_driver.policies.loading import load_policy
from vla_driver.statistics import mean_ci, median_ci
from vla_driver.train.anchors import fit_anchors
from vla_driver.train.experts import LoadMeter, layer_number, load_report
from vla_driver.train.policy_trainer import PolicyConfig, PolicyTrainer
from vla_driver.train.validation import validate
from vla_driver.types import FloatArray, InvalidInput, Observation, Policy

#: The three runs.
DENSE, EXPERTS, EQUAL_TIME = 'dense', 'moe', 'moe_equal_time'
_WARM_UP: Final = 3
#: Parts of the encoder on which patch features depend; they come trained, and stay as they are.
_FROZEN: Final = ('vision.stem.', 'vision.position.', 'vision.blocks.')


@dataclass(frozen=True)
class MoeRun:
    """What is compared.

    data: folders of episodes; encoder: the checkpoint whose encoder is used; steps, minutes: how long the dense model
    is trained, by one of them; work: where the trained models go, and the patch features (or to `features`);
    changes: entries of VlaConfig for both; experts: entries of LanguageConfig for the one with experts; engine: what
    drives when ticks are timed ('torch' is timed in any case); pace_rounds, tick_rounds: of the two timings.
    """

    data: Sequence[Path]
    encoder: str
    work: Path
    experts: Mapping[str, Any]
    features: Path | None = None
    engine: str = 'onnx'
    changes: Mapping[str, Any] = field(default_factory=dict)
    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    clips: int = PolicyConfig.clips
    ticks: int = PolicyConfig.ticks
    learning_rate: float = PolicyConfig.learning_rate
    validate_clips: int = 120
    pace_rounds: int = 12
    tick_rounds: int = 60


@dataclass(frozen=True)
class Trained:
    """One trained model: its averaged weights, what it took, how it does on held-out clips.

    losses [clips]: of each held-out batch, the weighted sum; loads: steps, and for each layer [steps, N].
    """

    model: VlaModel
    steps: int
    seconds: float
    figures: dict[str, float]
    losses: FloatArray
    loads: tuple[list[int], dict[str, FloatArray]]


def make_models(run: MoeRun, controls: tuple[Any, Any], encoder: VlaModel) -> dict[str, VlaModel]:
    """Return the dense model and the one with experts, with equal weights wherever both have the same part.

    controls: the expert's, with their weights, to fit the anchors to.
    """
    models = {}
    for name, entries in ((DENSE, {'num_experts': 0}), (EXPERTS, dict(run.experts))):
        torch.manual_seed(run.seed)
        models[name] = VlaModel(_config(encoder.config, run.changes, entries))
        fit_anchors(models[name], *controls, seed=run.seed)
    own = encoder.state_dict()
    shared = models[DENSE].state_dict()
    for name, value in shared.items():
        if name.startswith(_FROZEN) and name in own and own[name].shape == value.shape:
            shared[name] = own[name]
        elif name.startswith(_FROZEN):
            raise InvalidInput(f'the encoder of {run.encoder} has no {name} of shape {tuple(value.shape)}')
    for model in models.values():
        there = model.state_dict()
        alike = {name: value for name, value in shared.items() if name in there and there[name].shape == value.shape}
        model.load_state_dict(alike, strict=False)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(_FROZEN))
    return models


def _config(base: VlaConfig, changes: Mapping[str, Any], experts: Mapping[str, Any]) -> VlaConfig:
    """Return the encoder's configuration with the changes, and a language model with these experts."""
    entries = base.to_dict()
    # Which layers the encoder's own model has them in is not what was asked for.
    entries['language_config'] = {**entries['language_config'], 'expert_layers': None}
    for name, value in changes.items():
        entries[name] = {**entries[name], **value} if isinstance(value, Mapping) else value
    entries['language_config'] = {**entries['language_config'], **experts}
    entries |= {'auxiliary': True, 'blind': False}
    config: VlaConfig = VlaConfig.from_dict(entries)
    return config


def count_parameters(model: VlaModel) -> dict[str, int]:
    """Return how many there are: feed_forward (of the language model), active (of these, for a token), all."""
    whole = active = 0
    for layer in model.language.layers:
        mlp = layer.mlp
        assert isinstance(mlp, nn.Module)
        size = sum(p.numel() for p in mlp.parameters())
        whole += size
        if isinstance(mlp, ExpertsFeedForward):
            routed = sum(p.numel() for p in mlp.experts.parameters())
            size -= routed - routed * mlp.router.experts_per_token // len(mlp.router.weight)
        active += size
    return {'feed_forward': whole, 'active': active, 'all': sum(p.numel() for p in model.parameters())}


def step_times(models: Mapping[str, VlaModel], run: MoeRun, dataset: ClipDataset) -> dict[str, FloatArray]:
    """Return the seconds of training steps of each model, taken in turn, on copies."""
    config = PolicyConfig(stage='policy', steps=10_000, clips=run.clips, ticks=run.ticks, seed=run.seed)
    trainers = {name: PolicyTrainer(copy.deepcopy(model), config) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for number in range(_WARM_UP + run.pace_rounds):
        batch = dataset.training_batch(run.seed, number, run.clips)
        for name in _turned(trainers, number):
            begun = time.perf_counter()
            trainers[name].train_step(batch)
            seconds[name].append(time.perf_counter() - begun)
    return {name: np.array(values[_WARM_UP:]) for name, values in seconds.items()}


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


def tick_times(
    policies: Mapping[str, Policy], observations: Sequence[Observation], rounds: int
) -> dict[str, dict[str, FloatArray]]:
    """Return, for each policy, the milliseconds of whole ticks ('tick') and of the language model alone ('prefill').

    All see the same observations, and take turns.  Only torch says what the language model takes.
    """
    times: dict[str, dict[str, list[float]]] = {name: {'tick': [], 'prefill': []} for name in policies}
    for number, observation in zip(range(_WARM_UP + rounds), itertools.cycle(observations), strict=False):
        for name in _turned(policies, number):
            if number % len(observations) == 0:
                policies[name].reset()
            timing = policies[name].plan(observation).timing_ms
            times[name]['tick'].append(sum(timing.values()))
            times[name]['prefill'].append(timing.get('prefix', float('nan')))
    return {
        name: {part: np.array(values[_WARM_UP:]) for part, values in parts.items()} for name, parts in times.items()
    }


def compare(
    run: MoeRun,
    observations: Sequence[Observation],
    *,
    tell: Callable[[str], object] = print,
    on_step: Callable[[], object] | None = None,
) -> tuple[dict[str, Any], dict[str, Trained]]:
    """Train and time both models; return the figures, and the trained ones.

    Raises InvalidInput for data that cannot be trained on, and for a run whose length is not given once.
    """
    if (run.steps is None) == (run.minutes is None):
        raise InvalidInput('how long? give one of --steps and --minutes')
    encoder = load_model(run.encoder)
    _config(encoder.config, run.changes, run.experts)  # what is wrong with it is said before pictures are encoded
    train_paths, held_paths = split_episodes(find_episodes(run.data))
    if not held_paths:
        raise InvalidInput('one episode is too few: another one must be held out')
    features = encode_episodes(encoder, [*train_paths, *held_paths], run.features or run.work / 'features')
    dataset = ClipDataset(train_paths, encoder.config, ticks=run.ticks, features=features)
    held = ClipDataset(held_paths, encoder.config, ticks=run.ticks, augment=False, features=features)
    held_out = list(held.validation_batches(run.clips, run.validate_clips))
    models = make_models(run, dataset.controls(), encoder)
    sizes = {name: count_parameters(model) for name, model in models.items()}
    tell(f'parameters: {sizes[DENSE]} dense, {sizes[EXPERTS]} with experts')
    pace = step_times(models, run, dataset)
    steps = run.steps or max(1, round(60.0 * (run.minutes or 0.0) / statistics.median(pace[DENSE])))
    step_ratio = float(np.median(pace[EXPERTS] / pace[DENSE]))
    shorter = max(1, round(steps / step_ratio))
    tell(f'{steps} steps each; a step with experts takes {step_ratio:.2f} x as long: {shorter} steps at equal time')
    trained = {}
    for name, of, count in ((DENSE, DENSE, steps), (EXPERTS, EXPERTS, steps), (EQUAL_TIME, EXPERTS, shorter)):
        trained[name] = train_for(models[of], run, count, dataset, held_out, on_step)
        figures = trained[name].figures
        tell(f'{name}: {count} steps, loss {figures["loss"]:.4f}, ade_3s {figures["ade_3s"]:.3f} m')
    report = _report(run, sizes, pace, trained) | {'held_out_batches': len(held_out)}
    return report | _tick_report(run, trained, observations, tell), trained


def _tick_report(
    run: MoeRun, trained: Mapping[str, Trained], observations: Sequence[Observation], tell: Callable[[str], object]
) -> dict[str, Any]:
    """Time ticks in torch and in the engine asked for; tick_ratio is of the latter, where it drives at all."""
    for name in (DENSE, EXPERTS):
        shutil.rmtree(run.work / name, ignore_errors=True)
        trained[name].model.save_pretrained(run.work / name)
    report: dict[str, Any] = {}
    for engine in dict.fromkeys(('torch', run.engine)):
        policies: dict[str, Policy] = {
            name: load_policy(run.work / name, engine=engine, threads=torch.get_num_threads())
            for name in (DENSE, EXPERTS)
        }
        ran = {name: policy.engine for name, policy in policies.items()}
        for name, one in ran.items():
            if one.engine != engine:
                tell(f'{name}: {one.engine} drives in the place of {engine}: {one.note}')
        if len({one.engine for one in ran.values()}) > 1:
            continue  # a ratio of two engines says nothing of experts
        times = tick_times(policies, observations, run.tick_rounds)
        suffix = '_torch' if engine == 'torch' else ''
        report |= _ratio(f'tick_ratio{suffix}', times[EXPERTS]['tick'] / times[DENSE]['tick'])
        report[f'tick_ms{suffix}'] = {name: float(np.median(parts['tick'])) for name, parts in times.items()}
        if engine == 'torch':
            report |= _ratio('prefill_ratio', times[EXPERTS]['prefill'] / times[DENSE]['prefill'])
            report['prefill_ms'] = {name: float(np.median(parts['prefill'])) for name, parts in times.items()}
        report[f'tick_engine{suffix}'] = dataclasses.asdict(ran[DENSE])
    torchs = {name.replace('_torch', ''): value for name, value in report.items() if '_torch' in name}
    return torchs | report


def _ratio(name: str, values: FloatArray) -> dict[str, Any]:
    """Return the median of paired ratios and its interval."""
    return {name: float(np.median(values)), f'{name}_ci': list(median_ci(values))}


def _report(
    run: MoeRun,
    sizes: Mapping[str, Mapping[str, int]],
    pace: Mapping[str, FloatArray],
    trained: Mapping[str, Trained],
) -> dict[str, Any]:
    experts = trained[EXPERTS].figures
    report: dict[str, Any] = {
        'parameters': {name: dict(size) for name, size in sizes.items()},
        'parameters_ratio': sizes[EXPERTS]['feed_forward'] / sizes[DENSE]['feed_forward'],
        'parameters_ratio_all': sizes[EXPERTS]['all'] / sizes[DENSE]['all'],
        'active_ratio': sizes[EXPERTS]['active'] / sizes[DENSE]['active'],
        'steps': {name: one.steps for name, one in trained.items()},
        'seconds': {name: one.seconds for name, one in trained.items()},
        **_ratio('step_ratio', pace[EXPERTS] / pace[DENSE]),
    }
    for name, one in trained.items():
        report |= {f'loss_{name}': one.figures['loss'], f'l2_m_{name}': one.figures['ade_3s']}
        report[f'figures_{name}'] = one.figures
    for name in (EXPERTS, EQUAL_TIME):
        gain = trained[name].losses - trained[DENSE].losses
        report[f'loss_{name}_less_dense'] = float(gain.mean())
        report[f'loss_{name}_less_dense_ci'] = list(mean_ci(gain))
    report |= {
        'load_max_over_uniform': experts['load_max'],
        'load_entropy': {key: value for key, value in experts.items() if key.startswith('load_entropy_')},
        'settings': {
            **{key: value for key, value in vars(run).items() if key not in ('work', 'features')},
            'data': [str(folder) for folder in run.data],
            'experts': dict(run.experts),
            'changes': dict(run.changes),
        },
    }
    return report


def _turned(names: Mapping[str, Any], number: int) -> list[str]:
    """Return the names, each time beginning with another one."""
    order = list(names)
    return order[number % len(order) :] + order[: number % len(order)]
