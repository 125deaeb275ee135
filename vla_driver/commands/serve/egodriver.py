# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Drive for another simulator: answer AlpaSim's egodriver contract over gRPC.

The port opens when the models are loaded and warm. Each session has a policy of its own; every `drive` gets one answer
within --answer-within-s: a new plan, the plan before where no new pictures have come or the new one is late, or a stop.
Which it was is in the answer's debug scalars, and why in this command's log. Cameras are found by the way they look;
pinhole, OpenCV fisheye and f-theta pictures are undistorted. The turn command is made from the route.

  vla_driver serve egodriver --address 127.0.0.1:50051
  vla_driver serve egodriver --address unix:///tmp/driver.sock --sessions 2
  vla_driver serve egodriver --mode alpasim --address 0.0.0.0:50051
  vla_driver evaluate closed-loop --policy egodriver --model 127.0.0.1:50051 --jobs 1    # our simulator asks it
"""

from __future__ import annotations

import argparse
import logging
import re
from pathlib import Path
from typing import Final

from vla_driver.commands.common import add_policy_arguments
from vla_driver.commands.pruning_arguments import add_pruning_arguments, pruning_settings
from vla_driver.policies.registry import make_policy, require_checkpoint
from vla_driver.settings.options import add_options, settings_from
from vla_driver.settings.policy import PolicyParameters
from vla_driver.settings.serving import ServingParameters
from vla_driver.types import InvalidInput, Policy

_UNIX: Final = ('unix:', 'unix-abstract:')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        '--address',
        default='127.0.0.1:50051',
        metavar='ADDRESS',
        help='where to listen: HOST:PORT (0: any free port), or a Unix socket, unix:///path (default: %(default)s)',
    )
    add_policy_arguments(parser)
    add_options(parser, PolicyParameters, 'engine', 'threads')
    add_pruning_arguments(parser)
    add_options(parser, ServingParameters, *(field for field in ServingParameters.__dataclass_fields__))


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    host, port = _address(args.address)
    if args.map_dir and args.mode == 'alpasim':
        raise InvalidInput(f'--map-dir {args.map_dir}: AlpaSim does not say which map it is in; leave it out')
    cameras = _cameras(args.camera)
    pruning = pruning_settings(args)
    require_checkpoint(args.policy, args.model)
    from vla_driver.serve.egodriver import EgoDriver
    from vla_driver.serve.server import require_free, serve

    require_free(host, port)  # before a model is loaded
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(levelname)s %(message)s')

    def policy() -> Policy:
        made = make_policy(
            args.policy, args.model, pruning=pruning, device=args.device, engine=args.engine, threads=args.threads
        )
        print(f'policy: {made.name}, {made.engine.describe()}', flush=True)
        return made

    driver = EgoDriver(policy, settings_from(args, ServingParameters), cameras)
    serve(driver, host, port, args.mode, args.sessions, lambda at: print(f'serving egodriver at {at}', flush=True))
    return 0


def _address(text: str) -> tuple[str, int]:
    """Return host and port; a Unix socket is the host, without a port."""
    if text.startswith(_UNIX):
        path = Path(re.sub(r'^unix:(//)?', '', text))
        if text.startswith('unix:') and (path.name == '' or not path.parent.is_dir()):
            raise InvalidInput(
                f'--address {text!r}: expected a path in a folder that exists, such as unix:///tmp/a.sock'
            )
        return text, 0
    host, _, port = text.rpartition(':')
    if not host or re.fullmatch(r'\d{1,5}', port) is None or int(port) > 65535:
        raise InvalidInput(f'--address {text!r}: expected HOST:PORT, such as 127.0.0.1:50051, or unix:///path')
    return host, int(port)


def _cameras(entries: list[str] | None) -> dict[str, str]:
    """Return policy's camera -> the simulator's, from NAME=ID."""
    found: dict[str, str] = {}
    for entry in entries or ():
        if not entry:
            continue
        name, _, source = entry.partition('=')
        if not (name and source):
            raise InvalidInput(f'--camera {entry!r}: expected NAME=ID, such as front=camera_front_wide_120fov')
        if name in found:
            raise InvalidInput(f'--camera {entry!r}: {name} was given {found[name]} already')
        if source in found.values():
            raise InvalidInput(
                f'--camera {entry!r}: {source} was given to another camera already; one picture, one name'
            )
        found[name] = source
    return found
