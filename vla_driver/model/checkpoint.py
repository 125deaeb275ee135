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
    from vla_driver.model.pruning.budget import TokenBudget
    from vla_driver.model.qwen.policy import QwenPolicy
    from vla_driver.model.vla import VlaModel

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
    if (kind := checkpoint_kind(folder)) != VlaConfig.model_type:
        raise InvalidInput(f'checkpoint {folder} holds a {kind!r} model, expected {VlaConfig.model_type!r}')
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


def load_policy(
    name_or_path: str | os.PathLike[str],
    pruner: str | os.PathLike[str] = 'none',
    budget: TokenBudget | None = None,
    prompt: str | os.PathLike[str] | None = None,
    device: str = 'auto',
) -> NativePolicy | QwenPolicy:
    """Return the policy of a checkpoint given by path or shipped name, of whichever kind its config.json says.

    pruner: as in `make_pruner`; 'recon' is the checkpoint's own (its folder `pruner`).  prompt: template file of a
    vision-language model; by default `prompt.yaml` in its folder, else config/prompts/default.yaml.  device: as in
    `choose_device`.  Raises InvalidInput as `load_model`, `load_qwen_policy`, `make_pruner`, `set_pruning` and
    `choose_device` do, and for a prompt where none is used.
    """
    from vla_driver.model.device import choose_device
    from vla_driver.model.pruning.registry import make_pruner

    folder, where = resolve_checkpoint(name_or_path), choose_device(device)
    if checkpoint_kind(folder) in QWEN_TYPES:
        from vla_driver.model.qwen.policy import load_qwen_policy

        own = folder / PROMPT_FILE
        qwen = load_qwen_policy(folder, prompt or (own if own.is_file() else None), where)
        qwen.set_pruning(make_pruner(pruner, folder / PRUNER_FOLDER, qwen.parts.model.config), budget)
        return qwen
    from vla_driver.model.native_policy import NativePolicy

    if prompt:
        raise InvalidInput(f'prompt {os.fspath(prompt)!r}: checkpoint {folder} reads no words; leave it out')
    native = NativePolicy(load_model(folder, auxiliary=False), where)
    native.set_pruning(make_pruner(pruner, folder / PRUNER_FOLDER, native.config), budget)
    return native
