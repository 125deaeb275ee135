#!/usr/bin/env python3
# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Write docs/reference from the code: commands, parameters, topics, messages.

Commands come from the argument parsers, parameters from the nodes' tables, messages from msg/*.msg.  Topics are
recorded: each node is configured and activated with stand-ins for its publishers and subscriptions.  The pages hold no
date and no path of a machine, so that the same code always gives the same text; a test compares.

usage: .venv/bin/python scripts/make_docs.py            (or: make docs)
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
import tempfile
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest.mock import MagicMock, patch

from vla_driver import cli
from vla_driver.settings.knob import allowed_range, explained, knobs
from vla_driver.settings.launch_arguments import as_text

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = ROOT / 'docs' / 'reference'
_NOTE: Final = '<!-- Written by `make docs` from the code. Change the code, not this page. -->'

#: What is on a topic, in words; everything else about it is recorded.  A topic without words, and words without a
#: topic, are an error.
MEANINGS: Final[Mapping[str, str]] = {
    'camera/NAME/image': 'raw pictures of a camera',
    'camera/NAME/image/compressed': 'the same as JPEG or PNG',
    'camera/NAME/camera_info': 'size, intrinsics, distortion; the planner reads one every few seconds, and again after '
    'a jump of time',
    'camera/NAME/image/camera_info': 'the same, where a driver publishes it below its pictures',
    '/tf_static': 'where cameras are mounted; only where `tf2_msgs` is installed and `use_tf` is true',
    'odom': 'pose and speed of the vehicle',
    'route': 'where to go: points in the frame of the odometry. The planner thins a dense line to one point every '
    '25 m; an empty path withdraws the route',
    'turn_command': 'what the navigation says about the next junction; at every tick, on change or once',
    'goal': 'a single point to drive towards, in place of a route: for want of a planner of routes',
    'global_plan': 'where junctions are and what to do there (with `turns_from_route`, where the `carla_msgs` of the '
    "leaderboard's branch are installed); also the route until another comes",
    'opendrive_map': 'a map in the frame of the route, from which junctions are taken (with `turns_from_route`)',
    'plan': 'the planned trajectory, where it comes from and how long each stage took',
    'path': 'the positions of the plan, for tools that know standard types only',
    'agents': 'where the others will be, as far as the policy says; while somebody listens',
    'markers': "the plan as a line, the others' futures as boxes and lines, the kept tokens as dots on the road, and "
    'what the reasoner said as words beside the path, for RViz and Foxglove',
    'tokens': 'which visual tokens were kept; only while tokens are pruned and somebody listens',
    'intent': 'what to do next and why, for how long that counts; the planner listens where its model heeds one',
    'reasoning': 'the same in words',
    'control': 'steering angle and acceleration, or a stop with its reason',
    'vehicle_control_cmd': "the same for CARLA's bridge; only where `carla_msgs` is installed",
    'ackermann_cmd': 'the same as angle and speed; only where `ackermann_msgs` is installed and somebody listens',
    'trajectory': "the plan in the odometry's frame; only where `autoware_planning_msgs` is installed and somebody "
    'listens',
    '/carla/hero/NAME/image': "a camera of CARLA's bridge, bgra8",
    '/carla/hero/NAME/camera_info': 'its calibration',
    '/carla/hero/odometry': "where the vehicle's middle is, in frame `map`",
    '/carla/hero/speedometer': 'its speed in m/s',
    '/carla/hero/vehicle_status': 'how it moves, and the control it is under',
    '/carla/hero/vehicle_info': 'what it is: the largest angle of its wheels',
    '/carla/hero/waypoints': 'the route, a point every metre',
    '/carla/map': 'the world as OpenDRIVE',
    '/carla/hero/global_plan': "the leaderboard's route: poses at junctions, and what to do from each on",
    '/carla/hero/status': 'that the driver is ready, for which the leaderboard waits',
    '/carla/hero/imu': "the leaderboard's IMU: heading, yaw rate",
    '/carla/hero/gnss': "the leaderboard's satellite positions",
    '/carla/hero/speed': "the leaderboard's speedometer, m/s",
    '/carla/hero/vehicle_control_cmd': 'pedals and steering; the stamp must be that of the tick',
    'ground_truth/agents': 'the other road users',
    '/clock': 'simulated time, or that of the recording; the bag player sends it where `clock_hz` is above 0',
    '/diagnostics': 'state of the node, every missing input by name, rates, latency, the load of experts',
}

#: Parameters with which a node shows all topics that it can have.
_SETTINGS: Final[Mapping[str, Mapping[str, Any]]] = {
    'planner': {'engine': 'torch', 'device': 'cpu', 'turns_from_route': True},
    'reasoner': {'device': 'cpu', 'nice': 0, 'turns_from_route': True},
    'controller': {},
    'simulator': {'render': False, 'image_transport': 'both'},
    'carla_bridge': {'render': False},
    'carla_localizer': {},
    'bag_player': {'clock_hz': 100.0},
}
#: What a ROS node publishes by itself.
_STANDARD: Final = ('/rosout', '/parameter_events', '/transition_event')


# Where the nodes and their tables are: the only place that knows.


def nodes() -> dict[str, type[Any]]:
    """Return executable -> class of the node."""
    from vla_driver.ros.nodes.bag_player import BagPlayerNode
    from vla_driver.ros.nodes.carla_bridge import CarlaBridgeNode
    from vla_driver.ros.nodes.carla_localizer import CarlaLocalizerNode
    from vla_driver.ros.nodes.controller import ControllerNode
    from vla_driver.ros.nodes.planner import PlannerNode
    from vla_driver.ros.nodes.reasoner import ReasonerNode
    from vla_driver.ros.nodes.simulator import SimulatorNode

    return {
        'planner': PlannerNode,
        'reasoner': ReasonerNode,
        'controller': ControllerNode,
        'simulator': SimulatorNode,
        'carla_bridge': CarlaBridgeNode,
        'carla_localizer': CarlaLocalizerNode,
        'bag_player': BagPlayerNode,
    }


def tables() -> dict[str, type]:
    """Return node -> the table of its parameters."""
    from vla_driver.settings.nodes.parameter_file import TABLES

    return TABLES


# Markdown.


def _cell(text: str) -> str:
    return ' '.join(text.split()).replace('|', r'\|')


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    names = list(head)
    lines = [f'| {" | ".join(names)} |', f'|{"---|" * len(names)}']
    return [*lines, *(f'| {" | ".join(map(_cell, row))} |' for row in rows)]


def _prose(docstring: str) -> list[str]:
    """Return a docstring as Markdown: indented lines, which are examples there, as code."""
    lines: list[str] = []
    inside = False
    for line in docstring.strip().splitlines():
        code = line.startswith('  ')
        if code != inside and line.strip():
            if code and lines and lines[-1]:
                lines.append('')
            lines.append('```')
            if not code:
                lines.append('')
            inside = code
        lines.append(line[2:] if code else line.replace('<', r'\<'))
    if inside:
        lines.append('```')
    return lines


def _wrapped(line: str) -> str:
    """Return a line of prose at the width of the other pages; items of a list stay items."""
    return textwrap.fill(
        line, 118, break_long_words=False, break_on_hyphens=False, subsequent_indent='  ' * line.startswith('- ')
    )


def _page(title: str, intro: str, body: Iterable[str]) -> str:
    text = '\n'.join([_NOTE, f'# {title}', '', *map(_wrapped, intro.split('\n')), '', *body])
    return re.sub(r'\n{3,}', '\n\n', text).rstrip() + '\n'


# Commands.


def commands() -> str:
    """Return the page of the commands."""
    body: list[str] = []
    rows = [(f'[`vla_driver {" ".join(c.words)}`](#{_anchor(c)})', c.summary) for c in cli.COMMANDS]
    body += [*_table(('command', 'what it does'), rows), '']
    for command in cli.COMMANDS:
        module = importlib.import_module(command.module)
        parser = argparse.ArgumentParser(prog=f'vla_driver {" ".join(command.words)}', add_help=False)
        module.add_arguments(parser)
        body += [f'## vla_driver {" ".join(command.words)}', '', *_prose(module.__doc__ or command.summary), '']
        body += ['```', _usage(parser), '```', '', *_table(('argument', 'default', 'meaning'), _arguments(parser)), '']
    codes = re.search(r'Exit codes: (.*?)\n\n', f'{cli.__doc__}\n\n', re.DOTALL)
    assert codes is not None
    intro = (
        'The command is `.venv/bin/vla_driver`; `. .venv/bin/activate` puts it on the path. '
        '`vla_driver COMMAND --help` prints the same.\n\n'
        f'Exit codes: {" ".join(codes[1].split())} `VLA_DRIVER_DEBUG=1` shows the traceback of every error.'
    )
    return _page('Commands', intro, body)


def _anchor(command: cli.Command) -> str:
    return '-'.join(('vla_driver', *command.words))


def _words(action: argparse.Action) -> str:
    """Return what stands behind an option, or for a positional argument: DIR, {a,b}, N [N ...]."""
    if action.nargs == 0:
        return ''
    names = action.metavar or (f'{{{",".join(map(str, action.choices))}}}' if action.choices else action.dest.upper())
    if isinstance(names, tuple):
        return ' '.join(names)
    return {'+': f'{names} [{names} ...]', '*': f'[{names} ...]', '?': f'[{names}]'}.get(str(action.nargs), names)


def _usage(parser: argparse.ArgumentParser) -> str:
    needed = [' '.join([*a.option_strings[-1:], _words(a)]) for a in parser._actions if a.required]
    options = ['[options]'] if any(not action.required for action in parser._actions) else []
    return ' '.join([parser.prog, *needed, *options])


def _arguments(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, str]]:
    for action in parser._actions:
        name = ' '.join([*action.option_strings[-1:], _words(action)]).strip()
        meaning = (action.help or '') % {**vars(action), 'prog': parser.prog}
        # What the help says of a default in words goes before the value: 'the sample bag'.
        said = re.search(r' ?\((repeatable; )?default: ([^()]*)\)$|^default: (.*)$', meaning)
        if said:
            meaning = meaning[: said.start()] + (' (repeatable)' if said[1] else '')
        yield f'`{name}`', (said[2] or said[3]) if said else _default(action), meaning


def _default(action: argparse.Action) -> str:
    if action.required:
        return 'required'
    if action.nargs == 0 or action.default is None or action.default in ('', [], argparse.SUPPRESS):
        return ''
    values = action.default if isinstance(action.default, list | tuple) else [action.default]
    return f'`{" ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)}`'


# Parameters.


def parameters() -> str:
    """Return the page of the parameters."""
    found = {name: set(knobs(table)) for name, table in tables().items()}
    shared = set.intersection(*found.values())
    body = ['## every node', '', *_parameter_table(tables()['planner'], shared), '']
    for name, table in tables().items():
        body += [f'## {name}', '', *_parameter_table(table, found[name] - shared), '']
    intro = (
        'A parameter is checked when the node starts and at each `ros2 param set`; a value that is not allowed is '
        'refused with the reason, and so is a name that the node does not know. "live" parameters may change while '
        'the node runs; the others take effect at the next configure.\n\n'
        '"launch argument" is what the launch file calls it: `driver.launch.py` has those of planner, reasoner and '
        'controller, `sim.launch.py` also those of the simulator, `replay.launch.py` also those of the bag player. The '
        'others are set in a parameter file: copy `config/driver.yaml`, change the copy and give it as '
        '`params_file:=FILE`.'
    )
    return _page('Parameters', intro, body)


def _parameter_table(table: type, names: set[str]) -> list[str]:
    rows = []
    for name, knob in knobs(table).items():
        if name not in names:
            continue
        kind = f'list of {knob.kind.__name__}' if knob.is_list else knob.kind.__name__
        default = "''" if knob.default == '' else f'{knob.default:.5g}' if kind == 'float' else as_text(knob.default)
        allowed = ', '.join(f'`{choice}`' for choice in knob.rule.choices) or allowed_range(knob)
        argument = f'`{knob.launch_name}`' if knob.launch_name else ''
        live = 'yes' if knob.rule.live else ''
        rows.append((f'`{name}`', kind, f'`{default}`', allowed, live, argument, explained(table, name)))
    return _table(('parameter', 'type', 'default', 'allowed', 'live', 'launch argument', 'meaning'), rows)


# Topics.


@dataclass(frozen=True)
class Topic:
    """One topic as a node asked for it."""

    direction: str
    name: str
    kind: str
    quality: str


def topics() -> str:
    """Return the page of the topics."""
    found = recorded_topics()
    named = {topic.name for each in found.values() for topic in each}
    if wrong := named ^ set(MEANINGS):
        raise SystemExit(f'topics and MEANINGS in scripts/make_docs.py differ by: {", ".join(sorted(wrong))}')
    shared = set.intersection(*map(set, found.values()))
    body = ['## every node', '', *_topic_table(t for t in found['planner'] if t in shared), '']
    for name, each in found.items():
        summary = (sys.modules[nodes()[name].__module__].__doc__ or '').strip().split('\n\n')[0]
        body += [f'## {name}', '', *_prose(summary), '', *_topic_table(t for t in each if t not in shared), '']
    body += [
        _wrapped(
            'The bag player also publishes the topics of the bag: their types and quality of service are those of the '
            'recording. It leaves out what running nodes publish themselves, unless the parameter `include` names it.'
        ),
    ]
    intro = (
        '`NAME` is a camera of the rig: front_left, front, front_right, back_left, back or back_right. Names without a '
        'leading slash stand in the namespace of the node; remappings and the launch arguments ending in `_topic` '
        'rename them.\n\n'
        'Quality of service: `reliable` sends again what was lost, `best effort` does not; `last N` is the length of '
        'the queue; `latched` (transient local) keeps the last message for subscribers that come later. A best-effort '
        'subscriber hears both kinds of publishers.\n\n'
        'All nodes are lifecycle nodes: `ros2 lifecycle set /planner deactivate` stops one.'
    )
    return _page('Topics', intro, body)


def _topic_table(found: Iterable[Topic]) -> list[str]:
    own = {path.stem for path in (ROOT / 'msg').glob('*.msg')}
    rows = []
    for topic in sorted(found, key=lambda t: (t.direction == 'publishes', list(MEANINGS).index(t.name))):
        package, _, kind = topic.kind.partition('/msg/')
        linked = package == 'vla_driver' and kind in own
        shown = f'[`{package}/{kind}`](messages.md#{kind.lower()})' if linked else f'`{package}/{kind}`'
        rows.append((topic.direction, f'`{topic.name}`', shown, topic.quality, MEANINGS[topic.name]))
    return _table(('', 'topic', 'type', 'quality of service', 'what it carries'), rows)


def recorded_topics() -> dict[str, list[Topic]]:
    """Configure and activate each node with stand-ins for publishers and subscriptions; return what it asked for."""
    import rclpy
    from rclpy.parameter import Parameter

    from vla_driver.bag.sample import sample_bag_path
    from vla_driver.commands.demo import private_domain

    found = {}
    context = rclpy.Context()
    with patch.dict(os.environ, private_domain()):
        rclpy.init(context=context, args=[])
    folder = tempfile.TemporaryDirectory()
    try:
        _write_model(Path(folder.name))
        for name, node_class in nodes().items():
            settings = dict(_SETTINGS[name])
            if key := {'planner': 'model', 'reasoner': 'checkpoint'}.get(name):
                settings[key] = folder.name
            played: set[str] = set()
            if name == 'bag_player':
                settings['bag'] = str(sample_bag_path())
                played = _topics_of(sample_bag_path())
            overrides = [Parameter(key, value=value) for key, value in settings.items()]
            with recording() as asked:
                node = node_class(context=context, parameter_overrides=overrides)
                for step in (node.trigger_configure, node.trigger_activate):
                    if step().name != 'SUCCESS':
                        raise SystemExit(f'{name}: {node.failure}')
                asked += [
                    ('publishes', publisher.topic_name, publisher.msg_type, publisher.qos_profile)
                    for publisher in node.publishers
                    if not publisher.topic_name.endswith(_STANDARD)
                ]
                node.destroy_node()
            found[name] = list(
                dict.fromkeys(
                    Topic(direction, _any_camera(topic), _type_name(kind), _quality(profile))
                    for direction, topic, kind, profile in asked
                    if topic not in played
                )
            )
    finally:
        folder.cleanup()
        rclpy.shutdown(context=context)
    return found


def _write_model(folder: Path) -> None:
    """Write a model that can do everything, as small as it gets: a node shows all topics that it can have with it."""
    from vla_driver.model.config import VlaConfig
    from vla_driver.model.native.vla import VlaModel

    small = {'hidden_size': 32, 'num_hidden_layers': 1, 'intermediate_size': 32}
    config = VlaConfig(
        intent=True,
        words_config={'grammar': 1},
        vision_config={'stem_channels': [8, 8, 8], 'num_attention_heads': 2, **small},
        language_config={'num_attention_heads': 2, 'num_key_value_heads': 2, **small},
        action_config={'hidden_size': 32, 'intermediate_size': 32, 'flow_hidden_size': 16, 'flow_num_heads': 2},
    )
    VlaModel(config).save_pretrained(folder)


@contextmanager
def recording() -> Iterator[list[tuple[str, str, Any, Any]]]:
    """Let nodes ask for publishers and subscriptions without getting real ones; yield what they asked for."""
    from vla_driver.ros.base.lifecycle import DriverNode
    from vla_driver.ros.inputs import calibration_topics, image_topics
    from vla_driver.ros.wire import carla
    from vla_driver.ros.wire.image_taker import TakeUnavailableError

    asked: list[tuple[str, str, Any, Any]] = []

    def advertise(self: Any, message_type: type, topic: str, profile: Any) -> MagicMock:
        asked.append(('publishes', topic, message_type, profile))
        return MagicMock(qos_profile=profile)

    def listen(self: Any, message_type: type, topic: str, callback: Any, profile: Any, **how: Any) -> MagicMock:
        asked.append(('subscribes', topic, message_type, profile))
        return MagicMock()

    # These messages come with other packages; the page names their topics all the same.
    transforms_type = type('TFMessage', (MagicMock,), {'__module__': 'tf2_msgs.msg'})
    carla_type = type('CarlaEgoVehicleControl', (MagicMock,), {'__module__': 'carla_msgs.msg'})
    with (
        patch.object(DriverNode, 'advertise', advertise),
        patch.object(DriverNode, 'listen', listen),
        # There is nothing to be taken from: raw pictures are asked for as any other message.
        patch.object(image_topics, 'ImageTaker', side_effect=TakeUnavailableError('no subscriptions')),
        patch.object(carla, 'control_message_type', lambda: carla_type),
        patch.object(calibration_topics, 'transform_message_type', lambda: transforms_type),
    ):
        yield asked


def _topics_of(bag: Path) -> set[str]:
    from vla_driver.bag.read import BagReader

    with BagReader(bag) as reader:
        return set(reader.topics)


def _any_camera(topic: str) -> str:
    from vla_driver.types import CAMERA_NAMES

    return re.sub(rf'^(camera|/carla/hero)/({"|".join(CAMERA_NAMES)})/', r'\1/NAME/', topic)


def _type_name(kind: type) -> str:
    return f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}'


def _quality(profile: Any) -> str:
    reliability = profile.reliability.name.lower().replace('_', ' ')
    latched = ', latched' if profile.durability.name == 'TRANSIENT_LOCAL' else ''
    return f'{reliability}, last {profile.depth}{latched}'


# Messages.


def messages() -> str:
    """Return the page of the messages."""
    body: list[str] = []
    for path in sorted((ROOT / 'msg').glob('*.msg')):
        licence, intro, definition = _parts(path.read_text(encoding='utf-8'))
        assert licence, f'{path} has no licence header'
        body += [f'## {path.stem}', '', *intro, '', '```', *definition, '```', '']
    return _page('Messages', 'The messages of `vla_driver`, as in `msg/`.', body)


def _parts(text: str) -> tuple[list[str], list[str], list[str]]:
    """Return the licence, the words about the message, and its fields, of a .msg file."""
    lines = text.strip().splitlines()
    end = lines.index('') if '' in lines else len(lines)
    head = [line.removeprefix('#').strip() for line in lines[:end]]
    licence = [line for line in head if 'Copyright' in line or 'SPDX' in line]
    return licence, [line for line in head if line and line not in licence], lines[end + 1 :]


PAGES: Final = {
    'commands.md': commands,
    'parameters.md': parameters,
    'topics.md': topics,
    'messages.md': messages,
}


def main() -> int:
    """Write the pages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, make in PAGES.items():
        path = FOLDER / name
        text = make()
        changed = not path.is_file() or path.read_text(encoding='utf-8') != text
        path.write_text(text, encoding='utf-8')
        print(f'{path.relative_to(ROOT)}: {"written" if changed else "up to date"}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
