# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Single files of a checkpoint: what is wrong with one, from its first bytes, before gigabytes are read.

What comes from a model hub is often not the file it is named after: a pointer that Git LFS has not replaced yet, the
page that told of a full quota, the first half of a download, a link into a cache that was moved.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vla_driver.types import InvalidInput

_AGAIN: Final = 'copy or download it again'
#: First bytes -> what such a file is, and what to do.
_ARCHIVES: Final = {
    b'PK\x03\x04': 'a zip archive (what torch.save writes is one): pickled weights are refused, convert them '
    'to safetensors; unpack any other archive',
    b'\x80\x02': 'a pickle, which can run any code when loaded and is refused: convert it to safetensors',
    b'\x1f\x8b': 'a gzip archive: unpack it',
    b'\x28\xb5\x2f\xfd': 'compressed (zstandard): unpack it',
    b'GGUF': 'a GGUF file, made for llama.cpp: give the original weights, in safetensors',
}


@dataclass(frozen=True)
class Stored:
    """One tensor of a safetensors file, by its header; dtype: as safetensors names it, such as BF16."""

    dtype: str
    shape: tuple[int, ...]


def check_file(path: Path) -> bytes:
    """Return the first bytes (512 at most) of a file that is what its name says, as far as these tell.

    Raises InvalidInput naming the file, what it is instead, and what to do: a link that leads nowhere, a folder, a
    file without the right to read it, an empty one, a pointer of Git LFS or git-annex, a web page.
    """
    try:
        if path.is_symlink() and not path.exists():
            raise InvalidInput(
                f'{path} is a link to {os.readlink(path)}, which does not exist: the download is not complete, or the '
                f'cache it leads into was moved; {_AGAIN}'
            )
        if path.is_dir():
            raise InvalidInput(f'{path} is a folder, expected a file')
        with path.open('rb') as file:
            head = file.read(512)
    except FileNotFoundError as error:
        raise InvalidInput(f'{path} does not exist') from error
    except PermissionError as error:
        raise InvalidInput(
            f'{path} cannot be read ({error.strerror}): let this user read it (chmod, chown), or copy the checkpoint'
        ) from error
    except OSError as error:
        raise InvalidInput(f'{path} cannot be read: {error.strerror or error}') from error
    if not head:
        raise InvalidInput(f'{path} is empty (0 bytes): {_AGAIN}')
    if head.startswith(b'version https://git-lfs.'):
        size = re.search(rb'^size (\d+)', head, re.MULTILINE)
        real = f' (the file itself has {int(size[1]):,} bytes)' if size else ''
        raise InvalidInput(
            f'{path} is a Git LFS pointer, not the file itself{real}: run `git lfs install` and `git lfs pull` in '
            f'{path.parent}, or download the file'
        )
    if b'/annex/objects/' in head:
        raise InvalidInput(f'{path} is a git-annex pointer, not the file itself: run `git annex get` in {path.parent}')
    start = head.lstrip(b'\xef\xbb\xbf \t\r\n').lower()
    if start.startswith((b'<!doctype', b'<html', b'<head', b'<?xml', b'<error')):
        raise InvalidInput(
            f'{path} holds a web page, not what its name says: the download was answered with an error or a login; '
            'open it to see which, then download the file again'
        )
    return head


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; raises InvalidInput as `check_file` does, and for anything else in it."""
    check_file(path)
    try:
        entries = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InvalidInput(f'{path} is no valid configuration: {error}') from error
    if not isinstance(entries, dict):
        raise InvalidInput(f'{path} is no valid configuration: expected an object, found a {type(entries).__name__}')
    return entries


def read_header(path: Path) -> dict[str, Stored]:
    """Return the tensors of a safetensors file by name, from its header alone.

    The format: the header's length as a little-endian 64-bit number, the header in JSON, the data
    (https://huggingface.co/docs/safetensors).  Raises InvalidInput as `check_file` does, for a file of another kind,
    and for one that was cut off.
    """
    head = check_file(path)
    for magic, what in _ARCHIVES.items():
        if head.startswith(magic):
            raise InvalidInput(f'{path} does not load: it is no safetensors file but {what}')
    size = path.stat().st_size
    # The header is an object, perhaps after spaces; its length is refused by the library from 100 MB on.
    length = struct.unpack('<Q', head[:8])[0] if len(head) > 8 else 0
    if not 2 <= length <= 100_000_000 or not head[8:].lstrip().startswith(b'{'):
        words = ascii(head[:24].decode('ascii', 'replace')) if head[:8].isascii() else f'{head[:8].hex(" ")} ...'
        raise InvalidInput(f'{path} does not load: it is no safetensors file (it begins with {words}): {_AGAIN}')
    if 8 + length > size:
        raise InvalidInput(
            f'{path} does not load: it is cut off within its header ({size:,} bytes, the header alone has '
            f'{8 + length:,}): {_AGAIN}'
        )
    try:
        with path.open('rb') as file:
            file.seek(8)
            entries = json.loads(file.read(length))
        entries.pop('__metadata__', None)
        stored = {name: Stored(str(one['dtype']), tuple(map(int, one['shape']))) for name, one in entries.items()}
        end = 8 + length + max((int(one['data_offsets'][1]) for one in entries.values()), default=0)
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InvalidInput(f'{path} does not load: its header is damaged ({error}): {_AGAIN}') from error
    if size < end:
        raise InvalidInput(
            f'{path} does not load: it is cut off ({size:,} of {end:,} bytes): the download or copy did not finish; '
            f'{_AGAIN}'
        )
    if size > end:
        raise InvalidInput(f'{path} does not load: it has {size:,} bytes, its header says {end:,}: {_AGAIN}')
    return stored


def read_headers(paths: Iterable[Path]) -> dict[str, Stored]:
    """Return the tensors of several safetensors files; see `read_header`."""
    return {name: one for path in paths for name, one in read_header(path).items()}
