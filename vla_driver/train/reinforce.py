# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning by rewards, from recorded drives and the features of a frozen encoder to a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from vla_driver.data.clips import ClipDataset, find_episodes, split_episodes
from vla_driver.data.encoding import encode_episodes
from vla_driver.data.episode import open_episode
from vla_driver.data.prefetch import prepared_ahead
from vla_driver.data.tracks import has_tracks
from vla_driver.model.device import choose_device
from vla_driver.model.native.loading import load_model
from vla_driver.model.native.vla import VlaModel
from vla_driver.train.checks import check_new_run, check_positive
from vla_driver.train.loop import Counting, train
from vla_driver.train.record import append_log, computed_on
from vla_driver.train.reinforcement.judged import JudgedBatch, JudgedClips
from vla_driver.train.reinforcement.measure import Measured, compare, described, measure
from vla_driver.train.reinforcement.trainer import ReinforceConfig, ReinforceTrainer
from vla_driver.train.split import record_split, recorded_split
from vla_driver.types import InvalidInput

#: What the run writes of its held-out ticks, before and after.
REPORT = 'reinforce.json'
_SHOWN = ('reward', 'no_collision', 'on_road', 'no_red', 'time_to_collision', 'comfort', 'progress', 'ade_3s')


@dataclass(frozen=True)
class ReinforceRun:
    """One run, from the episodes under the folders `data` to the checkpoint `out`.

    resume: continue the run in `out`; features: where the encoder's features are kept (default: out/features);
    validate: about how many held-out clips are judged, after each save.
    """

    data: Sequence[Path]
    out: Path
    config: ReinforceConfig
    resume: bool = False
    features: Path | None = None
    save_minutes: float = 5.0
    validate: int = 100
    threads: int | None = None
    device: str = 'auto'


def reinforce(run: ReinforceRun) -> dict[str, Any]:
    """Fine-tune; return what `compare` says of the held-out ticks, {} where nothing is held out.

    Raises `InvalidInput` for settings and data that cannot be trained on.
    """
    config = run.config
    _check(run)
    torch.set_num_threads(run.threads or torch.get_num_threads())
    device = choose_device(run.device)
    torch.manual_seed(config.seed)
    before = load_model(config.start)
    if before.config.blind:
        raise InvalidInput(f'--model {config.start} sees nothing: rewards of what it does not see teach it nothing')
    model = load_model(run.out if run.resume else config.start)
    for part in (model, before):
        part.vision.requires_grad_(False)
    learning, held_out = split_episodes(_with_tracks(find_episodes(run.data)))
    if run.resume:
        learning, held_out = recorded_split(run.out, learning, held_out)
    folder = encode_episodes(
        before.to(device), [*learning, *held_out], run.features or run.out / 'features', device=device
    )

    def clips_of(paths: list[Path], augment: bool) -> JudgedClips:
        return JudgedClips(
            ClipDataset(paths, model.config, ticks=config.ticks, augment=augment, features=folder, device=device)
        )

    clips = clips_of(learning, True)
    trainer = ReinforceTrainer(model, before, config, device)
    if run.resume:
        trainer.load(run.out)
    run.out.mkdir(parents=True, exist_ok=True)
    if not run.resume:
        record_split(run.out, learning, held_out)
    judged = _HeldOut(run, clips_of(held_out, False) if held_out else None)
    earlier = judged.of(trainer.before)
    append_log(
        run.out,
        kind='start',
        step=trainer.step,
        episodes=len(learning),
        validation_episodes=len(held_out),
        ticks=clips.dataset.num_ticks,
        parameters=sum(p.numel() for p in model.parameters()),
        **computed_on(device),
        init=config.start,
        settings=asdict(config),
    )
    if earlier is not None and not run.resume:
        append_log(run.out, kind='validation', step=0, seconds=0.0, **earlier.means())

    found: list[Measured | None] = []

    def validate() -> dict[str, float]:
        found.append(judged.of(trainer.averaged))
        return {} if (last := found[-1]) is None else last.means()

    train(
        trainer,
        _batches(trainer, clips),
        _counting(config),
        run.out,
        save_minutes=run.save_minutes,
        validate=validate,
        shown=_SHOWN,
    )
    if earlier is None:
        print('nothing is held out of a single episode, so nothing is compared')
        return {}
    after = found[-1] if found else judged.of(trainer.averaged)  # none: resumed when it was done
    assert after is not None
    report = compare(earlier, after)
    (run.out / REPORT).write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
    print(described(report))
    return report


def _check(run: ReinforceRun) -> None:
    config = run.config
    if config.steps is None and config.minutes is None:
        raise InvalidInput('how long? give --steps or --minutes')
    check_positive(
        steps=config.steps,
        minutes=config.minutes,
        batch=config.clips,
        ticks=config.ticks,
        learning_rate=config.learning_rate,
        temperature=config.temperature,
        save_minutes=run.save_minutes,
        validate=run.validate,
        threads=run.threads,
    )
    if config.samples < 2:
        raise InvalidInput(f'--samples {config.samples}: a group has at least 2 plans, or none is better than another')
    for name in ('votes', 'decoder', 'imitation', 'divergence'):
        if not getattr(config, name) >= 0:
            raise InvalidInput(f'--{name} {getattr(config, name)}, expected 0 or more')
    check_new_run(run.out, run.resume)


def _with_tracks(paths: list[Path]) -> list[Path]:
    """Return the episodes that say who was where; says how many do not, and raises `InvalidInput` where none does."""
    found = [path for path in paths if has_tracks(open_episode(path))]
    if not found:
        raise InvalidInput(
            f'none of {len(paths)} episodes says who was where (version 2 of the format), so no plan can be judged; '
            'collect some with `vla_driver train collect`'
        )
    if len(found) < len(paths):
        print(f'{len(paths) - len(found)} of {len(paths)} episodes do not say who was where: left out')
    return found


class _HeldOut:
    """Judges models on the held-out ticks."""

    def __init__(self, run: ReinforceRun, clips: JudgedClips | None) -> None:
        self._run, self._clips = run, clips

    def of(self, model: VlaModel) -> Measured | None:
        """Return the figures of a model; None where nothing is held out."""
        if self._clips is None:
            return None
        batches = self._clips.validation_batches(self._run.config.clips, self._run.validate)
        return measure(model, batches)


def _batches(trainer: ReinforceTrainer, clips: JudgedClips) -> Generator[list[JudgedBatch], None, None]:
    config = trainer.config
    return prepared_ahead(lambda step: [clips.training_batch(config.seed, step, config.clips)], trainer.step)


def _counting(config: ReinforceConfig) -> Counting:
    shown = dict.fromkeys(('reward', 'no_collision', 'on_road', 'no_red', 'progress'), '.3f')
    ticks = config.clips * config.ticks
    if config.steps is not None:
        return Counting(config.steps, 'ticks', ticks, log_every=20, shown=shown)
    assert config.minutes is not None
    return Counting(round(60 * config.minutes), 'ticks', ticks, unit='s', log_every=20, shown=shown)
