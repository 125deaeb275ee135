# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A bag as a timeline of serialized messages: what is in it, with which type and quality of service.

Messages are not deserialised: what was recorded goes out byte for byte, except for the header stamp
when it is asked to be moved.
"""

from __future__ import annotations

import importlib
import struct
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rclpy.qos import HistoryPolicy, QoSProfile
from rosbags.interfaces import Connection

from vla_driver.bag.schema import PATH, typestore
from vla_driver.bag.storage.bagfiles import BagFiles
from vla_driver.bag.storage.entries import FOREVER_NS
from vla_driver.ros.wire import qos
from vla_driver.types import InvalidInput

_NANO = 1_000_000_000
#: Topics that are published once for all who come later, whatever the bag says of them.  Several nodes may publish on
#: one, each its own part, so that all of its messages are wanted, and not the last one alone.
_KEPT: Final = ('/tf_static', '/robot_description')
#: So many of them are kept at most: a node that repeats its message must not fill the memory.
_MOST_KEPT: Final = 1000


@dataclass(frozen=True)
class Channel:
    """One topic of a bag that can be published here."""

    topic: str
    type_name: str
    message_type: type
    profile: QoSProfile
    count: int
    has_header: bool

    @property
    def latched(self) -> bool:
        """Whether late subscribers get the last message, or the last ones."""
        return bool(self.profile.durability == qos.LATCHED.durability)

    @property
    def kept(self) -> int:
        """How many of its last messages are wanted by whoever comes later."""
        if not self.latched:
            return 0
        return self.profile.depth if self.topic.endswith(_KEPT) else 1


@dataclass(frozen=True)
class Letter:
    """One recorded message: when it was logged, where it belongs, its bytes."""

    log_time_ns: int
    channel: Channel
    data: bytes


def message_class(type_name: str) -> Any:
    """Return the Python class of e.g. 'sensor_msgs/msg/Image'; raise ImportError naming the package to install."""
    package, _, name = type_name.partition('/msg/')
    if not name:
        raise ImportError(f'{type_name!r} is not a message type (expected package/msg/Name)')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), name)
    except (ImportError, AttributeError) as error:
        raise ImportError(f'{type_name}: install or source the package {package} ({error})') from error


def has_header(message_type: Any) -> bool:
    """Whether the first field is a std_msgs/Header, or Foxglove's stamp: either way it lies at the same place."""
    first = next(iter(message_type.get_fields_and_field_types().items()), None)
    return first in (('header', 'std_msgs/Header'), ('timestamp', 'builtin_interfaces/Time'))


def _byte_order(data: bytes) -> str:
    """Return struct's sign for a CDR message's byte order (second byte of the encapsulation: 1 = little)."""
    if len(data) < 12:
        raise InvalidInput(f'serialized message of {len(data)} bytes, expected at least 12 (CDR header and stamp)')
    return '<' if data[1] & 1 else '>'


def stamp_ns(data: bytes) -> int:
    """Return the header stamp of a serialized message that begins with a std_msgs/Header."""
    seconds, nanoseconds = struct.unpack_from(_byte_order(data) + 'iI', data, 4)
    return int(seconds) * _NANO + int(nanoseconds)


def restamped(data: bytes, stamp: int) -> bytes:
    """Return the same message with another header stamp, in nanoseconds."""
    moved = bytearray(data)
    struct.pack_into(_byte_order(data) + 'iI', moved, 4, *divmod(stamp, _NANO))
    return bytes(moved)


class Bag:
    """An opened bag: its channels, and its messages in the order they were logged.

    say: is told, once each, what of the bag cannot be read.  Raises InvalidInput for what is no bag.
    """

    def __init__(self, path: str | Path, say: Callable[[str], None] | None = None) -> None:
        self.path = Path(path)
        self._files = BagFiles(self.path, typestore(), say)
        #: Topic -> message type of everything in the bag.
        self.types: dict[str, str] = self._files.topics
        self.channels: dict[str, Channel] = {}
        #: Topics that cannot be published here -> why.
        self.skipped: dict[str, str] = dict(self._files.unreadable)
        for connection in self._files.connections:
            try:
                self.channels[connection.topic] = self._channel(connection)
            except ImportError as error:
                self.skipped[connection.topic] = str(error)

    def _channel(self, connection: Connection) -> Channel:
        """Return how a topic is played; raise ImportError where it cannot be, saying why."""
        kind = message_class(connection.msgtype)
        if self._files.definitions.differs(connection):
            raise ImportError(f'it was recorded with another definition of {connection.msgtype} than the one here')
        profile = qos.from_bag(getattr(connection.ext, 'offered_qos_profiles', []))
        if connection.topic.endswith(_KEPT):
            depth = min(max(1, connection.msgcount), _MOST_KEPT)
            profile = qos.latched(QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth))
        elif connection.msgtype == PATH:
            # A route may have been recorded from a publisher that keeps nothing; the planner asks for a kept one.
            profile = qos.latched(profile)
        return Channel(connection.topic, connection.msgtype, kind, profile, connection.msgcount, has_header(kind))

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    @property
    def unread(self) -> Sequence[str]:
        """What of the bag is not read, and how far it goes, in sentences; more may come while it is played."""
        return tuple(self._files.notes)

    @property
    def start_ns(self) -> int:
        """Log time of the first message."""
        return self._files.start_ns

    @property
    def duration_s(self) -> float:
        """Seconds from the first message to the last."""
        return (self._files.end_ns - self._files.start_ns) / _NANO

    def letters(
        self, channels: Mapping[str, Channel], start_offset_s: float = 0.0, duration_s: float | None = None
    ) -> Iterator[Letter]:
        """Yield the messages of `channels`.

        With a start offset, the last message of every latched channel from before it comes first (of /tf_static
        and its like: all of them, in order), at the offset's time: a route that was published once must not be cut
        away.
        """
        begin = self.start_ns + round(start_offset_s * _NANO)
        end = FOREVER_NS if duration_s is None else begin + round(duration_s * _NANO)
        if start_offset_s > 0:
            last = {topic: deque[bytes](maxlen=channel.kept) for topic, channel in channels.items() if channel.kept}
            for connection, _, data in self._files.messages(tuple(last), stop_ns=begin):
                last[connection.topic].append(data)
            for topic, messages in last.items():
                for data in messages:
                    yield Letter(begin, channels[topic], data)
        for connection, time_ns, data in self._files.messages(channels, begin, end):
            yield Letter(time_ns, channels[connection.topic], data)
