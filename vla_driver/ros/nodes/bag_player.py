# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The bag player: publishes a recording as it was, at its own pace or another, once or in a loop.

`ros2 bag play` where there is no `ros2`: types and offered quality of service come from the bag, latched
topics stay latched, paths become so, `/clock` on request.  Stamps stay as recorded unless `restamp` is set.  After a
standstill (of a busy machine, say) it goes on at its pace from where it is: what it missed sent at once would be too
much for whoever listens.

What running nodes publish themselves (`bag.outputs`: plans, controls, diagnostics) is left out unless it is named.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable
from typing import Any, Final

from rclpy.duration import Duration
from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock as ClockMessage

from vla_driver.bag.outputs import outputs
from vla_driver.bag.schema import PICTURES
from vla_driver.ros.base.lifecycle import DriverNode
from vla_driver.ros.base.process import run
from vla_driver.ros.nodes.playback import Bag, Channel, Letter, restamped, stamp_ns
from vla_driver.ros.wire import qos
from vla_driver.ros.wire.conversions import to_time
from vla_driver.ros.wire.diagnostics import Level, Status
from vla_driver.settings.nodes.bag_player import BagPlayerParameters
from vla_driver.types import InvalidInput

#: Topics that a namespace does not move.
_GLOBAL_TOPICS: Final = ('/clock', '/tf', '/tf_static', '/diagnostics', '/rosout', '/parameter_events')
#: Discovery is not symmetric: a subscriber that is known here may not know this publisher yet, and would drop messages.
_SETTLE_S: Final = 0.5
#: Who is later than this has stood still.
_STANDSTILL_S: Final = 0.1


class BagPlayerNode(DriverNode[BagPlayerParameters]):
    """A recording, published."""

    parameter_table = BagPlayerParameters

    def __init__(self, **node_arguments: Any) -> None:
        self._bag: Bag | None = None
        self._halt = threading.Event()
        self._thread: threading.Thread | None = None
        self._sent = 0
        self._rounds = 0
        self._late_s = 0.0
        self._position_s = 0.0
        self._state = 'not started'
        super().__init__('bag_player', **node_arguments)

    def setup(self) -> None:
        """Open the bag and make one publisher per topic."""
        if not self.parameters.bag:
            raise InvalidInput('parameter bag is empty; name a recording, e.g. -p bag:=PATH')
        self._bag = Bag(self.parameters.bag, say=self.get_logger().warning)
        self._channels = self._chosen(self._bag)
        if self.parameters.start_offset_s > self._bag.duration_s:
            raise InvalidInput(
                f'start_offset_s is {self.parameters.start_offset_s:g}, but the bag {self._bag.path} lasts '
                f'{self._bag.duration_s:.1f} s'
            )
        missing = [t for t in self.parameters.wait_for_subscribers if t and t not in self._channels]
        if missing:
            raise InvalidInput(
                f'wait_for_subscribers: {missing} are not played; played are {sorted(self._channels)} '
                '(what running nodes publish must be named in `include`)'
            )
        self._outlets: dict[str, Publisher] = {
            topic: self.advertise(c.message_type, self._here(topic), c.profile) for topic, c in self._channels.items()
        }
        self._clock_outlet = None
        if self.parameters.clock_hz > 0:
            self._clock_outlet = self.advertise(ClockMessage, '/clock', qos.RELIABLE)

    def _here(self, topic: str) -> str:
        """Return a recorded topic's name in this node's namespace; what belongs to the whole system stays there."""
        return topic if self.get_namespace() == '/' or topic in _GLOBAL_TOPICS else topic.lstrip('/')

    def _chosen(self, bag: Bag) -> dict[str, Channel]:
        """Return the channels to play; raise InvalidInput when nothing is left."""
        only, also = ({t for t in names if t} for names in (self.parameters.topics, self.parameters.include))
        unknown = sorted((only | also) - set(bag.channels))
        if unknown:
            reasons = ''.join(f'; {topic}: {bag.skipped[topic]}' for topic in unknown if topic in bag.skipped)
            raise InvalidInput(
                f'bag {bag.path} has no playable topics {unknown}; it has: {sorted(bag.channels)}{reasons}'
            )
        without = tuple(t for t in self.parameters.exclude if t)
        wanted = {
            topic
            for topic in bag.types
            if (not only or topic in only | also) and not (without and topic.startswith(without))
        }
        left_out = {t: why for t, why in outputs(bag.types).items() if t in wanted - only - also}
        if left_out:
            listed = '; '.join(f'{topic} ({why})' for topic, why in sorted(left_out.items()))
            self.get_logger().warning(f'left out: {listed}. To play one all the same, name it in `include`')
        for topic in sorted(wanted.intersection(bag.skipped) - set(left_out)):
            self.get_logger().warning(f'not played: {topic}: {bag.skipped[topic]}')
        chosen = {topic: c for topic, c in bag.channels.items() if topic in wanted and topic not in left_out}
        # A recorded /clock would fight with the one published here.
        if self.parameters.clock_hz > 0:
            chosen.pop('/clock', None)
        if not chosen:
            raise InvalidInput(
                f'bag {bag.path}: nothing to play; its topics: {sorted(bag.channels)}, left out of them as outputs of '
                f'running nodes: {sorted(left_out)}; name what to play in `include`'
            )
        return chosen

    def start(self) -> None:
        """Play in a thread of its own, so that the node keeps answering."""
        self._halt.clear()
        self._sent = self._rounds = 0
        self._late_s = 0.0
        self._thread = threading.Thread(target=self._play, name='bag-player', daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop playing."""
        self._halt.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=5.0)
        self._thread = None

    def teardown(self) -> None:
        """Close the bag."""
        if self._bag is not None:
            self._bag.close()
            self._bag = None

    # The player's thread.

    def _play(self) -> None:
        try:
            if not self._wait_for_subscribers():
                return
            self._state = 'playing'
            while not self._halt.is_set():
                if self._play_once() == 0:
                    raise InvalidInput(f'the bag has no message of {sorted(self._channels)} in the time asked for')
                self._rounds += 1
                if not self.parameters.loop:
                    break
            if self._halt.is_set():
                self._state = 'stopped'
                return
            self._state = 'finished'
            self.get_logger().info(f'finished: {self._sent} messages')
        except Exception as error:  # a thread's exception would otherwise only be printed
            self._state = 'failed'
            self.failure = f'playing failed: {error}'
            self.get_logger().error(self.failure)
            self.exit_status = 1
        self._finish()

    def _finish(self) -> None:
        """Let the last messages arrive, then end the process if so wished."""
        for outlet in self._outlets.values():
            if outlet.qos_profile.reliability == qos.RELIABLE.reliability:
                outlet.wait_for_all_acked(Duration(seconds=2.0))
        if self.parameters.exit_at_end and not self._halt.is_set():
            self.exit_requested.set()

    def _wait_for_subscribers(self) -> bool:
        """Return whether playing may begin; False when told to stop."""
        self._state = 'waiting for subscribers'
        deadline = time.monotonic() + self.parameters.wait_s
        wanted = [t for t in self.parameters.wait_for_subscribers if t]
        enough = len(wanted)
        if not wanted and self.parameters.wait_for_images:
            wanted = [t for t, channel in self._channels.items() if channel.type_name in PICTURES]
            enough = min(1, len(wanted))
        while not self._halt.is_set():
            absent = [t for t in wanted if self._outlets[t].get_subscription_count() == 0]
            if len(wanted) - len(absent) >= enough:
                return not (wanted and self._halt.wait(_SETTLE_S))
            if time.monotonic() > deadline:
                raise InvalidInput(
                    f'nobody subscribed to {absent} within {self.parameters.wait_s:g} s; a planner subscribes only '
                    'once it is active: if it still loads its checkpoint, raise wait_s; otherwise compare names and '
                    'quality of service (`ros2 topic info -v`)'
                )
            self._halt.wait(0.02)
        return False

    def _play_once(self) -> int:
        """Play the bag from the start offset to the end; return how many messages were sent."""
        assert self._bag is not None
        duration_s = self.parameters.duration_s or None
        sent = 0
        origin_ns: int | None = None
        began = time.monotonic()
        next_clock = began
        for letter in self._bag.letters(self._channels, self.parameters.start_offset_s, duration_s):
            if origin_ns is None:
                origin_ns = letter.log_time_ns
            due = began + (letter.log_time_ns - origin_ns) * 1e-9 / self.parameters.rate
            while True:
                if self._halt.is_set():
                    return max(sent, 1)
                now = time.monotonic()
                if self._clock_outlet is not None and now >= next_clock:
                    self._tick_clock(origin_ns * 1e-9 + (min(now, due) - began) * self.parameters.rate)
                    next_clock += 1.0 / self.parameters.clock_hz
                    next_clock = max(next_clock, now)  # never a burst of ticks to catch up
                if now >= due:
                    break
                until = due if self._clock_outlet is None else min(due, next_clock)
                self._halt.wait(max(0.0, until - now))
            late_s = time.monotonic() - due
            self._late_s = max(self._late_s, late_s)
            if late_s > _STANDSTILL_S:
                began += late_s
            self._send(letter)
            sent += 1
            self._position_s = (letter.log_time_ns - self._bag.start_ns) * 1e-9
        return sent

    def _tick_clock(self, seconds: float) -> None:
        assert self._clock_outlet is not None
        self._clock_outlet.publish(ClockMessage(clock=to_time(seconds)))

    def _send(self, letter: Letter) -> None:
        data = letter.data
        if self.parameters.restamp and letter.channel.has_header:
            # Differences between stamps and log times (exposure before transport) survive.
            data = restamped(data, time.time_ns() + stamp_ns(data) - letter.log_time_ns)
        self._outlets[letter.channel.topic].publish(data)
        self._sent += 1

    def report(self) -> Iterable[Status]:
        """Say where the player is."""
        level = Level.ERROR if self._state == 'failed' else Level.OK
        values = {
            'bag': self.parameters.bag,
            'position_s': self._position_s,
            'duration_s': self._bag.duration_s if self._bag is not None else None,
            'messages': self._sent,
            'rounds': self._rounds,
            'latest_by_s': self._late_s,
            'unread': '; '.join(self._bag.unread) or None if self._bag is not None else None,
        }
        yield Status('playback', level, self._state, values)


def main() -> int:
    """Run the node."""
    return run(BagPlayerNode)


if __name__ == '__main__':
    sys.exit(main())
