# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""sqlite3 files of every age, with logs beside them and damaged; ROS 1 bags, with and without their index."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin
from rosbags.typesys import Stores, get_typestore

from vla_driver.bag import schema
from vla_driver.bag.read import BagReader
from vla_driver.bag.storage.bagfiles import BagFiles
from vla_driver.geometry.rig import load_rig
from vla_driver.types import InvalidInput

Event = tuple[str, str, int, bytes]


def database(folder: Path, storage: SimpleNamespace, events: list[Event]) -> Path:
    """Return a .db3 file alone."""
    storage.write(folder / 'bag', events, StoragePlugin.SQLITE3)
    return Path(shutil.copy(folder / 'bag' / 'bag.db3', folder / 'x.db3'))


def state(folder: Path) -> dict[str, tuple[str, int]]:
    """Return what lies in a folder, to see that nothing was touched."""
    return {f.name: (hashlib.sha256(f.read_bytes()).hexdigest(), f.stat().st_mtime_ns) for f in folder.iterdir()}


@pytest.mark.parametrize('version', [1, 2, 3, 4])
@pytest.mark.parametrize('indexed', [True, False])
def test_every_schema_of_rosbag2_is_read(
    tmp_path: Path, storage: SimpleNamespace, events: list[Event], version: int, indexed: bool
):
    file = database(tmp_path, storage, events)
    with sqlite3.connect(file) as opened:
        if version < 4:
            opened.execute('DROP TABLE message_definitions')
            opened.execute('ALTER TABLE topics DROP COLUMN type_description_hash')
        if version < 3:
            opened.execute('DROP TABLE schema')
            opened.execute('DROP TABLE metadata')
        if version < 2:
            opened.execute('ALTER TABLE topics DROP COLUMN offered_qos_profiles')
        if not indexed:
            opened.execute('DROP INDEX timestamp_idx')
    opened.close()
    assert storage.read(file) == events
    assert storage.notes(file) == []
    with BagReader(file, rig=load_rig('sim')) as bag:
        assert len(list(bag.observations())) == 12
        counts = {connection.topic: connection.msgcount for connection in bag.connections}
    assert counts == Counter(event[0] for event in events)


def test_the_write_ahead_log_is_read_and_nothing_is_touched(
    tmp_path: Path, storage: SimpleNamespace, events: list[Event]
):
    """The newest part of a recording that was not closed lies there alone."""
    source = database(tmp_path, storage, events[:40])
    live = sqlite3.connect(source)
    live.execute('PRAGMA journal_mode=WAL')
    live.execute('PRAGMA wal_autocheckpoint=0')
    topics = {name: number for number, name in live.execute('SELECT id, name FROM topics')}
    later = [event for event in events[40:] if event[0] in topics]
    live.executemany(
        'INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)',
        [(topics[topic], log_ns, data) for topic, _, log_ns, data in later],
    )
    live.commit()
    folder = tmp_path / 'killed'
    folder.mkdir()
    for file in tmp_path.glob('x.db3*'):
        shutil.copy(file, folder)
    live.close()
    assert (folder / 'x.db3-wal').stat().st_size > 0
    before = state(folder)
    assert storage.read(folder / 'x.db3') == storage.read(folder) == events[:40] + later
    assert state(folder) == before
    folder.chmod(0o555)
    try:
        assert storage.read(folder) == events[:40] + later
    finally:
        folder.chmod(0o755)


def test_a_file_by_itself_is_read_where_nothing_can_be_written(
    tmp_path: Path, storage: SimpleNamespace, events: list[Event]
):
    source = database(tmp_path, storage, events)
    with sqlite3.connect(source) as opened:
        opened.execute('PRAGMA journal_mode=WAL')  # stays so in the file; the log itself is gone
    opened.close()
    folder = tmp_path / 'a folder?with#signs'
    folder.mkdir()
    shutil.move(source, folder / 'x.db3')
    folder.chmod(0o555)
    before = state(folder)
    assert storage.read(folder) == events
    assert state(folder) == before
    folder.chmod(0o755)


@pytest.mark.parametrize('share', [0.3, 0.6, 0.9])
def test_a_cut_off_database_is_read_as_far_as_it_goes(
    tmp_path: Path, storage: SimpleNamespace, events: list[Event], share: float
):
    file = database(tmp_path, storage, events)
    os.truncate(file, int(file.stat().st_size * share) // 4096 * 4096)
    found = storage.read(file)
    assert len(events) * share * 0.6 < len(found) <= len(events)
    assert found == events[: len(found)]
    assert any('the recording ends after' in note and 'cut off' in note for note in storage.notes(file))


def test_a_database_of_another_kind_says_what_it_holds(tmp_path: Path):
    with sqlite3.connect(tmp_path / 'x.db3') as other:
        other.execute('CREATE TABLE contacts (name TEXT)')
    other.close()
    with pytest.raises(InvalidInput, match=r'no recording.*contacts'), BagReader(tmp_path / 'x.db3'):
        pass
    (tmp_path / 'y.db3').write_bytes((tmp_path / 'x.db3').read_bytes()[:300])
    with pytest.raises(InvalidInput, match='no table at all'), BagReader(tmp_path / 'y.db3'):
        pass


@pytest.mark.parametrize('compression', [None, *Ros1Writer.CompressionFormat])
def test_ros1_bags_become_messages_of_ros2(
    tmp_path: Path, storage: SimpleNamespace, events: list[Event], compression: Ros1Writer.CompressionFormat | None
):
    """The bytes are those of ROS 2 (padding aside), so that they can be played, too."""
    file = storage.write_ros1(tmp_path / 'x.bag', events, compression)
    store = schema.typestore()
    there = [event for event in events if event[1] not in (schema.TURN_COMMAND, schema.MARKERS)]
    found = storage.read(file)
    assert [event[:3] for event in found] == [event[:3] for event in there]
    for (_, msgtype, _, data), (*_, original) in zip(found, there, strict=True):
        assert bytes(store.serialize_cdr(store.deserialize_cdr(data, msgtype), msgtype)) == original
    assert storage.notes(file) == []
    with BagReader(file, rig=load_rig('sim')) as bag:
        assert len(list(bag.observations())) == 12
        (route,) = [c for c in bag.connections if c.topic == '/route']
        assert route.ext.offered_qos_profiles[0].durability.name == 'TRANSIENT_LOCAL'


def test_a_ros1_bag_without_its_index_is_read_to_its_end(tmp_path: Path, storage: SimpleNamespace, events: list[Event]):
    """What `rosbag record` leaves when it is killed: x.bag.active."""
    whole = storage.write_ros1(tmp_path / 'x.bag', events)
    expected = storage.read(whole)
    data = whole.read_bytes()
    for size in (len(data) * 2 // 5, len(data) * 4 // 5, len(data) - 300):
        cut = tmp_path / 'x.bag.active'
        cut.write_bytes(data[:size])
        found = storage.read(cut)
        assert found == expected[: len(found)]
        assert len(found) > 0.6 * size / len(data) * len(expected)
        assert any('the recording ends after' in note for note in storage.notes(cut))


def test_a_ros1_type_that_is_laid_out_otherwise_is_known_to_be(tmp_path: Path):
    """Markers grew between ROS 1 and 2: the bag's own definition reads them, and players must not send them."""
    old = get_typestore(Stores.ROS1_NOETIC)
    with Ros1Writer(tmp_path / 'x.bag') as writer:
        for topic, msgtype in (('/markers', schema.MARKERS), ('/count', 'std_msgs/msg/Int32')):
            writer.write(writer.add_connection(topic, msgtype, typestore=old), 5, bytes(4))
    with BagFiles(tmp_path / 'x.bag', schema.typestore()) as bag:
        assert {c.topic: bag.definitions.differs(c) for c in bag.connections} == {'/markers': True, '/count': False}
        read = [bag.deserialize(connection, data) for connection, _, data in bag.messages()]
    assert read[0].markers == [] and read[1].data == 0
