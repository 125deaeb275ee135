# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Other sizes and parts than a checkpoint has: a model grown from it keeps every weight that still fits."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from vla_driver.model.config import VlaConfig
from vla_driver.model.native.vla import VlaModel
from vla_driver.types import InvalidInput

#: What hidden states are made from; words and the reflex are not.
_DEEP: Final = ('language.', 'action.', 'memory.', 'memory_pool.', 'position.', 'ego.', 'kinds')


def read_architecture(path: Path) -> dict[str, Any]:
    """Return the VlaConfig entries of a JSON file; raise `InvalidInput` for what is none."""
    try:
        entries = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, json.JSONDecodeError) as error:
        raise InvalidInput(f'--config {path}: {error}') from error
    if not isinstance(entries, dict):
        raise InvalidInput(f'--config {path}: a {type(entries).__name__}, expected an object of VlaConfig entries')
    return entries


def grown(model: VlaModel, entries: dict[str, Any]) -> VlaModel:
    """Return a model with `entries` changed in its configuration, whose weights are those of `model` where they fit.

    What is new, or of another shape, starts afresh, and a line on stderr says so.  Where weights that hidden states are
    made from are left behind, these begin silent: flow and votes learnt to heed what they said before, and a stage that
    trains the reflex alone would leave the model to drive by noise.
    """
    settings = model.config.to_dict()
    for name, value in entries.items():
        inner = settings.get(name)
        settings[name] = {**inner, **value} if isinstance(inner, dict) and isinstance(value, dict) else value
    result = VlaModel(VlaConfig.from_dict(settings))
    theirs, ours = model.state_dict(), result.state_dict()
    kept = {name: value for name, value in theirs.items() if name in ours and ours[name].shape == value.shape}
    result.load_state_dict(kept, strict=False)
    fresh, gone = sorted(set(ours) - set(kept)), sorted(set(theirs) - set(kept))
    if fresh or gone:
        print(
            f'grown from a checkpoint: {len(kept)} weights kept, {len(fresh)} start afresh ({_few(fresh)}), '
            f'{len(gone)} left behind ({_few(gone)})',
            file=sys.stderr,
        )
    if any(name.startswith(_DEEP) for name in gone):
        result.flow.silence_hidden()
        print('grown: the model drives by the reflex alone until stage policy or all has run', file=sys.stderr)
    return result


def _few(names: list[str]) -> str:
    return ', '.join(names[:3]) + (', ...' if len(names) > 3 else '') if names else 'none'
