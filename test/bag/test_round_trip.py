# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What is written comes back: observations, ground truth, types, quality of service."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from rosbags.interfaces import QosDurability, QosReliability

from vla_driver.bag import schema
from vla_driver.bag.read import BagReader
from vla_driver.bag.write import BagWriter
from vla_driver.geometry import se2
from vla_driver.geometry.rig import load_rig
from vla_driver.observation.decode import encode_jpeg
from vla_driver.observation.sync import CameraSync
from vla_driver.types import CAMERA_NAMES, InputNeeds, InvalidInput, TurnCommand

TICKS = 12


def test_observations_come_back(drive: Path, sample: SimpleNamespace):
    with BagReader(drive) as bag:
        seen = list(bag.observations())
        assert bag.skipped == () and bag.rejected == {}
    assert len(seen) == TICKS
    for tick, got in enumerate(seen):
        want = sample.observation(tick)
        assert got.stamp_s == pytest.approx(want.stamp_s, abs=1e-6)
        assert got.ego.pose == pytest.approx(want.ego.pose, abs=1e-9)
        assert (got.ego.speed_mps, got.ego.yaw_rate_rps) == (sample.SPEED_MPS, sample.YAW_RATE_RPS)
        assert got.navigation.command is TurnCommand.LEFT
        assert got.navigation.distance_m == 50.0 - tick
        assert got.navigation.target_points_m == pytest.approx(se2.points_to_local(want.ego.pose, sample.ROUTE_M[:2]))
        assert set(got.frames) == set(CAMERA_NAMES) and got.missing == ()
        for name, frame in got.frames.items():
            assert frame.stamp_s == got.stamp_s
            error = np.abs(frame.image.astype(int) - sample.picture(tick, name))
            assert frame.image.shape == (192, 320, 3) and error.mean() < 2.0 and error.max() < 40
        for mine, original in zip(got.rig, load_rig('sim'), strict=True):
            assert mine.intrinsics == pytest.approx(original.intrinsics)
            assert mine.base_from_camera == pytest.approx(original.base_from_camera, abs=1e-9)


def test_jpegs_are_not_touched_on_the_way(drive: Path, sample: SimpleNamespace):
    with BagReader(drive) as bag:
        topic = schema.image_topic('back').name
        _, _, message = next(bag.messages([topic]))
    assert bytes(message.data) == encode_jpeg(sample.picture(0, 'back'))
    assert message.header.frame_id == 'back_optical_frame'


def test_scaled_decoding_is_asked_for_per_camera(drive: Path):
    with BagReader(drive) as bag:
        seen = next(bag.observations(needs=InputNeeds(image_sizes={'back': (160, 96), 'front_left': (40, 24)})))
    sizes = {name: frame.image.shape[:2] for name, frame in seen.frames.items()}
    assert sizes['front'] == (192, 320) and sizes['back'] == (96, 160) and sizes['front_left'] == (24, 40)


def test_ground_truth_comes_back(drive: Path, sample: SimpleNamespace):
    with BagReader(drive) as bag:
        agents = list(bag.agents())
        paths = list(bag.expert_trajectories())
        masks = list(bag.semantic('front'))
        assert list(bag.semantic('back')) == []
        assert bag.route() == pytest.approx(sample.ROUTE_M)
    assert len(agents) == len(paths) == len(masks) == TICKS
    stamp_s, actors = agents[5]
    assert stamp_s == pytest.approx(sample.T0_S + 5 * sample.STEP_S, abs=1e-6)
    (got,), want = actors, sample.car(5)
    assert (got.actor_id, got.kind) == (want.actor_id, want.kind)
    for field in ('x_m', 'y_m', 'yaw_rad', 'length_m', 'width_m', 'height_m', 'speed_mps'):
        assert getattr(got, field) == pytest.approx(getattr(want, field), abs=1e-3)
    t0, trajectory = paths[3]
    assert t0 == pytest.approx(sample.T0_S + 3 * sample.STEP_S, abs=1e-6)
    assert trajectory.positions_m == pytest.approx(sample.expert().positions_m, abs=1e-9)
    assert trajectory.yaw_rad == pytest.approx(sample.expert().yaw_rad, abs=1e-9)
    assert trajectory.dt_s == 0.25
    # Speeds are means over steps: half a step's braking away.
    assert trajectory.speed_mps == pytest.approx(sample.expert().speed_mps + 0.5 * 0.5 * 0.25, abs=1e-3)
    assert all((labels == tick).all() and labels.shape == (48, 80) for tick, (_, labels) in enumerate(masks))


def test_driven_future(drive: Path, sample: SimpleNamespace):
    with BagReader(drive) as bag:
        future = bag.track().future_poses(sample.T0_S + 0.15, dt_s=0.25, steps=6)
    # On a circle: chord and angle from the yaw rate alone.  The linear interpolation cuts 0.5 mm corners.
    turn = sample.YAW_RATE_RPS * 0.25 * np.arange(1, 7)
    radius = sample.SPEED_MPS / sample.YAW_RATE_RPS
    want = np.stack([radius * np.sin(turn), radius * (1 - np.cos(turn)), turn], axis=-1)
    assert future[:3] == pytest.approx(want[:3], abs=2e-3)
    assert np.isnan(future[4:]).all()  # the record ends 1.1 s after its start


def test_types_and_quality_of_service_are_what_ros_expects(drive: Path):
    with BagReader(drive) as bag:
        topics = {c.topic: c for c in bag.connections}
    assert topics['/camera/front/image/compressed'].msgtype == 'sensor_msgs/msg/CompressedImage'
    assert topics['/camera/back/camera_info'].msgtype == 'sensor_msgs/msg/CameraInfo'
    assert topics['/odom'].msgtype == 'nav_msgs/msg/Odometry'
    assert topics['/turn_command'].msgtype == 'vla_driver/msg/TurnCommand'
    assert topics['/ground_truth/agents'].msgtype == 'visualization_msgs/msg/MarkerArray'
    assert topics['/ground_truth/front/semantic/compressed'].msgtype == 'sensor_msgs/msg/CompressedImage'
    assert '/clock' not in topics
    for name, connection in topics.items():
        (qos,) = connection.ext.offered_qos_profiles
        latched = QosDurability.TRANSIENT_LOCAL if name == '/route' else QosDurability.VOLATILE
        assert (qos.reliability, qos.durability) == (QosReliability.RELIABLE, latched)
        assert qos.depth >= 1
        assert connection.ext.serialization_format == 'cdr'


def test_metadata_is_of_a_format_that_all_supported_distributions_read(drive: Path):
    metadata = yaml.safe_load((drive / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    assert metadata['version'] == 8
    assert metadata['storage_identifier'] == 'mcap'
    assert metadata['compression_mode'] == ''
    assert metadata['message_count'] == TICKS * (6 * 2 + 2 + 3) + 1
    for topic in metadata['topics_with_message_count']:
        # Numbers inside a string: what rosbag2 before Jazzy reads, and later ones still do.
        (offered,) = yaml.safe_load(topic['topic_metadata']['offered_qos_profiles'])
        assert all(isinstance(offered[key], int) for key in ('history', 'reliability', 'durability'))


@functools.cache
def _built_type(name: str) -> tuple[type, dict[str, str]]:
    """Return the class that rosidl generated for a type, and the hashes of it and its parts; skip without ROS."""
    package, _, kind = name.split('/')
    module = pytest.importorskip(f'{package}.msg', reason='the messages are not built (no ROS 2 here)')
    shares = (p / 'share' / package / 'msg' / f'{kind}.json' for p in Path(module.__file__).parents)
    description = json.loads(next(path for path in shares if path.is_file()).read_text())
    return getattr(module, kind), {entry['type_name']: entry['hash_string'] for entry in description['type_hashes']}


MESSAGE_TYPES = [
    schema.COMPRESSED_IMAGE,
    schema.CAMERA_INFO,
    schema.ODOMETRY,
    schema.PATH,
    schema.MARKERS,
    schema.TURN_COMMAND,
    'vla_driver/msg/DrivingPlan',
]


@pytest.mark.parametrize('name', MESSAGE_TYPES)
def test_type_hashes_are_those_of_the_built_messages(name: str):
    """Players compare the hash in the bag with the one of the installed type."""
    _, hashes = _built_type(name)
    assert schema.typestore().hash_rihs01(name) == hashes[name]


def test_the_client_library_reads_every_message(drive: Path):
    """What `ros2 bag play` does: the bytes in the bag are messages to ROS itself."""
    serialization = pytest.importorskip('rclpy.serialization', reason='no ROS 2 here')
    counts: dict[str, int] = {}
    with BagReader(drive) as bag:
        for connection, _, data in bag.raw_messages():
            kind, _ = _built_type(connection.msgtype)
            message = serialization.deserialize_message(data, kind)
            assert len(serialization.serialize_message(message)) == len(data)  # (padding is not initialised)
            counts[connection.topic] = counts.get(connection.topic, 0) + 1
            if connection.topic == '/ground_truth/agents':
                assert [(m.ns, m.action) for m in message.markers] == [('', 3), ('car', 0)]
            if connection.topic == '/camera/back/camera_info':
                assert (message.width, message.height) == (320, 192)
                assert list(message.k) == pytest.approx(load_rig('sim')['back'].intrinsics.ravel())
    assert counts['/route'] == 1
    assert counts['/camera/front_left/image/compressed'] == counts['/odom'] == TICKS


def test_nothing_is_overwritten(drive: Path):
    before = (drive / 'metadata.yaml').read_bytes()
    with pytest.raises(InvalidInput, match='exists already'), BagWriter(drive, load_rig('sim')):
        pass
    assert (drive / 'metadata.yaml').read_bytes() == before


def test_a_recording_that_fails_stays_readable(tmp_path: Path, sample: SimpleNamespace):
    def record() -> None:
        with BagWriter(tmp_path / 'cut', load_rig('sim')) as bag:
            bag.write_route(sample.T0_S, sample.ROUTE_M)
            for tick in range(5):
                bag.write_observation(sample.observation(tick))
            raise RuntimeError('power')

    with pytest.raises(RuntimeError, match='power'):
        record()
    with BagReader(tmp_path / 'cut') as bag:
        assert len(list(bag.observations())) == 5


def test_a_single_mcap_file_is_a_bag_too(drive: Path):
    (file,) = drive.glob('*.mcap')
    with BagReader(file, rig=load_rig('sim')) as bag:
        assert len(list(bag.observations())) == TICKS


def test_refused_values_name_themselves(tmp_path: Path, sample: SimpleNamespace):
    rig = load_rig('sim')
    with BagWriter(tmp_path / 'bag', rig) as bag:
        with pytest.raises(InvalidInput, match='stamp'):
            bag.write_turn_command(-1.0, TurnCommand.LEFT, 1.0)
        with pytest.raises(InvalidInput, match='calibrated for 320x192'):
            bag.write_camera('front', sample.T0_S, np.zeros((192, 192, 3), np.uint8))
        with pytest.raises(InvalidInput, match='route'):
            bag.write_route(sample.T0_S, np.zeros((0, 2)))
        with pytest.raises(InvalidInput, match=r'\[H, W\]'):
            bag.write_semantic('front', sample.T0_S, np.zeros((4, 4, 3), np.uint8))
        bag.write_odometry(sample.ego(0))
        with pytest.raises(InvalidInput, match='holds'):
            bag.write(schema.Topic('/odom', schema.PATH), None, sample.T0_S)
    with pytest.raises(InvalidInput, match='not open'):
        bag.write_odometry(sample.ego(1))


def test_a_camera_that_stops_is_skipped_or_ends_the_observations(tmp_path: Path, sample: SimpleNamespace):
    path = tmp_path / 'bag'
    with BagWriter(path, load_rig('sim')) as bag:
        bag.write_route(sample.T0_S, sample.ROUTE_M)
        for tick in range(10):
            seen = sample.observation(tick)
            bag.write_odometry(seen.ego)
            bag.write_turn_command(seen.stamp_s, seen.navigation.command, seen.navigation.distance_m)
            for name, frame in seen.frames.items():
                if name != 'back_left' or tick < 4:
                    bag.write_camera(name, frame.stamp_s, frame.image)
    with BagReader(path) as bag:
        assert len(list(bag.observations())) == 4
        skipping = list(bag.observations(policies={'back_left': 'skip'}))
        black = list(bag.observations(policies={'back_left': 'black'}))
    assert [o.missing for o in skipping] == [()] * 4 + [('back_left',)] * 6
    assert len(black) == 10 and black[-1].missing == ()
    assert not black[-1].frames['back_left'].image.any() and black[0].frames['back_left'].image.any()


def test_default_policy_is_the_synchronisers():
    assert all(CameraSync(CAMERA_NAMES).policy(name) == 'require' for name in CAMERA_NAMES)


@pytest.mark.parametrize('absent', ['back_right', 'turn_command'])
def test_optional_inputs_may_be_absent_from_a_bag(tmp_path: Path, absent: str, sample: SimpleNamespace):
    with BagReader(sample.write_drive(tmp_path / 'bag', 4, leave_out=(absent,))) as bag:
        seen = list(bag.observations())
    assert len(seen) == 4
    if absent == 'turn_command':
        assert all(o.navigation.command is TurnCommand.FOLLOW for o in seen)
    else:
        assert all(o.missing == ('back_right',) for o in seen)
