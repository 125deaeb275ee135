# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What `ros2 launch vla_driver replay.launch.py` knows of its bag: what `vla_driver inspect` finds in it.

`ros2 launch` runs in the system's Python, which may have no reader of bags; the command beside the nodes has.  What the
user names goes before what is found.
"""

from __future__ import annotations

import atexit
import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from vla_driver.settings.launch_arguments import as_text, given_in_file, parameters_given
from vla_driver.settings.nodes.planner import PlannerParameters
from vla_driver.settings.topics_file import OTHER_INPUTS
from vla_driver.types import InvalidInput

#: Launch configuration in which the remappings of a bag go to driver.launch.py: JSON, name -> topic.
REMAPPINGS: Final = 'topics_of_the_bag'
#: A bag on a slow disk, without an index, may be read as a whole.
_PATIENCE_S: Final = 300.0


def inspect_bag(command: Path, texts: Mapping[str, str], topics: Mapping[str, str]) -> dict[str, Any]:
    """Return what the command finds in the bag; its lines are under `lines`.

    command: the package's own.  texts: launch argument -> text, those that were given; topics: input -> topic that they
    name.  Raises InvalidInput with the command's words where nothing can be planned from the bag.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / 'found.json'
        words = [str(command), 'inspect', texts['bag'], '--for-launch', '--json', str(answer)]
        for name, topic in topics.items():
            words += ['--topic' if name in OTHER_INPUTS else '--camera-topic', f'{name}={topic}']
        rig = texts.get('rig') or given_in_file(texts.get('params_file', ''), 'planner', PlannerParameters, 'rig')
        if rig:
            words += ['--rig', str(rig)]
        given = _given(texts)
        if missing := given.get('missing_cameras'):
            words += ['--missing-cameras', *missing]
        if given.get('rectified'):
            words.append('--rectified')
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
        except OSError as error:
            raise InvalidInput(f'the command of the package cannot be run: {error}; build it again') from error
        if done.returncode or not answer.is_file():
            said = done.stderr.strip() or done.stdout.strip() or f'it ended with status {done.returncode}'
            raise InvalidInput(said.removeprefix('error: '))
        found: dict[str, Any] = json.loads(answer.read_text(encoding='utf-8'))
    return found | {'lines': done.stdout.splitlines()}


def _given(texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the planner's parameters that arguments or the user's own parameter file set."""
    in_file = {
        name: value
        for name in ('missing_cameras', 'image_transport', 'turn_command_required', 'rectified', 'use_tf')
        if (value := given_in_file(texts.get('params_file', ''), 'planner', PlannerParameters, name)) is not None
    }
    return {**in_file, **parameters_given(PlannerParameters, texts)}


def configurations(found: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, str]:
    """Return launch configurations that bring player and planner together; `texts` as in `inspect_bag`."""
    planner, player = found['planner'], found['bag_player']
    given = _given(texts)
    made = {name: as_text(tuple_of(value)) for name, value in planner['parameters'].items() if name not in given}
    if not texts.get('rig'):
        made['rig'] = str(_kept(found['rig']))
    include = [*_listed(texts.get('include', '')), *player['parameters']['include']]
    made['include'] = as_text(tuple(dict.fromkeys(include)))
    if not texts.get('wait_for'):
        made['wait_for'] = as_text(tuple(player['parameters']['wait_for_subscribers']))
    made[REMAPPINGS] = json.dumps(relative(planner['remappings'], texts.get('namespace', '')))
    return made


def relative(remappings: Mapping[str, str], namespace: str) -> dict[str, str]:
    """Return remappings with both sides relative where there is a namespace: the player puts its topics into it."""
    if not namespace.strip('/'):
        return dict(remappings)
    return {name.lstrip('/'): topic.lstrip('/') for name, topic in remappings.items()}


def tuple_of(value: Any) -> Any:
    """Return a list as a tuple, as the tables of knobs have them; anything else as it is."""
    return tuple(value) if isinstance(value, list) else value


def _listed(text: str) -> Sequence[str]:
    return [entry.strip().strip('\'"') for entry in text.strip().strip('[]').split(',') if entry.strip()]


def _kept(rig: str) -> Path:
    """Write the rig to a file that stays as long as this process."""
    folder = Path(tempfile.mkdtemp(prefix='vla_driver_launch_'))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file = folder / 'rig.yaml'
    file.write_text(rig, encoding='utf-8')
    return file
