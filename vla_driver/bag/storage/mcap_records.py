# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The records of an mcap file, as bytes lie (https://mcap.dev/spec), whole or damaged."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from typing import Final, Protocol, TypeVar

import lz4.frame
import zstandard
from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode

from vla_driver.bag.storage.blocks import DamagedError
from vla_driver.bag.storage.source import UNPACK, Source

MAGIC: Final = b'\x89MCAP0\r\n'
#: Opcode and length in front of every record.
HEAD: Final = struct.Struct('<BQ')
#: Channel, sequence number, log time and publish time in front of every message's data.
MESSAGE: Final = struct.Struct('<HIQQ')
#: First and last log time, size and checksum of the unpacked records, length of the compression's name.
CHUNK: Final = struct.Struct('<QQQII')
#: No chunk holds more: a larger number is damage, and would be asked of the memory.
MOST_BYTES: Final = 4 << 30

#: What unpacking of damaged data ends in.
UNPACKING: Final = (zstandard.ZstdError, RuntimeError, EOFError, ValueError, MemoryError)
_PIECE: Final = 4096

_Record = TypeVar('_Record', covariant=True)
#: A chunk record whose numbers may be right: opcode, 36 bytes, the name of a compression.
_CHUNK_LIKE: Final = re.compile(rb'\x06(?=.{36}(?:\0\0\0\0|\x04\0\0\0zstd|\x03\0\0\0lz4))', re.DOTALL)


class _Readable(Protocol[_Record]):
    @staticmethod
    def read(stream: ReadDataStream) -> _Record: ...


def parsed(kind: _Readable[_Record], data: bytes) -> _Record:
    """Return one record from its bytes; raise DamagedError."""
    try:
        return kind.read(ReadDataStream(BytesIO(data)))
    except Exception as error:  # the library promises nothing for bytes that are no record
        raise DamagedError(f'a record cannot be read ({error!r})') from error


@dataclass(frozen=True)
class ChunkHead:
    """What stands in front of a chunk's data.  at: where these begin, from the record's own content on."""

    start_ns: int
    end_ns: int
    size: int
    checksum: int
    compression: str
    packed_size: int
    at: int


def chunk_head(content: bytes, length: int) -> ChunkHead:
    """Return a chunk's head; content: the record's beginning (at least 64 bytes), length: of the whole record."""
    try:
        start_ns, end_ns, size, checksum, named = CHUNK.unpack_from(content)
        at = CHUNK.size + named + 8
        if named > 16 or at > length:
            raise DamagedError('a chunk begins with numbers that cannot be right')
        compression = content[CHUNK.size : CHUNK.size + named].decode()
        (packed,) = struct.unpack_from('<Q', content, CHUNK.size + named)
    except (struct.error, UnicodeDecodeError) as error:
        raise DamagedError('a chunk has no beginning') from error
    if at + packed != length or size > MOST_BYTES:
        raise DamagedError('a chunk begins with numbers that cannot be right')
    return ChunkHead(start_ns, end_ns, size, checksum, compression, packed, at)


def unpacked(head: ChunkHead, content: bytes) -> tuple[bytes, str]:
    """Return (the records of a chunk from its record's content, what is wrong with them: '' where nothing is).

    Where the content ends early or cannot be unpacked to its end, it is unpacked as far as it goes.  Of a chunk with
    another checksum nothing is kept: any of its messages may be wrong.
    """
    packed = content[head.at :]
    if len(packed) < head.packed_size:
        return _as_far_as_it_goes(head.compression, packed), 'a chunk ends early'
    try:
        if head.compression == 'zstd':
            data = zstandard.ZstdDecompressor().decompress(packed, max_output_size=head.size)
        elif head.compression == 'lz4':
            data = lz4.frame.decompress(packed)
        elif head.compression == '':
            data = packed
        else:
            return b'', f'compression {head.compression!r} is not known (known are zstd and lz4)'
    except UNPACKING as error:
        return _as_far_as_it_goes(head.compression, packed), f'a chunk cannot be unpacked to its end ({error})'
    if head.checksum and zlib.crc32(data) != head.checksum:
        return b'', 'a chunk has another checksum than when it was recorded'
    return data, ''


def _as_far_as_it_goes(compression: str, packed: bytes) -> bytes:
    if compression == '':
        return packed
    if compression not in UNPACK:
        return b''
    undo, pieces = UNPACK[compression](), list[bytes]()
    with suppress(*UNPACKING):
        for at in range(0, len(packed), _PIECE):
            pieces.append(undo.decompress(packed[at : at + _PIECE]))
    return b''.join(pieces)


def records(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (opcode, begin, end) of the records in a piece of the file, up to the first that is not whole."""
    at, size = 0, len(data)
    while at + HEAD.size <= size:
        opcode, length = HEAD.unpack_from(data, at)
        begin = at + HEAD.size
        at = begin + length
        if at > size or opcode == 0:
            return
        yield opcode, begin, at


def next_chunk(source: Source, offset: int) -> int | None:
    """Return where the next chunk record begins behind a damaged place, None where there is none."""
    step, overlap = 1 << 22, 64
    for start in range(offset, source.size, step):
        data = source.read(start, step + overlap)
        for found in _CHUNK_LIKE.finditer(data):
            at = start + found.start()
            opcode, length = HEAD.unpack(source.read(at, HEAD.size).ljust(HEAD.size, b'\0'))
            try:
                chunk_head(source.read(at + HEAD.size, 64), length)
            except DamagedError:
                continue
            if opcode == Opcode.CHUNK and at + HEAD.size + length <= source.size:
                return at
    return None
