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

from vla_driver.ros.inputs.raw_receiver import RawReceiver
from vla_driver.ros.wire import qos
from vla_driver.ros.wire.diagnostics import RateMeter
from vla_driver.ros.wire.image_taker import ImageTaker, TakeUnavailableError
from vla_driver.ros.wire.transports import picture_class, picture_topic
from vla_driver.settings.inputs import TRANSPORTS, VIDEO_TRANSPORTS
from vla_driver.types import InvalidInput

if TYPE_CHECKING:
    from vla_driver.ros.base.lifecycle import DriverNode

#: An 'auto' camera silent for this long looks for the other topic again.
_SILENCE_S: Final = 2.0

#: A message that seems to be older than this comes from a clock that is not set like ours.
_OLDEST_S: Final = 10.0

#: So many pictures say how long the quickest one was under way, and so many are enough to say it.
_COMPARED: Final = 100
_ENOUGH: Final = 20
#: Networks are late now and then, but hardly ever so late with every single picture.
_LAG_S: Final = 0.25


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


class SenderClock:
    """Does the clock that a camera's pictures are sent by lag behind ours?  Told from how long each was under way.

    It cannot be told from a network that is always late, so that ages are not corrected by it: it is only said.
    """

    def __init__(self) -> None:
        self._under_way_s: deque[float] = deque(maxlen=_COMPARED)

    def compare(self, info: Mapping[str, Any]) -> None:
        """Take note of a picture's times, as rclpy gives them."""
        if not (info.get('source_timestamp', 0) > 0 and info.get('received_timestamp', 0) > 0):
            return
        self._under_way_s.append((info['received_timestamp'] - info['source_timestamp']) * 1e-9)

    @property
    def problem(self) -> str:
        """What is strange about it in words, '' if nothing is."""
        if len(self._under_way_s) < _ENOUGH:
            return ''
        quickest_s = min(self._under_way_s)
        if not _LAG_S < quickest_s <= _OLDEST_S:
            return ''
        return (
            f'even the quickest of the last pictures seems to be under way for {quickest_s:.2f} s: '
            "does its sender's clock lag? Set it by NTP or PTP; if the clocks agree, the way to here is that slow"
        )


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
        self._clocks = {camera: SenderClock() for camera in cameras}
        self._lag_told: set[str] = set()
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

    def clock_problem(self, camera: str) -> str:
        """Why all pictures of a camera seem to come late, in words; '' where they do not."""
        with self._choosing:
            return self._clocks[camera].problem

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
            self._clocks[camera].compare(info)
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
        """Let silent 'auto' cameras listen to all topics, and say once of each whose pictures are always late."""
        for camera in self._clocks:
            if camera not in self._lag_told and (problem := self.clock_problem(camera)):
                self._lag_told.add(camera)
                self._node.get_logger().warning(f'camera {camera}: {problem}')
        for camera, times in self._times.items():
            age_s = times.age_s
            if self._wanted[camera] == 'auto' and age_s is not None and age_s > _SILENCE_S:
                self._listen(camera)
