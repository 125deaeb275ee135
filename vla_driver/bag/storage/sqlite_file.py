# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""sqlite3 files (.db3) of any schema of rosbag2: with a write-ahead log, on a read-only disk, and damaged ones.

The user's files are never written to: a file by itself is opened as immutable; one with a log or journal beside it,
which SQLite would want to work off, is copied first.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat

from vla_driver.bag.storage.blocks import DamagedError
from vla_driver.bag.storage.entries import NO_DEFINITION, Channel, Entry
from vla_driver.bag.storage.metadata import read_metadata, read_qos
from vla_driver.bag.storage.notes import Notes
from vla_driver.types import InvalidInput

#: What SQLite keeps beside a file that was not closed: changes to come, changes to undo.
_BESIDE: Final = ('-wal', '-journal')
_LARGE: Final = 200 << 20
_FORMATS: Final = {'ros2msg': MessageDefinitionFormat.MSG, 'ros2idl': MessageDefinitionFormat.IDL}


class SqliteFile:
    """A sqlite3 storage file; raises DamagedError where nothing can be read of it."""

    def __init__(self, path: Path, notes: Notes, name: str = '') -> None:
        self.name, self._notes = name or path.name, notes
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self.channels: list[Channel] = []
        self.start_ns: int | None = None
        self.end_ns: int | None = None
        self.cut = False
        self.metadata = ''
        self._rows: list[tuple[int, int]] | None = None  # (log time, id), where SQLite cannot sort by itself
        beside = [Path(f'{path}{suffix}') for suffix in _BESIDE]
        if any(file.is_file() and file.stat().st_size for file in beside):
            path = self._copied(path, beside)
            self._uri = f'file:{quote(str(path))}'
        else:
            self._uri = f'file:{quote(str(path.resolve()))}?immutable=1'
        self._path = path
        try:
            with closing(self._connect()) as database:
                self._read_topics(database)
        except sqlite3.Error as error:
            self.close()
            raise DamagedError(f'{self.name} is damaged, nothing can be read of it ({error})') from error
        except DamagedError:
            self.close()
            raise

    def _copied(self, path: Path, beside: Sequence[Path]) -> Path:
        """Return the place of a copy of the database with what lies beside it."""
        size = path.stat().st_size
        if size > _LARGE:
            print(f'copying {path} ({size / 1e9:.1f} GB), it has a log beside it ...', file=sys.stderr, flush=True)
        self._copy = tempfile.TemporaryDirectory(prefix='vla_driver-')
        folder = Path(self._copy.name)
        try:
            for file in (path, *beside):
                if file.is_file():
                    shutil.copyfile(file, folder / file.name)
        except OSError as error:
            self.close()
            raise InvalidInput(
                f'{path.name} has a log beside it and cannot be copied to {folder}: {error.strerror}; '
                'set TMPDIR to a folder with room'
            ) from error
        return folder / path.name

    def close(self) -> None:
        """Remove the copy, if there is one."""
        copy, self._copy = self._copy, None
        if copy is not None:
            copy.cleanup()

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._uri, uri=True, check_same_thread=False)
        database.text_factory = lambda data: data.decode('utf-8', 'replace')
        # (A file shorter than it says itself is only read at all this way; nothing is written.)
        database.execute('PRAGMA writable_schema=ON')
        return database

    def _read_topics(self, database: sqlite3.Connection) -> None:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {'topics', 'messages'} <= tables:
            there = ', '.join(sorted(tables)) or 'no table at all'
            raise DamagedError(f'{self.name} is a database, but no recording: without messages and topics; {there}')
        definitions: dict[str, MessageDefinition] = {}
        if 'message_definitions' in tables:
            with suppress(sqlite3.Error):  # of a damaged file, what comes before the damage
                for row in _rows(database, 'message_definitions'):
                    if row.get('encoding') in _FORMATS and row.get('encoded_message_definition'):
                        text = str(row['encoded_message_definition'])
                        definitions[str(row['topic_type'])] = MessageDefinition(_FORMATS[row['encoding']], text)
        for row in _rows(database, 'topics'):
            msgtype = str(row['type'])
            self.channels.append(
                Channel(
                    int(row['id']),
                    str(row['name']),
                    msgtype,
                    str(row.get('serialization_format') or 'cdr'),
                    definitions.get(msgtype, NO_DEFINITION),
                    str(row.get('type_description_hash') or ''),
                    read_qos(row.get('offered_qos_profiles')),
                )
            )
        if 'metadata' in tables:
            with suppress(sqlite3.Error):
                for row in _rows(database, 'metadata'):
                    self.metadata = str(row.get('metadata') or '')
        counts: dict[int, int] = {}
        try:
            indexed = any(
                database.execute(f'PRAGMA index_info("{row[1]}")').fetchone()[2] == 'timestamp'
                for row in database.execute('PRAGMA index_list(messages)')
            )
            counts = self._counts_as_recorded(database) if indexed else {}
            if not counts:
                for topic, count, first, last in database.execute(
                    'SELECT topic_id, COUNT(*), MIN(timestamp), MAX(timestamp)'
                    ' FROM messages NOT INDEXED GROUP BY topic_id'
                ):
                    counts[topic] = count
                    self._span(first, last)
            if not indexed:
                self._rows = sorted(database.execute('SELECT timestamp, id FROM messages'))
        except sqlite3.Error as error:
            counts.clear()
            self._recover(database, counts, error)
        for channel in self.channels:
            channel.count = counts.get(channel.id, 0)

    def _counts_as_recorded(self, database: sqlite3.Connection) -> dict[int, int]:
        """Return topic's id -> messages as the recorder wrote them at its end; {} where that may not be all.

        Counting takes a walk over the whole file: seconds, where it is large.
        """
        size = self._path.stat().st_size
        with self._path.open('rb') as file:
            header = file.read(100)
        page, pages = int.from_bytes(header[16:18], 'big'), int.from_bytes(header[28:32], 'big')
        (last,) = database.execute('SELECT MAX(id) FROM messages').fetchone()
        try:
            recorded = read_metadata(self.metadata)
        except InvalidInput:
            return {}
        if size < (65536 if page == 1 else page) * pages or not last or last != recorded.message_count:
            return {}
        for (log_ns,) in database.execute(
            'SELECT MIN(timestamp) FROM messages UNION SELECT MAX(timestamp) FROM messages'
        ):
            self._span(log_ns, log_ns)
        return {channel.id: recorded.counts.get(channel.topic, 0) for channel in self.channels}

    def _span(self, first: int, last: int) -> None:
        self.start_ns = first if self.start_ns is None else min(self.start_ns, first)
        self.end_ns = last if self.end_ns is None else max(self.end_ns, last)

    def _recover(self, database: sqlite3.Connection, counts: dict[int, int], error: sqlite3.Error) -> None:
        """Find the messages that can still be read, one by one, up to where the file is damaged."""
        self.start_ns = self.end_ns = None
        self._rows = []
        self.cut = True
        try:
            for number, topic, log_ns, _ in database.execute(
                'SELECT id, topic_id, timestamp, length(data) FROM messages NOT INDEXED ORDER BY id'
            ):
                if not (isinstance(log_ns, int) and isinstance(topic, int)):
                    continue
                self._rows.append((log_ns, number))
                counts[topic] = counts.get(topic, 0) + 1
                self._span(log_ns, log_ns)
        except sqlite3.Error:
            pass
        if not self._rows:
            raise DamagedError(f'{self.name} is damaged, no message can be read of it ({error})')
        self._rows.sort()

    def entries(self, channels: frozenset[int], start_ns: int, stop_ns: int) -> Iterator[Entry]:
        """Yield the messages of some channels with start_ns <= log time < stop_ns, by log time."""
        with closing(self._connect()) as database:
            if self._rows is not None:
                yield from self._one_by_one(database, channels, start_ns, stop_ns)
                return
            marks = ','.join('?' * len(channels))
            try:
                for log_ns, topic, data in database.execute(
                    f'SELECT timestamp, topic_id, data FROM messages WHERE topic_id IN ({marks})'
                    ' AND timestamp >= ? AND timestamp < ? ORDER BY timestamp, id',
                    (*channels, start_ns, stop_ns),
                ):
                    yield Entry(log_ns, topic, data)
            except sqlite3.Error as error:
                self._notes.damage(self.name, f'it is damaged ({error}); what comes behind is left out')

    def _one_by_one(
        self, database: sqlite3.Connection, channels: frozenset[int], start_ns: int, stop_ns: int
    ) -> Iterator[Entry]:
        for log_ns, number in self._rows or ():
            if start_ns <= log_ns < stop_ns:
                try:
                    query = 'SELECT topic_id, data FROM messages WHERE id = ?'
                    row = database.execute(query, (number,)).fetchone()
                except sqlite3.Error as error:
                    self._notes.damage(self.name, f'message {number} is damaged and left out ({error})')
                    continue
                if row is not None and row[0] in channels:
                    yield Entry(log_ns, *row)


def _rows(database: sqlite3.Connection, table: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table as name -> value: columns differ from version to version."""
    cursor = database.execute(f'SELECT * FROM {table} ORDER BY rowid')
    names = [column[0] for column in cursor.description]
    for row in cursor:
        yield dict(zip(names, row, strict=True))
