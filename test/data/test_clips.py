# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vla_driver.data.clips import (
    GREEN_LAMP,
    RED_LAMP,
    ClipDataset,
    batches_ahead,
    colour_tables,
    find_episodes,
    is_held_out,
    mark_lit_lamps,
    split_episodes,
    tick_weights,
)
from vla_driver.data.episode import EpisodeWriter, Tick, open_episode
from vla_driver.geometry.projection import ray_directions
from vla_driver.model.config import VlaConfig
from vla_driver.sim.world.scene import SemanticClass
from vla_driver.types import CAMERA_NAMES, CameraFrame, CameraRig, InvalidInput


@pytest.fixture(scope='module')
def dataset(episodes: Path) -> ClipDataset:
    return ClipDataset(find_episodes([episodes]), VlaConfig(), ticks=3)


def _equal(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, tuple):
        return all(_equal(x, y) for x, y in zip(a, b, strict=True))
    if dataclasses.is_dataclass(a):
        return all(_equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    return a == b


def test_batch_is_a_function_of_seed_and_step(dataset: ClipDataset) -> None:
    assert _equal(dataset.training_batch(1, 5, 2), dataset.training_batch(1, 5, 2))
    assert not _equal(dataset.training_batch(1, 5, 2), dataset.training_batch(1, 6, 2))
    assert not _equal(dataset.training_batch(1, 5, 2), dataset.training_batch(2, 5, 2))


def test_batches_ahead_are_the_same_batches(dataset: ClipDataset) -> None:
    stream = batches_ahead(dataset, seed=4, first=7, clips=1)
    for step in (7, 8, 9):
        assert _equal(next(stream), dataset.training_batch(4, step, 1))
    stream.close()


def test_batch_holds_what_the_episode_holds(dataset: ClipDataset, episode_rig: CameraRig) -> None:
    batch = dataset.batch([(2, 4), (0, 1)], None)
    assert batch.ticks == 3
    assert [tuple(images.shape) for images in batch.inputs.images] == [(6, 1, 192, 320, 3), (6, 5, 96, 160, 3)]
    assert batch.inputs.present.all()
    for row, (index, tick) in enumerate([(2, 4), (2, 5), (2, 6), (0, 1), (0, 2), (0, 3)]):
        episode = dataset.episodes[index]
        assert batch.stamp_s[row] == episode['stamp'][tick]
        assert batch.inputs.speed_mps[row] == episode['speed'][tick]
        assert batch.labels.hazard[row] == episode['hazard'][tick]
        np.testing.assert_array_equal(batch.labels.controls[row, :, 1], episode['expert_curvature'][tick])
        np.testing.assert_allclose(batch.labels.depth_m[0][row, 0], episode['depth_front'][tick])
    # Rays belong to the cameras in the model's order, one set for each clip.
    assert tuple(batch.inputs.rays.shape) == (2, 540, 3)
    left = batch.inputs.rays[1, 240:300].reshape(6, 10, 3)
    np.testing.assert_allclose(left, ray_directions(episode_rig['front_left'], (6, 10)), atol=1e-6)


def test_pictures_go_to_their_cameras(tmp_path: Path, episode_rig: CameraRig, make_tick: Callable[..., Tick]) -> None:
    tick = make_tick(0, missing=('back',))
    shades = {name: 40 * index + 20 for index, name in enumerate(CAMERA_NAMES)}
    frames = {
        name: CameraFrame(name, 0.0, np.full((192, 320, 3), shades[name], np.uint8)) for name in tick.observation.frames
    }
    labels = {name: np.full((192, 320), index, np.uint8) for index, name in enumerate(CAMERA_NAMES)}
    tick = dataclasses.replace(tick, observation=dataclasses.replace(tick.observation, frames=frames), semantic=labels)
    writer = EpisodeWriter(tmp_path / 'one.npz', episode_rig, town='t', seed=0)
    writer.append(tick)
    config = VlaConfig()
    batch = ClipDataset([writer.save()], config, ticks=1).batch([(0, 0)], None)
    pictures = torch.cat([batch.inputs.images[0][0, 0, :1, :1], batch.inputs.images[1][0, :, :1, 0]]).float()
    semantic = [*batch.labels.semantic[0][0, :, 0, 0].tolist(), *batch.labels.semantic[1][0, :, 0, 0].tolist()]
    for camera, name in enumerate(config.camera_names):
        there = name != 'back'
        assert bool(batch.inputs.present[0, camera]) == there
        assert pictures[camera].mean() == pytest.approx(shades[name] if there else 0, abs=3)
        assert semantic[camera] == (CAMERA_NAMES.index(name) if there else 0)


def test_lamps_are_told_apart() -> None:
    image = np.zeros((4, 16, 3), np.uint8)
    image[1, 1], image[2, 5], image[1, 10], image[:, 12:] = (250, 30, 30), (30, 240, 90), (255, 190, 40), (240, 20, 20)
    light, car = SemanticClass.TRAFFIC_LIGHT, SemanticClass.CAR
    marked = mark_lit_lamps(np.array([[light, light, light, car]], np.uint8), image)
    assert marked.tolist() == [[RED_LAMP, GREEN_LAMP, RED_LAMP, car]]
    dark = mark_lit_lamps(np.array([[light] * 4], np.uint8), np.full((4, 16, 3), 60, np.uint8))
    assert (dark == light).all()


def test_colours_vary_but_red_stays_red() -> None:
    for seed in range(200):
        table = colour_tables(np.random.default_rng(seed))[0].astype(int)
        assert (np.diff(table, axis=0) >= 0).all()
        assert table[230, 0] > table[60, 1] + 60  # a red lamp
        assert table[230, 1] > table[60, 0] + 60  # a green one


def test_rare_moments_weigh_more() -> None:
    ticks = 6
    episode = {
        'speed': np.array([8.0, 8.0, 0.0, 0.0, 8.0, 8.0]),
        'expert_speed': np.full((ticks, 20), 8.0),
        'expert_positions': np.zeros((ticks, 20, 2)),
        'expert_curvature': np.zeros((ticks, 20)),
        'expert_acceleration': np.zeros((ticks, 20)),
        'command': np.zeros(ticks),
        'command_distance': np.full(ticks, 50.0),
        'hazard': np.zeros(ticks),
    }
    episode['expert_curvature'][1] = 0.1  # turning
    episode['expert_speed'][2] = 0.0  # waiting
    episode['expert_speed'][3] = np.linspace(0.2, 5.0, 20)  # starting
    episode['expert_acceleration'][4, :4] = -3.0  # braking for someone
    episode['hazard'][4] = 2
    episode['expert_positions'][5, 4:, 1] = 0.5  # back to the lane
    cruise, turn, wait, start, brake, recover = tick_weights(episode)
    assert wait < cruise < min(turn, start, brake, recover)
    route = {'route': np.stack([np.arange(9.0), np.zeros(9)], axis=1)}
    place = {'route_progress': np.full(ticks, 4.0), 'pose': np.tile([4.0, 0.8, 0.0], (ticks, 1))}
    wide = tick_weights({**episode, **route, **place})
    assert wide[1] > turn  # back to the line of a turn
    assert (np.delete(wide, 1) == [cruise, wait, start, brake, recover]).all()


def test_weights_steer_the_draw(episodes: Path) -> None:
    dataset = ClipDataset(find_episodes([episodes]), VlaConfig(), ticks=3)
    expected = np.diff(dataset._cumulative, prepend=0.0)
    drawn = np.zeros(len(dataset))
    rng = np.random.default_rng(0)
    np.add.at(drawn, np.searchsorted(dataset._cumulative, rng.random(20_000)), 1 / 20_000)
    np.testing.assert_allclose(drawn, expected, atol=0.006)
    assert expected.max() > 1.3 * expected.min()


def test_split_keeps_episodes_apart_and_stays(tmp_path: Path) -> None:
    paths = [tmp_path / f'town_{index}.npz' for index in range(300)]
    train, held_out = split_episodes(paths)
    assert sorted(train + held_out) == sorted(paths)
    assert 10 < len(held_out) < 45
    more = [tmp_path / f'round2_{index}.npz' for index in range(50)]
    assert set(held_out) <= set(split_episodes(paths + more)[1])


def test_bad_data_is_refused(tmp_path: Path, episodes: Path) -> None:
    with pytest.raises(InvalidInput, match=r'no episodes.*collect some'):
        find_episodes([tmp_path])
    paths = find_episodes([episodes])
    with pytest.raises(InvalidInput, match='none of 4 episodes has 11 ticks'):
        ClipDataset(paths, VlaConfig(), ticks=11)
    with pytest.raises(InvalidInput, match='choose image_sizes accordingly'):
        ClipDataset(paths, VlaConfig(image_sizes={'front': [640, 384]}))
    assert len(open_episode(paths[0])['stamp']) == 10


def test_blind_control_gets_no_pictures(episodes: Path) -> None:
    batch = ClipDataset(find_episodes([episodes]), VlaConfig(blind=True), ticks=3).training_batch(0, 0, 1)
    assert not batch.inputs.present.any()
    assert not any(images.any() for images in batch.inputs.images)
    assert batch.inputs.speed_mps.any()


def test_of_one_episode_nothing_is_held_out_and_of_more_not_all(tmp_path: Path) -> None:
    held = [Path(f'{k}.npz') for k in range(400) if is_held_out(f'{k}', 12)]
    assert split_episodes(held[:1]) == (held[:1], [])
    assert split_episodes(held[:3]) == (held[2:3], held[:2])
    others = [Path(f'{k}.npz') for k in range(400) if not is_held_out(f'{k}', 12)]
    assert split_episodes(others[:1]) == (others[:1], [])
    assert split_episodes(others[:3]) == (others[:2], others[2:3])
