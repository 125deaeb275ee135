# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Write a drive to a bag (mcap) that `ros2 bag play` and rosbags read.  Needs no ROS installation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from rosbags.interfaces import Connection
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer, WriterError

from vla_driver.bag import schema
from vla_driver.geometry.frames import quaternion_of
from vla_driver.geometry.rig import rig_to_yaml
from vla_driver.observation.decode import encode_jpeg, encode_png
from vla_driver.observation.pictures.compressed import kind_of
from vla_driver.sim.world.scene import Actor, SemanticClass
from vla_driver.types import (
    CameraModel,
    CameraRig,
    EgoState,
    FloatArray,
    Image,
    InvalidInput,
    Observation,
    Trajectory,
    TurnCommand,
)
from vla_driver.types.checks import finite

#: Metadata format 8 (Iron).  Later distributions read earlier formats; 9 writes the quality of service in a way
#: on which Humble stops with "bad conversion".
METADATA_VERSION: Literal[8] = 8

_CUBE, _LINE_STRIP, _ADD, _DELETE_ALL = 1, 4, 0, 3
#: How broad viewers draw the road's boundary.
_LINE_WIDTH_M = 0.15
_COLOURS = {
    SemanticClass.CAR: (0.25, 0.55, 0.95),
    SemanticClass.TRUCK: (0.95, 0.6, 0.2),
    SemanticClass.PEDESTRIAN: (0.95, 0.25, 0.3),
    SemanticClass.BICYCLE: (0.3, 0.8, 0.4),
}


def nanoseconds(stamp_s: float) -> int:
    """Return seconds as whole nanoseconds; raise InvalidInput outside of what builtin_interfaces/Time holds."""
    if not (math.isfinite(stamp_s) and 0.0 <= stamp_s < 2**31):
        raise InvalidInput(f'stamp {stamp_s} s, expected 0 to 2^31 (builtin_interfaces/Time)')
    return round(stamp_s * 1e9)


class BagWriter:
    """A context manager that writes one bag.

    path: the bag's folder; it must not exist yet (InvalidInput).  rig: its calibration is written with every
    picture, and as YAML into the bag's metadata.  On an exception inside the block, what was written so far is
    closed properly and stays readable.

    Messages are logged at their own stamp.  Write a tick's odometry and turn command before its pictures
    (`write_observation` does), so that a player sends them in that order.
    """

    def __init__(self, path: str | Path, rig: CameraRig, *, jpeg_quality: int = 90, subsampling: str = '444') -> None:
        self._path, self._rig = Path(path), rig
        self._quality, self._subsampling = jpeg_quality, subsampling
        self._types = schema.typestore()
        self._connections: dict[str, Connection] = {}
        self._writer: Writer | None = None

    def __enter__(self) -> BagWriter:
        try:
            writer = Writer(self._path, version=METADATA_VERSION, storage_plugin=StoragePlugin.MCAP)
            # The chunks inside the file are compressed, which every mcap reader undoes by itself.
            writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            writer.set_custom_data(schema.RIG_KEY, rig_to_yaml(self._rig))
            writer.open()
        except WriterError as error:
            raise InvalidInput(f'bag {self._path} exists already; give another path or remove it') from error
        except OSError as error:
            raise InvalidInput(f'bag {self._path} cannot be written: {error}') from error
        self._writer = writer
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    @property
    def path(self) -> Path:
        """The bag's folder."""
        return self._path

    def write(self, topic: schema.Topic, message: Any, stamp_s: float) -> None:
        """Write any message of the type store (`schema.typestore`) at log time `stamp_s`."""
        if self._writer is None:
            raise InvalidInput(f'bag {self._path} is not open: use `with BagWriter(...) as bag`')
        connection = self._connections.get(topic.name)
        if connection is None:
            connection = self._writer.add_connection(
                topic.name, topic.msgtype, typestore=self._types, offered_qos_profiles=[topic.qos]
            )
            self._connections[topic.name] = connection
        elif connection.msgtype != topic.msgtype:
            raise InvalidInput(f'topic {topic.name} holds {connection.msgtype}, not {topic.msgtype}')
        data = self._types.serialize_cdr(message, topic.msgtype)
        self._writer.write(connection, nanoseconds(stamp_s), data)

    def write_camera(self, camera: str, stamp_s: float, image: Image) -> None:
        """Write a picture [H, W, 3] as JPEG, and its calibration."""
        model = self._rig[camera]
        height, width = image.shape[:2]
        if abs(width * model.height - height * model.width) > 0.02 * width * model.height:
            raise InvalidInput(
                f'camera {camera}: picture of {width}x{height}, but the rig is calibrated for '
                f'{model.width}x{model.height} (other proportions)'
            )
        data = np.frombuffer(encode_jpeg(image, self._quality, self._subsampling), dtype=np.uint8)
        self._write_compressed(schema.image_topic(camera), camera, stamp_s, 'jpeg', data)
        self.write_camera_info(model.resized(width, height), stamp_s)

    def write_picture_file(self, camera: str, stamp_s: float, data: bytes) -> None:
        """Write a picture that is a JPEG or PNG already, as it is, and the rig's calibration, which must be its own."""
        kind = kind_of(memoryview(data))
        if kind not in ('jpeg', 'png'):
            raise InvalidInput(f'camera {camera}: a file of {len(data)} bytes that is neither JPEG nor PNG')
        self._write_compressed(schema.image_topic(camera), camera, stamp_s, kind, np.frombuffer(data, np.uint8))
        self.write_camera_info(self._rig[camera], stamp_s)

    def write_mountings(self, stamp_s: float) -> None:
        """Write where the rig's cameras are mounted, as /tf_static."""
        transforms = []
        for camera in self._rig:
            pose = camera.base_from_camera
            x, y, z, w = quaternion_of(pose[:3, :3])
            rotation = self._new('geometry_msgs/msg/Quaternion', x=x, y=y, z=z, w=w)
            transform = self._new(
                'geometry_msgs/msg/Transform', translation=self._vector(*pose[:3, 3]), rotation=rotation
            )
            header = self._header(stamp_s, schema.BASE_FRAME)
            child = schema.optical_frame(camera.name)
            transforms.append(
                self._new(
                    'geometry_msgs/msg/TransformStamped', header=header, child_frame_id=child, transform=transform
                )
            )
        self.write(schema.TF_STATIC_OUT, self._new(schema.TRANSFORMS[0], transforms=transforms), stamp_s)

    def write_semantic(self, camera: str, stamp_s: float, labels: npt.NDArray[np.uint8]) -> None:
        """Write class ids [H, W] as PNG."""
        if labels.ndim != 2:
            raise InvalidInput(f'camera {camera}: labels of shape {labels.shape}, expected [H, W]')
        data = np.frombuffer(encode_png(labels), dtype=np.uint8)
        self._write_compressed(schema.semantic_topic(camera), camera, stamp_s, 'png', data)

    def write_camera_info(self, camera: CameraModel, stamp_s: float) -> None:
        """Write size and K of `camera`; distortion is zero."""
        projection = np.zeros((3, 4))
        projection[:, :3] = camera.intrinsics
        message = self._new(
            schema.CAMERA_INFO,
            header=self._header(stamp_s, schema.optical_frame(camera.name)),
            height=camera.height,
            width=camera.width,
            distortion_model='plumb_bob',
            d=np.zeros(5),
            k=camera.intrinsics.ravel().copy(),
            r=np.eye(3).ravel(),
            p=projection.ravel(),
            binning_x=0,
            binning_y=0,
            roi=self._new(
                'sensor_msgs/msg/RegionOfInterest', x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
            ),
        )
        self.write(schema.info_topic(camera.name), message, stamp_s)

    def write_odometry(self, ego: EgoState) -> None:
        """Write the ego state at its own stamp (acceleration has no place in the message)."""
        unknown = np.zeros(36)
        pose = self._new('geometry_msgs/msg/PoseWithCovariance', pose=self._pose(*ego.pose), covariance=unknown)
        twist = self._new(
            'geometry_msgs/msg/TwistWithCovariance',
            twist=self._new(
                'geometry_msgs/msg/Twist',
                linear=self._vector(ego.speed_mps, 0.0, 0.0),
                angular=self._vector(0.0, 0.0, ego.yaw_rate_rps),
            ),
            covariance=unknown,
        )
        header = self._header(ego.stamp_s, schema.ODOM_FRAME)
        message = self._new(schema.ODOMETRY, header=header, child_frame_id=schema.BASE_FRAME, pose=pose, twist=twist)
        self.write(schema.ODOMETRY_OUT, message, ego.stamp_s)

    def write_route(self, stamp_s: float, points_m: npt.ArrayLike) -> None:
        """Write sparse target points [N, 2] of the odometry frame, N >= 1."""
        points = np.asarray(points_m, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0 or not np.isfinite(points).all():
            raise InvalidInput(f'route of shape {points.shape}, expected [N, 2] finite numbers with N >= 1')
        poses = [self._stamped(stamp_s, schema.ODOM_FRAME, x, y, 0.0) for x, y in points]
        message = self._new(schema.PATH, header=self._header(stamp_s, schema.ODOM_FRAME), poses=poses)
        self.write(schema.ROUTE_OUT, message, stamp_s)

    def write_turn_command(self, stamp_s: float, command: TurnCommand, distance_m: float) -> None:
        """Write what the navigation says about the next junction."""
        message = self._new(
            schema.TURN_COMMAND,
            header=self._header(stamp_s, schema.BASE_FRAME),
            command=int(command),
            distance_m=float(distance_m),
        )
        self.write(schema.TURN_COMMAND_OUT, message, stamp_s)

    def write_agents(self, stamp_s: float, actors: Iterable[Actor]) -> None:
        """Write the other road users as boxes (world frame = odometry frame)."""
        markers = [self._marker(stamp_s, _DELETE_ALL)] + [self._box(stamp_s, actor) for actor in actors]
        self.write(schema.AGENTS_OUT, self._new(schema.MARKERS, markers=markers), stamp_s)

    def write_road_boundary(self, stamp_s: float, lines: Sequence[npt.ArrayLike]) -> None:
        """Write where the road ends: lines [N, 2] in metres of the odometry frame, N >= 2.

        A closed ring repeats its first point.  Raises InvalidInput for another shape and for numbers that are not
        finite, naming the line.
        """
        markers = [self._marker(stamp_s, _DELETE_ALL)]
        for number, line in enumerate(lines):
            what = f'road boundary: line {number}'
            points = finite(what, line, (None, 2))
            if len(points) < 2:
                raise InvalidInput(f'{what}: {len(points)} points, expected two or more')
            markers.append(self._line(stamp_s, number, points))
        self.write(schema.ROAD_BOUNDARY_OUT, self._new(schema.MARKERS, markers=markers), stamp_s)

    def write_expert(self, stamp_s: float, trajectory: Trajectory) -> None:
        """Write what the expert would drive from `stamp_s` on."""
        poses = [
            self._stamped(stamp_s + t, schema.BASE_FRAME, x, y, yaw)
            for t, (x, y), yaw in zip(trajectory.times_s, trajectory.positions_m, trajectory.yaw_rad, strict=True)
        ]
        message = self._new(schema.PATH, header=self._header(stamp_s, schema.BASE_FRAME), poses=poses)
        self.write(schema.EXPERT_OUT, message, stamp_s)

    def write_observation(self, observation: Observation) -> None:
        """Write a tick: odometry, turn command, then the pictures.  (The route goes in once, by `write_route`.)"""
        self.write_odometry(observation.ego)
        navigation = observation.navigation
        self.write_turn_command(observation.stamp_s, navigation.command, navigation.distance_m)
        for name, frame in observation.frames.items():
            self.write_camera(name, frame.stamp_s, frame.image)

    def _new(self, msgtype: str, **fields: Any) -> Any:
        return self._types.types[msgtype](**fields)

    def _time(self, stamp_s: float) -> Any:
        sec, nanosec = divmod(nanoseconds(stamp_s), 1_000_000_000)
        return self._new('builtin_interfaces/msg/Time', sec=sec, nanosec=nanosec)

    def _header(self, stamp_s: float, frame: str) -> Any:
        return self._new('std_msgs/msg/Header', stamp=self._time(stamp_s), frame_id=frame)

    def _vector(self, x: float, y: float, z: float) -> Any:
        return self._new('geometry_msgs/msg/Vector3', x=float(x), y=float(y), z=float(z))

    def _pose(self, x: float, y: float, yaw: float, z: float = 0.0) -> Any:
        half = 0.5 * float(yaw)
        return self._new(
            'geometry_msgs/msg/Pose',
            position=self._new('geometry_msgs/msg/Point', x=float(x), y=float(y), z=float(z)),
            orientation=self._new('geometry_msgs/msg/Quaternion', x=0.0, y=0.0, z=math.sin(half), w=math.cos(half)),
        )

    def _stamped(self, stamp_s: float, frame: str, x: float, y: float, yaw: float) -> Any:
        header = self._header(stamp_s, frame)
        return self._new('geometry_msgs/msg/PoseStamped', header=header, pose=self._pose(x, y, yaw))

    def _write_compressed(
        self, topic: schema.Topic, camera: str, stamp_s: float, format: str, data: npt.NDArray[np.uint8]
    ) -> None:
        header = self._header(stamp_s, schema.optical_frame(camera))
        self.write(topic, self._new(schema.COMPRESSED_IMAGE, header=header, format=format, data=data), stamp_s)

    def _box(self, stamp_s: float, actor: Actor) -> Any:
        red, green, blue = _COLOURS.get(actor.kind, (0.7, 0.7, 0.7))
        return self._marker(
            stamp_s,
            _ADD,
            ns=actor.kind.name.lower(),
            id=actor.actor_id,
            pose=self._pose(actor.x_m, actor.y_m, actor.yaw_rad, 0.5 * actor.height_m),
            scale=self._vector(actor.length_m, actor.width_m, actor.height_m),
            color=self._colour(red, green, blue, 0.8),
            text=f'{actor.speed_mps:.3f}',
        )

    def _line(self, stamp_s: float, number: int, points: FloatArray) -> Any:
        return self._marker(
            stamp_s,
            _ADD,
            ns='road_boundary',
            id=number,
            type=_LINE_STRIP,
            scale=self._vector(_LINE_WIDTH_M, 0.0, 0.0),
            color=self._colour(0.9, 0.9, 0.9, 0.8),
            points=[self._new('geometry_msgs/msg/Point', x=float(x), y=float(y), z=0.0) for x, y in points],
        )

    def _colour(self, red: float, green: float, blue: float, opaque: float) -> Any:
        return self._new('std_msgs/msg/ColorRGBA', r=red, g=green, b=blue, a=opaque)

    def _marker(self, stamp_s: float, action: int, **fields: Any) -> Any:
        """Return a marker of the odometry frame: a cube of no size but for `fields`."""
        nothing = {
            'header': self._header(stamp_s, schema.ODOM_FRAME),
            'ns': '',
            'id': 0,
            'type': _CUBE,
            'action': action,
            'pose': self._pose(0.0, 0.0, 0.0),
            'scale': self._vector(0.0, 0.0, 0.0),
            'color': self._colour(0.0, 0.0, 0.0, 0.0),
            'lifetime': self._new('builtin_interfaces/msg/Duration', sec=0, nanosec=0),
            'frame_locked': False,
            'points': [],
            'colors': [],
            'texture_resource': '',
            'texture': self._new(
                schema.COMPRESSED_IMAGE, header=self._header(0.0, ''), format='', data=np.zeros(0, np.uint8)
            ),
            'uv_coordinates': [],
            'text': '',
            'mesh_resource': '',
            'mesh_file': self._new('visualization_msgs/msg/MeshFile', filename='', data=np.zeros(0, np.uint8)),
            'mesh_use_embedded_materials': False,
        }
        return self._new('visualization_msgs/msg/Marker', **(nothing | fields))
