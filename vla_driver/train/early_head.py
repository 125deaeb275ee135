# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`vla_driver train early-head`: train a head that says inside the vision encoder what a ReconPruner says behind it.

The head sees the hidden states before one block of the frozen encoder.  Its teacher, a trained ReconPruner, sees the
finished tokens of the same pictures and says how likely each is worth keeping.  The head learns that answer by
cross-entropy.  In the native model, whose panorama and memory read all tokens, it also learns to complete the tokens
that leave (squared distance to the finished ones).  No labels are needed: any pictures of the cameras will do.  --out
becomes a folder that `--pruner` and `pruner:=` take.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from vla_driver.data.frames import JoinedFrames, open_frames
from vla_driver.model.checkpoint import PRUNER_FOLDER, resolve_checkpoint, shipped_models
from vla_driver.model.device import DEVICE_HELP, choose_device
from vla_driver.model.precision import autocast, precision
from vla_driver.model.pruning.base import keep_best
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.trained.early import EarlyHead, save_early_head
from vla_driver.model.pruning.trained.recon import ReconPruner, load_recon_pruner
from vla_driver.model.tokens import VisualTokens, to_device
from vla_driver.train.pruner import check_output
from vla_driver.train.pruner_trainer import (
    RATIOS,
    PrunerConfig,
    ReconBatch,
    append_log,
    cosine_factor,
    held_out_batches,
    picture_size,
    training_batches,
)
from vla_driver.train.reconstruction import recall, token_shares
from vla_driver.train.token_encoder import NativeEncoder, TokenEncoder, open_encoder
from vla_driver.types import InvalidInput

_LOG_EVERY = 25
#: Of the pictures from which recall is counted, pixels a side of a token's area.
_CELL = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        '--data', type=Path, nargs='+', required=True, metavar='DIR', help='folders of episodes or of foreground pairs'
    )
    parser.add_argument('--model', required=True, metavar='CKPT', help='native checkpoint or Qwen-VL folder')
    parser.add_argument(
        '--teacher', type=Path, metavar='DIR', help="a ReconPruner's folder (default: the checkpoint's own)"
    )
    parser.add_argument('--block', type=int, required=True, metavar='B', help='tokens leave before this block')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='where head and log go')
    parser.add_argument('--hidden', type=int, default=128, metavar='H', help="the head's width (default: 128)")
    parser.add_argument('--steps', type=int, default=300, metavar='N', help='length of the run in steps (default: 300)')
    parser.add_argument('--batch', type=int, default=8, metavar='B', help='moments per step (default: 8)')
    parser.add_argument(
        '--learning-rate', type=float, default=2e-3, metavar='LR', help='peak of the learning rate (default: 0.002)'
    )
    parser.add_argument('--seed', type=int, default=0, metavar='S', help='seed of weights and data (default: 0)')
    parser.add_argument('--validate', type=int, default=120, metavar='N', help='held-out moments (default: 120)')
    parser.add_argument(
        '--picture-size',
        metavar='WxH',
        help='size to which pictures are brought for a Qwen-VL checkpoint (default: 672x392)',
    )
    parser.add_argument('--threads', type=int, metavar='N', help="CPU threads (default: torch's)")
    parser.add_argument('--device', default='auto', help=DEVICE_HELP)


def run(args: argparse.Namespace) -> int:
    """Run the command; raises InvalidInput for settings and data that cannot be trained on."""
    for name, value in sorted(train_early_head(args).items()):
        print(f'{name}: {value:.4f}')
    return 0


def train_early_head(args: argparse.Namespace) -> dict[str, float]:
    """Train as the arguments say; return the figures on held-out moments (empty without held-out scenes)."""
    for name in ('steps', 'batch', 'hidden', 'validate', 'learning_rate'):
        if not getattr(args, name) > 0:
            raise InvalidInput(f'--{name.replace("_", "-")} is {getattr(args, name)}, expected a positive number')
    if args.threads is not None and args.threads < 0:
        raise InvalidInput(f'--threads is {args.threads}, expected 0 (the library decides) or more')
    choose_device(args.device)
    check_output(args.out)
    if args.threads:
        torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    encoder = open_encoder(args.model, picture_size(args.picture_size), device)
    teacher = _teacher(args, encoder).to(device)
    frames, held_out = open_frames(args.data).split()
    torch.manual_seed(args.seed)
    width = encoder.states_width(args.block)
    completes = isinstance(encoder, NativeEncoder)
    side = encoder.model.config.vision_config.spatial_merge_size if isinstance(encoder, NativeEncoder) else 0
    head = EarlyHead(width, args.hidden, side**2, encoder.spec.width if completes else 0).to(device)
    args.out.mkdir(parents=True, exist_ok=True)
    _fit(args, encoder, teacher, head, frames, device)
    figures = _validate(args, encoder, teacher, head, held_out, device) if len(held_out) else {}
    notes = {'trained_for': str(args.model), 'steps': args.steps, 'batch': args.batch, 'seed': args.seed}
    save_early_head(head, args.block, args.out, **notes, held_out={k: round(v, 4) for k, v in figures.items()})
    return figures


def _teacher(args: argparse.Namespace, encoder: TokenEncoder) -> ReconPruner:
    folder = args.teacher
    if folder is None:
        native = args.model in shipped_models() or not Path(args.model).is_dir()
        folder = (resolve_checkpoint(args.model) if native else Path(args.model)) / PRUNER_FOLDER
    teacher = load_recon_pruner(folder)
    if (teacher.spec.backbone, teacher.spec.width) != (encoder.spec.backbone, encoder.spec.width):
        raise InvalidInput(
            f'--teacher {folder} is for {teacher.spec.backbone} of width {teacher.spec.width}; --model {args.model} is '
            f'a {encoder.spec.backbone} of width {encoder.spec.width}'
        )
    return teacher.requires_grad_(False)


def _fit(
    args: argparse.Namespace,
    encoder: TokenEncoder,
    teacher: ReconPruner,
    head: EarlyHead,
    frames: JoinedFrames,
    device: torch.device,
) -> None:
    optimizer = torch.optim.AdamW(head.parameters(), lr=args.learning_rate, weight_decay=0.01)
    config = PrunerConfig(batch=args.batch, seed=args.seed, cell=_CELL)
    batches = training_batches(frames, encoder, config, 0)
    bar = tqdm(total=args.steps, unit='step', dynamic_ncols=True)
    window: list[float] = []
    try:
        for step in range(args.steps):
            for group in optimizer.param_groups:
                group['lr'] = args.learning_rate * cosine_factor(step, args.steps, args.steps // 10)
            losses, _, _ = _loss(encoder, teacher, head, args.block, next(batches), device)
            loss = losses['score'] + losses.get('completion', torch.zeros(()))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            window.append(float(loss.detach()))
            bar.set_postfix({'loss': f'{window[-1]:.4f}'})
            bar.update(1)
            if len(window) == _LOG_EVERY or step + 1 == args.steps:
                mean = sum(window) / len(window)
                if not math.isfinite(mean):
                    raise InvalidInput(f'training diverged at step {step}: loss {mean}; lower --learning-rate')
                append_log(args.out, kind='train', step=step + 1, loss=mean)
                window.clear()
    finally:
        bar.close()
        batches.close()


def _loss(
    encoder: TokenEncoder,
    teacher: ReconPruner,
    head: EarlyHead,
    block: int,
    on_cpu: ReconBatch,
    device: torch.device,
) -> tuple[dict[str, Tensor], Tensor, VisualTokens]:
    """Return the losses, the head's scores [B, N] and the finished tokens.

    score: cross-entropy to the teacher.  completion, where the model reads tokens that have left: squared distance of
    the completed tokens to the finished ones, in parts of the finished ones' variance.
    """
    with torch.no_grad(), autocast(device):
        states, tokens = encoder.encode_at(to_device(on_cpu.inputs, device), block)
        wanted, unfinished = teacher.score(tokens).sigmoid(), encoder.unfinished(states)
    scores: Tensor = head(states.float())
    losses = {'score': F.binary_cross_entropy_with_logits(scores[tokens.valid], wanted[tokens.valid])}
    if unfinished is not None:
        losses |= {
            'completion': _distance(head.complete(states.float(), unfinished.float()), tokens),
            'unfinished': _distance(unfinished, tokens),
        }
    return losses, scores, tokens


def _distance(features: Tensor, tokens: VisualTokens) -> Tensor:
    """Return the mean squared distance to the finished tokens, in parts of their variance."""
    finished = tokens.features.float()[tokens.valid]
    return F.mse_loss(features.float()[tokens.valid], finished) / finished.var(dim=0).mean()


@torch.no_grad()
def _validate(
    args: argparse.Namespace,
    encoder: TokenEncoder,
    teacher: ReconPruner,
    head: EarlyHead,
    held_out: JoinedFrames,
    device: torch.device,
) -> dict[str, float]:
    """Return for each ratio which share of the teacher's choice the head makes, and the foreground recall of both."""
    rows: dict[str, list[Tensor]] = {}
    for batch in held_out_batches(held_out, encoder, args.validate, args.batch, _CELL):
        losses, scores, tokens = _loss(encoder, teacher, head, args.block, batch, device)
        losses['loss'] = losses['score'] + losses.get('completion', torch.zeros(()))
        for name, loss in losses.items():
            rows.setdefault(name, []).append(loss.expand(len(scores)))
        theirs, share = teacher.score(tokens), token_shares(to_device(batch.targets, device), _CELL)
        for ratio in RATIOS:
            percent, budget = round(100 * ratio), TokenBudget(ratio=ratio)
            own, other = (keep_best(x, tokens, budget).index for x in (scores, theirs))
            both = (own.unsqueeze(2) == other.unsqueeze(1)).any(dim=2).float().mean(dim=1)
            found = {'agreement': both}
            for name, index in (('', own), ('teacher_', other)):
                found[f'{name}foreground_recall'] = recall(index, share[..., 0])
                found[f'{name}object_recall'] = recall(index, share[..., 1])
            for name, values in found.items():
                rows.setdefault(f'{name}_{percent}', []).append(values)
    figures = {name: float(torch.cat(values).nanmean()) for name, values in rows.items()}
    append_log(args.out, kind='validation', step=args.steps, precision=precision(device), **figures)
    return figures
