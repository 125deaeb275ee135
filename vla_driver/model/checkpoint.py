# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Find checkpoints: config.json and model.safetensors, never a pickle."""

from __future__ import annotations

import json
import os
from pathlib import Path

from vla_driver.model.config import VlaConfig
from vla_driver.resources import resource
from vla_driver.types import InvalidInput

#: Where a checkpoint keeps the weights of its own ReconPruner, a safetensors folder of its own.
PRUNER_FOLDER = 'pruner'
#: Where a vision-language checkpoint keeps the words it was trained with (config/prompts/default.yaml explains them).
PROMPT_FILE = 'prompt.yaml'

#: Vision-language models that drive by writing their waypoints (model/qwen), by the model_type of their config.json.
QWEN_TYPES = ('qwen2_5_vl', 'qwen3_vl')

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
    if kind != VlaConfig.model_type and kind not in QWEN_TYPES:
        raise InvalidInput(
            f'checkpoint {folder} holds a {kind!r} model, expected {", ".join((VlaConfig.model_type, *QWEN_TYPES))}'
        )
    return folder


def checkpoint_kind(folder: Path) -> str:
    """Return the model_type in the config.json of a folder that `resolve_checkpoint` has returned."""
    return str(json.loads((folder / 'config.json').read_text(encoding='utf-8'))['model_type'])


def _pickle_message(folder: Path, names: list[str]) -> str:
    return (
        f'checkpoint {folder} holds its weights as pickles ({", ".join(names)}), which can run any code when loaded '
        'and are refused: convert them to safetensors where you trust their source (save_pretrained does)'
    )
