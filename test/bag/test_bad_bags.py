# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Bags that cannot be driven from say why; foreign topic names are found or asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from vla_driver.bag import schema
from vla_driver.bag.read import BagReader
from vla_driver.bag.topics import find_inputs
from vla_driver.bag.write import BagWriter
from vla_driver.geometry.rig import load_rig
from vla_driver.types import CAMERA_NAMES, EgoState, InvalidInput


def test_a_bag_without_camera_topics_lists_those_it_has(tmp_path: Path, sample: SimpleNamespace):
    sample.write_drive(tmp_path / 'bag', 2, leave_out=CAMERA_NAMES)
    with BagReader(tmp_path / 'bag') as bag, pytest.raises(InvalidInput, match='no camera topics') as caught:
        list(bag.observations())
    for name in ('/odom', '/route', '/turn_command', '/ground_truth/agents'):
        assert name in str(caught.value)


def test_a_bag_without_odometry_or_route_says_so(tmp_path: Path, sample: SimpleNamespace):
    sample.write_drive(tmp_path / 'odom', 2, leave_out=('odom',))
    with BagReader(tmp_path / 'odom') as bag, pytest.raises(InvalidInput, match='no odometry'):
        list(bag.observations())
    sample.write_drive(tmp_path / 'route', 2, leave_out=('route',))
    with (
        BagReader(tmp_path / 'route') as bag,
        pytest.raises(InvalidInput, match=r'has no route .* name it: --topic route=/TOPIC'),
    ):
        list(bag.observations())


@pytest.mark.parametrize('content', [None, b'no bag at all'])
def test_what_is_no_bag_is_refused(tmp_path: Path, content: bytes | None):
    path = tmp_path / 'file.mcap'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInput, match='not a readable bag'), BagReader(path):
        pass


def test_a_truncated_bag_is_refused(tmp_path: Path, sample: SimpleNamespace):
    sample.write_drive(tmp_path / 'bag', 2)
    (file,) = (tmp_path / 'bag').glob('*.mcap')
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    (tmp_path / 'bag' / 'metadata.yaml').unlink()
    with pytest.raises(InvalidInput), BagReader(file) as bag:
        list(bag.observations())


def _drive(sample: SimpleNamespace, path: Path, odometry: Callable[[int], EgoState]) -> Path:
    """Write ten ticks; odometry(tick) may be broken in ways EgoState would refuse."""
    with BagWriter(path, load_rig('sim')) as bag:
        bag.write_route(sample.T0_S, sample.ROUTE_M)
        for tick in range(10):
            seen = sample.observation(tick)
            bag.write_odometry(odometry(tick))
            bag.write_turn_command(seen.stamp_s, seen.navigation.command, seen.navigation.distance_m)
            for name, frame in seen.frames.items():
                bag.write_camera(name, frame.stamp_s, frame.image)
    return path


def test_nan_odometry_is_refused_named_and_counted(tmp_path: Path, sample: SimpleNamespace):
    def odometry(tick: int) -> EgoState:
        state = sample.ego(tick)
        if tick in (4, 5):
            object.__setattr__(state, 'x_m', math.nan)
        return state

    with BagReader(_drive(sample, tmp_path / 'bag', odometry)) as bag:
        seen = list(bag.observations())
        assert bag.rejected == {'odometry': 2}
        assert len(list(bag.odometry())) == 8
        assert bag.rejected == {'odometry': 2}
    # Two ticks live on the odometry before, moved on by its speed and yaw rate.
    assert len(seen) == 10
    assert seen[5].ego.pose == pytest.approx(sample.ego(5).pose, abs=1e-3)


def test_odometry_that_is_all_nan_gives_an_error_that_names_it(tmp_path: Path, sample: SimpleNamespace):
    def odometry(tick: int) -> EgoState:
        state = sample.ego(tick)
        object.__setattr__(state, 'speed_mps', math.nan)
        return state

    with BagReader(_drive(sample, tmp_path / 'bag', odometry)) as bag, pytest.raises(InvalidInput) as caught:
        list(bag.observations())
    assert 'odometry: none that can be used' in str(caught.value)
    assert str(caught.value).count('speed_mps is nan') == 1


def test_a_truncated_jpeg_costs_its_tick_or_its_camera(tmp_path: Path, sample: SimpleNamespace):
    path = tmp_path / 'bag'
    store = schema.typestore()
    with BagWriter(path, load_rig('sim')) as bag:
        bag.write_route(sample.T0_S, sample.ROUTE_M)
        for tick in range(5):
            bag.write_observation(
                replace(
                    sample.observation(tick),
                    frames={name: frame for name, frame in sample.observation(tick).frames.items() if name != 'back'},
                    missing=('back',),
                )
            )
        source = tmp_path / 'source'
        sample.write_drive(source, 5)
        with BagReader(source) as whole:
            for tick, (_, _, message) in enumerate(whole.messages([schema.image_topic('back').name])):
                data = message.data[: len(message.data) // 2] if tick == 2 else message.data
                header = store.types['std_msgs/msg/Header'](
                    stamp=store.types['builtin_interfaces/msg/Time'](
                        sec=message.header.stamp.sec, nanosec=message.header.stamp.nanosec
                    ),
                    frame_id='back_optical_frame',
                )
                image = store.types[schema.COMPRESSED_IMAGE](header=header, format='jpeg', data=data)
                bag.write(schema.image_topic('back'), image, sample.T0_S + tick * 0.1)
    with BagReader(path) as bag:
        assert len(list(bag.observations())) == 4
        assert bag.rejected == {'camera back': 1}
        (lost,) = bag.skipped
        assert 'camera back: JPEG' in str(lost) and 'truncated' in str(lost)
        seen = list(bag.observations(policies={'back': 'skip'}))
    assert [o.missing for o in seen] == [(), (), ('back',), (), ()]


def test_a_bag_without_a_rig_asks_for_one(tmp_path: Path, sample: SimpleNamespace):
    sample.write_drive(tmp_path / 'bag', 2)
    metadata = tmp_path / 'bag' / 'metadata.yaml'
    lines = metadata.read_text().split('\n')
    start = next(i for i, line in enumerate(lines) if line.startswith('  custom_data:'))
    end = next(i for i in range(start + 1, len(lines)) if lines[i].startswith('  ') and lines[i][2] != ' ')
    metadata.write_text('\n'.join(lines[:start] + ['  custom_data: null'] + lines[end:]))
    with BagReader(tmp_path / 'bag') as bag, pytest.raises(InvalidInput, match='give a rig'):
        list(bag.observations())
    with BagReader(tmp_path / 'bag', rig=load_rig('sim')) as bag:
        assert len(list(bag.observations())) == 2


RAW, JPEG = schema.IMAGE, schema.COMPRESSED_IMAGE


@pytest.mark.parametrize(
    ('topics', 'front', 'left'),
    [
        ({'/cam_front/raw': RAW, '/cam_front_left/raw': RAW}, '/cam_front/raw', '/cam_front_left/raw'),
        ({'/CAM_FRONT/image_rect_compressed': JPEG}, '/CAM_FRONT/image_rect_compressed', None),
        (
            {'/carla/hero/front/image': RAW, '/carla/hero/front_left/image': RAW, '/carla/hero/depth/image': RAW},
            '/carla/hero/front/image',
            '/carla/hero/front_left/image',
        ),
        ({'/a/front/image': RAW, '/a/front/image/compressed': JPEG}, '/a/front/image/compressed', None),
        ({'/x/front_camera/image_raw': RAW, '/ground_truth/front_left/image': RAW}, '/x/front_camera/image_raw', None),
    ],
)
def test_usual_camera_names_are_found(topics: dict[str, str], front: str, left: str | None):
    found = find_inputs(topics, CAMERA_NAMES)
    assert found.cameras['front'] == front
    assert found.cameras.get('front_left') == left


def test_camera_infos_beside_the_pictures_are_found():
    topics = {
        '/camera/front/image/compressed': JPEG,
        '/camera/front/camera_info': schema.CAMERA_INFO,
        '/camera/back/image': RAW,
        '/other/camera_info': schema.CAMERA_INFO,
    }
    assert find_inputs(topics, CAMERA_NAMES).infos == {'front': '/camera/front/camera_info'}


def test_a_mapping_decides_and_is_checked():
    topics = {'/a/front/image': RAW, '/b/front/image': RAW, '/odometry': schema.ODOMETRY, '/path': schema.PATH}
    with pytest.raises(InvalidInput, match='several topics fit'):
        find_inputs(topics, CAMERA_NAMES)
    found = find_inputs(topics, CAMERA_NAMES, {'front': '/b/front/image'})
    assert found.cameras == {'front': '/b/front/image'}
    assert (found.odometry, found.route, found.turn_command) == ('/odometry', None, None)
    found = find_inputs(topics, CAMERA_NAMES, {'front': '/b/front/image', 'route': '/path'})
    assert found.route == '/path'
    with pytest.raises(InvalidInput, match='no topic /c'):
        find_inputs(topics, CAMERA_NAMES, {'front': '/c'})
    with pytest.raises(InvalidInput, match='expected sensor_msgs'):
        find_inputs(topics, CAMERA_NAMES, {'front': '/path'})
    with pytest.raises(InvalidInput, match='roof'):
        find_inputs(topics, CAMERA_NAMES, {'roof': '/a/front/image'})


@pytest.mark.parametrize('path', ['/path', '/ego/path'])
def test_a_planned_path_is_never_guessed_to_be_the_route(path: str):
    topics = {'/a/front/image': RAW, path: schema.PATH}
    assert find_inputs(topics, CAMERA_NAMES).route is None
    # Beside one that can be the route it is no reason to ask, either.
    assert find_inputs({**topics, '/my_route': schema.PATH}, CAMERA_NAMES).route == '/my_route'


def test_a_bag_whose_only_path_may_be_a_planned_one_says_how_to_name_it(tmp_path: Path, sample: SimpleNamespace):
    with BagWriter(tmp_path / 'bag', load_rig('sim')) as bag:
        for tick in range(2):
            bag.write_observation(sample.observation(tick))
        header = bag._header(sample.T0_S, 'base_link')
        bag.write(schema.Topic('/path', schema.PATH), bag._new(schema.PATH, header=header, poses=[]), sample.T0_S)
    with (
        BagReader(tmp_path / 'bag') as bag,
        pytest.raises(InvalidInput, match='name it: --topic route=/path') as caught,
    ):
        list(bag.observations())
    assert 'has no route (nav_msgs/Path)' in str(caught.value)


def test_raw_pictures_with_foreign_names_are_read(tmp_path: Path, sample: SimpleNamespace):
    """A CARLA-like bag: raw bgra8 pictures, its own topic names, no turn command."""
    store, rig = schema.typestore(), load_rig('sim')
    types = store.types
    with BagWriter(tmp_path / 'bag', rig) as bag:
        bag.write_route(sample.T0_S, sample.ROUTE_M)
        for tick in range(3):
            seen = sample.observation(tick)
            bag.write_odometry(seen.ego)
            for name, frame in seen.frames.items():
                stamp = types['builtin_interfaces/msg/Time'](sec=int(sample.T0_S), nanosec=tick * 100_000_000)
                pixels = np.dstack([frame.image[..., ::-1], np.full((192, 320), 255, np.uint8)])
                image = types[RAW](
                    header=types['std_msgs/msg/Header'](stamp=stamp, frame_id=name),
                    height=192, width=320, encoding='bgra8', is_bigendian=0, step=1280,
                    data=pixels.ravel(),
                )  # fmt: skip
                bag.write(schema.Topic(f'/carla/hero/{name}/image', RAW), image, seen.stamp_s)
    with BagReader(tmp_path / 'bag') as bag:
        seen = list(bag.observations())
    assert len(seen) == 3
    for tick, got in enumerate(seen):
        for name, frame in got.frames.items():
            assert np.array_equal(frame.image, sample.observation(tick).frames[name].image)
