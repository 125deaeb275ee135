# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Patch features of whole episodes, encoded once, so that the rest of the model can be trained without the encoder.

The encoder takes most of a training step.  Once its dense heads see well, freezing it and reading its features
from disk makes a step several times cheaper (the features carry no colour augmentation; the looks of the drives
themselves vary).  A cache belongs to one state of the encoder and to the precision it computed in: its folder is named
by a hash of those weights and by the precision, and a record in it says both, and which engines have encoded it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from vla_driver.data.episode import episode_key
from vla_driver.model.precision import precision
from vla_driver.types import InvalidInput

#: The file in a folder of features that says how they were made.
RECORD: Final = 'features.json'


def feature_path(folder: Path, episode: Path) -> Path:
    """Return where the features of an episode lie."""
    return folder / f'{episode_key(episode)}.npy'


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
