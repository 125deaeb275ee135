# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Scenes of nuScenes become bags that hold what was driven; the data set is a small one that the simulator made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from fixtures.domains import next_domain
from fixtures.nuscenes_drive import BEGIN_US, CORNER_M, LOCATION, SHUTTER_US
from scipy.spatial.transform import Rotation
from shapely.geometry import LineString

from vla_driver.bag import schema
from vla_driver.bag.read import BagReader
from vla_driver.cli import main
from vla_driver.commands.convert.nuscenes import add_arguments, run
from vla_driver.data.nuscenes.bag import kind_of
from vla_driver.data.nuscenes.scenes import read_scenes, scene_names
from vla_driver.evaluate.open_loop import evaluate_bag
from vla_driver.evaluate.published import PROTOCOLS, summarise
from vla_driver.geometry.frames import quaternion_of
from vla_driver.geometry.rig import load_rig
from vla_driver.observation.guidance import TARGET_SPACING_M
from vla_driver.observation.ready import NotReady
from vla_driver.policies.constant_velocity import ConstantVelocityPolicy
from vla_driver.sim.scoring import BOUNDARY_WITHIN_M, drivable_area
from vla_driver.sim.world.scenario import scenarios
from vla_driver.sim.world.scene import SemanticClass
from vla_driver.sim.world.towns import load_network
from vla_driver.types import EgoState, InvalidInput, TurnCommand

pytestmark = pytest.mark.gl

#: Of eight seconds every fifth tick of 0.1 s is a key frame.
LAST_KEY_S = 7.5


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
    assert scene.location == LOCATION
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
    # After the last key frame nobody knows who was there.
    last_s = 1e-6 * BEGIN_US + LAST_KEY_S
    known = [sample.stamp_s + 3.0 <= last_s + 0.06 for sample in result.samples]
    assert [sample.collides is not None for sample in result.samples] == known
    assert known.count(True) > 30 and known.count(False) >= 3
    # Who drives on as he does is near the truth after half a second.
    assert np.median([sample.error_m[0] for sample in result.samples]) < 0.6


def changed(source: Path, folder: Path, **tables: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Path:
    """Return a copy of a nuScenes folder with other tables; its pictures are links."""
    shutil.copytree(source / 'v1.0-mini', folder / 'v1.0-mini')
    for name in ('samples', 'sweeps', 'maps'):
        (folder / name).symlink_to(source / name)
    for table, change in tables.items():
        path = folder / 'v1.0-mini' / f'{table}.json'
        path.write_text(json.dumps(change(json.loads(path.read_text()))))
    return folder


def test_others_are_told_from_the_first_to_the_last_annotated_key_frame(
    bag: Path, nuscenes_drive: tuple[Path, list[EgoState]], tmp_path: Path
) -> None:
    # As the data set is, to its last key frame; and where the first two seconds and the last ones have no boxes.
    short = changed(
        nuscenes_drive[0],
        tmp_path / 'nuscenes',
        sample_annotation=lambda rows: [row for row in rows if 4 <= int(row['sample_token'][1:]) <= 11],
    )
    convert(short, tmp_path / 'out')
    for path, begin_s, end_s in ((bag, 0.0, LAST_KEY_S), (tmp_path / 'out' / 'scene-0001', 2.0, 5.5)):
        with BagReader(path) as reader:
            told = list(reader.agents())
            driven_s = [state.stamp_s for state in reader.odometry()]
        stamps = np.array([stamp_s for stamp_s, _ in told]) - 1e-6 * BEGIN_US
        assert (stamps[0], stamps[-1]) == pytest.approx((begin_s, end_s), abs=1e-5)
        assert np.diff(stamps).max() < 0.1 + 1e-5
        assert told[0][1] and told[-1][1]
        assert driven_s[-1] - 1e-6 * BEGIN_US > 7.8


def test_without_annotations_nothing_is_said_of_the_others_but_that(
    nuscenes_drive: tuple[Path, list[EgoState]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As v1.0-test, whose tables of boxes are empty."""
    folder = changed(nuscenes_drive[0], tmp_path / 'nuscenes', sample_annotation=lambda _: [], instance=lambda _: [])
    (scene,) = read_scenes(folder)
    assert scene.annotated_s is None
    convert(folder, tmp_path / 'out', '--json', str(tmp_path / 'done.json'))
    said = capsys.readouterr().out
    assert 'of 6 cameras, no annotations\n' in said and 'road users' not in said
    assert said.count(f'scene-0001 is not annotated: bags of such scenes hold no {schema.AGENTS_TOPIC}') == 1
    assert json.loads((tmp_path / 'done.json').read_text())['scenes']['scene-0001']['agents'] is None
    with BagReader(tmp_path / 'out' / 'scene-0001') as reader:
        assert schema.AGENTS_TOPIC not in reader.topics
    words = [str(tmp_path / 'out' / 'scene-0001'), '--policy', 'constant-velocity']
    protocols = [word for name in PROTOCOLS for word in ('--protocol', name)]
    assert main(['evaluate', 'open-loop', *words, *protocols]) == 0
    said = capsys.readouterr().out
    assert said.count(f'no collisions: no bag has {schema.AGENTS_TOPIC}') == 3
    assert 'collisions (%)' not in said


def test_the_published_evaluation_of_the_road_counts_on_a_converted_bag(bag: Path) -> None:
    """Who drives straight on where the road bends leaves it; what was driven does not."""
    protocol = PROTOCOLS['bev-planner']
    result = evaluate_bag(bag, lambda _: ConstantVelocityPolicy(), protocols=[protocol])
    figures = summarise(protocol, result.counted['bev-planner'])
    assert figures['samples'] == len(result.samples) == figures['samples_with_boundary']
    assert figures['driven_off_road_rate']['3s'] == 0.0
    errors = [sample.error_m for sample in result.samples]
    assert figures['l2_m']['3s'] == pytest.approx(np.mean(errors), abs=1e-9)


def test_the_nodes_plan_from_a_converted_bag(
    bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip('rclpy')
    monkeypatch.setenv('ROS_DOMAIN_ID', str(next_domain()))
    path = tmp_path / 'replay.json'
    assert main(['replay', str(bag), '--policy', 'constant-velocity', '--json', str(path)]) == 0
    figures = json.loads(path.read_text())
    with BagReader(bag) as reader:
        sets = sum(1 for _ in reader.messages(['/camera/front/image/compressed']))
    assert figures['images'] == sets
    assert figures['sources'].get('policy', 0) >= 0.8 * sets  # a loaded machine may skip a few
    assert 'turn_command <- /turn_command' in capsys.readouterr().out


def test_the_bag_tells_where_the_road_ends_and_the_way_does_not_cross_it(
    bag: Path, nuscenes_drive: tuple[Path, list[EgoState]]
) -> None:
    (scene,) = read_scenes(nuscenes_drive[0])
    with BagReader(bag) as reader:
        lines = [LineString(line) for line in reader.road_boundary()]
        way = LineString([(state.x_m, state.y_m) for state in reader.odometry()])
    assert way.length > 20.0 and len(lines) >= 2
    assert not any(way.intersects(line) for line in lines)
    # The road of the simulator itself, moved to where the bag begins: nothing is missing, and nothing is too much.
    area = drivable_area(load_network(scenarios('val', 1)[0].network_path))
    edge = shapely.affinity.translate(area, *(CORNER_M - scene.poses[0, 1:3])).boundary
    told = shapely.multilinestrings(lines)
    assert max(edge.distance(point) for point in shapely.points(shapely.get_coordinates(told))) < 1e-3
    within = shapely.intersection(edge, way.buffer(BOUNDARY_WITHIN_M - 0.1))
    assert shapely.difference(within, told.buffer(0.01)).length < 0.1
    # Beyond the scene the way goes straight on, and the boundary with it.
    reach = max(shapely.distance(shapely.points(shapely.get_coordinates(told)), way))
    assert reach < BOUNDARY_WITHIN_M + 2.0 * TARGET_SPACING_M + 0.1


@pytest.fixture
def two_scenes(nuscenes_drive: tuple[Path, list[EgoState]], tmp_path: Path) -> Path:
    """The same folder, its scene in two."""
    whole, folder = nuscenes_drive[0], tmp_path / 'nuscenes'
    shutil.copytree(whole / 'v1.0-mini', folder / 'v1.0-mini')
    for name in ('samples', 'sweeps', 'maps'):
        (folder / name).symlink_to(whole / name)
    scene, sample = (folder / 'v1.0-mini' / f'{table}.json' for table in ('scene', 'sample'))
    rows = json.loads(scene.read_text())
    scene.write_text(json.dumps([*rows, {**rows[0], 'token': 'sc2', 'name': 'scene-0002'}]))
    rows = json.loads(sample.read_text())
    sample.write_text(
        json.dumps([{**row, 'scene_token': 'sc2'} if 2 * k >= len(rows) else row for k, row in enumerate(rows)])
    )
    return folder


def test_without_the_map_expansion_bags_have_no_boundary_which_is_said_once(
    two_scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (two_scenes / 'maps').unlink()
    convert(two_scenes, tmp_path / 'out', '--json', str(tmp_path / 'done.json'))
    said = capsys.readouterr().out
    assert said.count(str(two_scenes / 'maps' / 'expansion' / f'{LOCATION}.json')) == 1
    assert said.count('the off-road rate cannot be computed') == 1
    done = json.loads((tmp_path / 'done.json').read_text())['scenes']
    assert {name: made['boundary'] for name, made in done.items()} == {'scene-0001': None, 'scene-0002': None}
    for name in done:
        with BagReader(tmp_path / 'out' / name) as reader:
            assert schema.ROAD_BOUNDARY_TOPIC not in reader.topics
            assert reader.road_boundary() == ()
            assert len(list(reader.agents())) > 10


def test_every_scene_has_the_boundary_in_its_own_frame(
    two_scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert(two_scenes, tmp_path / 'out')
    assert 'off-road' not in capsys.readouterr().out
    for scene in read_scenes(two_scenes):
        with BagReader(tmp_path / 'out' / scene.name) as reader:
            lines = reader.road_boundary()
            way = LineString([(state.x_m, state.y_m) for state in reader.odometry()])
        assert way.coords[0] == pytest.approx((0.0, 0.0), abs=1e-6)
        assert lines and not any(way.intersects(LineString(line)) for line in lines)
        assert min(way.distance(LineString(line)) for line in lines) < 10.0


def test_a_map_that_cannot_be_used_ends_the_conversion_before_a_bag_is_there(two_scenes: Path, tmp_path: Path) -> None:
    (two_scenes / 'maps').unlink()
    path = two_scenes / 'maps' / 'expansion' / f'{LOCATION}.json'
    path.parent.mkdir(parents=True)
    path.write_text('{"node": [], "polygon": [], "lane": []}')
    with pytest.raises(InvalidInput, match=rf'{LOCATION}.json: no table road_segment'):
        convert(two_scenes, tmp_path / 'out')
    assert not (tmp_path / 'out' / 'scene-0001').exists()


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
        ('log', None, 'log.json: this table is missing'),
        ('log', lambda rows: rows[:0], 'scene scene-0001 names an unknown log'),
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


def test_a_picture_that_is_none_is_named_and_leaves_no_bag(
    nuscenes_drive: tuple[Path, list[EgoState]], tmp_path: Path
) -> None:
    folder, out = tmp_path / 'nuscenes', tmp_path / 'out'
    shutil.copytree(nuscenes_drive[0], folder)
    picture = sorted((folder / 'samples' / 'CAM_FRONT').iterdir())[3]
    stored = picture.read_bytes()
    picture.write_bytes(b'')
    # What a run left that was killed.
    left = out / 'scene-0001.part' / 'scene-0001' / 'metadata.yaml'
    left.parent.mkdir(parents=True)
    left.write_text('')
    with pytest.raises(InvalidInput, match=rf'scene scene-0001: {picture}: camera front: a file of 0 bytes'):
        convert(folder, out)
    assert list(out.iterdir()) == []
    picture.write_bytes(stored)
    left.parent.mkdir(parents=True)
    left.write_text('')
    convert(folder, out)
    assert [path.name for path in out.iterdir()] == ['scene-0001']
    assert sorted(path.name for path in (out / 'scene-0001').iterdir()) == ['metadata.yaml', 'scene-0001.mcap']
    with BagReader(out / 'scene-0001') as reader:
        assert len(list(reader.odometry())) > 100


def test_a_picture_that_was_not_unpacked_is_named(nuscenes_drive: tuple[Path, list[EgoState]], tmp_path: Path) -> None:
    folder = tmp_path / 'nuscenes'
    shutil.copytree(nuscenes_drive[0] / 'v1.0-mini', folder / 'v1.0-mini')
    with pytest.raises(InvalidInput, match=r'CAM_.*jpg is missing; unpack this part of nuScenes'):
        convert(folder, tmp_path / 'out')
