# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Calibration over topics: camera_info of every camera, and /tf_static for where they are mounted.

A camera_info comes with every picture and seldom changes, and each message costs the executor a millisecond.  So a
camera is listened to until one has come, and again, one camera each half second, to see whether it is still the same.
It is looked for at `camera/<name>/camera_info`, and beside and below the topic that the pictures come from.
"""

from __future__ import annotations

import importlib
import itertools
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo

from vla_driver.observation.assemble import ObservationAssembler
from vla_driver.observation.calibration import shows_rectified
from vla_driver.ros.wire import qos
from vla_driver.ros.wire.transports import picture_topic
from vla_driver.settings.inputs import TRANSPORTS

if TYPE_CHECKING:
    from vla_driver.ros.base.lifecycle import DriverNode

_LOOK_S: Final = 0.5
#: Cameras whose camera_info has not come by then are told with the rig's numbers.
_PATIENCE_S: Final = 3.0


def picture_topics(node: DriverNode[Any], camera: str) -> list[str]:
    """Return the full names, after remapping, of the topics that a camera's pictures may come from."""
    return [node.resolve_topic_name(picture_topic(camera, transport)) for transport in TRANSPORTS[1:]]


def rectified_cameras(node: DriverNode[Any], cameras: tuple[str, ...]) -> list[str]:
    """Return the cameras whose topics say by their names that the pictures are rectified."""
    return [camera for camera in cameras if any(map(shows_rectified, picture_topics(node, camera)))]


def info_topics(node: DriverNode[Any], camera: str) -> list[str]:
    """Return where a camera's camera_info is looked for: under our names, and below and beside remapped pictures."""
    found = [f'camera/{camera}/camera_info', f'camera/{camera}/image/camera_info']
    known = [node.resolve_topic_name(topic) for topic in found]
    for transport, topic in zip(TRANSPORTS[1:], picture_topics(node, camera), strict=True):
        if topic != node.resolve_topic_name(picture_topic(camera, transport), only_expand=True):
            plain = topic.removesuffix(f'/{transport}')
            found += [f'{plain}/camera_info', f'{plain.rpartition("/")[0]}/camera_info']
    return [topic for k, topic in enumerate(dict.fromkeys(found)) if k < len(known) or topic not in known]


def transform_message_type() -> Any:
    """Return tf2_msgs/TFMessage, or None where tf2_msgs is not installed (it is not on PyPI)."""
    try:
        return importlib.import_module('tf2_msgs.msg').TFMessage
    except ImportError:
        return None


class CalibrationTopics:
    """The subscriptions of camera_info and /tf_static; what comes goes to the assembler and is told in the log."""

    def __init__(self, node: DriverNode[Any], assembler: ObservationAssembler, *, infos: bool) -> None:
        self._node, self._assembler = node, assembler
        self._wants_infos = infos
        topics = {camera: info_topics(node, camera) for camera in assembler.rig.names}
        # One that lies beside the pictures of several cameras may be any camera's.
        counts = Counter(topic for found in topics.values() for topic in found)
        self._topics = {camera: [t for t in found if counts[t] == 1] for camera, found in topics.items()}
        self._open: dict[str, dict[str, Subscription]] = {}  # camera -> topic -> subscription
        self._heard: set[str] = set()
        self._told: dict[str, str] = {}
        self._turn = itertools.cycle(assembler.rig.names)
        self._looks = 0

    def start(self) -> None:
        """Subscribe."""
        self._looks = 0
        if self._wants_infos:
            for camera in self._topics:
                self._listen(camera)
        self._listen_to_transforms()
        self._node.every(_LOOK_S, self._look)

    def stop(self) -> None:
        """Forget the subscriptions; the node removes them."""
        self._open.clear()
        self._heard.clear()

    def listen_again(self) -> None:
        """Look at every camera_info anew: time has jumped, it may be another recording."""
        for camera in self._topics if self._wants_infos else ():
            self._listen(camera)

    def _listen(self, camera: str) -> None:
        opened = self._open.setdefault(camera, {})
        for topic in self._topics[camera]:
            if topic not in opened:
                take = partial(self._take, camera)
                opened[topic] = self._node.listen(CameraInfo, topic, take, self._profile(topic), strict=False)

    def _profile(self, topic: str) -> QoSProfile:
        """Return how to subscribe: one that was published once, and is kept, must be asked for as such."""
        offered = self._node.get_publishers_info_by_topic(topic)
        kept = bool(offered) and all(one.qos_profile.durability == qos.LATCHED.durability for one in offered)
        return qos.LATCHED if kept else qos.SENSOR_SUBSCRIPTION

    def _take(self, camera: str, message: CameraInfo) -> None:
        opened = self._open.get(camera)
        if not opened:
            return  # given up while this message was under way
        for subscription in opened.values():
            self._node.silence(subscription)
        opened.clear()
        self._heard.add(camera)
        self._assembler.push_camera_info(camera, message)
        self._tell()

    def _listen_to_transforms(self) -> None:
        kind = transform_message_type()
        if kind is None:
            self._node.get_logger().info(
                '/tf_static is not read: tf2_msgs is not installed; the rig says where cameras are'
            )
            return
        self._node.listen(kind, '/tf_static', self._take_transforms, qos.LATCHED_BY_MANY)

    def _take_transforms(self, message: Any) -> None:
        self._assembler.push_transforms(message)

    def _look(self) -> None:
        """Ask again where nothing has come, and now and then where something has; tell what has changed."""
        self._looks += 1
        if self._wants_infos:
            for opened in self._open.values():
                for topic in [topic for topic, one in opened.items() if self._outdated(topic, one)]:
                    self._node.silence(opened.pop(topic))
            for camera in self._topics:
                if camera not in self._heard:
                    self._listen(camera)
            again = next(self._turn)
            if again in self._heard:
                self._listen(again)
        self._tell()

    def _outdated(self, topic: str, subscription: Subscription) -> bool:
        """Whether a publisher that has come since keeps its message and the subscription does not ask for it."""
        durability = subscription.qos_profile.durability if hasattr(subscription, 'qos_profile') else None
        return durability is not None and durability != self._profile(topic).durability

    def _tell(self) -> None:
        """Say once for every camera, and again when it changes, what it is used with; the planner says its notes."""
        for camera, used in self._assembler.calibration.items():
            waiting = self._wants_infos and camera not in self._heard and self._looks * _LOOK_S < _PATIENCE_S
            words = used.describe()
            if not waiting and self._told.get(camera) != words:
                self._told[camera] = words
                self._node.get_logger().info(f'camera {camera}: {words}')
