# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A mixture of experts against the dense model that it grew from: at equal active operations, and at equal time.

Both have the same seed, the same data in the same order, and the same weights wherever they have the same parts, but
for the feed-forward networks.  Both read the features of one frozen, trained encoder: what differs is the language
model, and it is what the time goes into.  "Equal time" is counted in steps: how much longer a step takes is measured
in turn, before, so that neighbours on the machine do not decide who trains longer.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vla_driver.data.clips import ClipDataset, find_episodes, split_episodes
from vla_driver.data.encoding import encode_episodes
from vla_driver.evaluate.moe.kept import Kept
from vla_driver.evaluate.moe.models import config_of, count_parameters, make_models
from vla_driver.evaluate.moe.rounds import ratio
from vla_driver.evaluate.moe.run import DENSE, EQUAL_TIME, EXPERTS, MoeRun, Trained
from vla_driver.evaluate.moe.ticks import tick_report
from vla_driver.evaluate.moe.training import step_times, train_for
from vla_driver.model.native.loading import load_model
from vla_driver.statistics import mean_ci
from vla_driver.types import FloatArray, InvalidInput, Observation


def compare(
    run: MoeRun,
    observations: Sequence[Observation],
    *,
    tell: Callable[[str], object] = print,
    on_step: Callable[[int], object] = lambda steps: None,
) -> tuple[dict[str, Any], dict[str, Trained]]:
    """Train and time both models; return the figures, and the trained ones.

    What was timed and trained stays in `run.work`: the same run goes on where it was interrupted.
    on_step: called after every training step with how many there are in all.
    Raises InvalidInput for data that cannot be trained on, and for a run whose length is not given once.
    """
    if (run.steps is None) == (run.minutes is None):
        raise InvalidInput('how long? give one of --steps and --minutes')
    encoder = load_model(run.encoder)
    config_of(encoder.config, run.changes, run.experts)  # what is wrong with it is said before pictures are encoded
    train_paths, held_paths = split_episodes(find_episodes(run.data))
    if not held_paths:
        raise InvalidInput('one episode is too few: another one must be held out')
    features = encode_episodes(encoder, [*train_paths, *held_paths], run.features or run.work / 'features')
    dataset = ClipDataset(train_paths, encoder.config, ticks=run.ticks, features=features)
    held = ClipDataset(held_paths, encoder.config, ticks=run.ticks, augment=False, features=features)
    held_out = list(held.validation_batches(run.clips, run.validate_clips))
    if len(held_out) > 1 and len(held_out[-1].stamp_s) < len(held_out[0].stamp_s):
        held_out.pop()  # so that every batch weighs as much, in the means and in their differences
    models = make_models(run, dataset.controls(), encoder)
    sizes = {name: count_parameters(model) for name, model in models.items()}
    tell(f'parameters: {sizes[DENSE]} dense, {sizes[EXPERTS]} with experts')
    kept = Kept(run, models, [*train_paths, *held_paths])
    pace = kept.pace()
    if pace is None:
        kept.keep_pace(pace := step_times(models, run, dataset))
    steps = run.steps or max(1, round(60.0 * (run.minutes or 0.0) / statistics.median(pace[DENSE])))
    step_ratio = float(np.median(pace[EXPERTS] / pace[DENSE]))
    shorter = max(1, round(steps / step_ratio))
    tell(f'{steps} steps each; a step with experts takes {step_ratio:.2f} x as long: {shorter} steps at equal time')
    lengths = {DENSE: (DENSE, steps), EXPERTS: (EXPERTS, steps), EQUAL_TIME: (EXPERTS, shorter)}
    to_go = sum(count for name, (_, count) in lengths.items() if not kept.has(name))
    trained = {}
    for name, (of, count) in lengths.items():
        found = kept.find(name)
        if found is None:
            kept.keep(name, train_for(models[of], run, count, dataset, held_out, lambda: on_step(to_go)))
            found = kept.find(name)
            assert found is not None
        trained[name], figures = found, found.figures
        tell(f'{name}: {count} steps, loss {figures["loss"]:.4f}, ade_3s {figures["ade_3s"]:.3f} m')
    report = _report(run, sizes, pace, trained) | {'held_out_batches': len(held_out)}
    return report | tick_report(run, trained, observations, tell), trained


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
        **ratio('step_ratio', pace[EXPERTS] / pace[DENSE]),
    }
    for name, one in trained.items():
        report |= {f'loss_{name}': one.figures['loss'], f'l2_m_{name}': one.figures['ade_3s']}
        report[f'figures_{name}'] = one.figures
    for name in (EXPERTS, EQUAL_TIME):
        gain = trained[name].losses - trained[DENSE].losses
        report[f'loss_{name}_less_dense'] = float(gain.mean())
        report[f'loss_{name}_less_dense_ci'] = mean_ci(gain)
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
