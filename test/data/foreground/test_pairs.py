# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Folders of pairs from simulated episodes and from nuScenes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vla_driver.data.foreground.frames import EpisodeFrames, open_frames
from vla_driver.data.foreground.pairs import convert_episodes, convert_nuscenes
from vla_driver.data.nuscenes.tables import read_samples
from vla_driver.observation.decode import encode_jpeg
from vla_driver.types import CAMERA_NAMES, InvalidInput


def test_simulator_pairs_equal_the_episode(short_episode: Path, tmp_path: Path) -> None:
    out = tmp_path / 'pairs'
    assert convert_episodes([short_episode], out) == 3
    pairs, frames = open_frames([out]), EpisodeFrames(short_episode)
    assert len(pairs) == len(frames) == 3
    for index in range(3):
        one, other = pairs.frame(index), frames.frame(index)
        assert set(one.views) == set(other.views) == set(CAMERA_NAMES) - ({'back'} if index == 1 else set())
        for name, view in one.views.items():
            assert np.array_equal(view.mask, other.views[name].mask)
            # The very same JPEG, through two decoders (one of them fast, a level or two apart).
            assert np.abs(view.image.astype(int) - other.views[name].image).mean() < 2
            np.testing.assert_allclose(view.camera.intrinsics, other.views[name].camera.intrinsics)
            np.testing.assert_allclose(view.camera.base_from_camera, other.views[name].camera.base_from_camera)
    line = json.loads((out / 'frames.jsonl').read_text().splitlines()[0])
    front = frames.frame(0).views['front'].mask
    assert line['cameras']['front']['foreground'] == pytest.approx(float((front > 0).mean()), abs=1e-4)
    # Nothing is done twice.
    assert convert_episodes([short_episode], out) == 0


def test_every_nth_tick(short_episode: Path, tmp_path: Path) -> None:
    assert convert_episodes([short_episode], tmp_path / 'pairs', every=2) == 2
    assert [open_frames([tmp_path / 'pairs']).frame(i).id[-5:] for i in range(2)] == ['00000', '00002']


def test_a_picture_of_another_size_is_refused(nuscenes: Path, tmp_path: Path) -> None:
    (nuscenes / 'samples/CAM_FRONT/0.jpg').write_bytes(encode_jpeg(np.zeros((10, 10, 3), np.uint8)))
    with pytest.raises(InvalidInput, match='is 10x10, its table says 64x48'):
        convert_nuscenes(nuscenes, read_samples(nuscenes), lambda image: image[..., 0] * 0, tmp_path / 'out')
