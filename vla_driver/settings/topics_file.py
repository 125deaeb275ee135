# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A file that says on which topics a vehicle's cameras, odometry and route are: `--topics FILE`, `topics_file:=FILE`.

    cameras:
      front: /sensing/camera/camera0/image_rect_color/compressed
      back_left: /sensing/camera/camera4/image_rect_color/compressed
    odom: /localization/kinematic_state
    route: /planning/route
    turn_command: /navigation/turn

Every key may be left out.  config/topics/autoware.yaml is an example.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from vla_driver.settings.knob import nearest
from vla_driver.types import InvalidInput

#: Inputs besides the cameras, as named in a topic mapping.
OTHER_INPUTS: Final = ('odom', 'route', 'turn_command')
#: A topic's full name: parts of letters, digits and underscores, of which none begins with a digit.
_TOPIC: Final = re.compile(r'(/[A-Za-z_]\w*)+', re.ASCII)


def checked_topic(what: str, topic: object) -> str:
    """Return a topic's full name; raise InvalidInput unless it is one, saying `what` it is for."""
    if not (isinstance(topic, str) and _TOPIC.fullmatch(topic)):
        hint = f'; did you mean /{topic}?' if isinstance(topic, str) and _TOPIC.fullmatch(f'/{topic}') else ''
        raise InvalidInput(
            f'{what}: {topic!r} is no topic, expected a full name that begins with "/", such as '
            f'/camera/front/image{hint}'
        )
    return topic


def read_topics_file(path: str | Path) -> dict[str, str]:
    """Return input (camera name or one of OTHER_INPUTS) -> topic.

    Raises InvalidInput naming the file, the key and what is allowed: for what is no mapping, unknown keys, names that
    are no topics, and two cameras on one topic.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f'topics file {path} cannot be read: {error}') from error
    except yaml.YAMLError as error:
        raise InvalidInput(f'topics file {path}: not valid YAML: {error}') from error
    allowed = ('cameras', *OTHER_INPUTS)
    if not isinstance(content, Mapping) or not content:
        raise InvalidInput(f'topics file {path}: expected a mapping with some of: {", ".join(allowed)}')
    for key in content:
        if key not in allowed:
            raise InvalidInput(
                f'topics file {path}: unknown key {key!r}{nearest(key, allowed)}; allowed: {", ".join(allowed)}; '
                'cameras stand below `cameras`'
            )
    return {
        **_cameras(path, content.get('cameras') or {}),
        **{
            name: checked_topic(f'topics file {path}: {name}', content[name])
            for name in OTHER_INPUTS
            if content.get(name) is not None
        },
    }


def _cameras(path: str | Path, cameras: Any) -> dict[str, str]:
    if not isinstance(cameras, Mapping):
        raise InvalidInput(f'topics file {path}: cameras is {cameras!r}, expected a mapping: camera name -> topic')
    found = {
        str(name): checked_topic(f'topics file {path}: camera {name}', topic)
        for name, topic in cameras.items()
        if topic is not None
    }
    refuse_twice(found, f'topics file {path}')
    return found


def refuse_twice(cameras: Mapping[str, str], where: str) -> None:
    """Raise InvalidInput when two cameras are given the same topic."""
    by_topic: dict[str, str] = {}
    for name, topic in cameras.items():
        if topic in by_topic:
            raise InvalidInput(f'{where}: cameras {by_topic[topic]} and {name} are both on {topic}')
        by_topic[topic] = name
