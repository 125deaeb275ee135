# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Patch features of whole episodes, encoded once, so that the rest of the model can be trained without the encoder.

The encoder takes most of a training step.  Once its dense heads see well, freezing it and reading its features
from disk makes a step several times cheaper (the features carry no colour augmentation; the looks of the drives
themselves vary).  A cache belongs to one state of the encoder and to the precision it computed in: its folder is named
by a hash of those weights and by the precision, and a record in it says both.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from vla_driver.model.precision import autocast, precision
from vla_driver.model.tokens import to_device
from vla_driver.model.vla import VlaModel
from vla_driver.types import InvalidInput

_TICKS_AT_ONCE = 16
#: The file in a folder of features that says how they were made.
RECORD: Final = 'features.json'


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


def feature_path(folder: Path, episode: Path) -> Path:
    """Return where the features of an episode lie (episodes of equal name may come from several folders)."""
    place = hashlib.sha256(os.fsencode(episode.resolve().parent)).hexdigest()[:8]
    return folder / f'{episode.stem}-{place}.npy'


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
    from vla_driver.train.dataset import ClipDataset

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


def open_features(folder: Path, episode: Path, ticks: int, device: torch.device | str = 'cpu') -> npt.NDArray[Any]:
    """Return the features [ticks, P, d] of an episode as a memory map.

    device: where the model that reads them computes.  Raises `InvalidInput` where they do not fit, and where they were
    made in another precision than that of `device`: a model trained on them would see other tokens when it drives.
    """
    _check_precision(folder, precision(device))
    path = feature_path(folder, episode)
    if not path.is_file():
        raise InvalidInput(f'{folder} holds no features of {episode}; encode it first')
    features: npt.NDArray[Any] = np.load(path, mmap_mode='r')
    if len(features) != ticks:
        raise InvalidInput(f'{path} holds {len(features)} ticks, the episode has {ticks}: remove it to encode it again')
    return features


def _check_precision(folder: Path, wanted: str) -> None:
    remedy = 'encode the episodes again (encode_episodes keeps each precision in a folder of its own)'
    try:
        made = json.loads((folder / RECORD).read_text(encoding='utf-8'))['precision']
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f'{folder} does not say in which precision its features were made ({RECORD}); {remedy}'
        ) from error
    if made != wanted:
        raise InvalidInput(f'{folder} holds features made in {made}, but this model computes in {wanted}; {remedy}')
