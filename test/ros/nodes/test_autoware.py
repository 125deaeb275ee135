# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The planner in an Autoware system: the names, types, quality of service and frames that Autoware has.

The pictures are those of the sample bag; no Autoware runs here.
"""

import dataclasses
import sys

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry, Path
from rclpy.qos import qos_profile_sensor_data
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage
from vla_driver.msg import DrivingPlan

from vla_driver.bag.sample import sample_bag_path
from vla_driver.geometry import se2
from vla_driver.geometry.frames import inverse, quaternion_of
from vla_driver.geometry.rig import BODY_FROM_OPTICAL, load_rig
from vla_driver.observation.assemble import ObservationAssembler
from vla_driver.planning.tick import Planner
from vla_driver.policies.loading import load_policy
from vla_driver.resources import resource
from vla_driver.ros.nodes.playback import Bag
from vla_driver.ros.wire import conversions as convert
from vla_driver.ros.wire import qos
from vla_driver.ros.wire.diagnostics import Level

planning_msgs = pytest.importorskip('autoware_planning_msgs.msg', reason="Autoware's messages are not installed")
tf2_msgs = pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs is not installed')

#: Which camera of the sample sensor kit looks where.
NUMBERS = {'front_left': 0, 'back_right': 1, 'front_right': 2, 'back_left': 3, 'front': 4, 'back': 5}
#: Where the kit sits on the vehicle.
KIT_M = (0.9, 0.0, 1.4)
#: Which part of the bag, in seconds and in ticks.
START_S, TICKS = 4.0, 6
FAST = {'diagnostics_period_s': 0.1, 'max_age_s': 5.0, 'plan_ttl_s': 5.0, 'stale_s': 60.0}


@pytest.fixture
def start(nodes, launcher, monkeypatch):
    """Return a function that starts the planner as `ros2 launch vla_driver autoware.launch.py WORDS` would."""

    def started(*words):
        planner = launcher('autoware', 'trajectory_topic:=/planning/trajectory', *words).started['planner']
        monkeypatch.setattr(sys, 'argv', sys.argv[:1])  # rclpy reads it, too
        node = nodes.start('planner', {**FAST, **planner.parameters}, remappings=planner.remappings)
        nodes.wait_active(node)
        return node

    return started


def frame(camera):
    """Return the optical frame that Autoware's drivers write into the headers."""
    return f'camera{NUMBERS[camera]}/camera_optical_link'


def transform(parent, child, pose):
    stamped = TransformStamped(child_frame_id=child)
    stamped.header.frame_id = parent
    place, turn = stamped.transform.translation, stamped.transform.rotation
    place.x, place.y, place.z = map(float, pose[:3, 3])
    turn.x, turn.y, turn.z, turn.w = quaternion_of(pose[:3, :3])
    return stamped


def kit(yaw_deg=0.0):
    """Return base_from_kit [4, 4]."""
    pose, yaw = np.eye(4), np.radians(yaw_deg)
    pose[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    pose[:3, 3] = KIT_M
    return pose


def tree(yaw_deg=0.0):
    """Return /tf_static of a vehicle with the rig `sim`; its whole sensor kit is turned by `yaw_deg`."""
    message = tf2_msgs.TFMessage(transforms=[transform('base_link', 'sensor_kit_base_link', kit(yaw_deg))])
    optical = np.eye(4)
    optical[:3, :3] = BODY_FROM_OPTICAL
    for camera in load_rig('sim'):
        link = f'camera{NUMBERS[camera.name]}/camera_link'
        place = inverse(kit()) @ camera.base_from_camera @ inverse(optical)
        message.transforms += [
            transform('sensor_kit_base_link', link, place),
            transform(link, frame(camera.name), optical),
        ]
    return message


@dataclasses.dataclass
class Drive:
    """Some ticks of the sample bag, in Autoware's frames.  pictures, infos: camera -> message."""

    route: Path
    odometry: list[Odometry]
    pictures: list[dict[str, CompressedImage]]
    infos: dict[str, CameraInfo]

    @property
    def stamps(self):
        return [convert.to_nanoseconds(state.header.stamp) for state in self.odometry]


@pytest.fixture(scope='module')
def drive():
    found = Drive(Path(), [], [{} for _ in range(TICKS)], {})
    with Bag(sample_bag_path()) as bag:
        first_ns = bag.start_ns + round(START_S * 1e9)
        for letter in bag.letters(bag.channels, START_S, 0.1 * TICKS - 0.05):
            topic = letter.channel.topic
            message = deserialize_message(letter.data, letter.channel.message_type)
            if topic == '/odom':
                message.header.frame_id, message.child_frame_id = 'map', 'base_link'
                found.odometry.append(message)
            elif topic == '/route':
                message.header.frame_id = 'map'
                found.route = message
            elif topic.startswith('/camera/'):
                camera = topic.split('/')[2]
                message.header.frame_id = frame(camera)
                if topic.endswith('camera_info'):
                    found.infos[camera] = message
                else:
                    tick = round((convert.to_nanoseconds(message.header.stamp) - first_ns) / 1e8)
                    found.pictures[tick][camera] = message
    assert len(found.odometry) == TICKS
    assert all(set(pictures) == set(NUMBERS) for pictures in found.pictures)
    return found


class Autoware:
    """Publishes a drive as Autoware's sensing and localization do, and hears what is planned.

    transforms: what /tf_static says; None: nobody publishes it.
    """

    def __init__(self, probe, drive, transforms):
        self.probe, self.drive = probe, drive
        below = {camera: f'/sensing/camera/camera{number}' for camera, number in NUMBERS.items()}
        best_effort = qos_profile_sensor_data
        self._pictures = {
            camera: probe.publisher(CompressedImage, f'{start}/image_raw/compressed', best_effort)
            for camera, start in below.items()
        }
        self._infos = {
            camera: probe.publisher(CameraInfo, f'{start}/camera_info', best_effort) for camera, start in below.items()
        }
        self._odometry = probe.publisher(Odometry, '/localization/kinematic_state')
        probe.publisher(Path, '/planning/route_points', qos.LATCHED).publish(drive.route)
        self._tf = None
        if transforms is not None:
            self._tf = probe.publisher(tf2_msgs.TFMessage, '/tf_static', qos.LATCHED)
            self._tf.publish(transforms)
        self.trajectories = probe.listen(planning_msgs.Trajectory, '/planning/trajectory')
        self.paths, self.plans = probe.listen(Path, 'path'), probe.listen(DrivingPlan, 'plan')
        self.report = probe.diagnostics()

    def say_infos(self):
        for camera, outlet in self._infos.items():
            outlet.publish(self.drive.infos[camera])

    def calibration(self, camera):
        return (self.report(f'planner: camera {camera}') or {}).get('calibration', '')

    def ready(self):
        """Return whether the planner has heard of everything that is told once or seldom."""
        inputs = self.report('planner: inputs')
        told = [self.calibration(camera) for camera in NUMBERS]
        return (
            inputs is not None
            and 'route' not in inputs['message']
            and all('from camera_info K' in words for words in told)
            and (self._tf is None or all('mounted as tf' in words for words in told))
        )

    def run(self):
        """Send the drive; a tick follows when the one before is answered."""
        outlets = [*self._pictures.values(), self._odometry]
        self.probe.until(lambda: all(outlet.get_subscription_count() for outlet in outlets))
        self.probe.until(self.ready, act=self.say_infos)
        self.probe.spin(0.3)  # discovery is not symmetric
        answers = (self.trajectories, self.paths, self.plans)
        for state, pictures in zip(self.drive.odometry, self.drive.pictures, strict=True):
            self._odometry.publish(state)
            for camera, outlet in self._pictures.items():
                outlet.publish(pictures[camera])
            stamp = convert.to_nanoseconds(state.header.stamp)
            self.probe.until(lambda stamp=stamp: all(stamps_of(heard)[-1:] == [stamp] for heard in answers))


def stamps_of(messages):
    return [convert.to_nanoseconds(message.header.stamp) for message in messages]


def offline(drive, transforms=None):
    """Return the positions [tick, point, 2] that the offline core plans of the same messages.

    transforms: where the cameras are; None leaves them where the rig `sim` has them.
    """
    policy = load_policy('nano', engine='auto', threads=1)
    assembler = ObservationAssembler(load_rig('sim'), needs=policy.needs, turns_from_route=True)
    planner, plans = Planner(policy), []
    assembler.push_route(drive.route)
    for camera, info in drive.infos.items():
        assert assembler.push_camera_info(camera, info)
    if transforms is not None:
        assembler.push_transforms(transforms)
    for state, pictures in zip(drive.odometry, drive.pictures, strict=True):
        assembler.push_odometry(state)
        for camera, picture in pictures.items():
            assembler.push_image(camera, picture)
        assembler.flush()
        plans.append(planner.answer(assembler.take()).plan)
    return positions(plans)


def positions(plans):
    return np.array([plan.trajectory.positions_m for plan in plans])


@pytest.mark.parametrize('yaw_deg', [0.0, 30.0])
def test_autowares_names_give_the_plans_of_cameras_where_tf_has_them(probe, start, drive, yaw_deg):
    """With tf as the rig `sim`, the plans are those of that rig; with the kit turned, those of cameras so turned."""
    autoware = Autoware(probe, drive, tree(yaw_deg))
    start('policy:=model', 'threads:=1')
    autoware.run()
    assert stamps_of(autoware.trajectories) == stamps_of(autoware.paths) == drive.stamps
    assert {trajectory.header.frame_id for trajectory in autoware.trajectories} == {'map'}
    assert {path.header.frame_id for path in autoware.paths} == {'base_link'}
    for camera in NUMBERS:
        assert autoware.calibration(camera).endswith(f'mounted as tf ({frame(camera)} in base_link) says')
        probe.until(lambda name=camera: autoware.report(f'planner: camera {name}')['level'] == Level.OK)

    plans = [convert.from_driving_plan(message) for message in autoware.plans]
    assert {plan.source for plan in plans} == {'policy'}
    np.testing.assert_allclose(positions(plans), offline(drive, tree(yaw_deg)), atol=1e-4)
    from_the_rigs_m = np.abs(positions(plans) - offline(drive)).max()
    assert from_the_rigs_m < 1e-4 if yaw_deg == 0.0 else from_the_rigs_m > 0.1

    for trajectory, plan, state in zip(autoware.trajectories, plans, drive.odometry, strict=True):
        places = [point.pose.position for point in trajectory.points]
        at_m = np.array([[place.x, place.y] for place in places])
        vehicle = state.pose.pose.position
        np.testing.assert_allclose(at_m[0], [vehicle.x, vehicle.y], atol=1e-3)
        way = np.column_stack([plan.trajectory.positions_m, plan.trajectory.yaw_rad])
        np.testing.assert_allclose(at_m[1:], se2.compose(plan.ego.pose, way)[:, :2], atol=1e-3)


def test_a_camera_on_anothers_topic_is_told_by_tf(probe, start, drive, tmp_path):
    text = resource('config', 'topics', 'autoware.yaml').read_text(encoding='utf-8')
    swapped = tmp_path / 'mine.yaml'
    swapped.write_text(text.replace('camera4', 'cameraN').replace('camera5', 'camera4').replace('cameraN', 'camera5'))
    autoware = Autoware(probe, drive, tree())
    node = start('policy:=constant-velocity', f'topics_file:={swapped}')
    autoware.run()
    words = (
        'rig sim has it looking to yaw 0, pitch 0 degrees, tf (camera5/camera_optical_link in base_link) to yaw 180, '
        'pitch 0 degrees, where camera back looks: is it on the topic of that one?'
    )
    probe.until(lambda: autoware.report('planner: camera front')['message'] == words)
    assert autoware.report('planner: camera front')['level'] == Level.WARN
    probe.until(lambda: 'where camera front looks' in autoware.report('planner: camera back')['message'])
    probe.until(lambda: autoware.report('planner: camera front_left')['level'] == Level.OK)
    probe.until(lambda: f'camera front: {words}' in node.output)


def test_without_tf_the_rig_says_where_cameras_are_and_that_is_told(probe, start, drive):
    autoware = Autoware(probe, drive, None)
    start('policy:=constant-velocity')
    autoware.run()
    assert all('mounted as rig sim says' in autoware.calibration(camera) for camera in NUMBERS)
