# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A camera's raw pictures, shrunk as they are taken from the middleware.

The subscription is rclpy's.  Its executor is told never to take from it; a waitable beside it waits for the same
subscription and takes by `ros.wire.image_taker`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.exceptions import InvalidHandle
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from rclpy.waitable import NumberOfEntities, Waitable
from sensor_msgs.msg import Image

from vla_driver.observation.receive import receive_image
from vla_driver.ros.wire.image_taker import ImageTaker, TakeFailedError

if TYPE_CHECKING:
    from vla_driver.ros.nodes.lifecycle import DriverNode

#: A picture that was lost is told of once in so many seconds.
_TELL_EVERY_S: Final = 5.0


class _EventsOnly(MutuallyExclusiveCallbackGroup):
    """A group whose subscriptions the executor leaves alone; their events (a publisher that does not fit) it serves."""

    def can_execute(self, entity: Any) -> bool:
        """See rclpy."""
        return not isinstance(entity, Subscription) and bool(super().can_execute(entity))


class RawReception(Waitable):
    """Calls `on_image(received, info)` in the executor's thread for every raw picture of a topic, until `close`.

    received: an `observation.pictures.received.ReceivedImage`; info: the message's times, as rclpy gives them.
    at_least: (width, height) that the model needs; None: all of the picture.
    """

    def __init__(
        self,
        node: DriverNode[Any],
        taker: ImageTaker,
        topic: str,
        on_image: Callable[[Any, dict[str, int]], None],
        profile: QoSProfile,
        at_least: tuple[int, int] | None,
    ) -> None:
        super().__init__(node.default_callback_group)
        self._node = node
        self._taker = taker
        self._on_image = on_image
        self._read = partial(receive_image, at_least=at_least)
        self._held = False  # whether the subscription is kept from being destroyed
        self._index: int | None = None  # in the wait set
        self.subscription: Subscription = node.listen(Image, topic, _no_message, profile, group=_EventsOnly())
        node.add_waitable(self)

    def close(self) -> None:
        """Take no more.  The subscription is the node's, as any other."""
        if self in self._node.waitables:
            self._node.remove_waitable(self)

    # What rclpy's executors ask of a waitable.  Its subscription may be destroyed at any moment, by another thread.

    def __enter__(self) -> None:
        """Keep the subscription while it is waited for."""
        self._index = None
        try:
            self.subscription.handle.__enter__()
            self._held = True
        except InvalidHandle:
            self._held = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of it."""
        if self._held:
            self._held = False
            self.subscription.handle.__exit__(kind, error, trace)

    def get_num_entities(self) -> NumberOfEntities:
        """Return what `add_to_wait_set` adds."""
        return NumberOfEntities(num_subs=int(self._held))

    def add_to_wait_set(self, wait_set: Any) -> None:
        """Wait for the subscription, if it is still there."""
        if self._held:
            self._index = wait_set.add_subscription(self.subscription.handle)

    def is_ready(self, wait_set: Any) -> bool:
        """Return whether a picture has come."""
        return self._index is not None and bool(wait_set.is_ready('subscription', self._index))

    def take_data(self) -> tuple[Any, dict[str, int]] | None:
        """Take one picture and shrink it."""
        try:
            with self.subscription.handle:
                return self._taker.take(self.subscription.handle, self._read)
        except InvalidHandle:
            return None
        except TakeFailedError as error:
            name = self.subscription.topic
            self._node.get_logger().error(f'{name}: {error}', throttle_duration_sec=_TELL_EVERY_S)
            return None

    async def execute(self, taken_data: tuple[Any, dict[str, int]] | None) -> None:
        """Hand it over."""
        if taken_data is not None:
            self._on_image(*taken_data)


def _no_message(message: Any) -> None:
    """Stand in for a callback: no message comes this way."""
    raise AssertionError(f'rclpy took a {type(message).__name__} that was not its own to take')
