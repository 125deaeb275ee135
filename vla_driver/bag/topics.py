# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Find out which topic of a bag is which input.

Our own names come first, then the usual ones of others, by the parts of the topic's name: `/cam_front/raw`,
`/CAM_FRONT/image_rect_compressed`, `/carla/hero/front/image`, `/sensing/camera/front/image_raw/compressed`.
Whatever stays unclear is an error that lists the candidates.  What the nodes publish themselves (`bag.outputs`) is
never taken for an input by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vla_driver.bag import schema
from vla_driver.bag.outputs import outputs
from vla_driver.types import InvalidInput

#: Inputs besides the cameras, as named in a topic mapping.
OTHER_INPUTS = ('odom', 'route', 'turn_command')


@dataclass(frozen=True)
class InputTopics:
    """Where a bag keeps each input; None: it has none.  cameras, infos: camera name -> topic."""

    cameras: Mapping[str, str]
    infos: Mapping[str, str] = field(default_factory=dict)
    odometry: str | None = None
    route: str | None = None
    turn_command: str | None = None


def describe(topics: Mapping[str, str]) -> str:
    """Return the topics of a bag with their types, for error messages."""
    return ', '.join(f'{name} ({msgtype})' for name, msgtype in sorted(topics.items())) or 'none at all'


def find_inputs(
    topics: Mapping[str, str], cameras: Sequence[str], given: Mapping[str, str] | None = None
) -> InputTopics:
    """Return the inputs among `topics` (name -> type).

    cameras: the names to look for, none to leave them out.  given: camera name or one of OTHER_INPUTS -> topic,
    which decides.
    Raises InvalidInput where a given topic does not exist or has another type, where no camera is found (listing
    the topics there are), and where several topics fit.
    """
    given = dict(given or {})
    unknown = sorted(set(given) - set(cameras) - set(OTHER_INPUTS))
    if unknown:
        allowed = ', '.join([*cameras, *OTHER_INPUTS])
        raise InvalidInput(f'topic mapping: unknown input {", ".join(unknown)}, allowed: {allowed}')
    pictures = {
        name: msgtype
        for name, msgtype in topics.items()
        if msgtype in schema.PICTURES and not name.startswith(schema.GROUND_TRUTH)
    }
    found = {}
    for camera in cameras:
        if camera in given:
            found[camera] = _given(topics, camera, given[camera], tuple(schema.PICTURES))
        else:
            topic = _camera_topic(camera, pictures)
            if topic is not None:
                found[camera] = topic
    if cameras and not found:
        raise InvalidInput(
            f'no camera topics for {", ".join(cameras)}; the bag has: {describe(topics)}; '
            'name them, for example front=/my/front/image'
        )
    infos = {camera: info for camera, topic in found.items() if (info := _info_topic(topic, topics)) is not None}
    others = {
        'odom': (schema.ODOMETRY_TOPIC, schema.ODOMETRY),
        'route': (schema.ROUTE_TOPIC, schema.PATH),
        'turn_command': (schema.TURN_COMMAND_TOPIC, schema.TURN_COMMAND),
    }
    ours = outputs(topics)
    picked: dict[str, str | None] = {}
    for name, (usual, msgtype) in others.items():
        if name in given:
            picked[name] = _given(topics, name, given[name], (msgtype,))
        elif topics.get(usual) == msgtype:
            picked[name] = usual
        else:
            fitting = [t for t, kind in topics.items() if kind == msgtype and not t.startswith(schema.GROUND_TRUTH)]
            picked[name] = _only(name, [t for t in fitting if t not in ours and not _planned(t)])
    return InputTopics(found, infos, picked['odom'], picked['route'], picked['turn_command'])


def route_hint(topics: Mapping[str, str]) -> str:
    """Return what to add to "no route": the nav_msgs/Path topics that must be named to be one; '' without any."""
    paths = [t for t, kind in topics.items() if kind == schema.PATH and not t.startswith(schema.GROUND_TRUTH)]
    doubtful = sorted(t for t in paths if _planned(t) or t in outputs(topics))
    if not doubtful:
        return ''
    return f'{", ".join(doubtful)} may be what a planner planned; if it is the route, name it: route={doubtful[0]}'


def _planned(topic: str) -> bool:
    """Whether a topic is called as the planner's path is: 5 s in base_link, which would pass for a route."""
    return topic.endswith('/path')


def _given(topics: Mapping[str, str], name: str, topic: str, allowed: Sequence[str]) -> str:
    if topic not in topics:
        raise InvalidInput(f'{name}: the bag has no topic {topic}; it has: {describe(topics)}')
    if topics[topic] not in allowed:
        raise InvalidInput(f'{name}: topic {topic} holds {topics[topic]}, expected {" or ".join(allowed)}')
    return topic


def _only(name: str, candidates: Iterable[str]) -> str | None:
    fitting = sorted(candidates)
    if len(fitting) > 1:
        raise InvalidInput(f'{name}: several topics fit: {", ".join(fitting)}; name one, as {name}={fitting[0]}')
    return fitting[0] if fitting else None


def _camera_topic(camera: str, pictures: Mapping[str, str]) -> str | None:
    ours = schema.image_topic(camera).name
    for usual in (ours, ours.removesuffix('/compressed')):
        if usual in pictures:
            return usual
    fitting = {topic: kind for topic, kind in pictures.items() if camera in map(_plain, topic.split('/'))}
    # The same pictures are often there twice; the compressed ones are cheaper to read.
    compressed = [topic for topic, kind in fitting.items() if kind == schema.COMPRESSED_IMAGE]
    # Video last: it has no picture before its first key frame.
    compressed = compressed or [topic for topic, kind in fitting.items() if kind == schema.IMAGE]
    return _only(camera, compressed or fitting)


def _plain(part: str) -> str:
    """Return a part of a topic's name without what says "camera": CAM_FRONT, front_camera -> front."""
    name = re.sub(r'^(cam|camera)_+', '', part.lower())
    return re.sub(r'_+(cam|camera)$', '', name)


def _info_topic(topic: str, topics: Mapping[str, str]) -> str | None:
    """Return the CameraInfo beside a picture topic: in the same folder, or one or two up for transports."""
    folder = topic
    for _ in range(3):
        folder = folder.rpartition('/')[0]
        if topics.get(f'{folder}/camera_info') == schema.CAMERA_INFO:
            return f'{folder}/camera_info'
    return None


def transform_topics(topics: Mapping[str, str]) -> list[tuple[list[str], bool]]:
    """Return (topics, whether they are static) that carry transforms: first /tf_static, then /tf.

    Those of a namespace (/hero/tf_static) count where the plain ones are not there.
    """
    found = []
    for name, static in (('tf_static', True), ('tf', False)):
        every = sorted(t for t, kind in topics.items() if kind in schema.TRANSFORMS and t.rpartition('/')[2] == name)
        chosen = [f'/{name}'] if f'/{name}' in every else every
        if chosen:
            found.append((chosen, static))
    return found
