# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Encode the pictures of whole episodes once (data/features.py says what for)."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from vla_driver.data.clips import ClipDataset
from vla_driver.data.features import RECORD, feature_path
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.precision import autocast, precision
from vla_driver.model.tokens import to_device
from vla_driver.types import InvalidInput

_TICKS_AT_ONCE = 16


def encoder_hash(model: VlaModel) -> str:
    """Return a short hash of the weights on which patch features depend."""
    if model.config.blind:
        raise InvalidInput('the blind control has no encoder whose features could be kept; drop --freeze-vision')
    digest = hashlib.sha256()
    for name, value in model.vision.state_dict().items():
        if name.startswith(('stem.', 'position.', 'blocks.')):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


@torch.inference_mode()
def encode_episodes(
    model: VlaModel,
    episodes: Sequence[Path],
    folder: Path,
    *,
    device: torch.device | str = 'cpu',
    progress: bool = True,
) -> Path:
    """Write the patch features float16 [ticks, P, d] of every episode that has none yet; return their folder.

    Files are written whole or not at all, so an interrupted run goes on where it was.
    """
    computed, encoder = precision(device), encoder_hash(model)
    target = folder / f'{encoder}-{computed}'
    target.mkdir(parents=True, exist_ok=True)
    record = {'encoder': encoder, 'precision': computed, 'stored': 'float16'}
    _write(target / RECORD, (json.dumps(record, indent=1) + '\n').encode())
    wanted = [path for path in episodes if not feature_path(target, path).exists()]
    was_training = model.training
    model.eval()
    for path in tqdm(wanted, unit='episode', desc='encoding', disable=not progress or not wanted):
        dataset = ClipDataset([path], model.config, ticks=1, augment=False)
        rows = [(0, tick) for tick in range(dataset.num_ticks)]
        parts = []
        for first in range(0, len(rows), _TICKS_AT_ONCE):
            inputs = to_device(dataset.batch(rows[first : first + _TICKS_AT_ONCE], None).inputs, device)
            with autocast(device):
                parts.append(model.vision.embed(inputs).to('cpu', torch.float16).numpy())
        packed = io.BytesIO()
        np.save(packed, np.concatenate(parts))
        _write(feature_path(target, path), packed.getbuffer())
    model.train(was_training)
    return target


def _write(path: Path, data: bytes | memoryview) -> None:
    """Write a file in one step: several processes may write the same one, and any may be interrupted."""
    temporary = path.with_suffix(f'.{os.getpid()}.tmp')
    temporary.write_bytes(data)
    temporary.replace(path)
