# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A bag as its storage files hold it: one list of topics, one stream of messages by log time, one set of types."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import zstandard
from rosbags.interfaces import Connection, ConnectionExtRosbag2
from rosbags.typesys.store import Typestore

from vla_driver.bag.storage.blocks import DamagedError
from vla_driver.bag.storage.definitions import UNREADABLE, Definitions, brief
from vla_driver.bag.storage.entries import FOREVER_NS, Channel, Entry, Opener, StorageFile, lazy_merge
from vla_driver.bag.storage.locate import locate
from vla_driver.bag.storage.mcap_file import McapFile
from vla_driver.bag.storage.metadata import Metadata, read_metadata
from vla_driver.bag.storage.notes import Notes
from vla_driver.bag.storage.ros1_file import Ros1File
from vla_driver.bag.storage.source import UNPACK, ZSTD, Source, kind_of, unpack
from vla_driver.bag.storage.sqlite_file import SqliteFile
from vla_driver.types import InvalidInput

#: What can be read: ROS 2's serialization, and ROS 1's, which is turned into it.
_READABLE = ('cdr', 'ros1')
#: So few messages at the start, and so far before all others, were not logged when they came: some converters log what
#: is latched at time 0.  More of them are a part of the drive, with a pause behind it.
_FEW: Final = 100
_FAR_NS: Final = 3_600 * 1_000_000_000


class BagFiles:
    """An opened bag: a context manager.

    path: a rosbag2 folder with or without metadata.yaml, or one file: .mcap, .db3, a ROS 1 .bag, each of them also
    compressed as a whole.  default: types that the bag does not define.  say: is told what cannot be read.

    A recording that was cut off or damaged is read as far as it goes, and `notes` say how far.  A few messages that
    were logged an hour or more before all others are taken as logged when those begin; their stamps stay.
    Raises InvalidInput for what is no bag.
    """

    def __init__(self, path: str | Path, default: Typestore, say: Callable[[str], None] | None = None) -> None:
        self.path = Path(path)
        #: Sentences about what is not read and how far; more may come while messages are read.
        self.notes = Notes(str(self.path), say)
        self.definitions = Definitions(default, self.notes)
        #: Topics that cannot be read -> why.
        self.unreadable: dict[str, str] = {}
        #: One per topic, in the order of the files.
        self.connections: list[Connection] = []
        self._files: list[StorageFile] = []
        self._members: dict[str, list[tuple[int, int]]] = {}  # topic -> (file, channel) of its messages
        self._ros1: set[tuple[int, int]] = set()
        self._lost: dict[str, int] = {}
        self._begin_ns = 0  # what was logged before is taken as logged then
        self._stack = ExitStack()
        try:
            self._metadata = self._open()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> BagFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files, and remove what was unpacked."""
        self._stack.close()

    @property
    def topics(self) -> dict[str, str]:
        """Topic -> type of everything that can be read."""
        return {connection.topic: connection.msgtype for connection in self.connections}

    @property
    def custom(self) -> Mapping[str, str]:
        """The recording's custom data."""
        return self._metadata.custom

    @property
    def message_count(self) -> int:
        """Messages on all readable topics."""
        return sum(connection.msgcount for connection in self.connections)

    @property
    def start_ns(self) -> int:
        """Log time of the first message, 0 without any."""
        return self._begin_ns

    @property
    def end_ns(self) -> int:
        """Log time of the last message, 0 without any."""
        return max((file.end_ns for file in self._files if file.end_ns is not None), default=0)

    def messages(
        self, topics: Iterable[str] | None = None, start_ns: int = 0, stop_ns: int = FOREVER_NS
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """Yield (topic, log time in nanoseconds, message in CDR) by log time, of some topics or of all.

        Of messages with start_ns <= log time < stop_ns.  Equal times come in the order of the files.
        """
        if stop_ns <= self._begin_ns:
            return
        if start_ns <= self._begin_ns:
            start_ns = 0  # what is taken as logged at the beginning lies before it
        wanted = None if topics is None else set(topics)
        by_member = {
            member: connection
            for connection in self.connections
            if wanted is None or connection.topic in wanted
            for member in self._members[connection.topic]
        }
        channels: dict[int, set[int]] = {}
        for number, channel in by_member:
            channels.setdefault(number, set()).add(channel)
        openers, numbers = [], []
        for number in sorted(channels):
            file = self._files[number]
            if file.start_ns is None or file.end_ns is None or file.start_ns >= stop_ns or file.end_ns < start_ns:
                continue
            openers.append((file.start_ns, partial(file.entries, frozenset(channels[number]), start_ns, stop_ns)))
            numbers.append(number)
        for opener, entry in lazy_merge(openers):
            member = (numbers[opener], entry.channel)
            connection = by_member[member]
            data = self._cdr(connection, entry, member in self._ros1)
            if data is not None:
                yield connection, max(entry.log_ns, self._begin_ns), data

    def _cdr(self, connection: Connection, entry: Entry, ros1: bool) -> bytes | None:
        data = entry.data
        if data[:4] == ZSTD and not ros1:  # compressed message by message: CDR begins with a zero
            try:
                return zstandard.ZstdDecompressor().decompressobj().decompress(data)
            except zstandard.ZstdError as error:
                self._lose(connection, f'cannot be unpacked ({error})')
                return None
        if ros1:
            try:
                return self.definitions.from_ros1(connection, data)
            except UNREADABLE as error:
                self._lose(connection, f'is no {connection.msgtype} of ROS 1 ({error})')
                return None
        return data

    def deserialize(self, connection: Connection, data: bytes) -> Any:
        """Return a message as an object, None (noted) for bytes that are no message of the topic's type.

        Raises InvalidInput where nobody knows the type.
        """
        store = self.definitions.store(connection)
        try:
            return store.deserialize_cdr(data, connection.msgtype)
        except UNREADABLE as error:
            self._lose(connection, f'is no {connection.msgtype} ({brief(error)})')
            return None

    def _lose(self, connection: Connection, why: str) -> None:
        if connection.topic not in self._lost:
            self.notes.add(f'topic {connection.topic}: a message {why}; it is left out, as are others like it')
        self._lost[connection.topic] = self._lost.get(connection.topic, 0) + 1

    # Opening.

    def _open(self) -> Metadata:
        located = locate(self.path)
        for note in located.notes:
            self.notes.add(note)
        failures = []
        for path in located.files:
            try:
                file = self._open_file(path)
            except (InvalidInput, DamagedError, OSError) as error:
                failures.append(str(error))
            else:
                self._stack.callback(file.close)
                self._files.append(file)
        if not self._files:
            raise InvalidInput(f'{self.path} is not a readable bag: {"; ".join(failures)}')
        for failure in failures:
            self.notes.add(f'{failure}; the other parts are read')
        self._begin_ns = self._find_begin()
        for file in self._files:
            if file.cut:
                self.notes.add(self._cut(file))
        metadata = located.metadata
        if metadata is None or not metadata.storage:  # made anew (reindexed), or not at all
            metadata = self._embedded(metadata or Metadata())
        self._collect(metadata)
        found = sum(channel.count for file in self._files for channel in file.channels)
        complete = not failures and not any(file.cut for file in self._files) and not located.notes
        if complete and metadata.message_count is not None and found < metadata.message_count:
            self.notes.add(f'metadata.yaml speaks of {metadata.message_count} messages, the files hold {found}')
        return metadata

    def _find_begin(self) -> int:
        """Return the log time of the first message, 0 without any; not of those far before all others, if few."""
        first_ns = min((file.start_ns for file in self._files if file.start_ns is not None), default=0)
        if self.end_ns - first_ns < _FAR_NS:
            return first_ns
        openers, names = list[Opener](), list[dict[int, str]]()
        for file in self._files:
            if file.start_ns is not None:
                names.append({channel.id: channel.topic for channel in file.channels})
                openers.append((file.start_ns, partial(file.entries, frozenset(names[-1]), 0, FOREVER_NS)))
        seen, early = Counter[str](), Counter[str]()
        begin_ns = last_ns = first_ns
        for opener, entry in islice(lazy_merge(openers), _FEW + 1):
            if entry.log_ns - last_ns >= _FAR_NS:
                begin_ns, early = entry.log_ns, seen.copy()
            seen[names[opener][entry.channel]] += 1
            last_ns = entry.log_ns
        if early:
            listed = ', '.join(f'{topic} ({count})' for topic, count in early.items())
            hours = (begin_ns - first_ns) / _FAR_NS
            self.notes.add(
                f'messages on {listed} were logged up to {hours:.0f} h before all others; they are taken as logged '
                'when those begin'
            )
        return begin_ns

    def _cut(self, file: StorageFile) -> str:
        why = f'{file.name} was cut off (the recorder was killed, power was lost, or not all was copied)'
        if file.end_ns is None:
            return f'{why}: it holds no message'
        return f'the recording ends after {(file.end_ns - self.start_ns) * 1e-9:.1f} s: {why}; all up to there is read'

    def _open_file(self, path: Path) -> StorageFile:
        kind = kind_of(path)
        if kind not in UNPACK:
            return self._opened(path, Source(path), kind)
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix='vla_driver-'))
        inside = Path(folder) / (path.stem or path.name)
        into = self._stack.enter_context(inside.open('w+b'))
        why = unpack(path, kind, into)
        try:
            kind = kind_of(inside)
        except InvalidInput as error:
            raise InvalidInput(f'{path.name}, unpacked: {error}') from error
        if kind in UNPACK:
            raise InvalidInput(f'{path.name} is compressed twice; unpack it first')
        source = Source(inside, into)
        source.name = path.name
        file = self._opened(inside, source, kind)
        if kind != 'sqlite3':
            inside.unlink()  # what is open stays readable, and is gone with this process, whatever ends it
        if why:
            self.notes.add(f'{path.name}: {why}')
        return file

    def _opened(self, path: Path, source: Source, kind: str) -> StorageFile:
        if kind == 'mcap':
            return McapFile(source, self.notes)
        if kind == 'ros1':
            return Ros1File(source, self.notes)
        return SqliteFile(path, self.notes, source.name)

    def _embedded(self, metadata: Metadata) -> Metadata:
        """Return the metadata with what the files themselves say of custom data and quality of service."""
        custom, qos, hashes = dict(metadata.custom), dict(metadata.qos), dict(metadata.hashes)
        for file in self._files:
            try:
                inside = read_metadata(file.metadata)
            except InvalidInput:
                continue
            custom = {**inside.custom, **custom}
            qos = {**inside.qos, **qos}
            hashes = {**inside.hashes, **hashes}
        return Metadata(metadata.files, metadata.storage, metadata.message_count, custom, qos, hashes)

    def _collect(self, metadata: Metadata) -> None:
        """Make one connection of a topic's channels in all files."""
        by_topic: dict[str, dict[str, list[tuple[int, Channel]]]] = {}
        for number, file in enumerate(self._files):
            for channel in file.channels:
                if channel.encoding in _READABLE:
                    by_topic.setdefault(channel.topic, {}).setdefault(channel.msgtype, []).append((number, channel))
                else:
                    why = f"its messages are {channel.encoding or 'of no known encoding'}, readable is ROS's own (cdr)"
                    self.unreadable[channel.topic] = why
        for topic, types in by_topic.items():
            counts = {msgtype: sum(channel.count for _, channel in found) for msgtype, found in types.items()}
            msgtype = max(counts, key=lambda name: counts[name])
            if len(types) > 1:
                listed = ', '.join(f'{name} ({count} messages)' for name, count in counts.items())
                self.notes.add(f'topic {topic} holds several types: {listed}; read as {msgtype}')
            self._connect(topic, msgtype, types[msgtype], metadata)
        for topic in self.unreadable.keys() & by_topic.keys():
            del self.unreadable[topic]
        for topic, why in self.unreadable.items():
            self.notes.add(f'topic {topic} is not read: {why}')

    def _connect(self, topic: str, msgtype: str, found: list[tuple[int, Channel]], metadata: Metadata) -> None:
        channels = [channel for _, channel in found]
        definition = next((c.definition for c in channels if c.definition.data), channels[0].definition)
        qos = list(metadata.qos.get(topic, ())) or next((c.qos for c in channels if c.qos), [])
        own = None if definition.data else self.definitions.described(msgtype)
        self._members[topic] = [(number, channel.id) for number, channel in found]
        self._ros1.update((number, channel.id) for number, channel in found if channel.encoding == 'ros1')
        self.connections.append(
            Connection(
                len(self.connections) + 1,
                topic,
                msgtype,
                own or definition,
                metadata.hashes.get(topic) or next((c.digest for c in channels if c.digest), ''),
                sum(c.count for c in channels),
                ConnectionExtRosbag2('cdr', qos),
                self,
            )
        )
