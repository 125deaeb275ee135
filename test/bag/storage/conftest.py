# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The drive of `test/bag/conftest.py` as its messages, written again in every form that recordings have."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from vla_driver.bag import schema
from vla_driver.bag.storage.bagfiles import BagFiles

#: (topic, type, log time in nanoseconds, CDR)
Event = tuple[str, str, int, bytes]


def read(path: Path, topics: Iterable[str] | None = None) -> list[Event]:
    """Return the messages of a bag as the storage gives them."""
    with BagFiles(path, schema.typestore()) as files:
        return [(c.topic, c.msgtype, ns, data) for c, ns, data in files.messages(topics)]


def notes(path: Path) -> list[str]:
    """Return what is said of a bag when it has been read once."""
    with BagFiles(path, schema.typestore()) as files:
        list(files.messages())
        return list(files.notes)


def write(path: Path, events: Iterable[Event], plugin: StoragePlugin = StoragePlugin.MCAP, **compression: Any) -> Path:
    """Write a rosbag2 folder; return it."""
    writer = Writer(path, version=9, storage_plugin=plugin)
    if compression:
        writer.set_compression(compression['mode'], compression['format'])
    with writer:
        connections: dict[str, Any] = {}
        for topic, msgtype, log_ns, data in events:
            if topic not in connections:
                qos = [schema.Topic(topic, msgtype, latched=msgtype == schema.PATH).qos]
                connections[topic] = writer.add_connection(
                    topic, msgtype, typestore=schema.typestore(), offered_qos_profiles=qos
                )
            writer.write(connections[topic], log_ns, data)
    return path


def write_mcap(
    path: Path, events: Iterable[Event], *, profile: str = 'ros2', index: bool = True, **options: Any
) -> Path:
    """Write an mcap file with the mcap package; return it.  index: whether it has a summary."""
    store = schema.typestore()
    lean = {} if index else dict.fromkeys(
        ('use_statistics', 'use_summary_offsets', 'repeat_channels', 'repeat_schemas'), False
    )  # fmt: skip
    with path.open('wb') as file:
        writer = McapWriter(file, **{'compression': CompressionType.ZSTD, 'chunk_size': 20_000, **lean, **options})
        writer.start(profile=profile)
        channels: dict[str, int] = {}
        for topic, msgtype, log_ns, data in events:
            if topic not in channels:
                text = store.generate_msgdef(msgtype, ros_version=2)[0]
                kind = writer.register_schema(msgtype, 'ros2msg', text.encode())
                channels[topic] = writer.register_channel(topic, 'cdr', kind)
            writer.add_message(channels[topic], log_ns, data, log_ns)
        writer.finish()
    return path


def write_ros1(path: Path, events: Iterable[Event], compression: Any = None) -> Path:
    """Write a ROS 1 bag; return it."""
    old, store = get_typestore(Stores.ROS1_NOETIC), schema.typestore()
    writer = Ros1Writer(path)
    if compression is not None:
        writer.set_compression(compression)
    with writer:
        connections: dict[str, Any] = {}
        for topic, msgtype, log_ns, data in events:
            if msgtype not in old.fielddefs or msgtype == schema.MARKERS:
                continue
            if topic not in connections:
                connections[topic] = writer.add_connection(
                    topic, msgtype, typestore=old, latching=int(msgtype == schema.PATH)
                )
            message = _ros1(old, store.deserialize_cdr(data, msgtype))
            writer.write(connections[topic], log_ns, bytes(old.serialize_ros1(message, msgtype)))
    return path


def _ros1(old: Any, message: Any) -> Any:
    """Return a message of ROS 2 as one of ROS 1: a number in the header, capitals in CameraInfo."""
    if isinstance(message, list):
        return [_ros1(old, item) for item in message]
    if not hasattr(message, '__msgtype__'):
        return message
    names = {name.lower(): name for name, _ in old.fielddefs[message.__msgtype__][1]}
    values = {names[k.lower()]: _ros1(old, v) for k, v in vars(message).items() if k.lower() in names}
    if message.__msgtype__ == 'std_msgs/msg/Header':
        values['seq'] = 7
    return old.types[message.__msgtype__](**values)


@pytest.fixture(scope='session')
def storage() -> SimpleNamespace:
    """The functions above."""
    return SimpleNamespace(read=read, notes=notes, write=write, write_mcap=write_mcap, write_ros1=write_ros1)


@pytest.fixture(scope='session')
def events(drive: Path) -> list[Event]:
    """The messages of a drive of 1.2 s."""
    return read(drive)
