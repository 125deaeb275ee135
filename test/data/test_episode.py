# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vla_driver.data.episode import (
    EpisodeWriter,
    Hazard,
    Tick,
    decode_picture,
    open_episode,
    open_npz_mapped,
    shrink_depth,
    shrink_semantic,
)
from vla_driver.sim.world.scene import SemanticClass
from vla_driver.types import CAMERA_NAMES, CameraRig, InvalidInput

MakeTick = Callable[..., Tick]


def test_round_trip(tmp_path: Path, episode_rig: CameraRig, make_tick: MakeTick) -> None:
    ticks = [make_tick(0), make_tick(1, missing=('back',)), make_tick(2)]
    writer = EpisodeWriter(tmp_path / 'a' / 'episode.npz', episode_rig, town='here', seed=7)
    for tick in ticks:
        writer.append(tick)
    assert len(writer) == 3
    episode = open_episode(writer.save())
    assert (str(episode['town']), int(episode['seed'])) == ('here', 7)
    for index, tick in enumerate(ticks):
        observation, expert = tick.observation, tick.expert
        assert episode['stamp'][index] == observation.stamp_s
        np.testing.assert_allclose(episode['pose'][index], observation.ego.pose)
        np.testing.assert_allclose(episode['targets'][index], observation.navigation.target_points_m, rtol=1e-6)
        np.testing.assert_allclose(episode['expert_positions'][index], expert.positions_m, atol=1e-4)
        np.testing.assert_allclose(episode['expert_acceleration'][index], expert.acceleration_mps2, atol=1e-5)
        assert episode['command'][index] == observation.navigation.command
        assert episode['red_light_distance'][index] == np.float32(tick.red_light_distance_m)
        assert Hazard(int(episode['hazard'][index])) == tick.hazard
        for camera, name in enumerate(CAMERA_NAMES):
            picture = decode_picture(episode, index, camera)
            if name not in observation.frames:
                assert picture is None
                continue
            assert picture is not None
            source = observation.frames[name].image
            step = 1 if name == 'front' else 2
            assert picture.shape == (192 // step, 320 // step, 3)
            # Blocks of one colour: their middles survive JPEG and resizing.
            middles = picture[8 // step :: 16 // step, 8 // step :: 16 // step].astype(int)
            assert np.abs(middles - source[8::16, 8::16]).mean() < 4
    front, back = CAMERA_NAMES.index('front'), CAMERA_NAMES.index('back')
    # Intrinsics follow the stored size; the mounting does not.
    np.testing.assert_allclose(episode['intrinsics'][front], episode_rig['front'].intrinsics)
    np.testing.assert_allclose(episode['intrinsics'][back][:2], episode_rig['back'].intrinsics[:2] / 2)
    np.testing.assert_allclose(episode['base_from_camera'][back], episode_rig['back'].base_from_camera)
    np.testing.assert_array_equal(episode['label_front'][0], ticks[0].semantic['front'][2::4, 2::4])
    np.testing.assert_allclose(episode['depth_front'][0], ticks[0].depth_m['front'][2::4, 2::4], rtol=1e-3)
    assert not episode['depth_other'][1][CAMERA_NAMES.index('back') - 1].any()  # no picture, no labels


def test_small_things_survive_shrinking() -> None:
    semantic = np.full((16, 16), SemanticClass.BUILDING, dtype=np.uint8)
    semantic[0:3, 0] = SemanticClass.TRAFFIC_LIGHT  # 3 of the 64 pixels of its cell: too few
    semantic[8:16, 8] = SemanticClass.TRAFFIC_LIGHT  # 8 of 64
    semantic[0:8, 12:14] = SemanticClass.POLE  # at the cell's centre or not, poles get no privilege
    shrunk = shrink_semantic(semantic, 2, 2)
    assert shrunk.tolist() == [
        [SemanticClass.BUILDING, SemanticClass.POLE],
        [SemanticClass.BUILDING, SemanticClass.TRAFFIC_LIGHT],
    ]


def test_depth_is_clipped_and_unknown_is_zero() -> None:
    depth = np.array([[np.inf, np.nan], [5.0, 500.0]])
    assert shrink_depth(depth, 2, 2).tolist() == [[200.0, 0.0], [5.0, 200.0]]


def test_bad_ticks_are_refused(tmp_path: Path, episode_rig: CameraRig, make_tick: MakeTick) -> None:
    writer = EpisodeWriter(tmp_path / 'episode.npz', episode_rig, town='here', seed=0)
    with pytest.raises(InvalidInput, match='no ticks'):
        writer.save()
    tick = make_tick(3)
    writer.append(tick)
    with pytest.raises(InvalidInput, match='does not follow'):
        writer.append(tick)
    later = make_tick(4)
    with pytest.raises(InvalidInput, match='front_left has a picture but no semantic'):
        writer.append(dataclasses.replace(later, semantic={}))
    short = dataclasses.replace(
        later.expert,
        **{name: getattr(later.expert, name)[:5] for name in ('positions_m', 'yaw_rad', 'speed_mps')},
        acceleration_mps2=later.expert.acceleration_mps2[:5],
        curvature_per_m=later.expert.curvature_per_m[:5],
    )
    with pytest.raises(InvalidInput, match='5 points, expected 20'):
        writer.append(dataclasses.replace(later, expert=short))
    assert len(writer) == 1
    with pytest.raises(InvalidInput, match=r'must end in \.npz'):
        EpisodeWriter(tmp_path / 'episode.zip', episode_rig, town='here', seed=0)
    odd = CameraRig('odd', (dataclasses.replace(episode_rig['front'], name='roof'),))
    with pytest.raises(InvalidInput, match=r"\['roof'\]"):
        EpisodeWriter(tmp_path / 'episode.npz', odd, town='here', seed=0)


def test_nothing_half_written_stays(
    tmp_path: Path, episode_rig: CameraRig, make_tick: MakeTick, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = EpisodeWriter(tmp_path / 'episode.npz', episode_rig, town='here', seed=0)
    writer.append(make_tick(0))

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError('disk full')

    monkeypatch.setattr(np, 'savez', fail)
    with pytest.raises(OSError, match='disk full'):
        writer.save()
    assert list(tmp_path.iterdir()) == []


def test_only_plain_uncompressed_files_are_read(tmp_path: Path) -> None:
    good = {'a': np.arange(6.0).reshape(2, 3), 'empty': np.zeros((0, 3)), 'word': np.str_('town')}
    np.savez(tmp_path / 'good.npz', **good)
    members = open_npz_mapped(tmp_path / 'good.npz')
    np.testing.assert_array_equal(members['a'], good['a'])
    assert members['empty'].shape == (0, 3)
    assert str(members['word']) == 'town'
    with pytest.raises(ValueError, match='read-only'):
        members['a'][0, 0] = 1.0
    np.savez_compressed(tmp_path / 'compressed.npz', **good)
    with pytest.raises(InvalidInput, match='is compressed'):
        open_npz_mapped(tmp_path / 'compressed.npz')
    np.savez(tmp_path / 'pickled.npz', a=np.array([{}], dtype=object))
    with pytest.raises(InvalidInput, match='pickled objects'):
        open_npz_mapped(tmp_path / 'pickled.npz')
    (tmp_path / 'noise.npz').write_bytes(b'no zip file at all')
    with pytest.raises(InvalidInput, match='not a readable episode'):
        open_npz_mapped(tmp_path / 'noise.npz')
    with pytest.raises(InvalidInput, match='format None, expected 1'):
        open_episode(tmp_path / 'good.npz')
