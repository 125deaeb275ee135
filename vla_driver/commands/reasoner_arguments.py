# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""--reasoner and --reasoner-checkpoint: the slow half beside the planner, in `replay`, `demo` and `drive`."""

from __future__ import annotations

import argparse
from typing import Any

from vla_driver.policies.registry import DEFAULT_CHECKPOINTS
from vla_driver.types import InvalidInput


def add_reasoner_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that start a reasoner beside the planner."""
    parser.add_argument(
        '--reasoner', action='store_true', help='let a reasoner say in words what to do next, beside the planner'
    )
    parser.add_argument(
        '--reasoner-checkpoint',
        metavar='DIR',
        help='the checkpoint that reasons, such as a vision-language model (default: that of --model); starts the '
        'reasoner, too',
    )


def reasoner_checkpoint(args: argparse.Namespace) -> str | None:
    """Return the checkpoint that is to reason; None where no reasoner is wanted.

    Raises InvalidInput for one that is not there, before processes are started.
    """
    if not (args.reasoner or args.reasoner_checkpoint):
        return None
    if args.policy != 'model':
        raise InvalidInput(f'--reasoner: policy {args.policy} heeds nobody; use --policy model')
    from vla_driver.model.checkpoint import resolve_checkpoint

    checkpoint = args.reasoner_checkpoint or args.model or DEFAULT_CHECKPOINTS['model']
    resolve_checkpoint(checkpoint)
    return str(checkpoint)


def reasoner_parameters(checkpoint: str, device: str, planner: dict[str, Any]) -> dict[str, Any]:
    """Return the reasoner node's parameters, beside a planner that has these: both look in the same way."""
    from vla_driver.settings.inputs import InputParameters
    from vla_driver.settings.knob import knobs

    shared = {
        name: value for name, value in planner.items() if name in knobs(InputParameters) or name == 'use_sim_time'
    }
    return {**shared, 'checkpoint': checkpoint, 'device': device}
