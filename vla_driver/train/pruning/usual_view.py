# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What usually stands on the panorama where a token was dropped: measured over recorded drives, written into a copy.

Nothing is trained: the mean token of each place takes the place of what was dropped (mean ablation instead of zero
ablation).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from vla_driver.data.foreground.frames import JoinedFrames, open_frames
from vla_driver.model.checkpoint import resolve_checkpoint
from vla_driver.model.config import VlaConfig
from vla_driver.model.native.loading import load_model
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.pruning.registry import PLAN_FOLDER
from vla_driver.train.pruning.token_encoder import NativeEncoder
from vla_driver.types import InvalidInput

_BATCH = 8


def write_usual_view(model: str, data: Sequence[Path], out: Path, moments: int = 400) -> int:
    """Write a copy of a native checkpoint that reads the usual view, with its pruners; return of how many moments.

    data: folders of episodes or of foreground pairs; moments: how many of theirs are read at most, evenly spread.
    Raises `InvalidInput` for a model without panorama, and for a folder that exists.
    """
    if moments < 1:
        raise InvalidInput(f'--moments is {moments}, expected 1 or more')
    if out.exists():
        raise InvalidInput(f'--out {out} exists; name a folder that does not')
    source = resolve_checkpoint(model)
    loaded = load_model(source, auxiliary=False)
    encoder = NativeEncoder(loaded)
    frames = open_frames(data)
    copy = with_usual_view(loaded, mean_panorama(encoder, frames, moments))
    copy.to(torch.bfloat16).save_pretrained(out)
    for part in sorted(path for path in source.iterdir() if path.is_dir()):  # pruners and heads that see no panorama
        if part.name != PLAN_FOLDER:
            shutil.copytree(part, out / part.name)
    return min(moments, len(frames))


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
