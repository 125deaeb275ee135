# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""metadata.yaml of a rosbag2 recording, of any version and with parts missing, and its qualities of service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

import yaml
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from vla_driver.types import InvalidInput

_ROOT = 'rosbag2_bagfile_information'
_Choice = TypeVar('_Choice', bound=Enum)


@dataclass(frozen=True)
class Metadata:
    """What metadata.yaml says.

    files: of the recording, as written there.  storage: 'mcap', 'sqlite3' or '' (after reindexing).  custom: free
    data by key.  qos: topic -> what its publishers offered.  hashes: topic -> its type's.  counts: topic -> messages.
    Topics without are left out.
    """

    files: tuple[str, ...] = ()
    storage: str = ''
    message_count: int | None = None
    custom: Mapping[str, str] = field(default_factory=dict)
    qos: Mapping[str, Sequence[Qos]] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)


def read_metadata(text: str) -> Metadata:
    """Return what the text of a metadata.yaml says; raise InvalidInput where it is none."""
    try:
        # The loader in C reads thousands of files of a split recording in the time the other reads dozens.
        content = yaml.load(text, Loader=getattr(yaml, 'CSafeLoader', yaml.SafeLoader))
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidInput(f'not YAML ({str(error).splitlines()[0]})') from error
    root = content.get(_ROOT) if isinstance(content, dict) else None
    if isinstance(content, dict) and 'topics_with_message_count' in content:
        root = content  # inside of storage files the root is left out
    if not isinstance(root, dict):
        raise InvalidInput(f'it has no {_ROOT}')
    qos: dict[str, Sequence[Qos]] = {}
    hashes: dict[str, str] = {}
    counts: dict[str, int] = {}
    for topic in _items(root.get('topics_with_message_count')):
        about = topic.get('topic_metadata')
        if isinstance(about, dict):
            if offered := read_qos(about.get('offered_qos_profiles')):
                qos[str(about.get('name'))] = offered
            if digest := about.get('type_description_hash'):
                hashes[str(about.get('name'))] = str(digest)
            if isinstance(messages := topic.get('message_count'), int):
                counts[str(about.get('name'))] = messages
    custom = root.get('custom_data')
    count = root.get('message_count')
    names = root.get('relative_file_paths') or [one.get('path') for one in _items(root.get('files'))]
    return Metadata(
        tuple(str(name) for name in names if name) if isinstance(names, list) else (),
        str(root.get('storage_identifier') or ''),
        count if isinstance(count, int) else None,
        {str(k): str(v) for k, v in custom.items()} if isinstance(custom, dict) else {},
        qos,
        hashes,
        counts,
    )


def _items(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def read_qos(value: Any) -> list[Qos]:
    """Return the profiles of an `offered_qos_profiles`: YAML text or a list, numbers or names; [] where it is empty.

    What a profile leaves out, or says in words that are not known, is "unknown".
    """
    if isinstance(value, str):
        try:
            value = yaml.load(value, Loader=getattr(yaml, 'CSafeLoader', yaml.SafeLoader))
        except yaml.YAMLError:
            return []
    return [
        Qos(
            _choice(QosHistory, item.get('history')),
            item['depth'] if isinstance(item.get('depth'), int) else 0,
            _choice(QosReliability, item.get('reliability')),
            _choice(QosDurability, item.get('durability')),
            _time(item.get('deadline')),
            _time(item.get('lifespan')),
            _choice(QosLiveliness, item.get('liveliness')),
            _time(item.get('liveliness_lease_duration')),
            bool(item.get('avoid_ros_namespace_conventions')),
        )
        for item in _items(value)
    ]


def _choice(kind: type[_Choice], value: Any) -> _Choice:
    if isinstance(value, str) and value.upper() in kind.__members__:
        return kind[value.upper()]
    try:
        return kind(value)
    except ValueError:
        return kind['UNKNOWN']


def _time(value: Any) -> QosTime:
    if isinstance(value, dict) and isinstance(value.get('sec'), int) and isinstance(value.get('nsec'), int):
        return QosTime(value['sec'], value['nsec'])
    return QosTime(9223372036, 854775807)  # rmw's "infinite"
