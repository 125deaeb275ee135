# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Raw pictures of a node's cameras, received by a thread of their own and shrunk as they are taken.

rclpy's executor builds a wait set of everything that the node has, twice for every message, and holds the
interpreter's lock as it takes one.  Six raw cameras at 10 Hz cost it more than shrinking their pictures does.  So the
subscriptions are rclpy's, but its executor is told to leave them alone; the thread waits for nothing else, takes by
`ros.wire.image_taker` and lets other threads go on meanwhile.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from rclpy.callback_groups import CallbackGroup
from rclpy.exceptions import InvalidHandle
from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from sensor_msgs.msg import Image

from vla_driver.observation.pictures.received import ReceivedImage
from vla_driver.observation.receive import receive_image
from vla_driver.ros.wire.image_taker import BorrowedImage, ImageTaker, TakeFailedError

if TYPE_CHECKING:
    from vla_driver.ros.base.lifecycle import DriverNode

#: The thread looks so often whether the context has ended; all else wakes it.
_LOOK_NS: Final = 1_000_000_000
#: And starts over so much later where waiting itself has failed.
_PAUSE_S: Final = 0.1
#: What keeps going wrong is told of once in so many seconds.
_TELL_EVERY_S: Final = 5.0

_Take = Callable[[ReceivedImage, dict[str, int]], None]


class _Elsewhere(CallbackGroup):
    """A group that rclpy's executors leave alone."""

    def can_execute(self, entity: Any) -> bool:
        """See rclpy."""
        del entity
        return False

    def beginning_execution(self, entity: Any) -> bool:
        """See rclpy."""
        del entity
        return False

    def ending_execution(self, entity: Any) -> None:
        """See rclpy."""


@dataclass(frozen=True)
class _Camera:
    subscription: Subscription
    read: Callable[[BorrowedImage], ReceivedImage]
    on_image: _Take


class RawReceiver:
    """Receives for a node from `open` until `close` or `stop`; every method may be called from any thread.

    Callbacks run in the receiver's thread, one at a time.  One that raises is told of in the log, and the next picture
    is received all the same.
    """

    def __init__(self, node: DriverNode[Any], taker: ImageTaker) -> None:
        self._node, self._taker = node, taker
        self._cameras: tuple[_Camera, ...] = ()  # replaced as a whole, never changed
        self._changing = threading.Lock()
        self._ended = False
        self._changed = GuardCondition(None, None, context=node.context)
        self._thread = threading.Thread(target=self._run, name='raw-pictures', daemon=True)
        self._thread.start()

    def open(self, topic: str, on_image: _Take, profile: QoSProfile, at_least: tuple[int, int] | None) -> Subscription:
        """Subscribe; `on_image(picture, info)` gets what comes, with the message's times as rclpy gives them.

        at_least: (width, height) that the model needs; None: all of the picture.
        """
        subscription = self._node.listen(Image, topic, _not_ours, profile, group=_Elsewhere())
        camera = _Camera(subscription, partial(receive_image, at_least=at_least), on_image)
        with self._changing:
            self._cameras = (*self._cameras, camera)
        self._wake()
        return subscription

    def close(self, subscription: Subscription) -> None:
        """Take no more from a subscription; the node silences it, as any other."""
        with self._changing:
            self._cameras = tuple(one for one in self._cameras if one.subscription is not subscription)
        self._wake()

    def stop(self) -> None:
        """Take no more at all; no callback runs any longer once this returns (unless a callback calls it)."""
        self._ended = True
        self._wake()
        if threading.current_thread() is not self._thread:
            self._thread.join()
            self._changed.destroy()

    def _wake(self) -> None:
        try:
            self._changed.trigger()
        except InvalidHandle:
            return  # stopped

    # The thread.

    def _run(self) -> None:
        context = self._node.context
        while not self._ended and context.ok():
            cameras = self._cameras
            try:
                with ExitStack() as held:  # what is waited for is not destroyed meanwhile
                    held.enter_context(context.handle)
                    held.enter_context(self._changed.handle)
                    waited = [camera for camera in cameras if _hold(camera, held)]
                    self._wait_for(waited, partial(self._unchanged, cameras))
            except Exception:
                if not context.ok():
                    return  # it was shut down under our hands
                self._tell('receiving raw pictures failed', traceback.format_exc())
                time.sleep(_PAUSE_S)

    def _unchanged(self, cameras: tuple[_Camera, ...]) -> bool:
        return self._cameras is cameras and not self._ended and bool(self._node.context.ok())

    def _wait_for(self, cameras: list[_Camera], go_on: Callable[[], bool]) -> None:
        events = [handler for camera in cameras for handler in camera.subscription.event_handlers]
        wait_set = rclpy_implementation.WaitSet(len(cameras), 1, 0, 0, 0, len(events), self._node.context.handle)
        by_pointer = {camera.subscription.handle.pointer: camera for camera in cameras}
        while go_on():
            wait_set.clear_entities()
            wait_set.add_guard_condition(self._changed.handle)
            for camera in cameras:
                wait_set.add_subscription(camera.subscription.handle)
            for handler in events:
                handler.add_to_wait_set(wait_set)
            wait_set.wait(_LOOK_NS)
            for pointer in wait_set.get_ready_entities('subscription'):
                if go_on():
                    self._take(by_pointer[pointer])
            for handler in events:
                if handler.is_ready(wait_set):
                    _finish(handler.execute(handler.take_data()))

    def _take(self, camera: _Camera) -> None:
        try:
            taken = self._taker.take(camera.subscription.handle, camera.read)
            if taken is not None:
                camera.on_image(*taken)
        except TakeFailedError as error:
            self._tell(camera.subscription.topic, str(error))
        except Exception:
            self._tell(
                f'{camera.subscription.topic}: a defect of this program or its libraries', traceback.format_exc()
            )

    def _tell(self, what: str, why: str) -> None:
        self._node.get_logger().error(f'{what}: {why}', throttle_duration_sec=_TELL_EVERY_S)


def _hold(camera: _Camera, held: ExitStack) -> bool:
    """Keep a subscription and its events while `held` lasts; return whether they are still there."""
    try:
        with ExitStack() as both:
            both.enter_context(camera.subscription.handle)
            for handler in camera.subscription.event_handlers:
                both.enter_context(handler)
            held.enter_context(both.pop_all())
    except InvalidHandle:
        return False
    return True


def _finish(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that waits for nothing, as callbacks of events are."""
    try:
        work.send(None)
    except StopIteration:
        return
    work.close()


def _not_ours(message: Any) -> None:
    """Stand in for a callback: rclpy takes nothing from these subscriptions."""
    raise AssertionError(f'rclpy took a {type(message).__name__} that was not its own to take')
