# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Find out which topic of a bag is which input.

Our own names come first, then the usual ones of others, by the parts of the topic's name (`bag.camera_names`).
Whatever stays unclear is an error that lists the candidates.  What the nodes publish themselves (`bag.outputs`) is
never taken for an input by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from vla_driver.bag import schema
from vla_driver.bag.camera_names import direction, direction_of_topic, same_name
from vla_driver.bag.outputs import outputs
from vla_driver.settings.knob import nearest
from vla_driver.settings.topics_file import OTHER_INPUTS, refuse_twice
from vla_driver.types import ANCHOR_CAMERA, InvalidInput

#: Types of messages that hold pictures.
PICTURES: Final = tuple(schema.PICTURES)
#: What inputs are made of.
_READ: Final = (*PICTURES, schema.CAMERA_INFO, schema.ODOMETRY, schema.PATH, schema.TURN_COMMAND)
#: Input besides the cameras -> what it is, for messages.
_WORDS: Final = {'odom': 'odometry (nav_msgs/Odometry)', 'route': 'route (nav_msgs/Path)'}


@dataclass(frozen=True)
class Naming:
    """How a user names a topic: templates with {name} and {topic}; rig, file: how a
    rig and a file of topics are given.
    """

    camera: str
    other: str
    rig: str
    file: str

    def __call__(self, name: str, topic: str = '/TOPIC') -> str:
        """Return what to write for an input."""
        return (self.other if name in OTHER_INPUTS else self.camera).format(name=name, topic=topic)


#: On the command line, and to `ros2 launch`.
OPTIONS: Final = Naming('--camera-topic {name}={topic}', '--topic {name}={topic}', '--rig RIG', '--topics FILE')
ARGUMENTS: Final = Naming('camera_topics:={name}={topic}', '{name}_topic:={topic}', 'rig:=RIG', 'topics_file:=FILE')


@dataclass(frozen=True)
class InputTopics:
    """Where a bag keeps each input; None: it has none.  cameras, infos: camera name -> topic.

    missing: cameras without a topic; unused: topics with pictures that are none of the cameras.
    """

    cameras: Mapping[str, str]
    infos: Mapping[str, str] = field(default_factory=dict)
    odometry: str | None = None
    route: str | None = None
    turn_command: str | None = None
    missing: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    unused_infos: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()


def describe(topics: Mapping[str, str]) -> str:
    """Return the topics of a bag with their types, for error messages."""
    return ', '.join(f'{name} ({msgtype})' for name, msgtype in sorted(topics.items())) or 'none at all'


def find_inputs(
    topics: Mapping[str, str],
    cameras: Sequence[str],
    given: Mapping[str, str] | None = None,
    naming: Naming = OPTIONS,
    *,
    silent: Mapping[str, str] = MappingProxyType({}),
) -> InputTopics:
    """Return the inputs among `topics` (name -> type).

    cameras: the names to look for, none to leave them out.  given: camera name or one of OTHER_INPUTS -> topic,
    which decides.  naming: how the user would give one.  silent: topics (name -> type) that were recorded without a
    message, and are named where an input is missing.
    Raises InvalidInput where a given topic does not exist or has another type, where no camera is found (listing
    the topics there are), and where several topics fit.
    """
    given = dict(given or {})
    allowed = [*cameras, *OTHER_INPUTS]
    for name in given:
        if name not in allowed:
            raise InvalidInput(
                f'topic mapping: unknown input {name!r}{nearest(name, allowed)}, allowed: {", ".join(allowed)}'
            )
    pictures = {
        name: msgtype
        for name, msgtype in topics.items()
        if msgtype in PICTURES and not name.startswith(schema.GROUND_TRUTH)
    }
    found = {name: _given(topics, name, given[name], PICTURES) for name in cameras if name in given}
    refuse_twice(found, 'topic mapping')
    free = {name: msgtype for name, msgtype in pictures.items() if name not in found.values()}
    for camera in cameras:
        if camera not in given and (topic := _camera_topic(camera, cameras, free, naming)) is not None:
            found[camera] = topic
    found = {camera: found[camera] for camera in cameras if camera in found}
    quiet = tuple(sorted(topic for topic, kind in silent.items() if kind in _READ))
    if cameras and not found:
        raise InvalidInput(
            f'no camera topics for {", ".join(cameras)}; the bag has: {describe(topics)}{_of_silent(quiet)}; '
            f'name them, for example {naming(ANCHOR_CAMERA, "/my/front/image")}, or all in a file: {naming.file}'
        )
    infos = {camera: info for camera, topic in found.items() if (info := _info_topic(topic, topics)) is not None}
    # One that lies beside the pictures of several cameras may be any camera's.
    infos = {camera: info for camera, info in infos.items() if [*infos.values()].count(info) == 1}
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
            picked[name] = _only(name, [t for t in fitting if t not in ours and not _planned(t)], naming)
    return InputTopics(
        found,
        infos,
        picked['odom'],
        picked['route'],
        picked['turn_command'],
        missing=tuple(name for name in cameras if name not in found),
        unused=tuple(sorted(set(pictures) - set(found.values()))) if cameras else (),
        unused_infos=tuple(sorted(_infos_among(topics) - set(infos.values()))) if cameras else (),
        silent=quiet,
    )


def _infos_among(topics: Mapping[str, str]) -> set[str]:
    return {topic for topic, kind in topics.items() if kind == schema.CAMERA_INFO}


def _of_silent(topics: Sequence[str]) -> str:
    return f'; recorded without a message: {", ".join(topics)}' if topics else ''


def require_inputs(
    inputs: InputTopics, topics: Mapping[str, str], where: str, policies: Mapping[str, str], naming: Naming = OPTIONS
) -> None:
    """Raise InvalidInput unless a bag has what nothing can be planned without, saying how to name it.

    where: the bag, for the message; topics: all it has; policies: missing camera -> what happens then.
    """
    if ANCHOR_CAMERA not in inputs.cameras:
        used = ', '.join(f'{camera} <- {topic}' for camera, topic in inputs.cameras.items())
        others = f'; pictures that nobody uses: {", ".join(inputs.unused)}' if inputs.unused else ''
        raise InvalidInput(
            f'{where}: there is no {ANCHOR_CAMERA} camera, which sets the tick (found: {used or "none"}); name it: '
            f'{naming(ANCHOR_CAMERA)}{others}'
        )
    for name in inputs.missing:
        if policies.get(name) == 'require':
            raise InvalidInput(
                f'{where}: camera {name} is required (missing_cameras), but no topic was found for it; name it: '
                f'{naming(name)}, or let it be missing: {name}=skip'
            )
    for name, topic in (('odom', inputs.odometry), ('route', inputs.route)):
        if topic is None:
            hint = route_hint(topics, naming) if name == 'route' else ''
            raise InvalidInput(
                f'{where} has no {_WORDS[name]}, without which nothing can be planned; '
                + (hint or f'if it is on a topic that was not recognised, name it: {naming(name)}')
                + f'; the bag has: {describe(topics)}{_of_silent(inputs.silent)}'
            )


def route_hint(topics: Mapping[str, str], naming: Naming = OPTIONS) -> str:
    """Return what to add to "no route": the nav_msgs/Path topics that must be named to be one; '' without any."""
    paths = [t for t, kind in topics.items() if kind == schema.PATH and not t.startswith(schema.GROUND_TRUTH)]
    doubtful = sorted(t for t in paths if _planned(t) or t in outputs(topics))
    if not doubtful:
        return ''
    return (
        f'{", ".join(doubtful)} may be what a planner planned; if it is the route, name it: '
        f'{naming("route", doubtful[0])}'
    )


def _planned(topic: str) -> bool:
    """Whether a topic is called as the planner's path is: 5 s in base_link, which would pass for a route."""
    return topic.endswith('/path')


def _given(topics: Mapping[str, str], name: str, topic: str, allowed: Sequence[str]) -> str:
    if topic not in topics:
        raise InvalidInput(f'{name}: the bag has no topic {topic}; it has: {describe(topics)}')
    if topics[topic] not in allowed:
        raise InvalidInput(f'{name}: topic {topic} holds {topics[topic]}, expected {" or ".join(allowed)}')
    return topic


def _only(name: str, candidates: Iterable[str], naming: Naming) -> str | None:
    fitting = sorted(candidates)
    if len(fitting) > 1:
        raise InvalidInput(f'{name}: several topics fit: {", ".join(fitting)}; name one, as {naming(name, fitting[0])}')
    return fitting[0] if fitting else None


def _camera_topic(camera: str, cameras: Sequence[str], pictures: Mapping[str, str], naming: Naming) -> str | None:
    ours = schema.image_topic(camera).name
    for usual in (ours, ours.removesuffix('/compressed')):
        if usual in pictures:
            return usual
    towards = direction(camera)
    # A rig with cameras that look the same way by their names can only be served by the names as they stand.
    if towards and [direction(other) for other in cameras].count(towards) == 1:
        fitting = {topic: kind for topic, kind in pictures.items() if direction_of_topic(topic) == towards}
    else:
        fitting = {topic: kind for topic, kind in pictures.items() if same_name(camera, topic)}
    # The same pictures are often there twice; the compressed ones are cheaper to read, and video comes last: it has no
    # picture before its first key frame.
    compressed = [topic for topic, kind in fitting.items() if kind == schema.COMPRESSED_IMAGE]
    compressed = compressed or [topic for topic, kind in fitting.items() if kind == schema.IMAGE]
    return _only(camera, compressed or fitting, naming)


def _info_topic(topic: str, topics: Mapping[str, str]) -> str | None:
    """Return the CameraInfo of a picture topic: below it, in the same folder, or one or two up for transports."""
    folder = topic
    for _ in range(4):
        if topics.get(f'{folder}/camera_info') == schema.CAMERA_INFO:
            return f'{folder}/camera_info'
        folder = folder.rpartition('/')[0]
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
