# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Topics as launch arguments say them: `camera_topics`, `odom_topic`, `topics_file`; checked before a node starts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import yaml

from vla_driver.settings.inputs import VIDEO_TRANSPORTS
from vla_driver.settings.knob import nearest
from vla_driver.settings.topics_file import OTHER_INPUTS, checked_topic, read_topics_file, refuse_twice
from vla_driver.types import InvalidInput

#: A topic's name, in full or within a namespace.
_NAME: Final = re.compile(r'(~?/)?[A-Za-z_]\w*(/[A-Za-z_]\w*)*', re.ASCII)
_HERE: Final = 'launch argument camera_topics'


def camera_topics(text: str, cameras: Sequence[str] | None) -> dict[str, str]:
    """Return camera -> topic of 'front=/a, back=/b', or of the same as a YAML list; cameras: those of the rig, None
    where somebody else checks the names.

    Raises InvalidInput naming the entry, with the nearest camera where it names none.
    """
    found: dict[str, str] = {}
    for entry in _entries(text):
        name, separator, topic = (part.strip() for part in entry.partition('='))
        if not (name and separator and topic):
            raise InvalidInput(f'{_HERE}: {entry!r}, expected CAMERA=/TOPIC, such as front=/carla/hero/front/image')
        _check_camera(f'{_HERE}: {entry!r}', name, cameras)
        if name in found:
            raise InvalidInput(f'{_HERE}: camera {name} is given twice: {found[name]} and {topic}')
        found[name] = checked_topic(f'{_HERE}: {entry!r}', topic)
    refuse_twice(found, _HERE)
    return found


def _entries(text: str) -> list[str]:
    if text.strip().startswith('['):
        try:
            listed = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InvalidInput(f'{_HERE}: {text!r} is no list: {error}') from error
        return [str(entry) for entry in listed]
    return [part.strip() for part in text.split(',') if part.strip()]


def _check_camera(what: str, name: str, cameras: Sequence[str] | None) -> None:
    if cameras is not None and name not in cameras:
        raise InvalidInput(
            f'{what}: the rig has no camera {name!r}{nearest(name, cameras)}; it has: {", ".join(cameras)}'
        )


def given_topics(texts: Mapping[str, str], cameras: Sequence[str] | None) -> dict[str, str]:
    """Return input -> topic that the arguments name: those of their own go before `topics_file`.

    texts: launch argument -> text; an argument `odom_topic` that is its default, `odom`, names nothing.
    """
    given: dict[str, str] = {}
    if file := texts.get('topics_file', ''):
        given = read_topics_file(file)
        for name in given:
            if name not in OTHER_INPUTS:
                _check_camera(f'topics file {file}', name, cameras)
    given.update(camera_topics(texts.get('camera_topics', ''), cameras))
    for name in OTHER_INPUTS:
        if (topic := renamed(texts, name)) != name:
            given[name] = topic
    return given


def renamed(texts: Mapping[str, str], name: str) -> str:
    """Return what the argument `<name>_topic` calls a topic, its own name where it says nothing.

    Raises InvalidInput naming the argument for what is no topic.
    """
    topic = texts.get(f'{name}_topic', '') or name
    if not _NAME.fullmatch(topic):
        raise InvalidInput(f'launch argument {name}_topic: {topic!r} is no topic, expected such as /my/{name}')
    return topic


def camera_remappings(topics: Mapping[str, str]) -> dict[str, str]:
    """Return remappings of `camera/<name>/...` for camera -> topic of a running system, whose types nobody knows.

    The compressed images are expected below that topic (or on it, where its last part says "compressed"), camera_info
    beside it, as image_transport has them; the planner looks for it below as well.
    """
    found = {}
    for camera, topic in topics.items():
        plain = topic.removesuffix('/compressed')
        own = 'compressed' in plain.rpartition('/')[2].lower()
        found[f'camera/{camera}/image'] = plain
        found[f'camera/{camera}/image/compressed'] = plain if own else f'{plain}/compressed'
        found.update({f'camera/{camera}/image/{video}': f'{plain}/{video}' for video in VIDEO_TRANSPORTS})
        found[f'camera/{camera}/camera_info'] = f'{plain.rpartition("/")[0]}/camera_info'
    return found
