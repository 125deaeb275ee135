# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""From a path to a bag's files: with metadata.yaml, without it, with a wrong one; what is no bag says what it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from vla_driver.bag import schema
from vla_driver.bag.read import BagReader
from vla_driver.bag.storage.bagfiles import BagFiles
from vla_driver.types import InvalidInput

Event = tuple[str, str, int, bytes]


@pytest.fixture
def bag(tmp_path: Path, drive: Path) -> Path:
    """A copy of the drive, to change."""
    return Path(shutil.copytree(drive, tmp_path / 'bag'))


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    """Change what metadata.yaml says."""
    file = folder / 'metadata.yaml'
    content = yaml.safe_load(file.read_text())
    edit(content['rosbag2_bagfile_information'])
    file.write_text(yaml.safe_dump(content))
    return folder


def qualities(path: Path) -> dict[str, str]:
    """Return topic -> durability as it will be played; 'unknown' where the bag does not say."""
    with BagFiles(path, schema.typestore()) as files:
        return {
            c.topic: c.ext.offered_qos_profiles[0].durability.name if c.ext.offered_qos_profiles else 'unknown'
            for c in files.connections
        }


def test_metadata_yaml_itself_is_its_bag(bag: Path, storage: SimpleNamespace, events: list[Event]):
    assert storage.read(bag / 'metadata.yaml') == events


def test_metadata_without_quality_of_service_costs_nothing(bag: Path, storage: SimpleNamespace, events: list[Event]):
    def empty(root: dict[str, Any]) -> None:
        for topic in root['topics_with_message_count']:
            topic['topic_metadata']['offered_qos_profiles'] = ''

    whole = qualities(bag)
    assert whole['/route'] == 'TRANSIENT_LOCAL' and whole['/odom'] == 'VOLATILE'
    change(bag, empty)
    assert storage.read(bag) == events
    assert storage.notes(bag) == []
    assert qualities(bag) == whole  # the mcap file says it, too


@pytest.mark.parametrize(
    'profiles',
    [
        [{'durability': 'transient_local', 'reliability': 'reliable', 'history': 'keep_last', 'depth': 1}],
        '- durability: 1\n  history: 1\n',
        [{'durability': 'TRANSIENT_LOCAL', 'deadline': {'sec': 1}, 'depth': None}],
    ],
    ids=str,
)
def test_qualities_of_service_of_every_spelling_are_understood(bag: Path, profiles: object):
    change(
        bag, lambda root: root['topics_with_message_count'][1]['topic_metadata'].update(offered_qos_profiles=profiles)
    )
    name = yaml.safe_load((bag / 'metadata.yaml').read_text())['rosbag2_bagfile_information'][
        'topics_with_message_count'
    ][1]['topic_metadata']['name']
    assert qualities(bag)[name] == 'TRANSIENT_LOCAL'


@pytest.mark.parametrize(
    'edit',
    [
        lambda root: root.update(storage_identifier='', custom_data=None),  # after reindexing
        lambda root: root.update(version=4),
        lambda root: [root.pop(key) for key in list(root) if key not in ('relative_file_paths', 'custom_data')],
        lambda root: [root.pop(key) for key in ('relative_file_paths', 'compression_format')],
        lambda root: root.update(relative_file_paths=['bag/drive.mcap'], version=3),
        lambda root: root.update(topics_with_message_count=None, files='?', message_count='many'),
    ],
)
def test_metadata_of_every_kind_serves(
    bag: Path, storage: SimpleNamespace, events: list[Event], edit: Callable[[dict[str, Any]], object]
):
    change(bag, edit)
    assert storage.read(bag) == events
    assert storage.notes(bag) == []
    with BagReader(bag) as reader:
        assert len(reader.rig().names) == 6  # the rig is found in the file itself where metadata.yaml lost it


@pytest.mark.parametrize('content', ['', 'just words', 'rosbag2_bagfile_information: 3', 'a: [b', '\x00\x00\x00'])
def test_a_broken_metadata_yaml_is_said_and_the_files_are_read(
    bag: Path, storage: SimpleNamespace, events: list[Event], content: str
):
    (bag / 'metadata.yaml').write_text(content)
    assert storage.read(bag) == events
    (note,) = storage.notes(bag)
    assert 'metadata.yaml cannot be read' in note and 'drive.mcap' in note


def split(folder: Path, storage: SimpleNamespace, parts: list[list[Event]], *, metadata: bool = True) -> Path:
    """Write one folder with several storage files."""
    folder.mkdir()
    for number, part in enumerate(parts):
        storage.write_mcap(folder / f'x_{number}.mcap', part, index=number % 2 == 0)
    if metadata:
        names = [f'x_{number}.mcap' for number in range(len(parts))]
        content = {'rosbag2_bagfile_information': {'version': 5, 'relative_file_paths': names}}
        (folder / 'metadata.yaml').write_text(yaml.safe_dump(content))
    return folder


@pytest.mark.parametrize('metadata', [True, False])
def test_storage_files_are_merged_by_time(
    tmp_path: Path, storage: SimpleNamespace, events: list[Event], metadata: bool
):
    """Cameras in one file, odometry in another, the rest in a third."""
    parts = [
        [event for event in events if 'image' in event[0]],
        [event for event in events if event[0] == '/odom'],
        [event for event in events if 'image' not in event[0] and event[0] != '/odom'],
    ]
    found = storage.read(split(tmp_path / 'bag', storage, parts, metadata=metadata))
    assert [event[2] for event in found] == sorted(event[2] for event in events)
    assert sorted(found) == sorted(events)


def test_a_recording_in_many_parts_is_one_and_opens_few_files(
    tmp_path: Path, storage: SimpleNamespace, events: list[Event]
):
    """Twelve parts, without metadata.yaml: part 10 comes behind part 9, whatever their names' order."""
    at_once = [(topic, kind, 7, data) for topic, kind, _, data in events]
    size = -(-len(events) // 12)
    parts = [at_once[begin : begin + size] for begin in range(0, len(events), size)]
    assert storage.read(split(tmp_path / 'bag', storage, parts, metadata=False)) == at_once


def test_a_missing_part_is_named_and_the_rest_is_read(tmp_path: Path, storage: SimpleNamespace, events: list[Event]):
    half = len(events) // 2
    bag = split(tmp_path / 'bag', storage, [events[:half], events[half:]])
    (bag / 'x_0.mcap').unlink()
    assert storage.read(bag) == events[half:]
    (note,) = storage.notes(bag)
    assert note == 'x_0.mcap, a part of the recording, is missing; the rest is read'


def test_an_unreadable_part_is_named_and_the_rest_is_read(
    tmp_path: Path, storage: SimpleNamespace, events: list[Event]
):
    half = len(events) // 2
    bag = split(tmp_path / 'bag', storage, [events[:half], events[half:]])
    (bag / 'x_1.mcap').write_bytes(b'')
    assert storage.read(bag) == events[:half]
    (note,) = storage.notes(bag)
    assert 'x_1.mcap is empty' in note and 'the other parts are read' in note


def test_a_file_that_metadata_yaml_does_not_name_is_said(bag: Path, storage: SimpleNamespace, events: list[Event]):
    storage.write_mcap(bag / 'another.mcap', events[:5])
    assert storage.read(bag) == events
    assert 'does not name another.mcap' in storage.notes(bag)[0]


def test_a_renamed_file_is_found(bag: Path, storage: SimpleNamespace, events: list[Event]):
    (bag / 'drive.mcap').rename(bag / 'monday.mcap')
    assert storage.read(bag) == events
    assert any('read in its place: monday.mcap' in note for note in storage.notes(bag))


def test_fewer_messages_than_metadata_yaml_speaks_of_are_said(bag: Path, storage: SimpleNamespace):
    change(bag, lambda root: root.update(message_count=100_000))
    assert 'speaks of 100000 messages' in storage.notes(bag)[0]


@pytest.mark.parametrize(
    ('name', 'content', 'words'),
    [
        ('x.mcap', b'', 'x.mcap is empty'),
        ('x.mcap', b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n', 'git lfs pull'),
        ('x.mcap', b'{"not": "a bag"}', 'is text, not a recording'),
        ('x.db3', bytes(4096), 'begins with zeros alone'),
        ('x.db3', b'PK\x03\x04...', 'is an archive; unpack it first'),
        ('x.bag', bytes(range(128, 256)), 'neither mcap, sqlite3 nor a ROS 1 bag'),
        ('x.bag', b'#ROSBAG V1.2\nrest', 'of another version'),
        ('x.mcap', b'\x89MCAP0\r\n', 'within its first bytes'),
        ('x.mcap.zstd', b'\x28\xb5\x2f\xfd' + bytes(20), 'x.mcap'),
    ],
)
def test_a_file_that_is_no_bag_says_what_it_is(tmp_path: Path, name: str, content: bytes, words: str):
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path / name, tmp_path):
        with pytest.raises(InvalidInput) as caught, BagReader(path):
            pass
        assert 'is not a readable bag' in str(caught.value) and words in str(caught.value)


def test_a_folder_that_is_no_bag_says_what_lies_there(tmp_path: Path, bag: Path):
    with pytest.raises(InvalidInput, match='bags in folders of their own: bag'), BagReader(tmp_path):
        pass
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InvalidInput, match='the folder is empty'), BagReader(tmp_path / 'empty'):
        pass
    (bag / 'drive.mcap').rename(bag / 'drive.txt')
    with pytest.raises(InvalidInput, match=r'names drive\.mcap, and no \.mcap.*only drive\.txt'), BagReader(bag):
        pass
    (tmp_path / 'link').symlink_to('/nowhere')
    with pytest.raises(InvalidInput, match='a link to /nowhere, which does not exist'), BagReader(tmp_path / 'link'):
        pass
