# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The state of a run in its folder: saved as a whole, so that a run is resumed exactly or not at all.

state/state.json holds the step, the time and the settings; state/state.safetensors the weights ('model.NAME' and
what the run adds) and what the optimiser remembers of each ('optimizer.KEY.NAME').
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vla_driver.types import InvalidInput

STATE_FOLDER = 'state'
_NOTE, _TENSORS = 'state.json', 'state.safetensors'


@dataclass(frozen=True)
class SavedState:
    """What a folder held: the step, the seconds that the run took so far, and its tensors."""

    step: int
    elapsed_s: float
    tensors: dict[str, Tensor]


def save_state(
    folder: Path, tensors: Mapping[str, Tensor], *, step: int, elapsed_s: float, config: Mapping[str, Any]
) -> None:
    """Replace the state in `folder` as a whole: a crash while saving leaves the previous one.

    config: the settings that a resumed run must share, as JSON has them.
    """
    temporary, final, previous = folder / f'.{STATE_FOLDER}.tmp', folder / STATE_FOLDER, _previous(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    save_file({name: value.contiguous() for name, value in tensors.items()}, temporary / _TENSORS)
    note = {'step': step, 'elapsed_s': elapsed_s, 'config': config}
    (temporary / _NOTE).write_text(json.dumps(note, indent=2) + '\n', encoding='utf-8')
    shutil.rmtree(previous, ignore_errors=True)
    if final.exists():
        os.replace(final, previous)
    os.replace(temporary, final)
    shutil.rmtree(previous, ignore_errors=True)


def load_state(
    folder: Path, config: Mapping[str, Any], device: torch.device, *, free: tuple[str, ...] = ()
) -> SavedState:
    """Return the state in `folder`; raise `InvalidInput` where there is none, or `config` differs from the saved one.

    free: settings that may differ.
    """
    state = _state_in(folder)
    if state is None:
        raise InvalidInput(f'{folder} holds no training state to resume; leave out --resume to start there')
    note = json.loads((state / _NOTE).read_text(encoding='utf-8'))
    theirs, ours = note['config'], json.loads(json.dumps(config))  # a tuple is a list once it has been saved
    keys = sorted((ours.keys() | theirs.keys()) - set(free))
    differing = [key for key in keys if ours.get(key) != theirs.get(key)]
    if differing:
        pairs = ', '.join(f'{key}: {theirs.get(key)} there, {ours.get(key)} here' for key in differing)
        raise InvalidInput(f'cannot resume {folder} with other settings ({pairs}); give the same ones')
    tensors = load_file(state / _TENSORS, device=str(device))
    return SavedState(int(note['step']), float(note['elapsed_s']), tensors)


def saved_settings(folder: Path) -> Mapping[str, Any]:
    """Return the settings of the run in `folder`; {} where there is none."""
    state = _state_in(folder)
    if state is None:
        return {}
    settings: Mapping[str, Any] = json.loads((state / _NOTE).read_text(encoding='utf-8'))['config']
    return settings


def _state_in(folder: Path) -> Path | None:
    return next((s for s in (folder / STATE_FOLDER, _previous(folder)) if (s / _NOTE).is_file()), None)


def _previous(folder: Path) -> Path:
    """Where the state before the last one is while that is put in its place."""
    return folder / f'.{STATE_FOLDER}.old'


def tensors_of(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the weights of `module` and what the optimiser remembers of each, named as above."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    tensors = prefixed('model.', module)
    for parameter, state in optimizer.state.items():
        tensors |= {f'optimizer.{key}.{names[parameter]}': value for key, value in state.items()}
    return tensors


def prefixed(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """Return the weights of `module` under names that begin with `prefix`."""
    return {f'{prefix}{name}': value for name, value in module.state_dict().items()}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def restore_optimizer(module: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give the optimiser back what `tensors_of` kept of it."""
    remembered: dict[str, dict[str, Tensor]] = {}
    for name, value in under('optimizer.', tensors).items():
        key, _, owner = name.partition('.')
        remembered.setdefault(owner, {})[key] = value
    for name, parameter in module.named_parameters():
        if name in remembered:
            optimizer.state[parameter] = remembered[name]
