# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Prompts from template files, and the ego history that goes into them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np

from vla_driver.geometry import se2
from vla_driver.types import ANCHOR_CAMERA, CAMERA_NAMES, EgoState, InvalidInput, MetaAction, Observation

IMAGE: Final = '<|vision_start|><|image_pad|><|vision_end|>'
HISTORY_DT_S: Final = 0.5
#: Of the vehicle whose steering angle is told; a steering angle belongs to a wheelbase (nuScenes' Renault Zoe).
WHEELBASE_M: Final = 2.588
#: A pose may lie this far from the time it is told for, and is moved there; beyond it, it is not known.
_REACH_S: Final = 0.3
#: Acceleration is the change of speed over this long around a time: odometry tells none.
_SLOPE_S: Final = 0.4
#: What `history_line` may tell.
_LINE_PLACES: Final = ('age', 'x', 'y', 'vx', 'vy', 'ax', 'ay', 'steering')
_PLACE: Final = re.compile(r'<image:([a-z_]+)>')


@dataclass(frozen=True)
class PromptTemplate:
    """One template file; see config/prompts/default.yaml, which explains each field."""

    system: str
    text: str
    reason: str
    intents: Mapping[str, MetaAction]
    history_header: str
    history_line: str
    history_separator: str
    history_poses: int
    max_pixels: int
    reference_x_m: float
    steering_ratio: float
    max_new_tokens: int

    def __post_init__(self) -> None:
        for name in ('text', 'reason'):
            self.cameras(name)
        for name in ('history_poses', 'max_pixels', 'max_new_tokens'):
            if getattr(self, name) < 1:
                raise InvalidInput(f'prompt: {name} is {getattr(self, name)}; allowed: 1 or more')
        if not self.steering_ratio > 0:
            raise InvalidInput(f'prompt: steering_ratio is {self.steering_ratio}; allowed: above 0')
        object.__setattr__(self, 'intents', _meanings(self.intents))
        for name, places in (('history_header', ('seconds',)), ('history_line', _LINE_PLACES)):
            text = getattr(self, name)
            try:
                text.format(**dict.fromkeys(places, 0.0))
            except (KeyError, IndexError, ValueError) as error:
                raise InvalidInput(
                    f'prompt: {name} {text!r}: {error!r}; allowed places: {", ".join(places)}'
                ) from error

    def cameras(self, which: str = 'text') -> tuple[str, ...]:
        """Return the cameras that `text` or `reason` shows, in order; raises `InvalidInput` for unknown ones."""
        names = tuple(_PLACE.findall(getattr(self, which)))
        unknown = sorted(set(names) - set(CAMERA_NAMES))
        if unknown or len(set(names)) != len(names):
            raise InvalidInput(
                f'prompt: {which} shows {", ".join(names)}; allowed: each once of {", ".join(CAMERA_NAMES)}'
            )
        if ANCHOR_CAMERA not in names:
            raise InvalidInput(f'prompt: {which} does not show <image:{ANCHOR_CAMERA}>, the camera that sets the tick')
        return names

    def render(self, history: str, which: str = 'text') -> str:
        """Return the whole chat as the tokenizer reads it, with one <|image_pad|> a picture."""
        user = _PLACE.sub(IMAGE, getattr(self, which)).replace('<history>', history).strip()
        system = f'<|im_start|>system\n{self.system}<|im_end|>\n' if self.system else ''
        return f'{system}<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n'


def _meanings(intents: Mapping[str, MetaAction]) -> dict[str, MetaAction]:
    """Return word -> what it means; raises `InvalidInput` where it means nothing that a planner can be told."""
    meanings = {}
    for word, action in intents.items():
        try:
            meanings[word] = MetaAction(action)
        except ValueError:
            raise InvalidInput(
                f'prompt: intents: {word!r} means {action!r}; allowed: {", ".join(MetaAction)} '
                '(where to turn, the navigation says)'
            ) from None
    if not meanings:
        raise InvalidInput(f'prompt: intents is empty; allowed: words that mean one of {", ".join(MetaAction)}')
    return meanings


def load_template(path: str | os.PathLike[str] | None = None) -> PromptTemplate:
    """Return the template in a YAML file, by default the one that is installed; raises `InvalidInput`."""
    import yaml

    from vla_driver.resources import resource

    file = resource('config', 'prompts', 'default.yaml') if path is None else Path(path)
    try:
        entries: Any = yaml.safe_load(file.read_text(encoding='utf-8'))
    except OSError as error:
        raise InvalidInput(f'prompt template {file} cannot be read: {error.strerror}') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f'prompt template {file} is no YAML: {error}') from error
    kinds: Mapping[str, Any] = {
        'intents': (dict, list),
        **dict.fromkeys(('history_poses', 'max_pixels', 'max_new_tokens'), int),
        **dict.fromkeys(('reference_x_m', 'steering_ratio'), (int, float)),
    }
    wanted = [field.name for field in fields(PromptTemplate)]
    if not isinstance(entries, dict) or sorted(entries) != sorted(wanted):
        found = sorted(map(str, entries)) if isinstance(entries, dict) else type(entries).__name__
        raise InvalidInput(f'prompt template {file}: has {found}, expected exactly: {", ".join(wanted)}')
    for name, value in entries.items():
        kind = kinds.get(name, str)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise InvalidInput(f'prompt template {file}: {name} is {value!r}, of the wrong kind')
    try:
        words = entries['intents']
        meanings = words if isinstance(words, dict) else {word: word for word in words}
        return PromptTemplate(**{**entries, 'intents': {str(word): meaning for word, meaning in meanings.items()}})
    except InvalidInput as error:
        raise InvalidInput(f'prompt template {file}: {error}') from error


class EgoTrail:
    """Where the ego has been: collected from successive observations and what they tell of between, relative to now."""

    def __init__(self, length_s: float = 3.0) -> None:
        self._length_s = length_s
        self._states: list[EgoState] = []

    @property
    def reach_s(self) -> float:
        """How far back states are remembered, in seconds."""
        return self._length_s + _REACH_S

    def reset(self) -> None:
        """Forget everything."""
        self._states.clear()

    def take(self, observation: Observation) -> None:
        """Remember the ego of an observation, and the states before it that are not known yet."""
        newest_s = self._states[-1].stamp_s if self._states else -np.inf
        for state in observation.trail:
            if newest_s < state.stamp_s < observation.ego.stamp_s:
                self.add(state)
        self.add(observation.ego)

    def add(self, state: EgoState) -> None:
        """Remember one more state; a clock that jumps back, or by more than 1.5 s, starts a new trail."""
        if self._states and not 0.0 <= state.stamp_s - self._states[-1].stamp_s <= 1.5:
            self._states.clear()
        if self._states and state.stamp_s == self._states[-1].stamp_s:
            self._states.pop()
        self._states.append(state)
        oldest = state.stamp_s - self.reach_s
        self._states = [one for one in self._states if one.stamp_s >= oldest]

    def lines(self, template: PromptTemplate) -> str:
        """Return header and lines, oldest first, from at most `history_poses` poses 0.5 s apart; '' before `add`.

        As in Impromptu-VLA's data (its pipeline_ego_status.py and pipeline_planning.py): positions are those of the
        point `reference_x_m` before base_link, seen from where that is now; velocity and acceleration are the vehicle's
        own then, x along its own axis; the steering angle is the wheel's in the driver's hands.
        """
        if not self._states:
            return ''
        now = self._states[-1]
        lines: list[str] = []
        seconds = 0.0
        ahead = template.reference_x_m
        for step in range(template.history_poses - 1, -1, -1):
            age = step * HISTORY_DT_S
            then = self._at(now.stamp_s - age)
            if then is None:
                continue
            x, y, yaw = se2.relative(now.pose, then.pose)
            x, y = x + ahead * (np.cos(yaw) - 1.0), y + ahead * np.sin(yaw)
            vx, vy = then.speed_mps, 0.0
            ax, ay = self._acceleration(then.stamp_s), then.speed_mps * then.yaw_rate_rps
            # Slower than this the angle is noise over noise.
            curvature = then.yaw_rate_rps / then.speed_mps if abs(then.speed_mps) > 0.5 else 0.0
            values = {'age': age, 'x': x, 'y': y, 'vx': vx, 'vy': vy, 'ax': ax, 'ay': ay}
            # + 0.0 makes a negative zero positive, so that no "-0.00" is written for a car that stands.
            told = {name: round(float(value), 2) + 0.0 for name, value in values.items()}
            told['steering'] = round(float(template.steering_ratio * np.arctan(WHEELBASE_M * curvature)), 2) + 0.0
            lines.append(template.history_line.format(**told))
            seconds = max(seconds, age)
        return template.history_header.format(seconds=seconds) + template.history_separator.join(lines)

    def _acceleration(self, stamp_s: float) -> float:
        """Return the change of speed around a time, m/s2, one-sided at the ends; 0 where nothing lies beside it."""
        first_s, last_s = self._states[0].stamp_s, self._states[-1].stamp_s
        ends = [self._at(min(max(stamp_s + side * _SLOPE_S / 2, first_s), last_s)) for side in (-1, 1)]
        before, after = ends
        if before is None or after is None or after.stamp_s <= before.stamp_s:
            return 0.0
        return (after.speed_mps - before.speed_mps) / (after.stamp_s - before.stamp_s)

    def _at(self, stamp_s: float) -> EgoState | None:
        """Return the state at a time: between its two neighbours, or at its nearest within reach; else None."""
        later = next((i for i, state in enumerate(self._states) if state.stamp_s >= stamp_s - 1e-6), None)
        if later is None:
            return None
        b = self._states[later]
        if later == 0:
            return b if b.stamp_s - stamp_s <= 1e-6 else None
        a = self._states[later - 1]
        if min(b.stamp_s - stamp_s, stamp_s - a.stamp_s) > _REACH_S:
            return None
        share = (stamp_s - a.stamp_s) / (b.stamp_s - a.stamp_s)
        turn = float(se2.wrap(b.yaw_rad - a.yaw_rad))

        def mix(name: str) -> float:
            return float((1 - share) * getattr(a, name) + share * getattr(b, name))

        return EgoState(
            stamp_s,
            mix('x_m'),
            mix('y_m'),
            a.yaw_rad + share * turn,
            mix('speed_mps'),
            mix('yaw_rate_rps'),
            mix('acceleration_mps2'),
        )
