# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Encoding whole episodes: features are what the encoder gives, and they are made once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vla_driver.data import encoding as module
from vla_driver.data.clips import ClipDataset, find_episodes
from vla_driver.data.encoding import encode_episodes, encoder_hash
from vla_driver.data.features import RECORD, feature_path
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.precision import autocast
from vla_driver.types import InvalidInput

MakeModel = Callable[..., VlaModel]


def test_features_give_the_tokens_that_the_pictures_give(
    episodes: Path, episode_model: MakeModel, tmp_path: Path, each_precision: str
) -> None:
    model = episode_model()
    paths = find_episodes([episodes])
    folder = encode_episodes(model, paths, tmp_path, progress=False)
    assert folder.name == f'{encoder_hash(model)}-{each_precision}'
    assert json.loads((folder / RECORD).read_text())['precision'] == each_precision
    pictures = ClipDataset(paths, model.config, ticks=2, augment=False).batch([(0, 1), (1, 0)], None)
    encoded = ClipDataset(paths, model.config, ticks=2, features=folder).batch([(0, 1), (1, 0)], None)
    assert not encoded.inputs.images and encoded.inputs.patches is not None
    assert torch.equal(encoded.inputs.present, pictures.inputs.present)
    with torch.inference_mode(), autocast('cpu'):  # as training and driving encode
        expected = model.encode(pictures.inputs).tokens.features
        tokens = model.encode(encoded.inputs).tokens.features
        other = model.encode(
            ClipDataset(paths, model.config, ticks=2, features=folder).batch([(0, 2), (1, 1)], None).inputs
        )
    # float16 on disk: ten bits of a number; bfloat16 has seven, and the merger multiplies what they differ by.
    exact = each_precision == 'float32'
    torch.testing.assert_close(tokens, expected, rtol=0.0, atol=0.02 if exact else 0.1)
    assert (other.tokens.features - expected).abs().max() > 0.1


def test_what_is_encoded_is_not_encoded_again(
    episodes: Path, episode_model: MakeModel, tmp_path: Path, monkeypatch: Any
) -> None:
    model = episode_model()
    paths = find_episodes([episodes])
    folder = encode_episodes(model, paths, tmp_path, progress=False)
    feature_path(folder, paths[0]).unlink()
    saved: list[int] = []
    save = np.save
    monkeypatch.setattr(module.np, 'save', lambda stream, x: (saved.append(len(x)), save(stream, x)))
    assert encode_episodes(model, paths, tmp_path, progress=False) == folder
    assert len(saved) == 1 and feature_path(folder, paths[0]).exists()


def test_another_encoder_has_another_folder(episode_model: MakeModel) -> None:
    model = episode_model()
    before = encoder_hash(model)
    with torch.no_grad():
        model.language.norm.weight.add_(1.0)
    assert encoder_hash(model) == before
    with torch.no_grad():
        model.vision.blocks[0].fc1.bias.add_(1e-3)
    assert encoder_hash(model) != before


def test_the_blind_control_has_no_features(episode_model: MakeModel) -> None:
    with pytest.raises(InvalidInput, match='blind control has no encoder'):
        encoder_hash(episode_model(blind=True))


def test_an_episode_that_took_anothers_name_is_encoded_again(
    episodes: Path, episode_model: MakeModel, tmp_path: Path
) -> None:
    model, (first, second, *_) = episode_model(), find_episodes([episodes])
    mine = tmp_path / 'mine' / first.name
    mine.parent.mkdir()
    shutil.copyfile(first, mine)
    folder = encode_episodes(model, [mine], tmp_path / 'features', progress=False)
    before = np.load(feature_path(folder, mine))
    shutil.copyfile(second, mine)
    os.utime(mine, ns=(later := feature_path(folder, mine).stat().st_mtime_ns + 10_000_000, later))
    encode_episodes(model, [mine], tmp_path / 'features', progress=False)
    after = np.load(feature_path(folder, mine))
    assert after.shape == before.shape and not np.array_equal(after, before)
