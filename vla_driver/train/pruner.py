# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`vla_driver train pruner`: ReconPruner of FastDriveVLA (arXiv 2507.23318), by masked reconstruction.

The checkpoint's vision encoder stays frozen; the pruner learns to keep tokens from which a decoder can rebuild the
foreground, and to drop those from which it can rebuild the background.  Data are episodes (vla_driver train
collect) or folders of foreground pairs (vla_driver convert nuscenes-fg, convert sim-fg).  --out becomes the pruner:
config.json and model.safetensors, with the run's log and state beside them.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from vla_driver.data.encoding import encode_episodes
from vla_driver.data.frames import JoinedFrames, episodes_under, open_frames
from vla_driver.model.device import DEVICE_HELP, choose_device
from vla_driver.model.precision import precision
from vla_driver.train.pruner_trainer import (
    PrunerConfig,
    PrunerTrainer,
    append_log,
    held_out_batches,
    picture_size,
    training_batches,
)
from vla_driver.train.reconstruction import OBJECTIVES
from vla_driver.train.token_encoder import NativeEncoder, TokenEncoder, open_encoder
from vla_driver.train.trainer import STATE_FOLDER
from vla_driver.types import InvalidInput

_LOG_EVERY = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    defaults = PrunerConfig()
    parser.add_argument(
        '--data', type=Path, nargs='+', required=True, metavar='DIR', help='folders of episodes or of foreground pairs'
    )
    parser.add_argument(
        '--model',
        required=True,
        metavar='CKPT',
        help='whose tokens are pruned: a native checkpoint (folder or shipped name), or a Qwen-VL (2.5, 3) folder',
    )
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='where the pruner and the log go')
    parser.add_argument(
        '--steps',
        type=int,
        default=defaults.steps,
        metavar='N',
        help='length of the run in steps (default: %(default)s)',
    )
    parser.add_argument(
        '--batch', type=int, default=defaults.batch, metavar='B', help='moments per step (default: %(default)s)'
    )
    parser.add_argument(
        '--learning-rate',
        type=float,
        default=defaults.learning_rate,
        metavar='LR',
        help='peak of the learning rate (default: %(default)s)',
    )
    parser.add_argument(
        '--decoder-steps',
        type=int,
        default=defaults.decoder_steps,
        metavar='N',
        help='first steps, in which only the decoder learns, from random tokens (default: %(default)s)',
    )
    parser.add_argument(
        '--pruner-rate',
        type=float,
        default=defaults.pruner_rate,
        metavar='F',
        help="learning rate of the pruner in units of the decoder's (default: %(default)s)",
    )
    parser.add_argument(
        '--score-limit',
        type=float,
        default=defaults.score_limit,
        metavar='S',
        help='scores beyond it are not pushed further out; 0: no limit (default: %(default)s)',
    )
    parser.add_argument(
        '--object-weight',
        type=float,
        default=defaults.object_weight,
        metavar='W',
        help='weight of the errors on foreground other than road; 1: as in the paper (default: %(default)s)',
    )
    parser.add_argument(
        '--guide',
        type=float,
        default=defaults.guide,
        metavar='G',
        help='weight of telling the scores directly which tokens are foreground; 0: reconstruction alone, as in the '
        'paper (default: %(default)s)',
    )
    parser.add_argument(
        '--guide-road',
        type=float,
        default=defaults.guide_road,
        metavar='W',
        help='with --guide: what a token of nothing but road is worth, where one with a thing on it is worth 1 '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--no-centre',
        action='store_true',
        help="use the scores as they are, as in the paper; otherwise the moment's mean is taken off first",
    )
    parser.add_argument(
        '--warmup',
        type=int,
        default=defaults.warmup,
        metavar='N',
        help='steps in which the learning rate rises (default: %(default)s)',
    )
    parser.add_argument(
        '--decoder-layers',
        type=int,
        default=defaults.decoder_layers,
        metavar='N',
        help='layers of the decoder that rebuilds the pictures (default: %(default)s)',
    )
    parser.add_argument(
        '--cell',
        type=int,
        metavar='PIXELS',
        help="side of a token's area in the pictures that are rebuilt (default: half of what the encoder sees of it)",
    )
    parser.add_argument('--alpha', type=float, default=0.5, metavar='A', help='weight of the foreground (default: 0.5)')
    ablation = parser.add_mutually_exclusive_group()
    ablation.add_argument(
        '--pixels-only',
        dest='objective',
        action='store_const',
        const='pixels-only',
        help='ablation: rebuild foreground pixels only, no background branch',
    )
    ablation.add_argument(
        '--adversarial-only',
        dest='objective',
        action='store_const',
        const='adversarial-only',
        help='ablation: both branches, but they predict the mask instead of pixels',
    )
    parser.set_defaults(objective=OBJECTIVES[0])
    parser.add_argument('--seed', type=int, default=0, metavar='S', help='seed of weights and data (default: 0)')
    parser.add_argument('--resume', action='store_true', help='continue the run in --out exactly where it was saved')
    parser.add_argument(
        '--features',
        type=Path,
        metavar='DIR',
        help="keep the native encoder's features of episodes there (those of train policy fit); 0.2 MB a tick",
    )
    parser.add_argument(
        '--picture-size',
        metavar='WxH',
        help='size to which pictures are brought for a Qwen-VL checkpoint (default: 672x392)',
    )
    parser.add_argument(
        '--save-minutes',
        type=float,
        default=5.0,
        metavar='M',
        help='minutes from one checkpoint to the next (default: 5)',
    )
    parser.add_argument('--validate', type=int, default=240, metavar='N', help='held-out moments (default: 240)')
    parser.add_argument('--threads', type=int, metavar='N', help="CPU threads (default: torch's)")
    parser.add_argument('--device', default='auto', help=DEVICE_HELP)


def run(args: argparse.Namespace) -> int:
    """Run the command; raises InvalidInput for settings and data that cannot be trained on."""
    figures = train_pruner(args)
    for name in sorted(figures):
        print(f'{name}: {figures[name]:.4f}')
    return 0


def train_pruner(args: argparse.Namespace) -> dict[str, float]:
    """Train as the arguments say; return the last validation's figures (empty without held-out scenes)."""
    _check(args)
    if args.threads:
        torch.set_num_threads(args.threads)
    device = str(choose_device(args.device))
    encoder = open_encoder(args.model, picture_size(args.picture_size), device)
    config = PrunerConfig(
        steps=args.steps,
        batch=args.batch,
        objective=args.objective,
        alpha=args.alpha,
        decoder_layers=args.decoder_layers,
        cell=args.cell or max(1, encoder.token_pixels // 2),
        learning_rate=args.learning_rate,
        decoder_steps=args.decoder_steps,
        pruner_rate=args.pruner_rate,
        score_limit=args.score_limit,
        object_weight=args.object_weight,
        centre=not args.no_centre,
        guide=args.guide,
        guide_road=args.guide_road,
        warmup=args.warmup,
        seed=args.seed,
    )
    frames, held_out = _open(args, encoder, device).split()
    trainer = PrunerTrainer(encoder, config, device=device, trained_for=str(args.model))
    if args.resume:
        trainer.load(args.out)
        _same_data(args.out, frames, held_out)
    args.out.mkdir(parents=True, exist_ok=True)
    if not args.resume:
        (args.out / 'scenes.json').write_text(json.dumps(_scenes(frames, held_out), indent=1) + '\n', encoding='utf-8')
    append_log(
        args.out,
        kind='start',
        step=trainer.step,
        frames=len(frames),
        validation_frames=len(held_out),
        pruner_parameters=sum(p.numel() for p in trainer.pruner.parameters()),
        decoder_parameters=sum(p.numel() for p in trainer.decoder.parameters()),
        device=device,
        precision=precision(device),
        threads=torch.get_num_threads(),
        settings=asdict(config),
    )
    return _loop(args, trainer, frames, held_out)


def check_output(folder: Path) -> None:
    """Raise `InvalidInput` for a folder in which weights lie already; they would be overwritten."""
    there = [name for name in ('config.json', 'model.safetensors') if (folder / name).exists()]
    if there:
        raise InvalidInput(f'--out {folder} already holds {" and ".join(there)}: choose another folder, or remove them')


def _check(args: argparse.Namespace) -> None:
    counts = (
        'steps',
        'batch',
        'decoder_layers',
        'validate',
        'learning_rate',
        'pruner_rate',
        'object_weight',
        'save_minutes',
    )
    for name in (*counts, *(name for name in ('cell', 'threads') if getattr(args, name) is not None)):
        if not getattr(args, name) > 0:
            raise InvalidInput(f'--{name.replace("_", "-")} is {getattr(args, name)}, expected a positive number')
    if args.warmup < 0 or not 0.0 <= args.alpha <= 1.0:
        raise InvalidInput(f'--warmup {args.warmup}, --alpha {args.alpha}: expected 0 or more, and 0 to 1')
    if not 0 <= args.decoder_steps < args.steps:
        raise InvalidInput(f'--decoder-steps is {args.decoder_steps}, expected 0 or more and less than --steps')
    for name in ('score_limit', 'guide'):
        if not getattr(args, name) >= 0:
            raise InvalidInput(f'--{name.replace("_", "-")} is {getattr(args, name)}, expected 0 (none) or more')
    if not 0.0 < args.guide_road <= 1.0:
        raise InvalidInput(f'--guide-road is {args.guide_road}, expected above 0 and at most 1')
    choose_device(args.device)
    if not args.resume and (args.out / STATE_FOLDER).exists():
        raise InvalidInput(f'{args.out} already holds a run: continue it with --resume, or choose another --out')
    if not (args.out / STATE_FOLDER).exists():
        check_output(args.out)


def _open(args: argparse.Namespace, encoder: TokenEncoder, device: str) -> JoinedFrames:
    features = None
    if args.features is not None:
        if not isinstance(encoder, NativeEncoder):
            raise InvalidInput('--features keeps the features of the native encoder; leave it out for Qwen-VL')
        features = encode_episodes(encoder.model, episodes_under(args.data), args.features, device=device)
    return open_frames(args.data, features, device)


def _scenes(frames: JoinedFrames, held_out: JoinedFrames) -> dict[str, list[str]]:
    return {'train': sorted(set(frames.scenes)), 'validation': sorted(set(held_out.scenes))}


def _same_data(folder: Path, frames: JoinedFrames, held_out: JoinedFrames) -> None:
    record = folder / 'scenes.json'
    if record.is_file() and json.loads(record.read_text(encoding='utf-8')) != _scenes(frames, held_out):
        raise InvalidInput(f'--data differs from what the run in {folder} began with (scenes.json): give the same')


def _loop(
    args: argparse.Namespace, trainer: PrunerTrainer, frames: JoinedFrames, held_out: JoinedFrames
) -> dict[str, float]:
    figures: dict[str, float] = {}
    saved = started = time.monotonic()
    base_s, first = trainer.elapsed_s, trainer.step
    window: list[dict[str, float]] = []
    steps, batch = trainer.config.steps, trainer.config.batch
    batches = training_batches(frames, trainer.encoder, trainer.config, first)
    bar = tqdm(total=steps, initial=first, unit='step', dynamic_ncols=True)
    try:
        while trainer.step < steps:
            window.append(trainer.train_step(next(batches)))
            now = time.monotonic()
            trainer.elapsed_s = base_s + now - started
            rate = (trainer.step - first) * batch / max(now - started, 1e-9)
            last = window[-1]
            bar.set_postfix({'loss': f'{last["loss"]:.4f}', 'kept': f'{last["kept"]:.2f}', 'moments/s': f'{rate:.1f}'})
            bar.update(1)
            if len(window) == _LOG_EVERY or trainer.step == steps:
                means = {key: sum(row[key] for row in window) / len(window) for key in window[0]}
                append_log(
                    args.out,
                    kind='train',
                    step=trainer.step,
                    seconds=trainer.elapsed_s,
                    moments_per_s=rate,
                    **means,
                )
                window.clear()
            if now - saved > 60 * args.save_minutes or trainer.step == steps:
                trainer.save(args.out)
                figures = _validate(args, trainer, held_out, bar)
                saved = time.monotonic()
    except KeyboardInterrupt:
        trainer.save(args.out)
        bar.write(f'interrupted at step {trainer.step}; continue with --resume')
        raise
    finally:
        bar.close()
        batches.close()
    return figures


def _validate(args: argparse.Namespace, trainer: PrunerTrainer, held_out: JoinedFrames, bar: Any) -> dict[str, float]:
    if not len(held_out):
        return {}
    figures = trainer.validate(
        held_out_batches(held_out, trainer.encoder, args.validate, trainer.config.batch, trainer.config.cell)
    )
    append_log(args.out, kind='validation', step=trainer.step, seconds=trainer.elapsed_s, **figures)
    shown = [f'{kind}_recall_{p}' for kind in ('foreground', 'object') for p in (25, 50, 75)]
    bar.write(
        f'step {trainer.step}: kept {figures["kept"]:.3f}, '
        + ', '.join(f'{name} {figures[name]:.3f}' for name in shown if name in figures)
    )
    return figures
