# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What a bag has for the driver, in words and for JSON: inputs used, cameras missing, pictures that nobody uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from vla_driver.bag.topics import OPTIONS, InputTopics, Naming
from vla_driver.types import ANCHOR_CAMERA

#: What becomes of a camera without a topic, by its policy (`missing_cameras`).
_FATE: Final = {
    'require': 'required, so that nothing is planned',
    'skip': 'sets go on without it',
    'black': 'a black picture stands in',
}


def policies_for(inputs: InputTopics, given: Mapping[str, str]) -> dict[str, str]:
    """Return camera -> policy: cameras without a topic are skipped, unless `given` says otherwise; never the front."""
    return {name: 'require' if name == ANCHOR_CAMERA else 'skip' for name in inputs.missing} | dict(given)


def inventory(inputs: InputTopics, policies: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the inputs for JSON: cameras used (with topics), missing (with what happens), unused picture topics."""
    policies = policies_for(inputs, policies or {})
    return {
        'cameras': dict(inputs.cameras),
        'missing_cameras': {name: policies[name] for name in inputs.missing},
        'unused_pictures': list(inputs.unused),
        'camera_info': dict(inputs.infos),
        'unused_camera_info': list(inputs.unused_infos),
        'without_message': list(inputs.silent),
        'odom': inputs.odometry,
        'route': inputs.route,
        'turn_command': inputs.turn_command,
    }


def inventory_lines(found: Mapping[str, Any], naming: Naming = OPTIONS) -> list[str]:
    """Return an `inventory` in lines; nothing is left out, so that nothing is dropped without a word."""
    cameras = found['cameras']
    lines = ['cameras: ' + (', '.join(f'{name} <- {topic}' for name, topic in cameras.items()) or 'none')]
    for policy, fate in _FATE.items():
        names = [name for name, its in found['missing_cameras'].items() if its == policy]
        if names:
            lines.append(f'missing: {", ".join(names)} (no topic found: {fate}); name one: {naming(names[0])}')
    if found['unused_pictures']:
        lines.append(f'pictures that nobody uses: {", ".join(found["unused_pictures"])}')
    if found['unused_camera_info']:
        lines.append(
            f'camera_info that nobody uses (neither beside nor below the pictures of one camera): '
            f'{", ".join(found["unused_camera_info"])}'
        )
    if found['without_message']:
        lines.append(f'recorded without a message: {", ".join(found["without_message"])}')
    others = [f'{name} <- {found[name] or "none"}' for name in ('odom', 'route', 'turn_command')]
    lines.append(', '.join(others) + ('' if found['turn_command'] else ' ("follow the road" stands in)'))
    return lines
