# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Bytes of a storage file: what kind it is, read at a place, unpacked first where it is compressed as a whole."""

from __future__ import annotations

import bz2
import lzma
import os
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final

import lz4.frame
import zstandard

from vla_driver.types import InvalidInput

ZSTD: Final = b'\x28\xb5\x2f\xfd'

_KINDS: Final = {
    b'\x89MCAP': 'mcap',
    b'SQLite format 3\0': 'sqlite3',
    b'#ROSBAG V': 'ros1',
    ZSTD: 'zstd',
    b'\x04\x22\x4d\x18': 'lz4',
    b'\x1f\x8b': 'gzip',
    b'BZh': 'bzip2',
    b'\xfd7zXZ': 'xz',
}
#: What undoes a compression piece by piece: each has `decompress`, `eof` and `unused_data`.
UNPACK: Final[dict[str, Callable[[], Any]]] = {
    # (Its `stream_reader` ends without a word where the data do.)
    'zstd': lambda: zstandard.ZstdDecompressor().decompressobj(),
    'lz4': lz4.frame.LZ4FrameDecompressor,
    'gzip': lambda: zlib.decompressobj(wbits=31),
    'bzip2': bz2.BZ2Decompressor,
    'xz': lzma.LZMADecompressor,
}
#: Unpacking more than this is worth a word; it takes a second or more.
_LARGE: Final = 200 << 20
_PIECE: Final = 1 << 16


def kind_of(path: Path) -> str:
    """Return 'mcap', 'sqlite3', 'ros1' or a compression of UNPACK, by a file's first bytes.

    Raises InvalidInput, saying what the file is instead.
    """
    try:
        with path.open('rb') as file:
            start = file.read(512)
    except OSError as error:
        raise InvalidInput(f'{path.name} cannot be read: {error.strerror or error}') from error
    for magic, kind in _KINDS.items():
        if start.startswith(magic):
            return kind
    raise InvalidInput(f'{path.name} {_instead(start)}')


def _instead(start: bytes) -> str:
    if not start:
        return 'is empty (0 bytes): nothing was recorded, or not copied'
    if start.startswith(b'version https://git-lfs'):
        return 'is only a pointer of Git LFS, the recording itself was not fetched; run: git lfs pull'
    if not start.strip(b'\0'):
        return 'begins with zeros alone: what was recorded never reached the disk, or was not copied'
    if start.startswith(b'PK') or start[257:262] == b'ustar':
        return 'is an archive; unpack it first'
    text = start.decode('utf-8', 'replace')
    if start.isascii() or ('\ufffd' not in text[:-3] and text.isprintable()):
        return f'is text, not a recording: it begins with {text.splitlines()[0][:40]!r}'
    return f'is neither mcap, sqlite3 nor a ROS 1 bag: it begins with {start[:8].hex(" ")}'


class Source:
    """A file that is read at any place; nothing is kept open but what was unpacked.

    A split recording can have thousands of files, more than a process may have open.
    """

    def __init__(self, path: Path, unpacked: IO[bytes] | None = None) -> None:
        self.name, self._path, self._unpacked = path.name, path, unpacked
        self.size: int = os.fstat(unpacked.fileno()).st_size if unpacked is not None else path.stat().st_size

    def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset` on, fewer at the end of the file, none outside of it."""
        if not 0 <= offset < self.size:
            return b''
        length = min(length, self.size - offset)  # a damaged number would ask for memory
        if self._unpacked is not None:
            return os.pread(self._unpacked.fileno(), length, offset)
        with self._path.open('rb', buffering=0) as file:
            return os.pread(file.fileno(), length, offset)

    def close(self) -> None:
        """Let go of what was unpacked; it leaves nothing behind."""
        if self._unpacked is not None:
            self._unpacked.close()


class Window:
    """Many small reads in rising order, a few large ones underneath."""

    def __init__(self, source: Source, size: int = 4096) -> None:
        self._source, self._size, self._start, self._data = source, size, 0, b''

    def at(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset` on."""
        begin = offset - self._start
        if begin < 0 or begin + length > len(self._data):
            self._start, self._data = offset, self._source.read(offset, max(length, self._size))
            begin = 0
        return self._data[begin : begin + length]


def unpack(path: Path, kind: str, into: IO[bytes]) -> str:
    """Write what a compressed file holds to `into`, in pieces; return why it ended early, '' where it did not."""
    if path.stat().st_size > _LARGE:
        print(f'unpacking {path} ({path.stat().st_size / 1e9:.1f} GB) ...', file=sys.stderr, flush=True)
    try:
        with path.open('rb') as packed:
            undo = UNPACK[kind]()
            while piece := packed.read(_PIECE):
                while piece:
                    if undo.eof:  # several compressed streams in a row are one
                        undo = UNPACK[kind]()
                    into.write(undo.decompress(piece))
                    piece = undo.unused_data if undo.eof else b''
            into.flush()
            return '' if undo.eof else 'the compressed file was cut off'
    except OSError as error:
        if error.errno is not None:
            raise InvalidInput(
                f'{path.name} cannot be unpacked into {tempfile.gettempdir()}: {error.strerror}; '
                'unpack it yourself, or set TMPDIR to a folder with room'
            ) from error
        return f'the compressed file is damaged ({error})'  # how bz2 says it
    except (zstandard.ZstdError, lzma.LZMAError, zlib.error, RuntimeError, ValueError, EOFError) as error:
        return f'the compressed file is damaged ({error})'
    finally:
        into.flush()
