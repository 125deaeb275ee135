# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Camera topics, raw, compressed or video, chosen per camera.

`camera/<name>/image` carries sensor_msgs/Image, topics below it the other transports (`ros.wire.transports`).  With
'auto' a camera listens to all of them whose messages are installed until a first image comes, then gives the others up:
taking two would cost twice.  When it falls silent it listens to all again.

Raw pictures are shrunk to what the model needs as they are taken (`raw_receiver`), in a thread of their own; where that
cannot be done, rclpy hands whole messages over, which costs more, and it is said.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from rclpy.guard_condition import GuardCondition
from rclpy.subscription import Subscription

from vla_driver.ros.nodes.raw_receiver import RawReceiver
from vla_driver.ros.wire import qos
from vla_driver.ros.wire.diagnostics import RateMeter
from vla_driver.ros.wire.image_taker import ImageTaker, TakeUnavailableError
from vla_driver.ros.wire.transports import picture_class, picture_topic
from vla_driver.settings.inputs import TRANSPORTS, VIDEO_TRANSPORTS
from vla_driver.types import InvalidInput

if TYPE_CHECKING:
    from vla_driver.ros.nodes.lifecycle import DriverNode

#: An 'auto' camera silent for this long looks for the other topic again.
_SILENCE_S: Final = 2.0

#: A message that seems to be older than this comes from a clock that is not set like ours.
_OLDEST_S: Final = 10.0


def sent_at(info: Mapping[str, Any]) -> float:
    """Return when a message was published, on this process's monotonic clock.

    By the middleware's time of publication, so that time spent in queues counts; by the time of
    reception, where the publisher's clock is plainly not ours, and by the present, where neither is given.
    """
    steady_s, wall_s = time.monotonic(), time.time()
    for name in ('source_timestamp', 'received_timestamp'):
        age_s = wall_s - info.get(name, 0) * 1e-9
        if 0.0 <= age_s <= _OLDEST_S:
            return steady_s - age_s
    return steady_s


class ImageTopics:
    """The image subscriptions of a node; `on_image(camera, message, sent_s)` gets what arrives.

    It is called in the executor's thread, and in another one with raw pictures.
    at_least: camera -> (width, height) that suffices, for raw pictures that are shrunk as they come.

    Raises InvalidInput where a transport is asked for by name and its messages are not installed.
    """

    def __init__(
        self,
        node: DriverNode[Any],
        cameras: Sequence[str],
        transports: Mapping[str, str],
        on_image: Callable[[str, Any, float], None],
        at_least: Mapping[str, tuple[int, int]] = MappingProxyType({}),
    ) -> None:
        self._node = node
        self._wanted = {camera: transports.get(camera, 'auto') for camera in cameras}
        self._on_image = on_image
        self._at_least = dict(at_least)
        self._receiver: RawReceiver | None = None
        self._taker: ImageTaker | None = None
        self._why_copied = ''  # why rclpy takes the raw pictures; '' where it does not, or that was said
        try:
            self._taker = ImageTaker()
        except TakeUnavailableError as error:
            self._why_copied = str(error)
        self._choosing = threading.RLock()
        self._unwanted: deque[Subscription] = deque()
        self._chosen: GuardCondition | None = None  # wakes the executor to silence them
        self._open: dict[str, dict[str, Subscription]] = {camera: {} for camera in cameras}
        self._times = {camera: RateMeter() for camera in cameras}
        self._messages: dict[str, Any] = {}
        for transport in TRANSPORTS[1:]:
            try:
                self._messages[transport] = picture_class(transport)
            except InvalidInput as error:
                if transport in self._wanted.values():
                    raise InvalidInput(f'parameter image_transport: {error}') from error

    def start(self) -> None:
        """Subscribe."""
        self._chosen = self._node.create_guard_condition(self._silence_unwanted)
        if self._taker is not None:
            self._receiver = RawReceiver(self._node, self._taker)
        for camera in self._wanted:
            self._listen(camera)
        self._node.every(0.5, self._look_again)

    def stop(self) -> None:
        """Forget the subscriptions; the node removes them.  Nothing is handed over any longer."""
        if self._receiver is not None:
            self._receiver.stop()
            self._receiver = None
        for opened in self._open.values():
            opened.clear()
        self._unwanted.clear()
        if self._chosen is not None:
            self._node.destroy_guard_condition(self._chosen)
            self._chosen = None

    def rate_hz(self, camera: str) -> float:
        """Images per second, lately."""
        return self._times[camera].rate_hz

    def subscriptions(self, camera: str) -> list[Subscription]:
        """What the camera is listened to with now."""
        return list(self._open[camera].values())

    def transport(self, camera: str) -> str:
        """Which topics the camera is listened to on now."""
        return '+'.join(sorted(self._open[camera])) or 'none'

    def _listen(self, camera: str) -> None:
        wanted = self._wanted[camera]
        opened = self._open[camera]
        with self._choosing:
            for transport in self._messages:
                if wanted in ('auto', transport) and transport not in opened:
                    opened[transport] = self._subscribe(camera, transport)

    def _subscribe(self, camera: str, transport: str) -> Subscription:
        topic, take = picture_topic(camera, transport), partial(self._take, camera, transport)
        if transport == 'raw' and self._receiver is not None:
            return self._receiver.open(topic, take, qos.SENSOR_SUBSCRIPTION, self._at_least.get(camera))
        profile = qos.VIDEO_SUBSCRIPTION if transport in VIDEO_TRANSPORTS else qos.SENSOR_SUBSCRIPTION
        return self._node.listen(self._messages[transport], topic, take, profile)

    def _take(self, camera: str, transport: str, message: Any, info: Mapping[str, Any]) -> None:
        with self._choosing:
            opened = self._open[camera]
            if transport not in opened:
                return  # given up while this message was under way
            others = [opened.pop(name) for name in tuple(opened) if name != transport]
        if others and self._chosen is not None:
            self._unwanted.extend(others)
            self._chosen.trigger()
        if transport == 'raw' and self._why_copied:
            self._node.get_logger().warning(
                f'raw pictures are received by rclpy, which takes more processor time: {self._why_copied}'
            )
            self._why_copied = ''
        self._times[camera].tick()
        self._on_image(camera, message, sent_at(info))

    def _silence_unwanted(self) -> None:
        """Give subscriptions up, in the executor's thread: it may be looking at them in this moment."""
        while self._unwanted:
            subscription = self._unwanted.popleft()
            if self._receiver is not None:
                self._receiver.close(subscription)
            self._node.silence(subscription)

    def _look_again(self) -> None:
        """Let silent 'auto' cameras listen to all topics."""
        for camera, times in self._times.items():
            age_s = times.age_s
            if self._wanted[camera] == 'auto' and age_s is not None and age_s > _SILENCE_S:
                self._listen(camera)
