# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What our bags hold: topics, types, quality of service.

| topic                                 | type                            | what                                     |
|---------------------------------------|---------------------------------|------------------------------------------|
| /camera/NAME/image/compressed         | sensor_msgs/CompressedImage     | JPEG, frame NAME_optical_frame           |
| /camera/NAME/camera_info              | sensor_msgs/CameraInfo          | with every image, no distortion          |
| /odom                                 | nav_msgs/Odometry               | odom -> base_link                        |
| /route                                | nav_msgs/Path (latched)         | sparse target points, frame odom         |
| /turn_command                         | vla_driver/TurnCommand          | with every image                         |
| /tf_static                            | tf2_msgs/TFMessage (latched)    | cameras in base_link (converted bags)    |
| /ground_truth/agents                  | visualization_msgs/MarkerArray  | a cube per agent, frame odom             |
| /ground_truth/expert_trajectory       | nav_msgs/Path                   | what the expert would drive (see below)  |
| /ground_truth/road_boundary           | visualization_msgs/MarkerArray  | where the road ends, frame odom (latched)|
| /ground_truth/NAME/semantic/compressed| sensor_msgs/CompressedImage     | PNG, sim.scene.SemanticClass per pixel   |

Agents: a marker's id is the agent's, its `ns` the lower-case name of its SemanticClass, its pose the middle of the
box, and `text` (which viewers show for text markers only) its speed in m/s.  The first marker of an array clears the
viewer (DELETEALL).

Expert trajectory: frame base_link as it was at the header's stamp t0; pose k is stamped t0 + (k + 1) * dt; t0 itself
is left out, as in types.Trajectory.

Road boundary: a LINE_STRIP marker per line, in metres, its pose zero; a closed ring repeats its first point.  Lines
reach about 80 m to the sides of the way.  The first marker clears the viewer, as that of the agents; the last message
in a bag counts.

There is no /clock in a bag: the player makes it.  The rig stands in the bag's custom data under `rig`, as YAML.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from vla_driver.resources import resource

if TYPE_CHECKING:  # whoever only wants names does without the libraries of bags
    from rosbags.interfaces import Qos
    from rosbags.typesys.store import Typestore

ODOM_FRAME, BASE_FRAME = 'odom', 'base_link'

COMPRESSED_IMAGE, IMAGE = 'sensor_msgs/msg/CompressedImage', 'sensor_msgs/msg/Image'
CAMERA_INFO, ODOMETRY, PATH = 'sensor_msgs/msg/CameraInfo', 'nav_msgs/msg/Odometry', 'nav_msgs/msg/Path'
#: Foxglove's and ffmpeg_image_transport's messages of video.
VIDEO, FFMPEG = 'foxglove_msgs/msg/CompressedVideo', 'ffmpeg_image_transport_msgs/msg/FFMPEGPacket'
#: Everything that a camera's topic may hold -> image_transport's name for it.
PICTURES = {IMAGE: 'raw', COMPRESSED_IMAGE: 'compressed', FFMPEG: 'ffmpeg', VIDEO: 'foxglove'}
#: Of /tf and /tf_static; the second is ROS 1's older one.
TRANSFORMS = ('tf2_msgs/msg/TFMessage', 'tf/msg/tfMessage')
MARKERS, TURN_COMMAND = 'visualization_msgs/msg/MarkerArray', 'vla_driver/msg/TurnCommand'

ODOMETRY_TOPIC, ROUTE_TOPIC, TURN_COMMAND_TOPIC = '/odom', '/route', '/turn_command'
GROUND_TRUTH = '/ground_truth'
AGENTS_TOPIC, EXPERT_TOPIC = f'{GROUND_TRUTH}/agents', f'{GROUND_TRUTH}/expert_trajectory'
ROAD_BOUNDARY_TOPIC = f'{GROUND_TRUTH}/road_boundary'

#: Key of the rig in the bag's custom data.
RIG_KEY = 'rig'

#: Messages of packages that are not on PyPI, for bags that do not bring their definitions.
_FOREIGN = {
    VIDEO: 'builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n',
    FFMPEG: (
        'std_msgs/Header header\nint32 width\nint32 height\nstring encoding\nuint64 pts\nuint8 flags\n'
        'bool is_bigendian\nuint8[] data\n'
    ),
}


@dataclass(frozen=True)
class Topic:
    """A topic of the bag.  latched: kept for subscribers that come later (transient local)."""

    name: str
    msgtype: str
    depth: int = 10
    latched: bool = False

    @property
    def qos(self) -> Qos:
        """What its publisher offers: reliable, which serves subscribers of both kinds."""
        from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

        forever = QosTime(sec=9223372036, nsec=854775807)  # rmw's "infinite"
        return Qos(
            history=QosHistory.KEEP_LAST,
            depth=self.depth,
            reliability=QosReliability.RELIABLE,
            durability=QosDurability.TRANSIENT_LOCAL if self.latched else QosDurability.VOLATILE,
            deadline=forever,
            lifespan=forever,
            liveliness=QosLiveliness.AUTOMATIC,
            liveliness_lease_duration=forever,
            avoid_ros_namespace_conventions=False,
        )


ODOMETRY_OUT = Topic(ODOMETRY_TOPIC, ODOMETRY)
ROUTE_OUT = Topic(ROUTE_TOPIC, PATH, depth=1, latched=True)
TURN_COMMAND_OUT = Topic(TURN_COMMAND_TOPIC, TURN_COMMAND)
AGENTS_OUT = Topic(AGENTS_TOPIC, MARKERS)
EXPERT_OUT = Topic(EXPERT_TOPIC, PATH)
ROAD_BOUNDARY_OUT = Topic(ROAD_BOUNDARY_TOPIC, MARKERS, depth=1, latched=True)
TF_STATIC_OUT = Topic('/tf_static', TRANSFORMS[0], depth=1, latched=True)


def image_topic(camera: str) -> Topic:
    """Return the topic of a camera's pictures."""
    return Topic(f'/camera/{camera}/image/compressed', COMPRESSED_IMAGE, depth=5)


def info_topic(camera: str) -> Topic:
    """Return the topic of a camera's calibration."""
    return Topic(f'/camera/{camera}/camera_info', CAMERA_INFO, depth=5)


def semantic_topic(camera: str) -> Topic:
    """Return the topic of a camera's class ids."""
    return Topic(f'{GROUND_TRUTH}/{camera}/semantic/compressed', COMPRESSED_IMAGE, depth=5)


def optical_frame(camera: str) -> str:
    """Return the frame that a camera's messages carry (REP-103: z forward, x right, y down)."""
    return f'{camera}_optical_frame'


@cache
def typestore() -> Typestore:
    """Return ROS 2 Jazzy's message types and this package's own (from the .msg files themselves), and video's."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    # Our own, all of them: a bag may hold each, and one may hold another.
    for file in sorted(resource('msg').glob('*.msg')):
        types.update(get_types_from_msg(file.read_text(encoding='utf-8'), f'vla_driver/msg/{file.stem}'))
    for name, text in _FOREIGN.items():
        types.update(get_types_from_msg(text, name))
    store.register(types)
    return store
