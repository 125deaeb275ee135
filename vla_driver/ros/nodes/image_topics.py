# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Camera topics, raw or compressed, chosen per camera.

`camera/<name>/image` carries sensor_msgs/Image, `camera/<name>/image/compressed` CompressedImage.  With
'auto' a camera listens to both until a first image comes, then gives the other one up: taking both would
cost twice.  When it falls silent it listens to both again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from vla_driver.ros.wire import qos
from vla_driver.ros.wire.diagnostics import RateMeter
from vla_driver.types import InvalidInput

if TYPE_CHECKING:
    from vla_driver.ros.nodes.lifecycle import DriverNode

#: An 'auto' camera silent for this long looks for the other topic again.
_SILENCE_S: Final = 2.0

#: A message that seems to be older than this comes from a clock that is not set like ours.
_OLDEST_S: Final = 10.0


def per_camera(
    entries: Sequence[str], cameras: Sequence[str], allowed: Sequence[str], parameter: str, spared: str = ''
) -> dict[str, str]:
    """Return camera -> choice from a parameter: one choice for all, or entries `camera=choice`.

    Cameras that no entry names are left out of the result (their default applies).  `spared`: a camera
    that the choice for all does not touch.  Raises InvalidInput naming the entry and what is allowed.
    """
    chosen: dict[str, str] = {}
    for entry in entries:
        camera, equals, choice = entry.partition('=')
        if not equals:
            camera, choice = '', entry
        if choice not in allowed:
            raise InvalidInput(f'parameter {parameter}: {entry!r}, allowed: {", ".join(allowed)}')
        if camera and camera not in cameras:
            raise InvalidInput(f'parameter {parameter}: {entry!r}, the cameras are: {", ".join(cameras)}')
        if not camera and len(entries) > 1:
            raise InvalidInput(f'parameter {parameter}: {list(entries)}: one choice for all, or camera=choice each')
        chosen.update({camera: choice} if camera else {name: choice for name in cameras if name != spared})
    return chosen


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
    """The image subscriptions of a node; `on_image(camera, message, sent_s)` gets what arrives."""

    def __init__(
        self,
        node: DriverNode[Any],
        cameras: Sequence[str],
        transports: Mapping[str, str],
        on_image: Callable[[str, Any, float], None],
    ) -> None:
        self._node = node
        self._wanted = {camera: transports.get(camera, 'auto') for camera in cameras}
        self._on_image = on_image
        self._open: dict[str, dict[str, Subscription]] = {camera: {} for camera in cameras}
        self._times = {camera: RateMeter() for camera in cameras}

    def start(self) -> None:
        """Subscribe."""
        for camera in self._wanted:
            self._listen(camera)
        self._node.every(0.5, self._look_again)

    def stop(self) -> None:
        """Forget the subscriptions; the node removes them."""
        for opened in self._open.values():
            opened.clear()

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
        for transport, kind, topic in (
            ('raw', Image, f'camera/{camera}/image'),
            ('compressed', CompressedImage, f'camera/{camera}/image/compressed'),
        ):
            if wanted in ('auto', transport) and transport not in opened:
                take = partial(self._take, camera, transport)
                opened[transport] = self._node.listen(kind, topic, take, qos.SENSOR_SUBSCRIPTION)

    def _take(self, camera: str, transport: str, message: Any, info: Mapping[str, Any]) -> None:
        opened = self._open[camera]
        if transport not in opened:
            return  # given up while this message was under way
        for other in [name for name in opened if name != transport]:
            self._node.silence(opened.pop(other))
        self._times[camera].tick()
        self._on_image(camera, message, sent_at(info))

    def _look_again(self) -> None:
        """Let silent 'auto' cameras listen to both topics."""
        for camera, times in self._times.items():
            age_s = times.age_s
            if self._wanted[camera] == 'auto' and age_s is not None and age_s > _SILENCE_S:
                self._listen(camera)
