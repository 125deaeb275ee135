# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Load a Qwen2.5-VL or Qwen3-VL checkpoint from a local folder: safetensors only, nothing is downloaded or executed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from vla_driver.model.adapter import CONFIG as ADAPTER_CONFIG
from vla_driver.model.adapter import Adapter, check_adapter, merge_adapter, warn_of_adapters_below
from vla_driver.model.checkpoint import Checkpoint, inspect_checkpoint
from vla_driver.types import InvalidInput

#: model_type in config.json -> class in transformers.
CLASSES: Final = {'qwen2_5_vl': 'Qwen2_5_VLForConditionalGeneration', 'qwen3_vl': 'Qwen3VLForConditionalGeneration'}
_SPECIAL: Final = {
    '<|image_pad|>': 'image_token_id',
    '<|vision_start|>': 'vision_start_token_id',
    '<|vision_end|>': 'vision_end_token_id',
}
_TURN_END: Final = '<|im_end|>'


@dataclass(frozen=True)
class QwenParts:
    """A loaded checkpoint.

    stop [..]: tokens that end an answer; adapter: what was merged into the weights, None for nothing.
    """

    model: Any
    tokenizer: Any
    images: Any
    stop: frozenset[int]
    folder: Path
    adapter: Adapter | None = None


def load_parts(folder: str | os.PathLike[str], device: str | torch.device = 'cpu', dtype: Any = None) -> QwenParts:
    """Return the model (evaluation mode), tokenizer and image processor in `folder`.

    dtype: of the weights; None for bfloat16 where the device multiplies it natively, else float32.
    Raises `InvalidInput`, naming the file or the weight, where something is missing or does not fit.
    """
    from vla_driver.model.precision import weight_type

    path = Path(folder)
    if dtype is None:
        dtype = weight_type(device)
    found = inspect_checkpoint(path)
    # What is small first: a mistake there should not wait for the weights.
    config = _config(found.base)
    tokenizer, images = _tokenizer(found, config), _image_processor(found, config)
    model = load_weights(path, dtype)
    stop = {tokenizer.convert_tokens_to_ids(_TURN_END), tokenizer.eos_token_id}
    ends = getattr(model.generation_config, 'eos_token_id', None)
    stop.update(ends if isinstance(ends, list) else [ends])
    return QwenParts(
        model.to(device).eval().requires_grad_(False),
        tokenizer,
        images,
        frozenset(token for token in stop if isinstance(token, int)),
        path,
        found.adapter,
    )


def load_weights(path: Path, dtype: Any) -> Any:
    """Return the model in a folder, on the CPU; dtype: of the weights, 'auto' as stored.

    An adapter beside or above its weights is merged into them.  Raises `InvalidInput` unless config.json and the
    weights fit each other one for one, and as `inspect_checkpoint` and `merge_adapter` do.
    """
    import transformers

    found = inspect_checkpoint(path)
    if found.adapter is None:
        warn_of_adapters_below(found.base)
    else:
        config = _config(found.base)
        with torch.device('meta'):
            hollow = getattr(transformers, CLASSES[config.model_type])(config)
        check_adapter(hollow, found.adapter)
    with _without_adapter(found) as folder:
        model = _load_base(folder, found.base, dtype)
    return model if found.adapter is None else merge_adapter(model, found.adapter)


@contextmanager
def _without_adapter(found: Checkpoint) -> Iterator[Path]:
    """Yield a folder with the base model alone: transformers puts an adapter beside it into the model, unmerged."""
    if not (found.base / ADAPTER_CONFIG).exists():
        yield found.base
        return
    with tempfile.TemporaryDirectory(prefix='vla_driver_base_') as folder:
        for file in found.base.iterdir():
            if file.is_file() and not file.name.startswith('adapter_'):
                (Path(folder) / file.name).symlink_to(file.resolve())
        yield Path(folder)


def _load_base(folder: Path, path: Path, dtype: Any) -> Any:
    """Return the model in `folder`, which errors call `path`."""
    import transformers
    from safetensors import SafetensorError

    config = _config(path)
    transformers.utils.logging.disable_progress_bar()  # it would cut an evaluation's own to pieces
    maker = getattr(transformers, CLASSES[config.model_type])
    try:
        model, report = maker.from_pretrained(
            folder, config=config, dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, ImportError, SafetensorError) as error:
        raise InvalidInput(f'checkpoint {path} does not load: {error}') from error
    missing, surplus = sorted(report['missing_keys']), sorted(report['unexpected_keys'])
    wrong = [*missing, *surplus, *map(str, report['mismatched_keys'])]
    if wrong:
        raise InvalidInput(
            f'checkpoint {path} does not fit its config.json: {len(missing)} weights are missing, {len(surplus)} are '
            f'unknown, {len(report["mismatched_keys"])} have another shape (first: {wrong[0]})'
        )
    return model


def _config(path: Path) -> Any:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f'{path / "config.json"} is no valid configuration: {error}') from error
    if config.model_type not in CLASSES:
        raise InvalidInput(f'checkpoint {path} holds a {config.model_type!r} model; allowed: {", ".join(CLASSES)}')
    return config


def _tokenizer(found: Checkpoint, config: Any) -> Any:
    from transformers import AutoTokenizer

    file = found.find('tokenizer.json', 'vocab.json')
    if file is None:
        raise InvalidInput(
            f'checkpoint {found.folder} holds no tokenizer.json: copy the tokenizer files of its base model there'
        )
    path = file.parent
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare exceptions for bad files
        raise InvalidInput(f'the tokenizer in {path} does not load: {error}') from error
    for token, name in _SPECIAL.items():
        known, wanted = tokenizer.convert_tokens_to_ids(token), getattr(config, name)
        if known != wanted:
            raise InvalidInput(
                f'the tokenizer in {path} reads {token} as {known}, but config.json says {name} = {wanted}: they '
                'belong to different models'
            )
    if not isinstance(tokenizer.convert_tokens_to_ids(_TURN_END), int):
        raise InvalidInput(f'the tokenizer in {path} does not know {_TURN_END}, the end of a turn')
    return tokenizer


def _image_processor(found: Checkpoint, config: Any) -> Any:
    # The variant on Pillow: the other one needs torchvision, and their pictures differ by rounding only.
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    # transformers writes the former up to version 4, and from 5 on the latter, with the pictures' part inside.
    names = ('preprocessor_config.json', 'processor_config.json')
    file = found.find(*names)
    if file is None:
        raise InvalidInput(
            f'checkpoint {found.folder} holds no {" or ".join(names)}: copy that of its base model there'
        )
    try:
        images = Qwen2VLImageProcessorPil.from_pretrained(file.parent, local_files_only=True)
    except Exception as error:  # whatever a broken JSON file makes it raise
        raise InvalidInput(f'{file} does not load: {error}') from error
    vision = config.vision_config
    for name, theirs in (
        ('patch_size', vision.patch_size),
        ('merge_size', vision.spatial_merge_size),
        ('temporal_patch_size', vision.temporal_patch_size),
    ):
        if getattr(images, name) != theirs:
            raise InvalidInput(f'{file}: {name} is {getattr(images, name)}, but config.json says {theirs}')
    return images
