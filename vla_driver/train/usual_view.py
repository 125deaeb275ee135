# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`vla_driver train usual-view`: copy a checkpoint so that its panorama shows the usual where a token was dropped.

With `view_config.reads: kept` nothing stands on the panorama where a token was dropped.  No training has shown that to
the model, so what it does then depends on the zeros as well as on the choice of tokens.  This command measures the mean
token of each place over recorded drives.  It writes a copy with `view_config.reads: usual`, in which that mean stands
where a token was dropped (mean ablation instead of zero ablation).  Nothing is trained.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from vla_driver.data.frames import JoinedFrames, open_frames
from vla_driver.model.checkpoint import resolve_checkpoint
from vla_driver.model.config import VlaConfig
from vla_driver.model.native.loading import load_model
from vla_driver.model.native.vla import VlaModel
from vla_driver.train.token_encoder import NativeEncoder
from vla_driver.types import InvalidInput

_BATCH = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        '--data', type=Path, nargs='+', required=True, metavar='DIR', help='folders of episodes or of foreground pairs'
    )
    parser.add_argument('--model', required=True, metavar='CKPT', help='native checkpoint')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='the copy; must not exist')
    parser.add_argument(
        '--moments',
        type=int,
        default=400,
        metavar='N',
        help='how many moments are averaged, evenly spread (default: 400)',
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; raises InvalidInput for a model without panorama, and for a folder that exists."""
    if args.moments < 1:
        raise InvalidInput(f'--moments is {args.moments}, expected 1 or more')
    if args.out.exists():
        raise InvalidInput(f'--out {args.out} exists; name a folder that does not')
    source = resolve_checkpoint(args.model)
    model = load_model(source, auxiliary=False)
    encoder = NativeEncoder(model)
    frames = open_frames(args.data)
    usual = mean_panorama(encoder, frames, args.moments)
    copy = with_usual_view(model, usual)
    copy.to(torch.bfloat16).save_pretrained(args.out)
    for part in sorted(path for path in source.iterdir() if path.is_dir()):  # pruners, which see no panorama
        shutil.copytree(part, args.out / part.name)
    print(f'{args.out}: the usual view of {min(args.moments, len(frames))} moments')
    return 0


@torch.inference_mode()
def mean_panorama(encoder: NativeEncoder, frames: JoinedFrames, moments: int) -> Tensor:
    """Return [G, C]: the mean squeezed token of each place of the panorama, 0 where no token ever falls."""
    view = encoder.model.view
    numbers = torch.linspace(0, len(frames) - 1, min(moments, len(frames))).round().int().tolist()
    total, weight = torch.zeros(()), torch.zeros(())
    with tqdm(total=len(numbers), unit='moment', dynamic_ncols=True) as bar:
        for first in range(0, len(numbers), _BATCH):
            chosen = numbers[first : first + _BATCH]
            tokens = encoder.encode(encoder.prepare([frames.frame(number) for number in chosen]))
            falls = view.spread(tokens.rays, tokens.origins) * tokens.valid.unsqueeze(-1)
            total = total + (falls.mT @ view.squeeze(tokens.features)).sum(dim=0)
            weight = weight + falls.sum(dim=(0, 1))
            bar.update(len(chosen))
    return total / weight.clamp(min=1e-6).unsqueeze(-1)


def with_usual_view(model: VlaModel, usual: Tensor) -> VlaModel:
    """Return a copy of the model that reads `usual` [G, C] where tokens were dropped."""
    settings = model.config.to_dict()
    settings['view_config'] = {**settings['view_config'], 'reads': 'usual'}
    copy = VlaModel(VlaConfig.from_dict(settings))
    copy.load_state_dict({**model.state_dict(), 'view.usual': usual})
    return copy.eval()
