# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Compressed recordings, and types that are missing, foreign, different or broken: each costs its own topic alone."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import lz4.frame
import pytest
import zstandard
from mcap.writer import Writer as McapWriter
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin

from vla_driver.bag import schema
from vla_driver.bag.read import BagReader
from vla_driver.bag.storage.bagfiles import BagFiles
from vla_driver.types import InvalidInput

Event = tuple[str, str, int, bytes]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is unpacked into."""
    folder = tmp_path / 'temporary'
    folder.mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(folder))
    return folder


@pytest.mark.parametrize('plugin', list(StoragePlugin))
@pytest.mark.parametrize('mode', [CompressionMode.FILE, CompressionMode.MESSAGE])
def test_what_rosbag2_compresses_is_read_as_folder_and_as_file(
    tmp_path: Path,
    storage: SimpleNamespace,
    events: list[Event],
    plugin: StoragePlugin,
    mode: CompressionMode,
    temporary: Path,
):
    folder = storage.write(tmp_path / 'bag', events, plugin, mode=mode, format=CompressionFormat.ZSTD)
    (file,) = (f for f in folder.iterdir() if f.name != 'metadata.yaml')
    assert storage.read(folder) == storage.read(file) == events
    (folder / 'metadata.yaml').unlink()
    assert storage.read(folder) == events
    assert storage.notes(folder) == []
    assert list(temporary.iterdir()) == []  # nothing unpacked is left


@pytest.mark.parametrize(
    ('suffix', 'pack'),
    [
        ('.zst', zstandard.ZstdCompressor().compress),
        ('.gz', gzip.compress),
        ('.bz2', bz2.compress),
        ('.xz', lzma.compress),
        ('.lz4', lz4.frame.compress),
    ],
)
def test_a_file_that_was_compressed_later_is_read(
    drive: Path,
    tmp_path: Path,
    storage: SimpleNamespace,
    events: list[Event],
    suffix: str,
    pack: Callable[[bytes], bytes],
    temporary: Path,
):
    data = (drive / 'drive.mcap').read_bytes()
    file = tmp_path / f'drive.mcap{suffix}'
    file.write_bytes(pack(data[:300_000]) + pack(data[300_000:]))  # in two streams, as parallel packers write them
    assert storage.read(file) == events
    (tmp_path / 'metadata.yaml').write_bytes((drive / 'metadata.yaml').read_bytes())
    assert storage.read(tmp_path) == events  # though metadata.yaml names it as it was
    packed = file.read_bytes()
    file.write_bytes(packed[: len(packed) * 2 // 3])
    found = storage.read(file)
    assert 0 < len(found) < len(events) and found == events[: len(found)]
    assert 'compressed file was cut off' in ' '.join(storage.notes(file))
    assert list(temporary.iterdir()) == []


def test_unpacked_files_go_with_a_process_that_is_killed(
    drive: Path, tmp_path: Path, storage: SimpleNamespace, temporary: Path
):
    file = tmp_path / 'drive.mcap.zstd'
    file.write_bytes(zstandard.ZstdCompressor().compress((drive / 'drive.mcap').read_bytes()))
    code = (
        'import os, signal, sys\n'
        'from vla_driver.bag import schema\n'
        'from vla_driver.bag.storage.bagfiles import BagFiles\n'
        'bag = BagFiles(sys.argv[1], schema.typestore())\n'
        'print(next(bag.messages())[0].topic, flush=True)\n'
        'os.kill(os.getpid(), signal.SIGKILL)\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, str(file)],
        env={'TMPDIR': str(temporary), 'PATH': ''},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert done.stdout.startswith('/')
    assert [f for f in temporary.rglob('*') if f.is_file()] == []


def test_an_unpacked_file_takes_no_more_memory_than_a_part_of_it(tmp_path: Path, temporary: Path):
    """A hundred times its size is written while it is read in pieces."""
    from vla_driver.bag.storage.source import unpack

    file, into = tmp_path / 'x.zstd', (tmp_path / 'x').open('w+b')
    with file.open('wb') as packed, zstandard.ZstdCompressor().stream_writer(packed) as stream:
        for _ in range(64):
            stream.write(bytes(1 << 20))
    with into:
        assert unpack(file, 'zstd', into) == ''
        assert into.seek(0, 2) == 64 << 20


def with_types(path: Path, events: list[Event], types: dict[str, tuple[str, str]]) -> Path:
    """Write /odom and topics of other types; types: topic -> (type, its definition in the file)."""
    store = schema.typestore()
    with path.open('wb') as stream:
        writer = McapWriter(stream)
        writer.start(profile='ros2')
        text = store.generate_msgdef(schema.ODOMETRY, ros_version=2)[0]
        topics = {'/odom': (schema.ODOMETRY, text), **types}
        channels = {
            topic: writer.register_channel(
                topic, 'cdr', writer.register_schema(msgtype, 'ros2msg' if text else '', text.encode())
            )
            for topic, (msgtype, text) in topics.items()
        }
        for topic, _, log_ns, data in events:
            if topic == '/odom':
                for name, channel in channels.items():
                    # An int32 of 3, in CDR.
                    writer.add_message(channel, log_ns, data if name == '/odom' else b'\0\1\0\0\3\0\0\0', log_ns)
        writer.finish()
    return path


def test_a_type_without_a_definition_costs_its_topic_alone(tmp_path: Path, events: list[Event]):
    file = with_types(
        tmp_path / 'x.mcap', events, {'/own': ('my_msgs/msg/Own', ''), '/count': ('std_msgs/msg/Int32', '')}
    )
    with BagReader(file) as bag:
        assert len(list(bag.odometry())) == 12
        assert [message.data for _, _, message in bag.messages(['/count'])] == [3] * 12  # ours stands in
        assert len(list(bag.raw_messages())) == 36
        with pytest.raises(InvalidInput, match=r'topic /own: the bag does not define its type my_msgs/msg/Own'):
            list(bag.messages(['/own']))


def test_a_broken_definition_is_said_and_ours_stands_in(tmp_path: Path, events: list[Event]):
    file = with_types(
        tmp_path / 'x.mcap',
        events,
        {'/count': ('std_msgs/msg/Int32', '%%%'), '/parts': ('my_msgs/msg/Whole', 'other_msgs/Part part')},
    )
    with BagReader(file) as bag:
        assert [message.data for _, _, message in bag.messages(['/count'])] == [3] * 12
        assert any('the definition of std_msgs/msg/Int32 in the bag cannot be read' in note for note in bag.unread)
        with pytest.raises(InvalidInput, match='my_msgs/msg/Whole'):
            list(bag.messages(['/parts']))


def test_the_bags_own_definition_reads_its_messages(tmp_path: Path, events: list[Event]):
    """An older message of the same name: fields that we have today are not in it."""
    file = with_types(
        tmp_path / 'x.mcap',
        events,
        {
            '/turn': (schema.TURN_COMMAND, 'int32 direction'),
            '/stamped': ('my_msgs/msg/Stamped', 'builtin_interfaces/Time[] times'),  # (of a type it leaves undefined)
        },
    )
    with BagReader(file) as bag:
        (connection,) = [c for c in bag.connections if c.topic == '/turn']
        assert bag._open.definitions.differs(connection)
        assert [message.direction for _, _, message in bag.messages(['/turn'])] == [3] * 12
        assert bag._open.definitions.store(next(c for c in bag.connections if c.topic == '/stamped'))


def test_a_foreign_hash_on_one_topic_is_no_reason_to_refuse(
    tmp_path: Path, storage: SimpleNamespace, events: list[Event]
):
    folder = storage.write(tmp_path / 'bag', events, StoragePlugin.SQLITE3)
    foreign = f'RIHS01_{"0" * 64}'
    text = (folder / 'metadata.yaml').read_text()
    store = schema.typestore()
    (folder / 'metadata.yaml').write_text(text.replace(store.hash_rihs01(schema.ODOMETRY), foreign))
    with sqlite3.connect(folder / 'bag.db3') as opened:
        opened.execute('UPDATE topics SET type_description_hash = ?', (foreign,))
        opened.execute('UPDATE message_definitions SET type_description_hash = ?', (foreign,))
    opened.close()
    with BagReader(folder) as bag:
        assert len(list(bag.odometry())) == 12


def test_a_message_that_is_none_is_left_out_and_said(tmp_path: Path, storage: SimpleNamespace, events: list[Event]):
    odometry = [event for event in events if event[0] == '/odom']
    for number, data in ((3, b''), (4, b'\0\1\0\0abc'), (5, b'\x07\0\0\0abc'), (6, odometry[6][3][:-9])):
        odometry[number] = (*odometry[number][:3], data)
    with BagReader(storage.write_mcap(tmp_path / 'x.mcap', odometry)) as bag:
        assert len(list(bag.odometry())) == 8
        (note,) = bag.unread
    assert 'topic /odom: a message is no nav_msgs/msg/Odometry' in note


def test_two_types_on_one_topic_are_said(tmp_path: Path, events: list[Event]):
    store = schema.typestore()
    with (tmp_path / 'x.mcap').open('wb') as stream:
        writer = McapWriter(stream)
        writer.start(profile='ros2')
        for msgtype, count in (('std_msgs/msg/Int32', 1), ('std_msgs/msg/UInt32', 2)):
            text = store.generate_msgdef(msgtype, ros_version=2)[0]
            kind = writer.register_schema(msgtype, 'ros2msg', text.encode())
            channel = writer.register_channel('/x', 'cdr', kind)
            for number in range(count):
                writer.add_message(channel, number, b'\0\1\0\0\3\0\0\0', number)
        writer.finish()
    with BagReader(tmp_path / 'x.mcap') as bag:
        assert bag.topics == {'/x': 'std_msgs/msg/UInt32'}
        assert len(list(bag.messages())) == 2
        assert 'holds several types: std_msgs/msg/Int32 (1 messages), std_msgs/msg/UInt32 (2 messages)' in bag.unread[0]


def test_notes_are_said_once_on_stderr(
    tmp_path: Path, drive: Path, capsys: pytest.CaptureFixture[str], storage: SimpleNamespace
):
    file = tmp_path / 'cut.mcap'
    file.write_bytes((drive / 'drive.mcap').read_bytes()[:200_000])
    for _ in range(2):
        with BagReader(file) as bag:
            list(bag.raw_messages())
            assert len(bag.unread) == 1
    said = capsys.readouterr().err
    assert said.count('warning: ') == 1
    assert f'warning: bag {file}: the recording ends after' in said


def test_parts_of_a_time_are_read_from_their_chunks_alone(
    tmp_path: Path, storage: SimpleNamespace, events: list[Event], monkeypatch: pytest.MonkeyPatch
):
    file = storage.write_mcap(tmp_path / 'x.mcap', events)
    begin, end = events[100][2], events[150][2]
    with BagFiles(file, schema.typestore()) as bag:
        read: list[int] = []
        whole = bag._files[0].source.read  # type: ignore[attr-defined]
        monkeypatch.setattr(
            bag._files[0].source,  # type: ignore[attr-defined]
            'read',
            lambda offset, length: read.append(length) or whole(offset, length),
        )
        found = [(c.topic, c.msgtype, ns, data) for c, ns, data in bag.messages(['/odom'], begin, end)]
    assert found == [event for event in events if event[0] == '/odom' and begin <= event[2] < end]
    assert 0 < sum(read) < 0.7 * file.stat().st_size


@pytest.mark.parametrize('form', ['mcap', 'unindexed', 'sqlite3', 'ros1'])
def test_the_few_that_were_logged_long_before_all_others_are_taken_as_logged_when_those_begin(
    tmp_path: Path, storage: SimpleNamespace, events: list[Event], form: str
):
    """Some converters log what is latched at time 0."""
    route = next(event for event in events if event[1] == schema.PATH)
    later = [event for event in events if event[1] in (schema.ODOMETRY, schema.COMPRESSED_IMAGE)]
    begin_ns, end_ns = later[0][2], later[-1][2]
    moved = [(*route[:2], 0, route[3]), (*route[:2], begin_ns - 7_200_000_000_000, route[3]), *later]
    path = tmp_path / 'x.mcap'
    if form == 'ros1':
        path = storage.write_ros1(tmp_path / 'x.bag', moved)
    elif form == 'sqlite3':
        path = storage.write(tmp_path / 'bag', moved, StoragePlugin.SQLITE3)
    else:
        storage.write_mcap(path, moved, index=form == 'mcap')
    read = storage.read(path)
    assert [event[:3] for event in read] == [(*route[:2], begin_ns)] * 2 + [event[:3] for event in later]
    hours = round(begin_ns / 3.6e12)
    (note,) = storage.notes(path)
    assert note == (
        f'messages on /route (2) were logged up to {hours} h before all others; they are taken as logged when those '
        'begin'
    )
    with BagFiles(path, schema.typestore()) as files:
        assert (files.start_ns, files.end_ns) == (begin_ns, end_ns)
        assert len(list(files.messages(['/route'], begin_ns, begin_ns + 1))) == 2
        assert list(files.messages(['/route'], begin_ns + 1)) == []
        assert list(files.messages(stop_ns=begin_ns)) == []
    with BagReader(path) as bag:
        assert bag.duration_s == pytest.approx((end_ns - begin_ns) * 1e-9)


def test_a_drive_with_a_pause_stays_as_it_was_logged(tmp_path: Path, storage: SimpleNamespace, events: list[Event]):
    odometry = next(event for event in events if event[1] == schema.ODOMETRY)
    before = [(*odometry[:2], k * 10_000_000, odometry[3]) for k in range(101)]
    paused = [*before, (*odometry[:2], 7_200_000_000_000, odometry[3])]
    path = storage.write_mcap(tmp_path / 'x.mcap', paused)
    assert storage.read(path) == paused
    assert storage.notes(path) == []


def test_a_cut_off_recording_ends_after_what_its_others_begin_with(
    tmp_path: Path, storage: SimpleNamespace, events: list[Event]
):
    later = [event for event in events if event[1] == schema.COMPRESSED_IMAGE]
    path = storage.write_mcap(tmp_path / 'x.mcap', [(*later[0][:2], 0, later[0][3]), *later])
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert any('the recording ends after 0.' in note for note in storage.notes(path))
