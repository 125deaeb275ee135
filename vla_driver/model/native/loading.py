# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Load a native checkpoint: safetensors only, every weight accounted for."""

from __future__ import annotations

import os

import torch
from safetensors import SafetensorError
from transformers.utils import logging

from vla_driver.model.checkpoint import checkpoint_kind, resolve_checkpoint
from vla_driver.model.config import VlaConfig
from vla_driver.model.native.vla import VlaModel
from vla_driver.types import InvalidInput


def load_model(
    name_or_path: str | os.PathLike[str],
    *,
    auxiliary: bool | None = None,
    solver: str | None = None,
    steps: int | None = None,
) -> VlaModel:
    """Return the model of a checkpoint, in evaluation mode.

    auxiliary: True to train further (training heads that the checkpoint lacks start afresh), False to drop
    them, None for as the checkpoint has it.  solver, steps: how the flow is integrated, None: as the checkpoint says
    (`FlowDecoder.solve_with`).  Raises InvalidInput as `resolve_checkpoint` does, and where
    weights are missing or of other shapes.
    """
    folder = resolve_checkpoint(name_or_path)
    if (kind := checkpoint_kind(folder)) != VlaConfig.model_type:
        raise InvalidInput(f'checkpoint {folder} holds a {kind!r} model, expected {VlaConfig.model_type!r}')
    try:
        config = VlaConfig.from_pretrained(folder)
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
    missing = sorted(key for key in report['missing_keys'] if not key.startswith(heads))
    surplus = sorted(key for key in report['unexpected_keys'] if not key.startswith(heads))
    if missing or surplus or report['mismatched_keys']:
        wrong = [*missing, *surplus, *map(str, report['mismatched_keys'])]
        raise InvalidInput(
            f'checkpoint {folder} does not fit its config.json: {len(missing)} weights are missing, {len(surplus)} are '
            f'unknown, {len(report["mismatched_keys"])} have another shape (first: {wrong[0]})'
        )
    if config.words_config.grammar:
        model.words.grammar.vocabulary.check(folder)
    action = config.action_config
    model.flow.solve_with(solver or action.solver, action.num_steps if steps is None else steps)
    return model.eval()
