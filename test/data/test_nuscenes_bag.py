# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Scenes of nuScenes become bags that hold what was driven; the data set is a small one that the simulator made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fixtures.nuscenes_drive import BEGIN_US, CORNER_M, SHUTTER_US
from scipy.spatial.transform import Rotation

from vla_driver.bag.read import BagReader
from vla_driver.commands.convert.nuscenes import add_arguments, run
from vla_driver.data.nuscenes_bag import kind_of
from vla_driver.data.nuscenes_scenes import read_scenes, scene_names
from vla_driver.evaluate.open_loop import evaluate_bag
from vla_driver.geometry.frames import quaternion_of
from vla_driver.geometry.rig import load_rig
from vla_driver.observation.ready import NotReady
from vla_driver.policies.constant_velocity import ConstantVelocityPolicy
from vla_driver.sim.world.scene import SemanticClass
from vla_driver.types import EgoState, InvalidInput, TurnCommand

pytestmark = pytest.mark.gl


def convert(source: Path, out: Path, *words: str) -> None:
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert run(parser.parse_args([str(source), '--out', str(out), *words])) == 0


@pytest.fixture(scope='module')
def bag(nuscenes_drive: tuple[Path, list[EgoState]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('bags')
    convert(nuscenes_drive[0], out)
    return out / 'scene-0001'


def test_scenes_are_read_with_rig_pictures_poses_and_bodies(nuscenes_drive: tuple[Path, list[EgoState]]) -> None:
    folder, states = nuscenes_drive
    assert scene_names(folder) == ['scene-0001']
    (scene,) = read_scenes(folder)
    assert len(scene.pictures) == 6 * len(states)
    assert [p.stamp_us for p in scene.pictures] == sorted(p.stamp_us for p in scene.pictures)
    for camera in load_rig('sim'):
        assert scene.rig[camera.name].base_from_camera == pytest.approx(camera.base_from_camera, abs=1e-6)
        assert scene.rig[camera.name].intrinsics == pytest.approx(camera.intrinsics)
    assert scene.tracks
    track = max(scene.tracks, key=lambda one: len(one.times_s))
    middle = 0.5 * (track.times_s[0] + track.times_s[1])
    assert track.at(middle) == pytest.approx(0.5 * (track.poses[0] + track.poses[1]))
    assert track.at(track.times_s[-1] + 1.0) is None


def test_speeds_are_made_of_the_poses(nuscenes_drive: tuple[Path, list[EgoState]]) -> None:
    folder, states = nuscenes_drive
    (scene,) = read_scenes(folder)
    made = scene.odometry()
    times = np.array([state.stamp_s for state in made]) - 1e-6 * BEGIN_US
    true_s = np.array([state.stamp_s for state in states])
    inside = (true_s > 0.3) & (true_s < true_s[-1] - 0.3)
    for name, tolerance in (('speed_mps', 0.15), ('yaw_rate_rps', 0.03)):
        ours = np.interp(true_s, times, [getattr(state, name) for state in made])
        theirs = np.array([getattr(state, name) for state in states])
        assert np.abs(ours - theirs)[inside].max() < tolerance, name
    assert made[0].x_m == pytest.approx(states[0].x_m + CORNER_M[0], abs=0.2)


def test_the_bag_gives_the_observations_that_were_driven(
    bag: Path, nuscenes_drive: tuple[Path, list[EgoState]]
) -> None:
    states = nuscenes_drive[1]
    with BagReader(bag) as reader:
        sets = list(reader.ready_sets())
        assert len(sets) >= len(states) - 4
        observation = sets[20].observe()
        assert not isinstance(observation, NotReady)
        front = observation.frames['front']
        tick = round((front.stamp_s - 1e-6 * (BEGIN_US + SHUTTER_US['front'])) / 0.1)
        ego, true = observation.ego, states[tick]
        first = states[0]
        assert ego.speed_mps == pytest.approx(true.speed_mps, abs=0.2)
        driven = np.hypot(ego.x_m, ego.y_m)
        assert driven == pytest.approx(np.hypot(true.x_m - first.x_m, true.y_m - first.y_m), abs=0.3)
        # The cameras fire one after the other, and their stamps say so.
        skew = observation.frames['back_right'].stamp_s - observation.frames['front_left'].stamp_s
        assert skew == pytest.approx(1e-6 * (SHUTTER_US['back_right'] - SHUTTER_US['front_left']), abs=1e-6)
        assert observation.navigation.command in TurnCommand
        assert observation.rig['back'].base_from_camera == pytest.approx(
            load_rig('sim')['back'].base_from_camera, abs=1e-4
        )
        target = observation.navigation.target_points_m[0]
        assert 8.0 < np.hypot(*target) < 45.0


def test_pictures_are_the_stored_bytes(bag: Path, nuscenes_drive: tuple[Path, list[EgoState]]) -> None:
    folder = nuscenes_drive[0]
    stored = {path.read_bytes() for path in folder.glob('s*/CAM_FRONT/*.jpg')}
    with BagReader(bag) as reader:
        topic = '/camera/front/image/compressed'
        found = {bytes(message.data) for _, _, message in reader.messages([topic])}
    assert found == stored


def test_open_loop_scores_the_bag_with_its_road_users(bag: Path) -> None:
    result = evaluate_bag(bag, lambda _: ConstantVelocityPolicy())
    assert len(result.samples) > 30
    assert all(sample.collides is not None for sample in result.samples)
    # Who drives on as he does is near the truth after half a second.
    assert np.median([sample.error_m[0] for sample in result.samples]) < 0.6


def test_road_users_only() -> None:
    assert kind_of('human.pedestrian.police_officer') is SemanticClass.PEDESTRIAN
    assert kind_of('vehicle.bus.rigid') is SemanticClass.TRUCK
    assert kind_of('vehicle.emergency.police') is SemanticClass.CAR
    assert kind_of('movable_object.trafficcone') is None


@pytest.mark.parametrize('seed', range(4))
def test_a_quaternion_is_that_of_its_matrix(seed: int) -> None:
    rotation = Rotation.random(random_state=seed)
    found = np.array(quaternion_of(rotation.as_matrix()))
    expected = rotation.as_quat()
    assert found == pytest.approx(expected if expected[3] >= 0 else -expected, abs=1e-9)


def test_a_scene_that_there_is_not_is_named(nuscenes_drive: tuple[Path, list[EgoState]]) -> None:
    with pytest.raises(InvalidInput, match=r'scene scene-0061: .* has scene-0001'):
        list(read_scenes(nuscenes_drive[0], ['scene-0061']))


def test_a_bag_is_not_written_over(nuscenes_drive: tuple[Path, list[EgoState]], bag: Path) -> None:
    with pytest.raises(InvalidInput, match='exists already'):
        convert(nuscenes_drive[0], bag.parent)


@pytest.mark.parametrize(
    ('table', 'change', 'words'),
    [
        ('ego_pose', lambda rows: rows[:0], 'names an unknown ego pose'),
        (
            'sample_data',
            lambda rows: [r for r in rows if 'CAM_FRONT/' not in r['filename']],
            'no pictures of CAM_FRONT',
        ),
        ('sample_data', lambda rows: rows[:60] + rows[-6:], r's between two ego poses, expected 1 s at most'),
        ('instance', None, 'instance.json: this table is missing'),
    ],
)
def test_tables_that_do_not_fit_are_named(
    table: str, change: object, words: str, nuscenes_drive: tuple[Path, list[EgoState]], tmp_path: Path
) -> None:
    folder = tmp_path / 'nuscenes'
    shutil.copytree(nuscenes_drive[0] / 'v1.0-mini', folder / 'v1.0-mini')
    path = folder / 'v1.0-mini' / f'{table}.json'
    if callable(change):
        path.write_text(json.dumps(change(json.loads(path.read_text()))))
    else:
        path.unlink()
    with pytest.raises(InvalidInput, match=words):
        list(read_scenes(folder))


def test_a_picture_that_was_not_unpacked_is_named(nuscenes_drive: tuple[Path, list[EgoState]], tmp_path: Path) -> None:
    folder = tmp_path / 'nuscenes'
    shutil.copytree(nuscenes_drive[0] / 'v1.0-mini', folder / 'v1.0-mini')
    with pytest.raises(InvalidInput, match=r'CAM_.*jpg is missing; unpack this part of nuScenes'):
        convert(folder, tmp_path / 'out')
