# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""ReconPruner of FastDriveVLA (arXiv 2507.23318), trained by masked reconstruction on a frozen encoder.

The pruner learns to keep tokens from which a decoder can rebuild the foreground, and to drop those from which it can
rebuild the background.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from vla_driver.data.encoding import encode_episodes
from vla_driver.data.foreground.frames import JoinedFrames, episodes_under, open_frames
from vla_driver.model.device import choose_device
from vla_driver.train.checks import check_new_run, check_output, check_positive
from vla_driver.train.loop import Counting, train
from vla_driver.train.pruning.pruner_trainer import PrunerConfig, PrunerTrainer
from vla_driver.train.pruning.recon_batches import held_out_batches, training_batches
from vla_driver.train.pruning.token_encoder import NativeEncoder, TokenEncoder, open_encoder
from vla_driver.train.record import append_log, computed_on
from vla_driver.train.state import STATE_FOLDER
from vla_driver.types import InvalidInput

_SHOWN = ('kept', *(f'{kind}_recall_{percent}' for kind in ('foreground', 'object') for percent in (25, 50, 75)))


@dataclass(frozen=True)
class PrunerRun:
    """One run, from episodes or foreground pairs under the folders `data` to the pruner `out`.

    model: whose tokens are pruned, a native checkpoint or a Qwen-VL folder; cell: takes the place of config.cell (None:
    half of what the encoder sees of a token); resume: continue the run in `out`; features: where the native encoder's
    features of episodes are kept; picture_size: (width, height) for Qwen-VL; validate: how many held-out moments are
    validated on, after each save.
    """

    data: Sequence[Path]
    model: str
    out: Path
    config: PrunerConfig
    cell: int | None = None
    resume: bool = False
    features: Path | None = None
    picture_size: tuple[int, int] | None = None
    save_minutes: float = 5.0
    validate: int = 240
    threads: int | None = None
    device: str = 'auto'


def train_pruner(run: PrunerRun) -> dict[str, float]:
    """Train; return the last validation's figures (empty without held-out scenes).

    Raises `InvalidInput` for settings and data that cannot be trained on.
    """
    _check(run)
    if run.threads:
        torch.set_num_threads(run.threads)
    device = choose_device(run.device)
    encoder = open_encoder(run.model, run.picture_size, device)
    config = dataclasses.replace(run.config, cell=run.cell or max(1, encoder.token_pixels // 2))
    frames, held_out = _open(run, encoder, device).split()
    trainer = PrunerTrainer(encoder, config, device=device, trained_for=run.model)
    if run.resume:
        trainer.load(run.out)
        _same_data(run.out, frames, held_out)
    run.out.mkdir(parents=True, exist_ok=True)
    if not run.resume:
        (run.out / 'scenes.json').write_text(json.dumps(_scenes(frames, held_out), indent=1) + '\n', encoding='utf-8')
    append_log(
        run.out,
        kind='start',
        step=trainer.step,
        frames=len(frames),
        validation_frames=len(held_out),
        pruner_parameters=sum(p.numel() for p in trainer.pruner.parameters()),
        decoder_parameters=sum(p.numel() for p in trainer.decoder.parameters()),
        **computed_on(device),
        settings=asdict(config),
    )

    def validate() -> dict[str, float]:
        if not len(held_out):
            return {}
        return trainer.validate(
            held_out_batches(held_out, encoder, limit=run.validate, batch=config.batch, cell=config.cell)
        )

    return train(
        trainer,
        training_batches(frames, encoder, seed=config.seed, batch=config.batch, cell=config.cell, first=trainer.step),
        Counting(config.steps, 'moments', config.batch, shown={'loss': '.4f', 'kept': '.2f'}),
        run.out,
        save_minutes=run.save_minutes,
        validate=validate,
        shown=_SHOWN,
    )


def _check(run: PrunerRun) -> None:
    config = run.config
    check_positive(
        steps=config.steps,
        batch=config.batch,
        decoder_layers=config.decoder_layers,
        validate=run.validate,
        learning_rate=config.learning_rate,
        pruner_rate=config.pruner_rate,
        object_weight=config.object_weight,
        save_minutes=run.save_minutes,
        cell=run.cell,
        threads=run.threads,
    )
    if config.warmup < 0 or not 0.0 <= config.alpha <= 1.0:
        raise InvalidInput(f'--warmup {config.warmup}, --alpha {config.alpha}: expected 0 or more, and 0 to 1')
    if not 0 <= config.decoder_steps < config.steps:
        raise InvalidInput(f'--decoder-steps is {config.decoder_steps}, expected 0 or more and less than --steps')
    for name, value in (('score-limit', config.score_limit), ('guide', config.guide)):
        if not value >= 0:
            raise InvalidInput(f'--{name} is {value}, expected 0 (none) or more')
    if not 0.0 < config.guide_road <= 1.0:
        raise InvalidInput(f'--guide-road is {config.guide_road}, expected above 0 and at most 1')
    choose_device(run.device)
    check_new_run(run.out, run.resume)
    if not (run.out / STATE_FOLDER).exists():
        check_output(run.out)


def _open(run: PrunerRun, encoder: TokenEncoder, device: str) -> JoinedFrames:
    features = None
    if run.features is not None:
        if not isinstance(encoder, NativeEncoder):
            raise InvalidInput('--features keeps the features of the native encoder; leave it out for Qwen-VL')
        features = encode_episodes(encoder.model, episodes_under(run.data), run.features, device=device)
    return open_frames(run.data, features, device)


def _scenes(frames: JoinedFrames, held_out: JoinedFrames) -> dict[str, list[str]]:
    return {'train': sorted(set(frames.scenes)), 'validation': sorted(set(held_out.scenes))}


def _same_data(folder: Path, frames: JoinedFrames, held_out: JoinedFrames) -> None:
    record = folder / 'scenes.json'
    if record.is_file() and json.loads(record.read_text(encoding='utf-8')) != _scenes(frames, held_out):
        raise InvalidInput(f'--data differs from what the run in {folder} began with (scenes.json): give the same')
