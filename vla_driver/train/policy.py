# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`vla_driver train policy`: imitation of the expert from collected episodes."""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed
import torch.multiprocessing
from torch.multiprocessing import ProcessRaisedException
from tqdm import tqdm

from vla_driver.data.clips import ClipDataset, batches_ahead, find_episodes, split_episodes
from vla_driver.data.encoding import encode_episodes
from vla_driver.model.checkpoint import resolve_checkpoint
from vla_driver.model.config import VlaConfig
from vla_driver.model.device import DEVICE_HELP, choose_device
from vla_driver.model.native.loading import load_model
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.precision import precision
from vla_driver.train.anchors import fit_anchors
from vla_driver.train.trainer import STATE_FOLDER, Trainer, TrainerConfig
from vla_driver.train.validation import validate
from vla_driver.types import InvalidInput

STAGES = ('vision', 'reflex', 'policy', 'all')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument('--data', type=Path, nargs='+', required=True, metavar='DIR', help='folders of episodes')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='where the checkpoint and the log go')
    parser.add_argument(
        '--stage',
        choices=STAGES,
        default='all',
        help='vision: depth, classes and scene only; reflex: what is read off the panorama, at a tenth of the work; '
        'policy: no dense labels; all: everything (default)',
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument('--steps', type=int, metavar='N', help='length of the run in optimiser steps')
    length.add_argument('--minutes', type=float, metavar='M', help='length of the run in minutes (default: 60)')
    parser.add_argument('--batch', type=int, default=4, metavar='K', help='clips per step (default: %(default)s)')
    parser.add_argument('--ticks', type=int, default=6, metavar='T', help='ticks per clip (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, metavar='S', help='seed of weights, data and noise (default: 0)')
    parser.add_argument(
        '--learning-rate',
        type=float,
        default=6e-4,
        metavar='LR',
        help='peak of the learning rate (default: %(default)s)',
    )
    parser.add_argument('--resume', action='store_true', help='continue the run in --out exactly where it was saved')
    parser.add_argument('--init', metavar='CKPT', help='start from the weights of a checkpoint (DAgger rounds)')
    parser.add_argument(
        '--refit-anchors',
        action='store_true',
        help='with --init: fit the anchors to these episodes, and learn anew to choose among them',
    )
    parser.add_argument('--blind', action='store_true', help='train the control that sees no images')
    parser.add_argument(
        '--freeze-vision',
        action='store_true',
        help='keep the encoder as it is (needs --init) and train the rest on its features, encoded once',
    )
    parser.add_argument(
        '--features', type=Path, metavar='DIR', help='where encoded features are kept (default: OUT/features)'
    )
    parser.add_argument('--config', type=Path, metavar='FILE', help='JSON of VlaConfig entries that differ from nano')
    parser.add_argument(
        '--save-minutes',
        type=float,
        default=5.0,
        metavar='M',
        help='minutes from one checkpoint to the next (default: 5)',
    )
    parser.add_argument('--validate-clips', type=int, default=120, metavar='N', help='held-out clips (default: 120)')
    parser.add_argument(
        '--processes',
        type=int,
        default=1,
        metavar='N',
        help='share the clips of a step among N processes on the CPU; with one thread each they get more out of '
        'shared cores than threads do (default: 1)',
    )
    parser.add_argument('--threads', type=int, metavar='N', help="CPU threads of a process (default: torch's, shared)")
    parser.add_argument('--device', default='auto', help=DEVICE_HELP)


def run(args: argparse.Namespace) -> int:
    """Run the command; raises InvalidInput for settings and data that cannot be trained on."""
    train_policy(args)
    return 0


def train_policy(args: argparse.Namespace) -> dict[str, float]:
    """Train as the arguments say; return the last validation's figures (empty without held-out episodes)."""
    _check(args)
    if args.processes == 1:
        return _train(args, rank=0)
    with tempfile.TemporaryDirectory() as folder:
        meeting = f'file://{folder}/meeting'
        try:
            torch.multiprocessing.spawn(_worker, (args, meeting), nprocs=args.processes)
        except ProcessRaisedException as error:
            reason = str(error).strip().splitlines()[-1]
            raise InvalidInput(reason.removeprefix(f'{InvalidInput.__module__}.{InvalidInput.__name__}: ')) from error
    entries = map(json.loads, (args.out / 'log.jsonl').read_text(encoding='utf-8').splitlines())
    figures = [entry for entry in entries if entry['kind'] == 'validation']
    return {key: value for key, value in figures[-1].items() if isinstance(value, float)} if figures else {}


def _worker(rank: int, args: argparse.Namespace, meeting: str) -> None:
    torch.distributed.init_process_group('gloo', init_method=meeting, rank=rank, world_size=args.processes)
    try:
        _train(args, rank)
    finally:
        torch.distributed.destroy_process_group()


def _train(args: argparse.Namespace, rank: int) -> dict[str, float]:
    """Train as process number `rank`; only number 0 writes, validates and shows progress."""
    torch.set_num_threads(args.threads or max(1, torch.get_num_threads() // args.processes))
    device = str(choose_device('cpu' if args.processes > 1 else args.device))
    config = TrainerConfig(
        stage='policy' if args.freeze_vision and args.stage == 'all' else args.stage,
        steps=args.steps,
        minutes=args.minutes if args.steps is None else None,
        clips=args.batch,
        processes=args.processes,
        ticks=args.ticks,
        seed=args.seed,
        learning_rate=args.learning_rate,
    )
    torch.manual_seed(args.seed)
    model = _make_model(args)
    train_paths, held_out = split_episodes(find_episodes(args.data))
    if args.resume:
        # New episodes would change the order of the old ones, and the run would no longer be the same.
        train_paths, held_out = _recorded_split(args.out, train_paths, held_out)
    features = _features(args, model, [*train_paths, *held_out], device, rank) if args.freeze_vision else None
    dataset = ClipDataset(train_paths, model.config, ticks=args.ticks, features=features, device=device)
    validation = (
        ClipDataset(held_out, model.config, ticks=args.ticks, augment=False, features=features, device=device)
        if held_out
        else None
    )
    if not args.resume and (args.refit_anchors or not args.init):
        fit_anchors(model, *dataset.controls(), seed=args.seed, again=bool(args.init))
    trainer = Trainer(model, config, device, rank)
    if args.resume:
        trainer.load(args.out)
    if rank > 0:
        for batch in batches_ahead(dataset, args.seed, _first(trainer), args.batch // args.processes, args.processes):
            trainer.train_step(batch)
            if trainer.progress >= 1.0:
                break
        return {}
    args.out.mkdir(parents=True, exist_ok=True)
    if not args.resume:
        _record_split(args.out, train_paths, held_out)
    parameters = sum(p.numel() for p in model.parameters())
    _log(
        args.out,
        kind='start',
        step=trainer.step,
        episodes=len(train_paths),
        validation_episodes=len(held_out),
        ticks=dataset.num_ticks,
        parameters=parameters,
        device=device,
        precision=precision(device),
        threads=torch.get_num_threads(),
        init=str(args.init or ''),
        settings=asdict(config),
    )
    return _loop(args, trainer, dataset, validation)


def _features(args: argparse.Namespace, model: VlaModel, paths: list[Path], device: str, rank: int) -> Path:
    """Encode the episodes, each process its share, and freeze what they were encoded with."""
    # The merger, too, although it comes after the features that are kept: a pruner of these tokens stays of use.
    model.vision.requires_grad_(False)
    folder = args.features or args.out / 'features'
    found = encode_episodes(model.to(device), paths[rank :: args.processes], folder, device=device, progress=rank == 0)
    if args.processes > 1:
        torch.distributed.barrier()
    return found


def _check(args: argparse.Namespace) -> None:
    if args.steps is None and args.minutes is None:
        args.minutes = 60.0
    counts = ('steps', 'batch', 'processes', 'ticks', 'validate_clips', 'threads')
    for name in (*counts, 'minutes', 'learning_rate', 'save_minutes'):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise InvalidInput(f'--{name.replace("_", "-")} is {value}, expected a positive number')
    if args.freeze_vision and (args.blind or not (args.init or args.resume)):
        raise InvalidInput('--freeze-vision keeps a trained encoder: give --init CKPT of a model that sees')
    if args.refit_anchors and not args.init:
        raise InvalidInput('--refit-anchors changes the anchors of a trained model: give --init CKPT, or drop it')
    if args.freeze_vision and args.stage == 'vision':
        raise InvalidInput('--freeze-vision keeps what --stage vision trains; drop one of them')
    if args.stage == 'vision' and args.blind:
        raise InvalidInput('--stage vision trains what --blind leaves out; drop one of them')
    if args.batch % args.processes:
        raise InvalidInput(f'--batch {args.batch} does not divide among --processes {args.processes}')
    if args.processes > 1 and args.device not in ('auto', 'cpu'):
        raise InvalidInput(f'--processes shares the work of a CPU; with --device {args.device} leave it at 1')
    choose_device(args.device)
    if args.init:
        resolve_checkpoint(args.init)
    if not args.resume and (args.out / STATE_FOLDER).exists():
        raise InvalidInput(f'{args.out} already holds a run: continue it with --resume, or choose another --out')


def _make_model(args: argparse.Namespace) -> VlaModel:
    if args.resume:
        return load_model(args.out)
    if args.init:
        model = load_model(args.init, auxiliary=True)
        if model.config.blind != args.blind:
            raise InvalidInput(f'--init {args.init} has blind={model.config.blind}, but --blind is {args.blind}')
        return model
    entries: dict[str, Any] = {}
    if args.config is not None:
        try:
            entries = json.loads(args.config.read_text(encoding='utf-8'))
        except (OSError, json.JSONDecodeError) as error:
            raise InvalidInput(f'--config {args.config}: {error}') from error
    return VlaModel(VlaConfig(**entries, blind=args.blind))


def _loop(
    args: argparse.Namespace, trainer: Trainer, dataset: ClipDataset, validation: ClipDataset | None
) -> dict[str, float]:
    figures: dict[str, float] = {}
    saved = started = time.monotonic()
    base_s = trainer.elapsed_s
    window: list[dict[str, float]] = []
    batches = batches_ahead(dataset, args.seed, _first(trainer), args.batch // args.processes, args.processes)
    total = args.steps if args.steps is not None else round(60 * args.minutes)
    initial = trainer.step if args.steps is not None else base_s
    bar = tqdm(
        total=total,
        initial=initial,
        unit='step' if args.steps is not None else 's',
        dynamic_ncols=True,
        bar_format='{l_bar}{bar}| {n:.0f}/{total:.0f} {unit} [{elapsed}<{remaining}]{postfix}',
    )
    try:
        while trainer.progress < 1.0:
            trainer.elapsed_s = base_s + time.monotonic() - started
            window.append(trainer.train_step(next(batches)))
            now = time.monotonic()
            bar.n = trainer.step if args.steps is not None else min(total, trainer.elapsed_s)
            rate = trainer.step * args.batch * args.ticks / max(trainer.elapsed_s, 1e-9)
            bar.set_postfix({'step': trainer.step, 'loss': f'{window[-1]["loss"]:.3f}', 'ticks/s': f'{rate:.1f}'})
            if len(window) == 50 or trainer.progress >= 1.0:
                means = {key: sum(row[key] for row in window) / len(window) for key in window[0]}
                _log(args.out, kind='train', step=trainer.step, seconds=trainer.elapsed_s, ticks_per_s=rate, **means)
                window.clear()
            if now - saved > 60 * args.save_minutes or trainer.progress >= 1.0:
                trainer.save(args.out)
                figures = _validate(args, trainer, validation, bar)
                saved = time.monotonic()
    except KeyboardInterrupt:
        trainer.save(args.out)
        bar.write(f'interrupted at step {trainer.step}; continue with --resume')
        raise
    finally:
        bar.close()
        batches.close()
    return figures


def _first(trainer: Trainer) -> int:
    """Return the number of the next batch of this process: they take turns."""
    return trainer.step * trainer.config.processes + trainer.rank


def _validate(args: argparse.Namespace, trainer: Trainer, validation: ClipDataset | None, bar: Any) -> dict[str, float]:
    if validation is None:
        return {}
    torch.manual_seed(0)
    figures = validate(trainer.averaged, validation.validation_batches(args.batch, args.validate_clips))
    _log(args.out, kind='validation', step=trainer.step, seconds=trainer.elapsed_s, **figures)
    shown = ('ade_1s', 'ade_3s', 'lateral_slope', 'start_recall', 'stop_recall', 'light_accuracy', 'light_error_m')
    bar.write(f'step {trainer.step}: ' + ', '.join(f'{name} {figures[name]:.3f}' for name in shown if name in figures))
    return figures


def _log(folder: Path, **entry: Any) -> None:
    with (folder / 'log.jsonl').open('a', encoding='utf-8') as stream:
        rounded = {key: round(value, 6) if isinstance(value, float) else value for key, value in entry.items()}
        stream.write(json.dumps(rounded) + '\n')


def _record_split(folder: Path, train: list[Path], held_out: list[Path]) -> None:
    split = {'train': [str(path.resolve()) for path in train], 'validation': [str(path.resolve()) for path in held_out]}
    (folder / 'split.json').write_text(json.dumps(split, indent=1) + '\n', encoding='utf-8')


def _recorded_split(folder: Path, train: list[Path], held_out: list[Path]) -> tuple[list[Path], list[Path]]:
    """Return the split with which the run began; raise `InvalidInput` when an episode of it is gone."""
    record = folder / 'split.json'
    if not record.is_file():
        return train, held_out
    split = json.loads(record.read_text(encoding='utf-8'))
    parts = ([Path(path) for path in split['train']], [Path(path) for path in split['validation']])
    lost = [path for path in itertools.chain(*parts) if not path.is_file()]
    if lost:
        raise InvalidInput(f'{len(lost)} episodes of the run in {folder} are gone, the first: {lost[0]}')
    return parts
