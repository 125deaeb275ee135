# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Encode the pictures of whole episodes once (data/features.py says what for)."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from vla_driver.data.clips import ClipDataset
from vla_driver.data.episode import open_episode
from vla_driver.data.features import RECORD, feature_path
from vla_driver.data.patches import FEW_TICKS, PatchEncoder, choose_encoder
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.precision import precision
from vla_driver.settings.policy import ENGINES
from vla_driver.types import EngineReport, InvalidInput

_TICKS_AT_ONCE = 16
#: On how many ticks a graph is compared with torch.
_SAMPLE_TICKS = 4


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


def encode_episodes(
    model: VlaModel,
    episodes: Sequence[Path],
    folder: Path,
    *,
    device: torch.device | str = 'cpu',
    progress: bool = True,
    engine: str = 'auto',
) -> Path:
    """Write the patch features float16 [ticks, P, d] of every episode that has none yet; return their folder.

    An episode that is newer than its features has taken another one's name, and is encoded again.
    engine: 'torch', 'onnx' (a graph, exported of the model as it is), or 'auto': a graph where it pays
    (`choose_encoder`).  A graph is used only where it computes in the same precision as torch here and gives the same
    on the first ticks; else torch encodes, and a line says so.  Either engine goes on with what the other began; the
    record names those that had a part.  Files are written whole or not at all, so an interrupted run goes on where it
    was.  Raises `InvalidInput` for another engine and for what is no episode.
    """
    computed, encoder = precision(device), encoder_hash(model)
    if engine not in ENGINES:
        raise InvalidInput(f'engine {engine!r}, allowed: {", ".join(ENGINES)}')
    target = folder / f'{encoder}-{computed}'
    target.mkdir(parents=True, exist_ok=True)
    record = {'encoder': encoder, 'precision': computed, 'stored': 'float16'}
    wanted = [path for path in episodes if not _is_newer(feature_path(target, path), path)]
    if not wanted:
        _record(target, record, None)
        return target
    was_training = model.training
    model.eval()
    try:
        first = ClipDataset(wanted[:1], model.config, ticks=1, augment=False)
        sample = first.batch([(0, tick) for tick in range(min(_SAMPLE_TICKS, first.num_ticks))], None).inputs
        encode = choose_encoder(model, device, _ticks(wanted, FEW_TICKS), sample, engine)
        if encode.engine.note:
            print(f'encoding with {encode.engine.describe()}', file=sys.stderr, flush=True)
        _record(target, record, encode.engine)
        for path in tqdm(wanted, unit='episode', desc='encoding', disable=not progress):
            packed = io.BytesIO()
            np.save(packed, _features(ClipDataset([path], model.config, ticks=1, augment=False), encode))
            _write(feature_path(target, path), packed.getbuffer())
    finally:
        model.train(was_training)
    return target


def _is_newer(features: Path, episode: Path) -> bool:
    """Whether there are features that were made since the episode was: another one may have taken its name."""
    return features.exists() and features.stat().st_mtime_ns >= episode.stat().st_mtime_ns


def _features(dataset: ClipDataset, encode: PatchEncoder) -> npt.NDArray[np.float16]:
    """Return the features [ticks, P, d] of a dataset of one episode."""
    rows = [(0, tick) for tick in range(dataset.num_ticks)]
    parts = []
    for first in range(0, len(rows), _TICKS_AT_ONCE):
        inputs = dataset.batch(rows[first : first + _TICKS_AT_ONCE], None).inputs
        parts.append(encode(inputs).astype(np.float16))
    return np.concatenate(parts)


def _ticks(episodes: Sequence[Path], enough: int) -> int:
    """Return how many ticks there are in episodes; once there are more than `enough`, the rest is not counted."""
    count = 0
    for path in episodes:
        if count > enough:
            break
        count += len(open_episode(path)['stamp'])
    return count


def _record(target: Path, record: dict[str, str], engine: EngineReport | None) -> None:
    """Write what the features are, and what has encoded them so far and does so now; None: nothing is encoded now."""
    folder = os.open(target, os.O_RDONLY)  # other processes of a run add themselves, too
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        try:
            before = json.loads((target / RECORD).read_text(encoding='utf-8'))
            # Before records named engines, there was one.
            known = [(before.get('engine', 'torch'), before.get('provider', 'torch'))]
        except (OSError, ValueError, AttributeError):
            known = []
        known += [(engine.engine, engine.provider)] if engine else []
        for place, name in enumerate(('engine', 'provider')):
            parts = [part for pair in known for part in pair[place].split('+') if part]
            record[name] = '+'.join(dict.fromkeys(parts))
        _write(target / RECORD, (json.dumps(record, indent=1) + '\n').encode())
    finally:
        os.close(folder)


def _write(path: Path, data: bytes | memoryview) -> None:
    """Write a file in one step: several processes may write the same one, and any may be interrupted."""
    temporary = path.with_suffix(f'.{os.getpid()}.tmp')
    temporary.write_bytes(data)
    temporary.replace(path)
