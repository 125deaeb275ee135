# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Bags that tell their rig by tf and camera_info, and where camera_info is found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from fixtures import found
from fixtures.found import START_NS, Event, FoundBag

from vla_driver.bag.mounted import rig_of_frames
from vla_driver.bag.read import BagReader
from vla_driver.bag.topics import InputTopics, find_inputs
from vla_driver.geometry.frames import FrameTree
from vla_driver.geometry.rig import BODY_FROM_OPTICAL, load_rig, mount
from vla_driver.types import CAMERA_NAMES, FloatArray, InvalidInput

YAWS = {'front_left': 55, 'front': 0, 'front_right': -55, 'back_left': 110, 'back': 180, 'back_right': -110}
PLACES = {name: mount([1.0, 0.1, 1.5], yaw, 3.0) for name, yaw in YAWS.items()}
OPTICAL = np.eye(4)
OPTICAL[:3, :3] = BODY_FROM_OPTICAL

Edge = tuple[str, str, FloatArray]


def _body(place: FloatArray) -> FloatArray:
    """Return the pose of a camera's body, x forward, whose optical frame is at `place`."""
    pose = place.copy()
    pose[:3, :3] = place[:3, :3] @ BODY_FROM_OPTICAL.T
    return pose


def _events(edges: Sequence[Edge], topic: str = '/tf_static') -> Any:
    def more(start_ns: int) -> list[Event]:
        events = []
        for parent, child, pose in edges:
            vector = cv2.Rodrigues(pose[:3, :3])[0].ravel()
            angle = float(np.linalg.norm(vector))
            axis = vector / angle if angle > 1e-9 else np.zeros(3)
            turn = (*(axis * math.sin(angle / 2)), math.cos(angle / 2))
            message = found.transform(start_ns, parent, child, pose[:3, 3], turn)
            events.append((start_ns, topic, 'tf2_msgs/msg/TFMessage', message))
        return events

    return more


def _write(folder: Path, edges: Sequence[Edge], tf_topic: str = '/tf_static', **parts: Any) -> Path:
    parts.setdefault('info', found.camera_info)
    return FoundBag(seconds=0.5, more=_events(edges, tf_topic), **parts).write(folder / 'bag')


def _direct(places: Mapping[str, FloatArray] = PLACES, base: str = 'base_link') -> list[Edge]:
    return [(base, f'{name}_optical_frame', place) for name, place in places.items()]


def test_a_full_tree_and_camera_info_make_the_rig(tmp_path: Path):
    edges = [('base_link', 'sensor_kit', np.eye(4)), *_direct(base='sensor_kit')]
    with BagReader(_write(tmp_path, edges)) as bag:
        rig = bag.rig()
        assert set(rig.names) == set(CAMERA_NAMES)
        for camera in rig:
            assert camera.base_from_camera == pytest.approx(PLACES[camera.name], abs=1e-9)
            assert (camera.width, camera.height, camera.intrinsics[0, 0]) == (160, 90, 128.0)
        seen = list(bag.observations())
        assert len(seen) == 5
        assert seen[0].rig['back'].base_from_camera == pytest.approx(PLACES['back'], abs=1e-9)
        assert 'mounted as tf (back_optical_frame in base_link) says' in bag.calibration['back'].describe()


def test_a_camera_that_begins_late_is_mounted_and_calibrated_all_the_same(tmp_path: Path):
    """Thousands of messages of all others come before its first."""

    def more(start_ns: int) -> list[Event]:
        often = [
            (start_ns + k, '/odom', 'nav_msgs/msg/Odometry', found.odometry(start_ns + k, (0, 0, 0), (8, 0, 0)))
            for k in range(3100)
        ]
        return [*_events(_direct())(start_ns), *often]

    events = FoundBag(seconds=0.5, info=found.camera_info, more=more).events()
    late = [event for event in events if '/back/' not in event[1] or event[0] - START_NS > 3e8]
    with BagReader(found.write_events(tmp_path / 'bag', late)) as bag:
        assert bag.rig()['back'].base_from_camera == pytest.approx(PLACES['back'], abs=1e-9)
        assert 'mounted as tf (back_optical_frame in base_link) says' in bag.calibration['back'].describe()


@pytest.mark.parametrize(
    ('told', 'reason'),
    [
        ((), 'camera back: no message can be read on /back/image and /back/camera_info;'),
        (('/back/image',), 'camera back: no message can be read on /back/camera_info, which tells its intrinsics;'),
    ],
)
def test_a_camera_of_which_nothing_can_be_read_is_not_one_without_a_frame(told: Sequence[str], reason: str):
    inputs = InputTopics({'back': '/back/image'}, {'back': '/back/camera_info'})
    bag = SimpleNamespace(
        path=Path('bag'),
        frames=FrameTree,
        messages=lambda topics: ((topic, 0, found.jpeg('back', 0, 0)) for topic in topics if topic in told),
    )
    with pytest.raises(InvalidInput, match=reason):
        rig_of_frames(bag, inputs, ())


def test_the_tree_of_autoware(tmp_path: Path):
    """Bodies below a sensor kit, optical frames below them; the pictures name the body."""
    edges: list[Edge] = [('base_link', 'sensor_kit_base_link', mount([0.9, 0, 2.0], 0) @ np.linalg.inv(OPTICAL))]
    kit = edges[0][2]
    for name, place in PLACES.items():
        edges.append(('sensor_kit_base_link', f'{name}_optical_frame', np.linalg.inv(kit) @ _body(place)))
        edges.append((f'{name}_optical_frame', f'{name}_optical_frame_optical', OPTICAL))
    with BagReader(_write(tmp_path, edges)) as bag:
        assert bag.rig()['back_left'].base_from_camera == pytest.approx(PLACES['back_left'], abs=1e-9)
        assert 'is no optical frame' in bag.calibration['back_left'].warnings[0]


def test_fixed_joints_on_tf_count_and_the_odometry_names_the_vehicle(tmp_path: Path):
    path = _write(
        tmp_path,
        _direct(base='hero'),
        '/tf',
        moving=lambda at_ns, x, y, yaw: found.odometry(at_ns, (x, y, yaw), (8.0, 0.0, 0.0), ('map', 'hero')),
    )
    with BagReader(path) as bag:
        assert bag.rig()['front'].base_from_camera == pytest.approx(PLACES['front'], abs=1e-9)


def test_what_lacks_is_named(tmp_path: Path):
    half = {name: place for name, place in PLACES.items() if name != 'back'}
    with (
        BagReader(_write(tmp_path / 'half', _direct(half))) as bag,
        pytest.raises(InvalidInput, match="camera back: frame 'back_optical_frame' is not in the tf tree; there"),
    ):
        bag.rig()
    apart = [*_direct(half), ('trailer', 'back_optical_frame', PLACES['back'])]
    with (
        BagReader(_write(tmp_path / 'apart', apart)) as bag,
        pytest.raises(InvalidInput, match="camera back: frame 'back_optical_frame' is not connected to 'base_link'"),
    ):
        bag.rig()
    with (
        BagReader(_write(tmp_path / 'blind', _direct(), info=None)) as bag,
        pytest.raises(InvalidInput, match='no camera_info tells its intrinsics; give a rig'),
    ):
        bag.rig()
    wrong = {'info': lambda camera, at_ns: found.camera_info(camera, at_ns, k=np.zeros(9))}
    with (
        BagReader(_write(tmp_path / 'wrong', _direct(), **wrong)) as bag,
        pytest.raises(InvalidInput, match='not calibrated'),
    ):
        bag.rig()
    with (
        BagReader(_write(tmp_path / 'none', [])) as bag,
        pytest.raises(InvalidInput, match='it has no /tf_static'),
    ):
        bag.rig()


def test_a_rig_that_is_given_goes_before_tf(tmp_path: Path):
    rig = load_rig('nuscenes')
    with BagReader(_write(tmp_path, _direct()), rig=rig) as bag:
        seen = next(iter(bag.observations()))
        assert seen.rig['back'].base_from_camera == pytest.approx(rig['back'].base_from_camera)
        assert seen.rig['back'].width == 160


def test_cameras_of_a_stereo_pair_are_turned_once(tmp_path: Path):
    turn = mount([0, 0, 0], 4.0)[:3, :3] @ mount([0, 0, 0], 0.0)[:3, :3].T
    parts = {
        'topic': '/camera/{}/image_rect_color/compressed',
        'info': lambda camera, at_ns: found.camera_info(camera, at_ns, r=turn.ravel(), d=[-0.3, 0.1, 0.0, 0.0, 0.0]),
    }
    with BagReader(_write(tmp_path, _direct(), **parts)) as bag:
        seen = next(iter(bag.observations()))
        assert seen.rig['front'].base_from_camera[:3, :3] == pytest.approx(PLACES['front'][:3, :3] @ turn.T, abs=1e-9)
        assert 'from camera_info P (rectified)' in bag.calibration['front'].describe()


@pytest.mark.parametrize(
    ('topic', 'info'),
    [
        ('/cam/front/image_raw', '/cam/front/camera_info'),
        ('/cam/front/image_raw', '/cam/front/image_raw/camera_info'),
        ('/cam/front/image_raw/compressed', '/cam/front/camera_info'),
        ('/cam/front/image_raw/compressed', '/cam/front/image_raw/camera_info'),
        ('/cam/front/image_raw/compressed', '/cam/front/image_raw/compressed/camera_info'),
        ('/cam_front', '/cam_front/camera_info'),
    ],
)
def test_camera_info_is_found_beside_and_below(topic: str, info: str):
    kind = 'CompressedImage' if topic.endswith('compressed') else 'Image'
    topics = {topic: f'sensor_msgs/msg/{kind}', info: 'sensor_msgs/msg/CameraInfo', '/odom': 'nav_msgs/msg/Odometry'}
    assert find_inputs(topics, ['front']).infos == {'front': info}


def test_one_camera_info_beside_several_cameras_is_nobodys():
    image, info = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CameraInfo'
    topics = {'/cams/front': image, '/cams/back': image, '/cams/camera_info': info, '/odom': 'nav_msgs/msg/Odometry'}
    assert find_inputs(topics, ['front', 'back']).infos == {}
