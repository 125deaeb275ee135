# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A head that says inside the vision encoder what a trained ReconPruner, its teacher, says behind it.

Nothing is labelled: any pictures of the cameras will do.  A run is short; it is neither saved on the way nor resumed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from vla_driver.data.foreground.frames import JoinedFrames, open_frames
from vla_driver.model.checkpoint import PRUNER_FOLDER, resolve_checkpoint, shipped_models
from vla_driver.model.device import choose_device
from vla_driver.model.precision import precision
from vla_driver.model.pruning.trained.early import EarlyHead, save_early_head
from vla_driver.model.pruning.trained.recon import ReconPruner, load_recon_pruner
from vla_driver.train.checks import check_output, check_positive
from vla_driver.train.loop import Counting, progress_bar, take_steps
from vla_driver.train.pruning.early_head_trainer import EarlyHeadTrainer
from vla_driver.train.pruning.recon_batches import held_out_batches, training_batches
from vla_driver.train.pruning.token_encoder import NativeEncoder, TokenEncoder, open_encoder
from vla_driver.train.record import append_log
from vla_driver.types import InvalidInput

_LOG_EVERY = 25
#: Of the pictures from which recall is counted, pixels a side of a token's area.
_CELL = 8


@dataclass(frozen=True)
class EarlyHeadRun:
    """One run, from episodes or foreground pairs under the folders `data` to the head `out`.

    model: whose encoder is pruned, a native checkpoint or a Qwen-VL folder; block: tokens leave before this one;
    teacher: a ReconPruner's folder (None: the checkpoint's own); hidden: the head's width; validate: how many held-out
    moments are validated on at the end; picture_size: (width, height) for Qwen-VL.
    """

    data: Sequence[Path]
    model: str
    block: int
    out: Path
    teacher: Path | None = None
    hidden: int = 128
    steps: int = 300
    batch: int = 8
    learning_rate: float = 2e-3
    seed: int = 0
    validate: int = 120
    picture_size: tuple[int, int] | None = None
    threads: int | None = None
    device: str = 'auto'


def train_early_head(run: EarlyHeadRun) -> dict[str, float]:
    """Train; return the figures on held-out moments (empty without held-out scenes).

    Raises `InvalidInput` for settings and data that cannot be trained on.
    """
    _check(run)
    if run.threads:
        torch.set_num_threads(run.threads)
    device = torch.device(choose_device(run.device))
    encoder = open_encoder(run.model, run.picture_size, device)
    teacher = _teacher(run, encoder).to(device)
    frames, held_out = open_frames(run.data).split()
    torch.manual_seed(run.seed)
    head = _new_head(run, encoder).to(device)
    run.out.mkdir(parents=True, exist_ok=True)
    trainer = EarlyHeadTrainer(
        encoder, teacher, head, run.block, steps=run.steps, learning_rate=run.learning_rate, device=device
    )
    _fit(run, trainer, frames)
    figures: dict[str, float] = {}
    if len(held_out):
        batches = held_out_batches(held_out, encoder, limit=run.validate, batch=run.batch, cell=_CELL)
        figures = trainer.validate(batches, _CELL)
        append_log(run.out, kind='validation', step=run.steps, precision=precision(device), **figures)
    notes = {'trained_for': run.model, 'steps': run.steps, 'batch': run.batch, 'seed': run.seed}
    save_early_head(head, run.block, run.out, **notes, held_out={k: round(v, 4) for k, v in figures.items()})
    return figures


def _check(run: EarlyHeadRun) -> None:
    check_positive(
        steps=run.steps, batch=run.batch, hidden=run.hidden, validate=run.validate, learning_rate=run.learning_rate
    )
    if run.threads is not None and run.threads < 0:
        raise InvalidInput(f'--threads is {run.threads}, expected 0 (the library decides) or more')
    choose_device(run.device)
    check_output(run.out)


def _teacher(run: EarlyHeadRun, encoder: TokenEncoder) -> ReconPruner:
    folder = run.teacher
    if folder is None:
        native = run.model in shipped_models() or not Path(run.model).is_dir()
        folder = (resolve_checkpoint(run.model) if native else Path(run.model)) / PRUNER_FOLDER
    teacher = load_recon_pruner(folder)
    if (teacher.spec.backbone, teacher.spec.width) != (encoder.spec.backbone, encoder.spec.width):
        raise InvalidInput(
            f'--teacher {folder} is for {teacher.spec.backbone} of width {teacher.spec.width}; --model {run.model} is '
            f'a {encoder.spec.backbone} of width {encoder.spec.width}'
        )
    return teacher.requires_grad_(False)


def _new_head(run: EarlyHeadRun, encoder: TokenEncoder) -> EarlyHead:
    """Return a random head; in the native model, whose panorama and memory read all tokens, one that completes them."""
    width, patches, finished = encoder.states_width(run.block), 0, 0
    if isinstance(encoder, NativeEncoder):
        patches = encoder.model.config.vision_config.spatial_merge_size**2
        finished = encoder.spec.width
    return EarlyHead(width, run.hidden, patches, finished)


def _fit(run: EarlyHeadRun, trainer: EarlyHeadTrainer, frames: JoinedFrames) -> None:
    counting = Counting(run.steps, 'moments', run.batch, log_every=_LOG_EVERY)
    batches = training_batches(frames, trainer.encoder, seed=run.seed, batch=run.batch, cell=_CELL)
    with closing(batches), progress_bar(trainer, counting) as bar:
        for taken in take_steps(trainer, batches, counting, bar):
            if taken.means is not None:
                loss = taken.means['loss']
                if not math.isfinite(loss):
                    raise InvalidInput(
                        f'training diverged at step {trainer.step - 1}: loss {loss}; lower --learning-rate'
                    )
                append_log(run.out, kind='train', step=trainer.step, loss=loss)
