# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Find and load checkpoints: config.json and model.safetensors, never a pickle."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vla_driver.model.config import VlaConfig
from vla_driver.resources import resource
from vla_driver.types import InvalidInput

if TYPE_CHECKING:
    from vla_driver.model.native_policy import NativePolicy
    from vla_driver.model.vla import VlaModel

#: Endings under which weights are commonly pickled; loading one would run whatever code it holds.
PICKLE_SUFFIXES = ('.bin', '.pt', '.pth', '.pkl', '.pickle', '.ckpt')


def shipped_models() -> dict[str, Path]:
    """Return name -> folder of the checkpoints that come with the package."""
    try:
        folder = resource('models')
    except InvalidInput:
        return {}
    return {config.parent.name: config.parent for config in sorted(folder.glob('*/config.json'))}


def resolve_checkpoint(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the folder of a checkpoint given by path or shipped name.

    Raises InvalidInput, saying what to do, for an unknown one, one without safetensors (pickles are
    refused), and one of another kind of model.
    """
    text = os.fspath(name_or_path)
    shipped = shipped_models()
    folder = Path(text)
    if not folder.exists():
        if text in shipped:
            folder = shipped[text]
        else:
            known = ', '.join(shipped) or 'none'
            raise InvalidInput(f'checkpoint {text!r} not found: give the path of a folder, or a shipped name ({known})')
    if folder.is_file():
        if folder.suffix in PICKLE_SUFFIXES:
            raise InvalidInput(_pickle_message(folder, [folder.name]))
        raise InvalidInput(f'checkpoint {folder} is a file; give its folder, with config.json and model.safetensors')
    if not any(folder.glob('*.safetensors')):
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLE_SUFFIXES)
        if pickles:
            raise InvalidInput(_pickle_message(folder, pickles))
        raise InvalidInput(f'checkpoint {folder} holds no model.safetensors')
    config = folder / 'config.json'
    if not config.is_file():
        raise InvalidInput(f'checkpoint {folder} holds no config.json')
    try:
        kind = json.loads(config.read_text(encoding='utf-8')).get('model_type')
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise InvalidInput(f'{config} is no valid configuration: {error}') from error
    if kind != VlaConfig.model_type:
        raise InvalidInput(f'checkpoint {folder} holds a {kind!r} model, expected {VlaConfig.model_type!r}')
    return folder


def _pickle_message(folder: Path, names: list[str]) -> str:
    return (
        f'checkpoint {folder} holds its weights as pickles ({", ".join(names)}), which can run any code when loaded '
        'and are refused: convert them to safetensors where you trust their source (save_pretrained does)'
    )


def load_model(name_or_path: str | os.PathLike[str], *, auxiliary: bool | None = None) -> VlaModel:
    """Return the model of a checkpoint, in evaluation mode.

    auxiliary: True to train further (training heads that the checkpoint lacks start afresh), False to drop
    them, None for as the checkpoint has it.  Raises InvalidInput as `resolve_checkpoint` does, and where
    weights are missing or of other shapes.
    """
    import torch
    from safetensors import SafetensorError

    from vla_driver.model.vla import VlaModel

    folder = resolve_checkpoint(name_or_path)
    try:
        config = VlaConfig.from_pretrained(folder)
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
    return model.eval()


def load_policy(name_or_path: str | os.PathLike[str]) -> NativePolicy:
    """Return the policy of a checkpoint given by path or shipped name; raises InvalidInput as `load_model` does."""
    from vla_driver.model.native_policy import NativePolicy

    return NativePolicy(load_model(name_or_path, auxiliary=False))
