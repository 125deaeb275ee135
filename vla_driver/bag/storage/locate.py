# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""From a path to the storage files of a bag."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from vla_driver.bag.storage.metadata import Metadata, read_metadata
from vla_driver.types import InvalidInput

_FORMS: Final = 'give a rosbag2 folder, an .mcap or .db3 file, or a ROS 1 .bag'
_SUFFIXES: Final = ('.mcap', '.db3', '.bag', '.bag.active')
#: Behind those, where a file is compressed as a whole: rosbag2's own first.
_PACKED: Final = ('.zstd', '.zst', '.lz4', '.gz', '.bz2', '.xz')


@dataclass(frozen=True)
class Located:
    """The storage files, in the order of the recording.  metadata: of metadata.yaml; None without a readable one.

    notes: sentences about what is missing.
    """

    files: Sequence[Path]
    metadata: Metadata | None = None
    notes: Sequence[str] = field(default_factory=list)


def locate(path: Path) -> Located:
    """Return the storage files of a bag: a folder with or without metadata.yaml, that file itself, or one file.

    Raises InvalidInput where there are none.
    """
    if not path.exists():
        if path.is_symlink():
            raise InvalidInput(f'{path} is not a readable bag: a link to {path.readlink()}, which does not exist')
        raise InvalidInput(f'{path} is not a readable bag: no such file or folder; {_FORMS}')
    if path.name == 'metadata.yaml':
        path = path.parent
    if path.is_dir():
        return _of_folder(path)
    if not path.is_file():
        raise InvalidInput(f'{path} is not a readable bag: neither a file nor a folder; {_FORMS}')
    return Located([path])


def _of_folder(folder: Path) -> Located:
    try:
        lying = _lying(folder)
        text = _metadata_text(folder)
    except OSError as error:
        raise InvalidInput(f'{folder} is not a readable bag: {error.filename}: {error.strerror}') from error
    if text is None:
        if not lying:
            raise InvalidInput(f'{folder} is not a readable bag: {_nothing(folder)}; {_FORMS}')
        return Located(lying)
    try:
        metadata = read_metadata(text)
    except InvalidInput as error:
        if not lying:
            raise InvalidInput(
                f'{folder} is not a readable bag: its metadata.yaml cannot be read ({error}), and {_nothing(folder)}'
            ) from error
        names = ', '.join(file.name for file in lying)
        return Located(lying, None, [f'metadata.yaml cannot be read ({error}); read without it: {names}'])
    notes, files = [], []
    for name in metadata.files:
        found = _named(folder, name)
        if found is None:
            notes.append(f'{name}, a part of the recording, is missing; the rest is read')
        elif found not in files:
            files.append(found)
    if not metadata.files:
        files = lying
    stems = {_unpacked_name(name) for name in (*metadata.files, *(file.name for file in files))}
    surplus = [file for file in lying if _unpacked_name(file.name) not in stems]
    if not files and surplus:
        # A folder whose file was renamed: what lies there is the recording.
        files, surplus = surplus, []
        notes.append(f'read in its place: {", ".join(file.name for file in files)}')
    if not files:
        missing = ', '.join(metadata.files) or 'no file'
        raise InvalidInput(f'{folder} is not a readable bag: its metadata.yaml names {missing}, and {_nothing(folder)}')
    if surplus:
        notes.append(f'metadata.yaml does not name {", ".join(f.name for f in surplus)}: not read; give it by itself')
    return Located(files, metadata, notes)


def _metadata_text(folder: Path) -> str | None:
    file = folder / 'metadata.yaml'
    return file.read_text(encoding='utf-8', errors='replace') if file.is_file() else None


def _lying(folder: Path) -> list[Path]:
    """Return the storage files in a folder, parts by their numbers; of one that is there twice, the unpacked one."""
    files = [f for f in folder.iterdir() if _unpacked_name(f.name).endswith(_SUFFIXES) and f.is_file()]
    files.sort(key=lambda f: (_natural(_unpacked_name(f.name)), f.name != _unpacked_name(f.name)))
    first: dict[str, Path] = {}
    for file in files:
        first.setdefault(_unpacked_name(file.name), file)
    return list(first.values())


def _named(folder: Path, name: str) -> Path | None:
    """Return the file that metadata.yaml names, None where there is none.

    Up to version 3 names began with the bag's own folder; a file may have been packed or unpacked since.
    """
    for place in (folder / name, folder.parent / name, folder / Path(name).name):
        unpacked = place.with_name(_unpacked_name(place.name))
        for candidate in (place, unpacked, *(unpacked.with_name(unpacked.name + suffix) for suffix in _PACKED)):
            if candidate.is_file():
                return candidate
    return None


def _unpacked_name(name: str) -> str:
    packed = next((suffix for suffix in _PACKED if name.endswith(suffix)), '')
    return Path(name).name.removesuffix(packed)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that puts part 2 before part 10."""
    return [(int(piece), '') if piece.isdigit() else (-1, piece) for piece in re.split(r'(\d+)', name) if piece]


def _nothing(folder: Path) -> str:
    below = sorted({file.parent.name for file in folder.glob('*/*') if _unpacked_name(file.name).endswith(_SUFFIXES)})
    if below:
        return f'the folder holds bags in folders of their own: {", ".join(below[:6])}'
    there = sorted(file.name for file in folder.iterdir())
    return f'no .mcap, .db3 or .bag file lies there, only {", ".join(there[:6])}' if there else 'the folder is empty'
