# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Find checkpoints: config.json and model.safetensors, never a pickle."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vla_driver.model.adapter import Adapter, base_folder, find_adapter, refuse_trained_beside
from vla_driver.model.files import check_file, read_headers, read_json
from vla_driver.model.found_instead import PICKLE_SUFFIXES, describe_folder, partial_downloads, pickle_message
from vla_driver.model.quantised import refuse_quantised
from vla_driver.resources import resource
from vla_driver.types import InvalidInput

#: Where a checkpoint keeps the weights of its own ReconPruner, a safetensors folder of its own.
PRUNER_FOLDER = 'pruner'
#: Where a vision-language checkpoint keeps the words it was trained with (config/prompts/default.yaml explains them).
PROMPT_FILE = 'prompt.yaml'

#: The native model (model/native), by the model_type of its config.json.
NATIVE_TYPE: Final = 'vla_driver'
#: Vision-language models that drive by writing their waypoints (model/qwen), by the model_type of their config.json.
QWEN_TYPES = ('qwen2_5_vl', 'qwen3_vl')

#: What is read besides the weights, where it is there.
_SMALL_FILES: Final = (
    'tokenizer.json',
    'tokenizer_config.json',
    'vocab.json',
    'merges.txt',
    'added_tokens.json',
    'special_tokens_map.json',
    'preprocessor_config.json',
    'processor_config.json',
    'generation_config.json',
    'chat_template.json',
    'chat_template.jinja',
    PROMPT_FILE,
)


def shipped_models() -> dict[str, Path]:
    """Return name -> folder of the checkpoints that come with the package."""
    try:
        folder = resource('models')
    except InvalidInput:
        return {}
    return {config.parent.name: config.parent for config in sorted(folder.glob('*/config.json'))}


def resolve_checkpoint(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the folder of a checkpoint given by path or shipped name.

    Raises InvalidInput, saying what to do, for an unknown one, and as `inspect_checkpoint` does.
    """
    folder = _folder_of(os.fspath(name_or_path))
    inspect_checkpoint(folder)
    return folder


@dataclass(frozen=True)
class Checkpoint:
    """What lies in a checkpoint's folder.

    base: the folder of its weights, another one for an adapter that is kept by itself; kind: model_type of its
    config.json; weights: its safetensors files; adapter: to be merged into them; config: the values of its config.json,
    as they stand there.
    """

    folder: Path
    base: Path
    kind: str
    weights: tuple[Path, ...]
    adapter: Adapter | None
    config: Mapping[str, Any]

    def find(self, *names: str) -> Path | None:
        """Return the first file of these names, in the folder itself before that of the weights."""
        places = (self.folder, self.base) if self.base != self.folder else (self.folder,)
        return next((place / name for place in places for name in names if (place / name).is_file()), None)


def inspect_checkpoint(folder: Path) -> Checkpoint:
    """Return what lies in a folder, by the first bytes of its files: quick, however large the weights are.

    Raises InvalidInput, saying what was found and what to do, for one without safetensors (pickles are refused),
    files that are broken or not what they are called, quantised weights, an adapter that belongs nowhere, weights that
    were trained beside one, and another kind of model.
    """
    try:
        return _inspect(folder)
    except OSError as error:
        raise InvalidInput(f'checkpoint {folder} cannot be read: {error}') from error


def _inspect(folder: Path) -> Checkpoint:
    adapter = find_adapter(folder)
    base = folder
    if adapter is not None and not _has_weights(folder):
        refuse_trained_beside(folder)
        base = base_folder(adapter)
    weights = weight_files(base)
    refuse_trained_beside(base)
    config_file = base / 'config.json'
    if not (config_file.is_file() or config_file.is_symlink()):
        raise InvalidInput(f'checkpoint {base} holds no config.json: copy that of the model there')
    config = read_json(config_file)
    kind = config.get('model_type')
    if kind != NATIVE_TYPE and kind not in QWEN_TYPES:
        raise InvalidInput(
            f'checkpoint {base} holds a {kind!r} model, expected {", ".join((NATIVE_TYPE, *QWEN_TYPES))}'
        )
    tensors = read_headers(weights)
    refuse_quantised(config_file, config, tensors)
    if not tensors:
        raise InvalidInput(f'checkpoint {base} does not load: {weights[0].name} holds no weights')
    for name in _SMALL_FILES:
        for place in {folder, base}:
            if os.path.lexists(place / name):
                check_file(place / name)
    if adapter is not None and kind not in QWEN_TYPES:
        raise InvalidInput(
            f'checkpoint {folder} holds a {adapter}, which the {kind!r} model beside it has no use for: remove '
            'adapter_config.json and adapter_model.safetensors to drive without it'
        )
    return Checkpoint(folder, base, str(kind), weights, adapter, config)


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the safetensors files of the model in a folder: model.safetensors, or the shards that its index names.

    Raises InvalidInput where there are none, saying what is there instead, and for an index that does not fit.
    """
    single, index = folder / 'model.safetensors', folder / 'model.safetensors.index.json'
    if os.path.lexists(single):
        return (single,)
    if not os.path.lexists(index):
        raise InvalidInput(describe_folder(folder))
    content = read_json(index)
    entries = content.get('weight_map')
    if not isinstance(entries, dict) or not entries or not all(isinstance(name, str) for name in entries.values()):
        raise InvalidInput(
            f'{index} has no weight_map, which says what file each weight is in: copy or download that file again'
        )
    names = sorted(set(entries.values()))
    if outside := [name for name in names if Path(name).name != name]:
        raise InvalidInput(f'{index} names {outside[0]!r}, expected files in its own folder')
    missing = [name for name in names if not os.path.lexists(folder / name)]
    if missing:
        partial = partial_downloads(folder)
        raise InvalidInput(
            f'checkpoint {folder} lacks {len(missing)} of the {len(names)} files that {index.name} names: '
            f'{", ".join(missing[:5])}{" ..." if len(missing) > 5 else ""}; '
            + (f'its download did not finish ({partial[0]}): run it again' if partial else 'copy or download them, too')
        )
    if not isinstance(content.get('metadata'), dict):  # transformers takes it for granted
        raise InvalidInput(f'{index} lacks "metadata", an object: add "metadata": {{}} beside "weight_map"')
    return tuple(folder / name for name in names)


def checkpoint_kind(folder: Path) -> str:
    """Return the model_type of the checkpoint in a folder that `resolve_checkpoint` has returned."""
    return inspect_checkpoint(folder).kind


def _has_weights(folder: Path) -> bool:
    return any(os.path.lexists(folder / name) for name in ('model.safetensors', 'model.safetensors.index.json'))


def _folder_of(text: str) -> Path:
    """Return the folder of a path or shipped name; raise InvalidInput unless it is one."""
    shipped, folder = shipped_models(), Path(text).expanduser()
    known = ', '.join(shipped) or 'none'
    if not text:
        raise InvalidInput(f'the checkpoint has no name: give the path of a folder, or a shipped name ({known})')
    try:
        exists = folder.exists()
    except OSError as error:
        raise InvalidInput(f'checkpoint {text!r} cannot be read: {error.strerror or error}') from error
    if not exists:
        if text in shipped:
            return shipped[text]
        if folder.is_symlink():
            raise InvalidInput(f'checkpoint {text!r} is a link to {os.readlink(folder)}, which does not exist')
        hub = ''
        if re.fullmatch(r'[\w.-]+/[\w.-]+', text):
            hub = f'; a name on the Hugging Face hub is not downloaded here: hf download {text} --local-dir FOLDER'
        raise InvalidInput(
            f'checkpoint {text!r} not found: give the path of a folder, or a shipped name ({known}){hub}'
        )
    if not folder.is_file():
        return folder
    if folder.suffix in PICKLE_SUFFIXES:
        raise InvalidInput(pickle_message(folder, [folder.name]))
    if folder.suffix == '.gguf':
        raise InvalidInput(
            f'checkpoint {folder} is a GGUF file, made for llama.cpp: give the folder of the original weights, in '
            'safetensors'
        )
    raise InvalidInput(f'checkpoint {folder} is a file; give its folder, with config.json and model.safetensors')
