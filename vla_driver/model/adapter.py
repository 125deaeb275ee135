# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Adapters (LoRA and its kin, as peft saves them): found beside a model's weights and merged into them at loading."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vla_driver.model.files import read_header, read_json
from vla_driver.types import InvalidInput

_log = logging.getLogger(__name__)

CONFIG: Final = 'adapter_config.json'
WEIGHTS: Final = 'adapter_model.safetensors'

_MERGE_FIRST: Final = (
    'merge it first where it was trained, and give the merged model: '
    'PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(OUT)'
)

#: Names of layers before and since transformers 4.52; peft 0.21 leaves out, silently, what has the older ones.
_RENAMED: Final = {r'^visual\.': 'model.visual.', r'^model\.(layers|embed_tokens|norm)\b': r'model.language_model.\1'}


@dataclass(frozen=True)
class Adapter:
    """An adapter on disk.  kind: such as LoRA; rank: None where it has none; base: of what, as it was trained."""

    folder: Path
    kind: str
    rank: int | None
    base: str

    def __str__(self) -> str:
        return f'{self.kind} adapter' if self.rank is None else f'{self.kind} adapter of rank {self.rank}'


def find_adapter(folder: Path) -> Adapter | None:
    """Return the adapter in a folder, None where there is none.

    Raises InvalidInput for half of one, one whose files are broken, and one that is pickled.
    """
    config, weights = folder / CONFIG, folder / WEIGHTS
    there = {path.name for path in folder.iterdir()}
    if CONFIG not in there:
        if there & {WEIGHTS, 'adapter_model.bin'}:
            raise InvalidInput(
                f'checkpoint {folder} holds the weights of an adapter, but no {CONFIG}, without which nobody knows '
                f'where they belong: copy it there, or {_MERGE_FIRST}'
            )
        return None
    entries = read_json(config)
    kind, rank = entries.get('peft_type'), entries.get('r')
    if not isinstance(kind, str):
        raise InvalidInput(f'{config} is no valid configuration: peft_type is {kind!r}, expected a name such as LORA')
    if WEIGHTS not in there:
        if 'adapter_model.bin' in there:
            raise InvalidInput(
                f'{folder / "adapter_model.bin"} is a pickled adapter, which can run any code when loaded and is '
                f'refused: save it as {WEIGHTS} where you trust its source (save_pretrained does)'
            )
        raise InvalidInput(
            f'checkpoint {folder} holds an {CONFIG}, but no {WEIGHTS}: copy it there, or remove {CONFIG} to drive '
            'without the adapter'
        )
    read_header(weights)
    name = {'LORA': 'LoRA', 'ADALORA': 'AdaLoRA'}.get(kind, kind)
    if kind == 'LORA' and entries.get('use_dora'):
        name = 'DoRA'
    base = entries.get('base_model_name_or_path')
    return Adapter(folder, name, rank if isinstance(rank, int) else None, base if isinstance(base, str) else '')


def refuse_trained_beside(folder: Path) -> None:
    """Raise InvalidInput where trainers kept weights that they trained beside an adapter: nothing here reads them."""
    if found := sorted(folder.glob('non_lora_*')):
        raise InvalidInput(
            f'{found[0]} holds weights that were trained beside an adapter, and would be ignored: load them into the '
            f'model, too, and {_MERGE_FIRST}; remove the file if the weights here have them already'
        )


def warn_of_adapters_below(folder: Path) -> None:
    """Say on stderr that adapters in folders within that of a whole model are not applied."""
    if below := sorted(file.parent.name for file in folder.glob(f'*/{CONFIG}')):
        _log.warning(
            'the adapter in %s of checkpoint %s is not applied: only one beside the weights is',
            ', '.join(below),
            folder,
        )


def base_folder(adapter: Adapter) -> Path:
    """Return the folder of the model that an adapter without weights beside it belongs to, if it is on this machine.

    A relative name is looked for from here and from the adapter's folder.  Raises InvalidInput saying what to do
    where it is not here: nothing is downloaded.
    """
    name = adapter.base
    for place in (Path(name), adapter.folder / name) if name else ():
        if place.resolve() == adapter.folder.resolve():
            continue
        if (place / 'config.json').exists():
            return place
        if (place / CONFIG).exists():
            raise InvalidInput(
                f'checkpoint {adapter.folder} holds a {adapter} of {place}, which is itself an adapter: merge that one '
                'into its base first'
            )
    raise InvalidInput(
        f'checkpoint {adapter.folder} holds no config.json and no model.safetensors, only a {adapter} of '
        f'{name or "a model that it does not name"}, which is not on this machine: put {CONFIG} and {WEIGHTS} beside '
        "the files of that model and give that folder, set base_model_name_or_path in it to that model's folder, or "
        f'{_MERGE_FIRST}'
    )


def check_adapter(model: Any, adapter: Adapter) -> None:
    """Raise InvalidInput unless an adapter can be merged into a model of this architecture; the model is spoilt.

    model: on the 'meta' device, without weights, so that nobody waits for gigabytes to hear that it does not fit.
    """
    _put_into(model, adapter, low_cpu_mem_usage=True)


def merge_adapter(model: Any, adapter: Adapter) -> Any:
    """Return a transformers model with an adapter merged into its weights, by peft.

    Raises InvalidInput, saying to merge it first, where peft is not installed and where the adapter does not fit: it
    would change other layers than there are, or only some of its weights would be used.
    """
    wrapped = _put_into(model, adapter)
    try:
        merged = wrapped.merge_and_unload(safe_merge=True)
    except Exception as error:  # weights that are not finite, layers that cannot be merged
        raise InvalidInput(f'{_where(adapter)} cannot be merged ({_brief(error)}): {_MERGE_FIRST}') from error
    # Python shows it on stderr where nobody has set up logging: whoever drives should know what with.
    _log.warning('%s is merged into the weights of the model', _where(adapter))
    return merged


def _put_into(model: Any, adapter: Adapter, **options: Any) -> Any:
    """Return the model with the adapter beside its layers, every weight of it in its place."""
    where, folder = _where(adapter), str(adapter.folder)
    try:
        from peft import PeftConfig, PeftModel
        from peft.utils import get_peft_model_state_dict, load_peft_weights
    except ImportError as error:
        raise InvalidInput(f'{where} needs the Python package peft ({error}): install it, or {_MERGE_FIRST}') from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # what they warn of (weights left out) is compared below
            config = PeftConfig.from_pretrained(folder)
            if config.is_prompt_learning:
                raise InvalidInput(f'{where} is a prompt that was learnt, which cannot be merged and is not read')
            stored = load_peft_weights(folder, device='cpu', key_mapping=_RENAMED)
            _refuse_tied(model, stored, where)
            wrapped = PeftModel.from_pretrained(
                model, folder, config=config, torch_device='cpu', key_mapping=_RENAMED, **options
            )
            taken = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    except InvalidInput:
        raise
    except Exception as error:  # peft raises whatever its layers do; the model is not driven without its adapter
        raise InvalidInput(f'{where} does not fit the model ({_brief(error)}): {_MERGE_FIRST}') from error
    used, given = set(taken), set(stored)
    if wrong := sorted(used ^ given):
        raise InvalidInput(
            f'{where} does not fit the model: {len(given - used)} of its weights have no place and '
            f'{len(used - given)} are missing (first: {wrong[0]}): {_MERGE_FIRST}'
        )
    return wrapped


def _where(adapter: Adapter) -> str:
    return f'the {adapter} in {adapter.folder}'


def _refuse_tied(model: Any, stored: dict[str, Any], where: str) -> None:
    """Refuse an adapter of one of two layers that share their weights: merging would change both."""
    configs = (model.config, model.config.get_text_config())
    if not any(getattr(config, 'tie_word_embeddings', False) for config in configs):
        return
    touched = [name for name in stored if 'lm_head' in name or 'embed_tokens' in name]
    if touched:
        raise InvalidInput(
            f'{where} changes {touched[0]}, but the model shares the weights of lm_head and embed_tokens, so that '
            f'merging would change both; save it with tie_word_embeddings false, and {_MERGE_FIRST}'
        )


def _brief(error: BaseException) -> str:
    text = ' '.join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f'{text[:300]} ...'
