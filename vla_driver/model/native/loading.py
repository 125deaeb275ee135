# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Load a native checkpoint: safetensors only, every weight accounted for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import torch
from safetensors import SafetensorError
from transformers.utils import logging

from vla_driver.model.checkpoint import checkpoint_kind, resolve_checkpoint
from vla_driver.model.config import VlaConfig
from vla_driver.model.native.vla import VlaModel
from vla_driver.types import InvalidInput

#: Parts that a checkpoint may be given when it is trained further.
_NEW_PARTS: Final = ('words.', 'intents.')


def load_model(
    name_or_path: str | os.PathLike[str],
    *,
    auxiliary: bool | None = None,
    changes: Mapping[str, Any] | None = None,
) -> VlaModel:
    """Return the model of a checkpoint, in evaluation mode.

    auxiliary: True to train further (training heads that the checkpoint lacks start afresh), False to drop
    them, None for as the checkpoint has it; changes: entries of its config, as of config.json, that differ from now on,
    such as {'words_config': {'grammar': 1}}: with `auxiliary`, a part that this adds starts afresh.  Raises
    InvalidInput as `resolve_checkpoint` does, and where weights are missing or of other shapes.
    """
    folder = resolve_checkpoint(name_or_path)
    if (kind := checkpoint_kind(folder)) != VlaConfig.model_type:
        raise InvalidInput(f'checkpoint {folder} holds a {kind!r} model, expected {VlaConfig.model_type!r}')
    try:
        config = VlaConfig.from_pretrained(folder)
        if changes:
            config = VlaConfig.from_dict(_merged(config.to_dict(), changes))
    except (OSError, RuntimeError, AttributeError) as error:  # AttributeError: a dtype that torch does not have
        raise InvalidInput(f'{folder / "config.json"} is no valid configuration: {error}') from error
    logging.disable_progress_bar()  # a bar per loaded checkpoint would cut an evaluation's own to pieces
    try:
        if auxiliary is not None:
            config.auxiliary = auxiliary
        model, report = VlaModel.from_pretrained(
            folder,
            config=config,
            # Weights may be stored in bfloat16 (half the size); they compute in float32 under autocast.
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, RuntimeError, SafetensorError) as error:
        raise InvalidInput(f'checkpoint {folder} does not load: {error}') from error
    heads = ('dense_head.', 'scene_head.', 'plan_head.')
    absent = set(report['missing_keys'])
    # A part is new where the checkpoint has nothing of it; where it lacks some weights, it is broken.
    new = tuple(part for part in _NEW_PARTS if auxiliary and _whole(model, part) and _whole(model, part) <= absent)
    missing = sorted(key for key in absent if not key.startswith((*heads, *new)))
    surplus = sorted(key for key in report['unexpected_keys'] if not key.startswith(heads))
    if missing or surplus or report['mismatched_keys']:
        wrong = [*missing, *surplus, *map(str, report['mismatched_keys'])]
        raise InvalidInput(
            f'checkpoint {folder} does not fit its config.json: {len(missing)} weights are missing, {len(surplus)} are '
            f'unknown, {len(report["mismatched_keys"])} have another shape (first: {wrong[0]})'
        )
    if config.words_config.grammar and 'words.' not in new:
        model.words.grammar.vocabulary.check(folder)
    return model.eval()


def _whole(model: VlaModel, part: str) -> set[str]:
    """Return the names of all weights of a part."""
    return {name for name in model.state_dict() if name.startswith(part)}


def _merged(entries: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return entries with changes, those within an entry entry by entry."""
    return {**entries} | {
        name: _merged(entries[name], value)
        if isinstance(value, Mapping) and isinstance(entries.get(name), Mapping)
        else value
        for name, value in changes.items()
    }
