# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""mcap files: by their index where it is there and right, by a walk over the records otherwise."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from dataclasses import replace
from typing import Final

from mcap.opcode import Opcode
from mcap.records import Channel as ChannelRecord
from mcap.records import ChunkIndex, Header, Metadata, MetadataIndex, Schema, Statistics
from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat
from rosbags.typesys.msg import normalize_msgtype

from vla_driver.bag.storage.blocks import Block, BlockFile, DamagedError
from vla_driver.bag.storage.entries import NO_DEFINITION, Channel, Entry
from vla_driver.bag.storage.mcap_records import HEAD, MAGIC, MESSAGE, chunk_head, next_chunk, parsed, records, unpacked
from vla_driver.bag.storage.metadata import read_qos
from vla_driver.bag.storage.notes import Notes
from vla_driver.bag.storage.source import Source, Window

#: A run of messages outside of chunks: about as large as a chunk.
_RUN_BYTES: Final = 1 << 20
#: The records that end the messages, with their lengths.
_ENDS: Final = ((Opcode.DATA_END, 4), (Opcode.FOOTER, 20))
_FOOTER: Final = struct.Struct('<BQQQI')
_FORMATS: Final = {
    'ros2msg': MessageDefinitionFormat.MSG,
    'ros1msg': MessageDefinitionFormat.MSG,
    'ros2idl': MessageDefinitionFormat.IDL,
    'omgidl': MessageDefinitionFormat.IDL,
}


class McapFile(BlockFile):
    """An mcap file, with or without chunks, summary, and an end.

    Raises DamagedError for a file that begins as mcap and goes on as something else.
    """

    def __init__(self, source: Source, notes: Notes) -> None:
        super().__init__(source, notes)
        self._schemas: dict[int, Schema] = {}
        self._lacking: dict[int, ChannelRecord] = {}  # channels whose schema has not been seen yet
        self._metadata_places: list[tuple[int, int]] = []
        self._expected = 0  # messages, as the index says
        self._profile, self._data_start = self._read_header()
        try:
            whole = self._read_summary()
        except (DamagedError, KeyError, struct.error):
            whole = False
        if not whole:
            self.blocks, self.by_id, self._schemas, self._lacking, self._metadata_places = [], {}, {}, {}, []
            self._scan()
        found = sum(channel.count for channel in self.by_id.values())
        if self._data_start == len(MAGIC) and not self.blocks:
            raise DamagedError(f'{self.name} is cut off or damaged within its first bytes: nothing can be read')
        if found < self._expected and not self.cut:
            notes.damage(self.name, f'its index speaks of {self._expected} messages, {found} were found')
        self.span(self.blocks)

    def _read_header(self) -> tuple[str, int]:
        """Return the profile and where the data begin; where that is damaged, all may be there still."""
        begin = len(MAGIC) + HEAD.size
        opcode, length = HEAD.unpack(self.source.read(len(MAGIC), HEAD.size).ljust(HEAD.size, b'\0'))
        if opcode == Opcode.HEADER and length < 1 << 20:
            try:
                return parsed(Header, self.source.read(begin, length)).profile, begin + length
            except DamagedError:
                pass
        return '', len(MAGIC)

    @property
    def metadata(self) -> str:
        """The metadata.yaml that rosbag2 keeps in the file; '' without one."""
        for offset, length in self._metadata_places:
            record = self.source.read(offset, length)
            if len(record) == length:
                try:
                    found = parsed(Metadata, record[HEAD.size :])
                except DamagedError:
                    continue
                if found.name == 'rosbag2':
                    return found.metadata.get('serialized_metadata', '')
        return ''

    def load(self, block: Block) -> list[Entry]:
        """Return the messages of a chunk or run as they lie; raise DamagedError."""
        data, why = self._data(block)
        entries, last = list[Entry](), 0
        for opcode, begin, end in records(data):
            if opcode == Opcode.MESSAGE and end - begin >= MESSAGE.size:
                channel, _, log_ns, _ = MESSAGE.unpack_from(data, begin)
                entries.append(Entry(log_ns, channel, data[begin + MESSAGE.size : end]))
            last = end
        if why or last != len(data):
            raise DamagedError(why or 'records in it are damaged', entries)
        return entries

    def _data(self, block: Block) -> tuple[bytes, str]:
        """Return (the records of a block, unpacked, and what is wrong with them); raise DamagedError."""
        if not block.chunk:
            return self.source.read(block.offset, block.length), ''
        record = self.source.read(block.offset, block.length)
        opcode, length = HEAD.unpack_from(record.ljust(HEAD.size, b'\0'))
        if opcode != Opcode.CHUNK:
            raise DamagedError('there is no chunk where the index says so')
        return unpacked(chunk_head(record[HEAD.size : HEAD.size + 64], length), record[HEAD.size :])

    # The index at the end.

    def _read_summary(self) -> bool:
        """Take blocks and topics from the index; return False where it is not there or does not say all."""
        size = self.source.size
        end = self.source.read(size - _FOOTER.size - len(MAGIC), _FOOTER.size + len(MAGIC))
        if len(end) < _FOOTER.size + len(MAGIC) or not end.endswith(MAGIC):
            return False
        opcode, _, start, _, checksum = _FOOTER.unpack_from(end)
        footer = size - _FOOTER.size - len(MAGIC)
        if opcode != Opcode.FOOTER or not self._data_start <= start <= footer:
            return False
        summary = self.source.read(start, footer - start)
        if checksum and zlib.crc32(summary + end[: _FOOTER.size - 4]) != checksum:
            return False
        statistics, chunks = None, []
        for opcode, begin, stop in records(summary):
            content = summary[begin:stop]
            if opcode == Opcode.CHUNK_INDEX:
                chunks.append(parsed(ChunkIndex, content))
            elif opcode == Opcode.STATISTICS:
                statistics = parsed(Statistics, content)
            elif opcode == Opcode.METADATA_INDEX:
                place = parsed(MetadataIndex, content)
                self._metadata_places.append((place.offset, place.length))
            else:
                self._describe(opcode, content)
        self._expected = statistics.message_count if statistics is not None else 0
        if any(chunk.chunk_start_offset + chunk.chunk_length > footer for chunk in chunks):
            return False
        # A chunk without an index among others with one holds no message.
        indexed = any(chunk.message_index_offsets for chunk in chunks)
        self.blocks = [_indexed(chunk) for chunk in chunks if chunk.message_index_offsets or not indexed]
        if not self._all_described():
            return False
        inside = Counter[int]()
        for block in self.blocks:
            inside.update(block.counts)
        if statistics is not None:
            unknown = any(block.channels is None for block in self.blocks)
            if statistics.chunk_count != len(chunks) or (not unknown and statistics.message_count != inside.total()):
                return False  # messages outside of chunks have no place in the index
            inside = Counter(statistics.channel_message_counts or inside)
        elif not self.blocks or any(block.channels is None for block in self.blocks):
            return False
        for number, channel in self.by_id.items():
            channel.count = inside[number]
        return True

    def _all_described(self) -> bool:
        """Whether every topic in the blocks is known, after a look into those with unknown ones."""
        for block in self.blocks:
            if block.channels is None:
                if not self.by_id:
                    return False
            elif not block.channels <= self.by_id.keys():
                self._look_into(block)
                if not block.channels <= self.by_id.keys():
                    return False
        self._find_descriptions()
        return True

    def _find_descriptions(self) -> None:
        """Look for what is still unknown in all chunks: a writer may end one behind a schema, or behind a topic."""
        used = frozenset[int]().union(*(block.channels or () for block in self.blocks))
        for block in self.blocks:
            if not self._lacking and used <= self.by_id.keys():
                return
            if block.chunk:
                self._look_into(block)

    # The walk, where there is none.

    def _scan(self) -> None:
        """Find blocks and topics by the records' heads; what a chunk holds is read where its index does not tell."""
        window, at, run = Window(self.source), self._data_start, _Run()
        while True:
            opcode, length = HEAD.unpack(window.at(at, HEAD.size).ljust(HEAD.size, b'\0'))
            begin, end = at + HEAD.size, at + HEAD.size + length
            if (opcode, length) in _ENDS:
                break
            if opcode in (0, Opcode.DATA_END, Opcode.FOOTER) or end > self.source.size or 0x10 <= opcode < 0x80:
                if opcode == Opcode.CHUNK and end > self.source.size:
                    self._add_torn(at)
                resumed = next_chunk(self.source, at + 1)
                if resumed is None:
                    self.cut = True
                    break
                self.notes.damage(self.name, f'{resumed - at} bytes at byte {at} are damaged and left out')
                end = resumed
                self._add_run(run)
                run = _Run()
            elif opcode == Opcode.MESSAGE:
                channel, _, log_ns, _ = MESSAGE.unpack(window.at(begin, MESSAGE.size).ljust(MESSAGE.size, b'\0'))
                run.add(at, end, channel, log_ns)
            elif opcode == Opcode.CHUNK:
                self._add_run(run)
                run = _Run()
                end = self._add_chunk(window, at, end)
            elif opcode == Opcode.METADATA:
                self._metadata_places.append((at, end - at))
            elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
                self._describe(opcode, window.at(begin, length))
            if run.length > _RUN_BYTES or opcode == Opcode.ATTACHMENT:
                self._add_run(run)
                run = _Run()
            at = end
        self._add_run(run)
        self._find_descriptions()
        for block in self.blocks:
            for number, count in block.counts.items():
                if number in self.by_id:
                    self.by_id[number].count += count

    def _add_run(self, run: _Run) -> None:
        if run.counts:
            self.blocks.append(
                Block(run.begin, run.length, run.start_ns, run.end_ns, frozenset(run.counts), dict(run.counts), False)
            )

    def _add_chunk(self, window: Window, at: int, end: int) -> int:
        """Add the chunk at a place, and return where the message index behind it ends."""
        try:
            head = chunk_head(window.at(at + HEAD.size, 64), end - at - HEAD.size)
        except DamagedError as error:
            self.notes.damage(self.name, f'{end - at} bytes at byte {at} are damaged and left out ({error})')
            return end
        counts, stop = Counter[int](), end
        while True:
            opcode, length = HEAD.unpack(window.at(stop, HEAD.size).ljust(HEAD.size, b'\0'))
            if opcode != Opcode.MESSAGE_INDEX or stop + HEAD.size + length > self.source.size or length < 6:
                break
            channel, size = struct.unpack('<HI', window.at(stop + HEAD.size, 6))
            counts[channel] += size // 16
            stop += HEAD.size + length
        if stop >= self.source.size or opcode == Opcode.MESSAGE_INDEX:
            counts.clear()  # the index may have gone on where the file ends
        block = Block(at, end - at, head.start_ns, head.end_ns)
        if not counts or not counts.keys() <= self.by_id.keys():
            counts = self._look_into(block)
        if counts:
            self.blocks.append(replace(block, channels=frozenset(counts), counts=dict(counts)))
        return stop

    def _add_torn(self, at: int) -> None:
        """Add what is left of a chunk in whose middle the file ends."""
        block = Block(at, self.source.size - at, 0, 0, torn=True)
        counts, times = Counter[int](), list[int]()
        self._look_into(block)
        try:
            entries = self.load(block)
        except DamagedError as error:
            entries = error.entries
        for entry in entries:
            counts[entry.channel] += 1
            times.append(entry.log_ns)
        if times:
            self.blocks.append(
                replace(block, start_ns=min(times), end_ns=max(times), channels=frozenset(counts), counts=dict(counts))
            )

    # What the messages are.

    def _look_into(self, block: Block) -> Counter[int]:
        """Learn the topics that a chunk describes; return how many messages it holds of each."""
        counts = Counter[int]()
        try:
            data, why = self._data(block)
        except DamagedError as error:
            data, why = b'', str(error)
        if why and not block.torn:
            self.notes.damage(self.name, f'{self._when(block)}: {why}')
        for opcode, begin, end in records(data):
            if opcode == Opcode.MESSAGE and end - begin >= MESSAGE.size:
                counts[MESSAGE.unpack_from(data, begin)[0]] += 1
            elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
                self._describe(opcode, data[begin:end])
        return counts

    def _describe(self, opcode: int, content: bytes) -> None:
        """Take in a schema or channel record."""
        if opcode == Opcode.SCHEMA:
            schema = parsed(Schema, content)
            self._schemas[schema.id] = schema
            for record in [record for record in self._lacking.values() if record.schema_id == schema.id]:
                self.by_id[record.id] = self._channel(self._lacking.pop(record.id), schema)
        elif opcode == Opcode.CHANNEL:
            record = parsed(ChannelRecord, content)
            if record.id not in self.by_id:
                if record.schema_id and record.schema_id not in self._schemas:
                    self._lacking[record.id] = record
                self.by_id[record.id] = self._channel(record, self._schemas.get(record.schema_id))

    def _channel(self, record: ChannelRecord, schema: Schema | None) -> Channel:
        encoding = record.message_encoding or {'ros2': 'cdr', 'ros1': 'ros1'}.get(self._profile, '')
        definition, name = NO_DEFINITION, schema.name if schema is not None else ''
        if schema is not None and schema.encoding in _FORMATS and schema.data:
            definition = MessageDefinition(_FORMATS[schema.encoding], schema.data.decode('utf-8', 'replace'))
        if encoding in ('cdr', 'ros1') and '/' in name:
            name = normalize_msgtype(name)
        qos = read_qos(record.metadata.get('offered_qos_profiles'))
        digest = record.metadata.get('topic_type_hash', '')
        return Channel(record.id, record.topic, name, encoding, definition, digest, qos)


class _Run:
    """Messages outside of chunks, one behind the other."""

    def __init__(self) -> None:
        self.begin = self.length = self.start_ns = self.end_ns = 0
        self.counts = Counter[int]()

    def add(self, begin: int, end: int, channel: int, log_ns: int) -> None:
        """Take in the next message record."""
        first = not self.counts
        self.begin = begin if first else self.begin
        self.length = end - self.begin
        self.start_ns = log_ns if first else min(self.start_ns, log_ns)
        self.end_ns = log_ns if first else max(self.end_ns, log_ns)
        self.counts[channel] += 1


def _indexed(chunk: ChunkIndex) -> Block:
    """Return the block of a chunk index; counts follow from how far apart the message indexes lie."""
    offsets = sorted((offset, channel) for channel, offset in chunk.message_index_offsets.items())
    ends = [offset for offset, _ in offsets[1:]]
    ends.append(chunk.chunk_start_offset + chunk.chunk_length + chunk.message_index_length)
    counts = {channel: (end - offset - 15) // 16 for (offset, channel), end in zip(offsets, ends, strict=False)}
    return Block(
        chunk.chunk_start_offset,
        chunk.chunk_length,
        chunk.message_start_time,
        chunk.message_end_time,
        frozenset(counts) if counts else None,
        counts,
    )
