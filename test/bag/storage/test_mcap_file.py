# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""mcap files without index or chunks, out of order, cut off and damaged: all that is there comes out, in order."""

from __future__ import annotations

import random
import struct
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mcap.records import Channel, Chunk, ChunkIndex, Message, Schema
from mcap.stream_reader import StreamReader, breakup_chunk
from mcap.writer import CompressionType, IndexType
from mcap.writer import Writer as McapWriter

from vla_driver.bag import schema
from vla_driver.bag.read import BagReader
from vla_driver.bag.storage.bagfiles import BagFiles
from vla_driver.geometry.rig import load_rig
from vla_driver.types import InvalidInput

Event = tuple[str, str, int, bytes]


def order(events: list[Event]) -> list[Event]:
    return sorted(events, key=lambda event: event[2])


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'index': False},
        {'use_chunking': False},
        {'use_chunking': False, 'index': False},
        {'compression': CompressionType.LZ4, 'index': False},
        {'compression': CompressionType.NONE, 'chunk_size': 1000},
        {'repeat_channels': False, 'repeat_schemas': False},
        {'use_statistics': False},
        {'index_types': IndexType.NONE},
        {'index_types': IndexType.CHUNK, 'index': False},
        {'profile': ''},
    ],
    ids=str,
)
def test_every_way_of_writing_gives_the_same(
    tmp_path: Path, storage: SimpleNamespace, events: list[Event], options: dict[str, Any]
):
    file = storage.write_mcap(tmp_path / 'x.mcap', events, **options)
    assert storage.read(file) == events
    assert storage.notes(file) == []
    with BagFiles(file, schema.typestore()) as bag:
        counts = {connection.topic: connection.msgcount for connection in bag.connections}
        assert (bag.start_ns, bag.end_ns) == (events[0][2], events[-1][2])
    assert counts == {topic: sum(event[0] == topic for event in events) for topic in counts}


@pytest.mark.parametrize(
    'options', [{'use_chunking': False}, {'chunk_size': 3000}, {'chunk_size': 3000, 'index': False}]
)
def test_messages_out_of_order_are_sorted(
    tmp_path: Path, storage: SimpleNamespace, events: list[Event], options: dict[str, Any]
):
    """As several writing threads leave them: late by up to a third of a second, across chunks."""
    for seed in range(8):
        late = random.Random(seed)
        mixed = sorted(events, key=lambda event: event[2] + late.randrange(330_000_000))
        assert mixed != events
        file = storage.write_mcap(tmp_path / f'{seed}.mcap', mixed, **options)
        found = storage.read(file)
        assert found == order(mixed)
    # One in which what goes with the first pictures does not come behind them.
    file = tmp_path / '3.mcap'
    with BagReader(file, rig=load_rig('sim')) as bag:
        assert len(list(bag.observations())) == 12


@pytest.mark.parametrize('lean', [{'index': False}, {'repeat_schemas': False}], ids=str)
def test_a_schema_or_a_topic_may_be_described_in_the_chunk_before(
    tmp_path: Path, storage: SimpleNamespace, events: list[Event], lean: dict[str, Any]
):
    """The mcap package ends chunks behind schemas and topics, too: the next one is known by the one before."""
    by_topic = sorted(events, key=lambda event: event[0])  # so that a chunk may hold old topics and a new schema
    for size in range(500, 30_000, 500):
        file = storage.write_mcap(tmp_path / f'{size}.mcap', by_topic, chunk_size=size, **lean)
        assert storage.read(file) == order(by_topic)
    ends = Counter(kind for file in tmp_path.glob('*.mcap') for kind in _ends_of_chunks(file))
    assert ends[Schema] > 1 and ends[Channel] > 1


def _ends_of_chunks(file: Path) -> set[type]:
    """Return what ends the chunks in which there are messages."""
    records = StreamReader(file.open('rb'), emit_chunks=True).records
    inside = [[type(one) for one in breakup_chunk(record)] for record in records if isinstance(record, Chunk)]
    return {kinds[-1] for kinds in inside if Message in kinds}


def test_equal_times_keep_the_order_of_the_file(tmp_path: Path, storage: SimpleNamespace, events: list[Event]):
    at_once = [(topic, kind, 5, data) for topic, kind, _, data in events]
    assert storage.read(storage.write_mcap(tmp_path / 'x.mcap', at_once, chunk_size=3000)) == at_once


@pytest.mark.parametrize('compression', list(CompressionType))
@pytest.mark.parametrize('chunks', [True, False])
def test_what_is_cut_off_is_read_to_its_end_and_it_is_said_where_that_is(
    tmp_path: Path, storage: SimpleNamespace, events: list[Event], compression: CompressionType, chunks: bool
):
    """At any byte at all: what comes out is how the recording began, as far as it can be."""
    whole = storage.write_mcap(
        tmp_path / 'whole.mcap', events, compression=compression, use_chunking=chunks, chunk_size=400_000
    ).read_bytes()
    cut, chance, counts = tmp_path / 'cut.mcap', random.Random(4), []
    for size in sorted(chance.randrange(60, len(whole)) for _ in range(12)):
        cut.write_bytes(whole[:size])
        found = storage.read(cut)
        assert found == events[: len(found)]
        counts.append(len(found))
        if len(found) < len(events):
            (note,) = storage.notes(cut)
            ends = f'the recording ends after {(found[-1][2] - found[0][2]) * 1e-9:.1f} s' if found else 'no message'
            assert ends in note and 'cut off' in note
    assert counts == sorted(counts) and len(set(counts)) > (
        8 if compression is not CompressionType.ZSTD else 4
    )  # (in blocks)
    # No less than what had been written: a chunk in whose middle the file ends counts, too.
    assert counts[-1] > 0.6 * len(events)


def test_zeros_behind_the_cut_are_no_messages(tmp_path: Path, storage: SimpleNamespace, events: list[Event]):
    """Some file systems leave them after a loss of power."""
    file = storage.write_mcap(tmp_path / 'x.mcap', events)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) // 2))
    found = storage.read(file)
    assert found and found == events[: len(found)]
    assert any('the recording ends after' in note for note in storage.notes(file))


@pytest.mark.parametrize('index', [True, False])
def test_a_damaged_chunk_costs_itself_alone(tmp_path: Path, storage: SimpleNamespace, events: list[Event], index: bool):
    file = storage.write_mcap(tmp_path / 'x.mcap', events, compression=CompressionType.NONE, index=index)
    with file.open('rb') as stream:
        chunks = [record for record in StreamReader(stream).records if isinstance(record, ChunkIndex)]
    data = bytearray(file.read_bytes())
    middle = chunks[len(chunks) // 2] if chunks else None
    at = middle.chunk_start_offset + middle.chunk_length // 2 if middle else len(data) // 2
    data[at : at + 4] = bytes(byte ^ 0xFF for byte in data[at : at + 4])
    file.write_bytes(data)
    found = storage.read(file)
    assert len(events) * 0.8 < len(found) < len(events)
    assert set(found) < set(events)
    (note,) = storage.notes(file)
    assert 'damaged' in note and 'checksum' in note and ' s to ' in note


def test_a_damaged_record_head_without_an_index_is_passed(
    tmp_path: Path, storage: SimpleNamespace, events: list[Event]
):
    """A walk along the records loses its way there, and finds it again at the next chunk."""
    file = storage.write_mcap(tmp_path / 'x.mcap', events, index=False)
    data = bytearray(file.read_bytes())
    at = data.index(b'\x06', len(data) // 3)
    while data[at + 41 : at + 45] != b'zstd' or struct.unpack_from('<Q', data, at + 1)[0] > 10_000_000:
        at = data.index(b'\x06', at + 1)
    data[at : at + 9] = b'\x77' * 9
    file.write_bytes(data)
    found = storage.read(file)
    assert len(events) * 0.8 < len(found) < len(events)
    assert any('damaged' in note for note in storage.notes(file))


def test_topics_in_other_encodings_are_named_and_the_rest_is_read(
    tmp_path: Path, storage: SimpleNamespace, events: list[Event]
):
    file = tmp_path / 'x.mcap'
    with file.open('wb') as stream:
        writer = McapWriter(stream)
        writer.start(profile='')
        as_json = writer.register_channel(
            '/status', 'json', writer.register_schema('Status', 'jsonschema', b'{"type": "object"}')
        )
        kind = writer.register_schema('foxglove.CompressedImage', 'protobuf', b'')
        proto = writer.register_channel('/camera', 'protobuf', kind)
        text = schema.typestore().generate_msgdef(schema.ODOMETRY, ros_version=2)[0]
        # As some writers call it: without /msg/.
        kind = writer.register_schema('nav_msgs/Odometry', 'ros2msg', text.encode())
        odometry = writer.register_channel('/odom', 'cdr', kind)
        for topic, _, log_ns, data in events:
            if topic == '/odom':
                writer.add_message(odometry, log_ns, data, log_ns)
                writer.add_message(as_json, log_ns, b'{}', log_ns)
                writer.add_message(proto, log_ns, b'', log_ns)
        writer.finish()
    with BagReader(file) as bag:
        assert bag.topics == {'/odom': schema.ODOMETRY}
        assert len(list(bag.odometry())) == 12
        assert any('/status is not read: its messages are json' in note for note in bag.unread)
        assert any('/camera is not read: its messages are protobuf' in note for note in bag.unread)
        with pytest.raises(InvalidInput, match='/status: its messages are json'):
            list(bag.messages(['/status']))


def test_several_channels_of_one_topic_are_one(tmp_path: Path, storage: SimpleNamespace, events: list[Event]):
    """A publisher that was started again."""
    odometry = [event for event in events if event[0] == '/odom']
    file = tmp_path / 'x.mcap'
    with file.open('wb') as stream:
        writer = McapWriter(stream)
        writer.start(profile='ros2')
        text = schema.typestore().generate_msgdef(schema.ODOMETRY, ros_version=2)[0]
        kind = writer.register_schema(schema.ODOMETRY, 'ros2msg', text.encode())
        channels = [writer.register_channel('/odom', 'cdr', kind, {'publisher': name}) for name in 'ab']
        for number, (_, _, log_ns, data) in enumerate(odometry):
            writer.add_message(channels[number >= 6], log_ns, data, log_ns)
        writer.finish()
    assert storage.read(file) == odometry
    with BagFiles(file, schema.typestore()) as bag:
        (connection,) = bag.connections
    assert connection.msgcount == 12


def test_messages_of_ros1_in_mcap_are_turned_into_those_of_ros2(
    tmp_path: Path, storage: SimpleNamespace, events: list[Event]
):
    """What `mcap convert` makes of a ROS 1 bag."""
    from rosbags.highlevel import AnyReader

    source = storage.write_ros1(tmp_path / 'x.bag', events)
    file = tmp_path / 'x.mcap'
    with AnyReader([source]) as old, file.open('wb') as stream:
        writer = McapWriter(stream)
        writer.start(profile='ros1')
        channels = {}
        for connection in old.connections:
            name = connection.msgtype.replace('/msg/', '/')
            kind = writer.register_schema(name, 'ros1msg', connection.msgdef.data.encode())
            channels[connection.topic] = writer.register_channel(connection.topic, 'ros1', kind)
        for connection, log_ns, data in old.messages():
            writer.add_message(channels[connection.topic], log_ns, data, log_ns)
        writer.finish()
    assert storage.read(file) == storage.read(source)
    with BagReader(file, rig=load_rig('sim')) as bag:
        assert len(list(bag.observations())) == 12


@pytest.mark.parametrize('index', [True, False])
def test_a_damaged_first_record_costs_nothing(
    tmp_path: Path, storage: SimpleNamespace, events: list[Event], index: bool
):
    file = storage.write_mcap(tmp_path / 'x.mcap', events, index=index)
    data = bytearray(file.read_bytes())
    data[8:17] = b'\xee' * 9
    file.write_bytes(data)
    assert storage.read(file) == events


def test_what_is_damaged_at_random_is_read_in_part_or_refused_with_words(
    tmp_path: Path, storage: SimpleNamespace, events: list[Event]
):
    """Whatever is in the file: no other exception, nothing that was not recorded, and a word for what is missing."""
    whole = [
        storage.write_mcap(tmp_path / 'chunks.mcap', events[:60], chunk_size=100_000),
        storage.write_mcap(tmp_path / 'scan.mcap', events[:60], index=False, compression=CompressionType.LZ4),
        storage.write_mcap(tmp_path / 'plain.mcap', events[:60], use_chunking=False),
    ]
    chance, outcomes = random.Random(11), set[str]()
    for number in range(90):
        source = whole[number % 3]
        data, size = bytearray(source.read_bytes()), source.stat().st_size
        for _ in range(chance.choice((1, 1, 3))):
            at = chance.choice((chance.randrange(size), chance.randrange(200), size - 1 - chance.randrange(2000)))
            with_what = chance.choice((b'', bytes(300), chance.randbytes(8), bytes([data[at % len(data)] ^ 4])))
            data[at : at + len(with_what)] = with_what
        file = tmp_path / 'damaged.mcap'
        file.write_bytes(data[: chance.choice((size, size, chance.randrange(100, size)))])
        try:
            found, said = storage.read(file), storage.notes(file)
        except InvalidInput:
            outcomes.add('refused')
        else:
            outcomes.add('whole' if len(found) == 60 else 'part')
            assert len(found) == 60 or said
    assert outcomes == {'refused', 'whole', 'part'}
