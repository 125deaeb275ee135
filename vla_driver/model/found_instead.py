# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What a folder without the weights of a checkpoint holds instead, and what to do about it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

#: Endings under which weights are commonly pickled; loading one would run whatever code it holds.
PICKLE_SUFFIXES: Final = ('.bin', '.pt', '.pth', '.pkl', '.pickle', '.ckpt')
#: Endings of files that a download leaves until it is complete.
_PARTIAL: Final = ('.incomplete', '.part', '.partial', '.crdownload', '.aria2', '.tmp')
#: Weights of other programs.
_FOREIGN: Final = {
    '.gguf': 'GGUF, made for llama.cpp',
    '.ggml': 'GGML, made for llama.cpp',
    '.h5': 'TensorFlow',
    '.msgpack': 'Flax',
    '.onnx': 'an ONNX graph',
    '.engine': 'a TensorRT engine',
    '.plan': 'a TensorRT engine',
    '.npz': 'NumPy or MLX',
    '.mlmodel': 'Core ML',
    '.tflite': 'TensorFlow Lite',
}
_ARCHIVES: Final = ('.zip', '.tar', '.gz', '.tgz', '.xz', '.bz2', '.zst', '.7z')
#: What a trainer keeps beside the weights, to go on later.
_TRAINER_STATE: Final = re.compile(r'^(optimizer|scheduler|scaler|rng_state|random_states|training_args|trainer_state)')
_SHARD: Final = re.compile(r'-(\d+)-of-(\d+)\.safetensors$')


def pickle_message(folder: Path, names: list[str]) -> str:
    """Return why pickles are refused."""
    return (
        f'checkpoint {folder} holds its weights as pickles ({", ".join(names)}), which can run any code when loaded '
        'and are refused: convert them to safetensors where you trust their source (save_pretrained does)'
    )


def partial_downloads(folder: Path) -> list[str]:
    """Return the files in a folder, and in the download cache within it, that are not complete."""
    cache = folder / '.cache' / 'huggingface' / 'download'
    places = (folder, cache) if cache.is_dir() else (folder,)
    return sorted(file.name for place in places for file in place.iterdir() if file.name.endswith(_PARTIAL))


def describe_folder(folder: Path) -> str:
    """Return the message for a folder that holds neither model.safetensors nor an index of shards."""
    files = sorted(path.name for path in folder.iterdir())
    start = f'checkpoint {folder} holds no model.safetensors'
    if not files:
        return f'{start}: it is empty'
    if partial := partial_downloads(folder):
        return f'{start}: its download did not finish ({_some(partial)}); run it again'
    weights = [name for name in files if name.endswith('.safetensors')]
    if shards := [name for name in weights if _SHARD.search(name)]:
        return (
            f'{start}.index.json, which says what is in its {len(shards)} shards ({_some(shards)}); '
            'copy or download it, too'
        )
    if weights:
        return f'{start}, but {_some(weights)}: if that is the whole model, rename it to model.safetensors'
    if training := _training_folder(folder, files):
        return f'{start}, but {training}'
    pickles = [name for name in files if name.endswith(PICKLE_SUFFIXES)]
    state = [name for name in files if _TRAINER_STATE.match(name)]
    if state and not set(pickles) - set(state):
        return (
            f'{start}: only the state of a training run ({_some(state)}); give the folder into which that run '
            'saved the model'
        )
    if pickles:
        return pickle_message(folder, pickles)
    for name in files:
        if kind := _FOREIGN.get(Path(name).suffix):
            return f'{start}, but {name} ({kind}): give the original weights, in safetensors'
    if below := checkpoints_below(folder):
        which = 'that' if len(below) == 1 else 'one of these'
        return f'{start}: there is one in {" and in ".join(map(str, below))}; give {which}'
    if archives := [name for name in files if name.endswith(_ARCHIVES)]:
        return f'{start}: unpack {_some(archives)} first'
    return start


def checkpoints_below(folder: Path, most: int = 3) -> list[Path]:
    """Return folders within `folder`, three levels deep, that hold a model or an adapter (a hub's cache has three)."""
    found: dict[Path, None] = {}
    for pattern in ('*/', '*/*/', '*/*/*/'):
        for name in ('model.safetensors', 'model.safetensors.index.json', 'adapter_model.safetensors'):
            found.update(dict.fromkeys(file.parent for file in sorted(folder.glob(pattern + name))))
    # A pruner or a head is a part of a checkpoint, not one.
    whole = [path for path in found if path.name != 'pruner' and not re.fullmatch(r'early\d+', path.name)]
    return whole[:most]


def _training_folder(folder: Path, files: list[str]) -> str:
    steps = [name for name in files if re.fullmatch(r'global_step\d+', name)]
    if steps or 'zero_to_fp32.py' in files or any('zero_pp_rank' in name for name in files):
        return (
            f'what DeepSpeed saves while training ({_some(steps or ["zero_to_fp32.py"])}): gather the weights with '
            f'`python zero_to_fp32.py {folder} OUT --safe_serialization`, and give OUT with config.json and the '
            'tokenizer in it'
        )
    sharded = [name for name in files if name.endswith('.distcp') or name.startswith('pytorch_model_fsdp')]
    if sharded or any(folder.glob('*/*.distcp')):
        return (
            f'what FSDP saves while training ({_some(sharded or ["*.distcp"])}): gather the weights with '
            f'`accelerate merge-weights {folder} OUT`, and give OUT with config.json and the tokenizer in it'
        )
    if any(re.fullmatch(r'iter_\d+|mp_rank_\d+.*', name) for name in files):
        return 'what Megatron saves while training: convert it to the Hugging Face format'
    return ''


def _some(names: list[str], most: int = 3) -> str:
    return ', '.join(names[:most]) + (f' and {len(names) - most} more' if len(names) > most else '')
