# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""ROS 1 bags (format 2.0): by their index, or by a walk over the records where the recorder never wrote one."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import replace
from typing import Final

from rosbags.interfaces import (
    MessageDefinition,
    MessageDefinitionFormat,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.typesys.msg import normalize_msgtype

from vla_driver.bag.storage.blocks import Block, BlockFile, DamagedError
from vla_driver.bag.storage.entries import Channel, Entry
from vla_driver.bag.storage.notes import Notes
from vla_driver.bag.storage.source import UNPACK, Source, Window

_MAGIC: Final = b'#ROSBAG V2.0\n'
_MESSAGE, _BAG, _INDEX, _CHUNK, _CHUNK_INFO, _CONNECTION = 2, 3, 4, 5, 6, 7
_COMPRESSIONS: Final = {b'none': '', b'bz2': 'bzip2', b'lz4': 'lz4'}
_U32, _TIME = struct.Struct('<I'), struct.Struct('<II')
#: The first record is filled up to this size.
_HEADER_SIZE: Final = 4096
_MOST_HEADER: Final = 1 << 20
_FOREVER: Final = QosTime(9223372036, 854775807)

_Fields = dict[bytes, bytes]


def _nanoseconds(data: bytes, at: int = 0) -> int:
    seconds, rest = _TIME.unpack_from(data, at)
    return int(seconds) * 1_000_000_000 + int(rest)


def _fields(data: bytes) -> _Fields:
    """Return name -> value of a record's header; raise DamagedError."""
    found, at = {}, 0
    while at < len(data):
        (size,) = _U32.unpack_from(data.ljust(at + 4, b'\0'), at)
        name, sign, value = data[at + 4 : at + 4 + size].partition(b'=')
        if not sign or at + 4 + size > len(data):
            raise DamagedError('a record has no header')
        found[name] = value
        at += 4 + size
    return found


def _number(fields: _Fields, name: bytes) -> int:
    if name not in fields:
        raise DamagedError(f'a record has no {name.decode()}')
    return int.from_bytes(fields[name], 'little')


class Ros1File(BlockFile):
    """A ROS 1 bag; its messages come out as they were recorded, in ROS 1's own serialization ('ros1')."""

    def __init__(self, source: Source, notes: Notes) -> None:
        super().__init__(source, notes)
        window = Window(source)
        if window.at(0, len(_MAGIC)) != _MAGIC:
            version = window.at(0, 13).splitlines()[0].decode('ascii', 'replace')
            raise DamagedError(f'{self.name} is a ROS 1 bag of another version ({version}), readable is V2.0')
        opcode, fields, _, _, end = self._head(window, len(_MAGIC))
        if opcode != _BAG:
            fields, end = {}, len(_MAGIC) + _HEADER_SIZE  # damaged; what comes behind may be whole
        if fields.get(b'encryptor'):
            raise DamagedError(f'{self.name} is encrypted ({fields[b"encryptor"].decode("ascii", "replace")})')
        try:
            whole = self._read_index(_number(fields, b'index_pos'), _number(fields, b'chunk_count'))
        except (DamagedError, struct.error):
            whole = False
        if not whole:
            self.blocks, self.by_id = [], {}
            self._scan(window, end)
        if not whole and not self.blocks:
            raise DamagedError(f'{self.name} is cut off or damaged within its first bytes: nothing can be read')
        for block in self.blocks:
            for number, count in block.counts.items():
                if number in self.by_id:
                    self.by_id[number].count += count
        self.span(self.blocks)

    def load(self, block: Block) -> list[Entry]:
        """Return the messages of a chunk or run as they lie; raise DamagedError."""
        entries: list[Entry] = []
        data = self._data(block)
        for opcode, fields, begin, end in _records(data):
            if end > len(data):
                raise DamagedError('records in it are damaged', entries)
            if opcode == _MESSAGE:
                log_ns = _nanoseconds(fields[b'time'].ljust(8, b'\0')) if b'time' in fields else 0
                entries.append(Entry(log_ns, _number(fields, b'conn'), data[begin:end]))
        return entries

    def _head(self, window: Window, at: int) -> tuple[int, _Fields, int, int, int]:
        """Return opcode, header, and where the record's data begin, how long they are, where they end.

        Opcode 0: the file ends, or is damaged.
        """
        raw = window.at(at, 4)
        size = _U32.unpack(raw)[0] if len(raw) == 4 else 0
        header = window.at(at + 4, size + 4) if 0 < size < _MOST_HEADER else b''
        if len(header) < size + 4 or not size:
            return 0, {}, 0, 0, 0
        try:
            fields = _fields(header[:size])
        except DamagedError:
            return 0, {}, 0, 0, 0
        (length,) = _U32.unpack_from(header, size)
        begin = at + 8 + size
        return int.from_bytes(fields.get(b'op', b''), 'little'), fields, begin, length, begin + length

    def _data(self, block: Block) -> bytes:
        """Return the records of a block, unpacked."""
        if not block.chunk:
            return self.source.read(block.offset, block.length)
        opcode, fields, begin, length, _ = self._head(Window(self.source), block.offset)
        if opcode != _CHUNK:
            raise DamagedError('there is no chunk where the index says so')
        data = self.source.read(begin, length)
        kind = _COMPRESSIONS.get(fields.get(b'compression', b'none'))
        if kind is None:
            raise DamagedError(f'compression {fields[b"compression"].decode("ascii", "replace")!r} is not known')
        if not kind:
            return data
        try:
            return bytes(UNPACK[kind]().decompress(data))
        except (OSError, RuntimeError, EOFError, ValueError) as error:
            raise DamagedError(f'a chunk cannot be unpacked ({error})') from error

    def _read_index(self, at: int, chunks: int) -> bool:
        """Take topics and chunks from the end of the file; return False where it is not there."""
        size = self.source.size
        if not len(_MAGIC) < at <= size:
            return False
        data = self.source.read(at, size - at)
        for opcode, fields, begin, end in _records(data):
            if end > len(data):
                return False
            if opcode == _CONNECTION:
                self._connect(fields, data[begin:end])
            elif opcode == _CHUNK_INFO:
                counts = dict(struct.iter_unpack('<II', data[begin : begin + 8 * _number(fields, b'count')]))
                start_ns, end_ns = (
                    _nanoseconds(fields.get(name, b'').ljust(8, b'\0')) for name in (b'start_time', b'end_time')
                )
                if counts:
                    place = _number(fields, b'chunk_pos')
                    self.blocks.append(Block(place, 0, start_ns, end_ns, frozenset(counts), counts))
                chunks -= 1
        return chunks == 0

    def _scan(self, window: Window, at: int) -> None:
        """Find chunks and topics from the front, and the messages behind a chunk that was never closed."""
        while at < self.source.size:
            opcode, fields, begin, length, end = self._head(window, at)
            if opcode == 0 or end > self.source.size:
                if opcode == _CHUNK:
                    self._add_chunk(Block(at, end - at, 0, 0, torn=True))
                self.cut = True
                return
            if opcode == _CHUNK and length:
                self._add_chunk(Block(at, end - at, 0, 0))
            elif opcode == _CONNECTION:
                self._connect(fields, window.at(begin, length))
            elif opcode == _MESSAGE and b'time' in fields:
                log_ns, conn = _nanoseconds(fields[b'time'].ljust(8, b'\0')), _number(fields, b'conn')
                self.blocks.append(Block(at, end - at, log_ns, log_ns, frozenset([conn]), {conn: 1}, chunk=False))
            at = end
        self.cut = True  # a recorder that ends as it should writes an index

    def _add_chunk(self, block: Block) -> None:
        counts, times = Counter[int](), list[int]()
        try:
            data = self._data(block)
        except DamagedError as error:
            self.notes.damage(self.name, f'at byte {block.offset}: {error}')
            return
        for opcode, fields, begin, end in _records(data):
            if end > len(data):
                break
            if opcode == _CONNECTION:
                self._connect(fields, data[begin:end])
            elif opcode == _MESSAGE and b'time' in fields:
                counts[_number(fields, b'conn')] += 1
                times.append(_nanoseconds(fields[b'time'].ljust(8, b'\0')))
        if times:
            self.blocks.append(
                replace(block, start_ns=min(times), end_ns=max(times), channels=frozenset(counts), counts=dict(counts))
            )

    def _connect(self, fields: _Fields, data: bytes) -> None:
        """Take in a connection record: a publisher of a topic."""
        about = fields | _fields(data)
        number = _number(fields, b'conn')
        if number in self.by_id:
            return
        definition = about.get(b'message_definition', b'').decode('utf-8', 'replace')
        self.by_id[number] = Channel(
            number,
            '/' + fields.get(b'topic', b'').decode('utf-8', 'replace').strip('/'),
            normalize_msgtype(about.get(b'type', b'').decode('utf-8', 'replace')),
            'ros1',
            MessageDefinition(MessageDefinitionFormat.MSG, definition),
            qos=[_latched()] if about.get(b'latching') == b'1' else [],
        )


def _records(data: bytes) -> list[tuple[int, _Fields, int, int]]:
    """Return (opcode, header, begin and end of the data) of the records; the last may end beyond `data`."""
    found, at = list[tuple[int, _Fields, int, int]](), 0
    while at + 8 <= len(data):
        (size,) = _U32.unpack_from(data, at)
        if at + 8 + size > len(data):
            found.append((0, {}, 0, at + 8 + size))
            break
        try:
            fields = _fields(data[at + 4 : at + 4 + size])
        except DamagedError:
            found.append((0, {}, 0, len(data) + 1))
            break
        (length,) = _U32.unpack_from(data, at + 4 + size)
        begin = at + 8 + size
        at = begin + length
        found.append((int.from_bytes(fields.get(b'op', b''), 'little'), fields, begin, at))
    return found


def _latched() -> Qos:
    """Return what a latching publisher of ROS 1 offers in the words of ROS 2."""
    return Qos(
        QosHistory.KEEP_LAST,
        1,
        QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL,
        _FOREVER,
        _FOREVER,
        QosLiveliness.AUTOMATIC,
        _FOREVER,
        False,
    )
