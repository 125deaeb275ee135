# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What several commands share: arguments, JSON files, the note of where a figure was measured."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_driver import __version__
from vla_driver.bag.matching import Matching
from vla_driver.commands.flags import in_flags
from vla_driver.observation.notes import Notes
from vla_driver.settings.nodes.planner import PlannerParameters
from vla_driver.settings.options import add_options
from vla_driver.settings.policy import NODE_POLICIES, PolicyParameters
from vla_driver.settings.shared import RigParameters
from vla_driver.settings.topics_file import read_topics_file
from vla_driver.types import CameraRig, InvalidInput

if TYPE_CHECKING:
    from vla_driver.observation.calibration import CameraCalibration


def positive_int(text: str) -> int:
    """Parse an integer of at least 1 (argparse type)."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{value}, expected at least 1')
    return value


def positive_float(text: str) -> float:
    """Parse a finite number above 0 (argparse type)."""
    value = float(text)
    if not 0 < value < float('inf'):
        raise argparse.ArgumentTypeError(f'{text}, expected a positive number')
    return value


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """Add --json FILE."""
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures to FILE')


def add_policy_arguments(parser: argparse.ArgumentParser, names: tuple[str, ...] = NODE_POLICIES) -> None:
    """Add --policy, --model and --device; names: the policies that this command can drive with."""
    add_options(parser, PolicyParameters, 'policy', 'model', 'device', choices={'policy': names})


def add_bag_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --camera-topic, --topic, --topics, --rig and --rectified: how a bag from elsewhere is read."""
    parser.add_argument(
        '--camera-topic',
        action='append',
        default=[],
        metavar='NAME=TOPIC',
        help='where a camera is in the bag, e.g. front=/carla/hero/front/image (repeatable; usual names are found)',
    )
    parser.add_argument(
        '--topic',
        action='append',
        default=[],
        metavar='NAME=TOPIC',
        help='where odom, route or turn_command is in the bag (repeatable)',
    )
    parser.add_argument(
        '--topics',
        type=Path,
        metavar='FILE',
        help='a YAML file that says where all these are, such as config/topics/autoware.yaml; options go before it',
    )
    add_options(
        parser, RigParameters, 'rig', instead={'rig': "the bag's own, else that of its /tf_static and camera_info"}
    )
    add_options(parser, PlannerParameters, 'rectified')


def add_matching_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --missing-cameras, --max-skew-s and --camera-time-offset-s: which pictures make a set."""
    add_missing_cameras(parser)
    add_options(parser, PlannerParameters, 'max_skew_s', 'camera_time_offset_s')


def matching_of(args: argparse.Namespace) -> Matching:
    """Return what these options say."""
    return Matching(tuple(args.missing_cameras or ()), args.max_skew_s, args.camera_time_offset_s)


def add_missing_cameras(parser: argparse.ArgumentParser) -> None:
    """Add --missing-cameras."""
    instead = {'missing_cameras': 'skip those without a topic in the bag, require all others'}
    add_options(parser, PlannerParameters, 'missing_cameras', instead=instead)


def bag_topics(args: argparse.Namespace) -> dict[str, str]:
    """Return the topics given by --topics, --camera-topic and --topic: input name -> topic."""
    topics = {} if args.topics is None else read_topics_file(args.topics)
    given: dict[str, str] = {}
    for option, texts in (('--camera-topic', args.camera_topic), ('--topic', args.topic)):
        for text in texts:
            name, separator, topic = text.partition('=')
            if not (name and separator and topic.startswith('/')):
                raise InvalidInput(f'{option} {text!r}: expected NAME=/TOPIC, such as front=/carla/hero/front/image')
            if given.get(name, topic) != topic:
                raise InvalidInput(f'{option} {text!r}: {name} was given {given[name]} already')
            given[name] = topic
    return {**topics, **given}


def bag_rig(args: argparse.Namespace) -> CameraRig | None:
    """Return the rig given by --rig, None to take the bag's own."""
    if args.rig is None:
        return None
    from vla_driver.geometry.rig import load_rig

    return load_rig(args.rig)


def tell_calibration(calibrations: Mapping[str, Mapping[str, CameraCalibration]]) -> None:
    """Say on stderr what each camera of a bag was used with, and what was refused or replaced.

    calibrations: bag -> camera -> its calibration; bags with the same are told of once.
    """
    told: dict[str, list[str]] = {}
    for bag, cameras in calibrations.items():
        lines = []
        for camera, used in cameras.items():
            lines += [f'  {camera}: {used.describe()}', *(f'  {camera}: WARNING: {text}' for text in used.warnings)]
        told.setdefault('\n'.join(lines), []).append(bag)
    for text, bags in told.items():
        others = f' and {len(bags) - 1} more' if len(bags) > 1 else ''
        print(f'calibration of {bags[0]}{others}:\n{text}', file=sys.stderr)


def tell_notes(notes: Iterable[str], where: str = '') -> None:
    """Say on stderr what was used in place of what was sent; what concerns cameras, `tell_calibration` says."""
    for note in Notes().new(note for note in notes if not note.startswith('camera ')):
        print(in_flags(f'WARNING: {where}{": " if where else ""}{note}'), file=sys.stderr)


def calibration_json(calibration: Mapping[str, CameraCalibration]) -> dict[str, Any]:
    """Return the same for a JSON file: camera -> what it was used with."""
    return {camera: used.as_json() for camera, used in calibration.items()}


def provenance() -> dict[str, Any]:
    """Return what a reader needs to repeat a measurement: command, version, machine, precision, time.

    precision: in which models compute here (VLA_DRIVER_PRECISION; vla_driver/model/precision.py); None without torch.
    """
    command = ['vla_driver', *sys.argv[1:]]
    return {
        'command': shlex.join(command),
        'version': __version__,
        'python': platform.python_version(),
        'machine': {'cpu': _cpu_name(), 'cores': len(os.sched_getaffinity(0)), 'system': platform.platform()},
        'precision': _precision(),
        'date': datetime.now(timezone.utc).isoformat(timespec='seconds'),
    }


def _precision() -> str | None:
    if importlib.util.find_spec('torch') is None:
        return None
    from vla_driver.model.device import choose_device
    from vla_driver.model.precision import precision

    return precision(choose_device('auto'))


def _cpu_name() -> str:
    try:
        for line in Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines():
            if line.startswith('model name'):
                return line.split(':', 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def progress(total: float | None, unit: str, description: str) -> Any:
    """Return a progress bar on stderr; where that is a file (a log of CI), it writes a line every 30 s only."""
    from tqdm import tqdm

    quiet = not sys.stderr.isatty()
    return tqdm(
        total=total,
        unit=unit,
        desc=description,
        mininterval=30.0 if quiet else 0.2,
        dynamic_ncols=not quiet,
        bar_format=None if total is None else '{l_bar}{bar}| {n:.4g}/{total:.4g} [{elapsed}<{remaining}{postfix}]',
    )


def follow(
    process: Any, nodes: Any, begun: Callable[[], object], tell: Callable[[float], object], every_s: float = 0.1
) -> None:
    """Wait until a process has ended; once something has `begun`, tell the seconds since, every `every_s`.

    Raises what `nodes.check` raises when one of them has died.
    """
    began: float | None = None
    while process.running:
        time.sleep(every_s)
        nodes.check()
        if began is None and begun():
            began = time.monotonic()
        if began is not None:
            tell(time.monotonic() - began)


def write_json(path: Path | None, value: Mapping[str, Any]) -> None:
    """Write `value` to `path` in one step (a reader never sees half a file); do nothing if path is None."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + '.partial')
    partial.write_text(json.dumps(value, indent=1, allow_nan=False) + '\n', encoding='utf-8')
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; raise InvalidInput if it holds none."""
    try:
        value = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError as error:
        raise InvalidInput(f'{path}: no such file') from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f'{path}: not a JSON file ({error})') from error
    if not isinstance(value, dict):
        raise InvalidInput(f'{path}: holds a {type(value).__name__}, expected an object written by --json')
    return value
