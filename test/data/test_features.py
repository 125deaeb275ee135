# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Features on disk are refused where they do not fit the episode, or the model that would read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vla_driver.data.clips import ClipDataset, find_episodes
from vla_driver.data.encoding import encode_episodes
from vla_driver.data.features import RECORD, open_features
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.precision import VARIABLE
from vla_driver.types import InvalidInput

MakeModel = Callable[..., VlaModel]


def test_features_that_do_not_fit_are_refused(episodes: Path, episode_model: MakeModel, tmp_path: Path) -> None:
    model = episode_model()
    paths = find_episodes([episodes])
    folder = encode_episodes(model, paths[:1], tmp_path, progress=False)
    with pytest.raises(InvalidInput, match='holds no features of'):
        open_features(folder, tmp_path / 'other.npz', 3)
    with pytest.raises(InvalidInput, match='ticks, the episode has 3: remove it'):
        open_features(folder, paths[0], 3)


def test_features_of_another_precision_are_refused(
    episodes: Path, episode_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, paths = episode_model(), find_episodes([episodes])
    monkeypatch.setenv(VARIABLE, 'bfloat16')
    folder = encode_episodes(model, paths, tmp_path, progress=False)
    monkeypatch.setenv(VARIABLE, 'float32')
    with pytest.raises(InvalidInput, match=r'made in bfloat16, but this model computes in float32; encode .* again'):
        ClipDataset(paths, model.config, ticks=2, features=folder)
    other = encode_episodes(model, paths, tmp_path, progress=False)
    assert other != folder and len(ClipDataset(paths, model.config, ticks=2, features=other)) > 0
    (other / RECORD).unlink()  # as older versions left it
    with pytest.raises(InvalidInput, match='does not say in which precision'):
        open_features(other, paths[0], 3)
