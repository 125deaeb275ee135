# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A folder that is no checkpoint is told what it is, before anything is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from vla_driver.model.checkpoint import inspect_checkpoint, resolve_checkpoint
from vla_driver.model.pruning.registry import make_pruner
from vla_driver.policies.loading import load_policy
from vla_driver.resources import resource
from vla_driver.types import InvalidInput

POINTER = 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n'
INDEX = 'model.safetensors.index.json'
Edit = Callable[[Path], Any]


@pytest.fixture
def folder(tmp_path: Path, tiny_checkpoint: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / 'checkpoint'))


def shards(folder: Path, count: int = 3) -> list[Path]:
    """Split the weights as save_pretrained does; return the shards."""
    tensors = load_file(folder / 'model.safetensors')
    (folder / 'model.safetensors').unlink()
    names, where, files = sorted(tensors), {}, []
    for number in range(count):
        file = folder / f'model-{number + 1:05}-of-{count:05}.safetensors'
        part = names[number::count]
        save_file({name: tensors[name] for name in part}, file, metadata={'format': 'pt'})
        where.update(dict.fromkeys(part, file.name))
        files.append(file)
    (folder / INDEX).write_text(json.dumps({'metadata': {}, 'weight_map': where}))
    return files


def touch(*names: str) -> Edit:
    def edit(folder: Path) -> None:
        (folder / 'model.safetensors').unlink()
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b'something')

    return edit


def nested(*parts: str) -> Edit:
    def edit(folder: Path) -> None:
        below = folder.joinpath(*parts)
        below.mkdir(parents=True)
        for file in [one for one in folder.iterdir() if one.is_file()]:
            file.rename(below / file.name)

    return edit


def edited(**entries: Any) -> Edit:
    return lambda file: file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def test_shards_are_read(folder: Path) -> None:
    files = shards(folder)
    assert inspect_checkpoint(folder).weights == tuple(files)
    load_policy(folder)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda f: f.write_text('{"metadata": {"total_size": 5}}'), 'has no weight_map'),
        (lambda f: f.write_text('{"weight_map": {}}'), 'has no weight_map'),
        (lambda f: f.write_text('{"weight_map": ["a"]}'), 'has no weight_map'),
        (lambda f: f.write_text('{"weight_map": {"a": 7}}'), 'has no weight_map'),
        (lambda f: f.write_text('{"weight_map": {"a": "../other/model.safetensors"}}'), 'expected files in its own'),
        (lambda f: f.write_text('{'), f'{INDEX} is no valid configuration'),
        (lambda f: f.write_text(POINTER), f'{INDEX} is a Git LFS pointer'),
        (
            lambda f: (f.parent / 'model-00002-of-00003.safetensors').unlink(),
            r'lacks 1 of the 3 files that .* names: model-00002-of-00003\.safetensors',
        ),
        (
            lambda f: (f.parent / 'model-00002-of-00003.safetensors').rename(f.parent / 'x.incomplete'),
            r'download did not finish \(x\.incomplete\)',
        ),
        (
            lambda f: (f.parent / 'model-00003-of-00003.safetensors').write_text(POINTER),
            'model-00003-of-00003.safetensors is a Git LFS pointer',
        ),
        (edited(metadata=None), 'lacks "metadata", an object: add "metadata": {}'),
        (edited(metadata=[]), 'lacks "metadata"'),
        (lambda f: f.unlink(), f'no {INDEX}, which says what is in its 3 shards'),
    ],
)
def test_faults_of_an_index(folder: Path, change: Edit, message: str) -> None:
    shards(folder)
    change(folder / INDEX)
    with pytest.raises(InvalidInput, match=message):
        load_policy(folder)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (touch('model-q4_k_m.gguf'), r'model-q4_k_m\.gguf \(GGUF'),
        (touch('tf_model.h5'), 'TensorFlow'),
        (touch('model.onnx'), 'ONNX'),
        (touch('pytorch_model-00001-of-00002.bin', 'pytorch_model.bin.index.json'), 'pickles'),
        (touch('optimizer.pt', 'scheduler.pt', 'rng_state.pth', 'trainer_state.json'), 'only the state of a training'),
        (touch('optimizer.pt', 'pytorch_model.bin'), r'pickles \(optimizer.pt, pytorch_model.bin\)'),
        (touch('global_step120/zero_pp_rank_0_mp_rank_00_model_states.pt', 'latest'), 'DeepSpeed.*zero_to_fp32'),
        (touch('pytorch_model_fsdp_0/__0_0.distcp'), 'FSDP.*merge-weights'),
        (touch('iter_0001000/mp_rank_00/model.pt'), 'Megatron'),
        (touch('consolidated.safetensors'), 'consolidated.safetensors: if that is the whole model, rename it'),
        (touch('weights.zip'), r'unpack weights\.zip'),
        (touch('.cache/huggingface/download/x.4d7a.incomplete'), r'download did not finish \(x\.4d7a\.incomplete\)'),
        (nested('checkpoint-500'), 'there is one in .*/checkpoint-500; give that'),
        (nested('snapshots', '4d7a2146'), 'there is one in .*/snapshots/4d7a2146; give that'),
        (nested('models--x--y', 'snapshots', '4d7a2146'), 'models--x--y/snapshots/4d7a2146; give that'),
        (lambda f: [one.unlink() for one in f.iterdir()], 'it is empty'),
        (lambda f: (f / 'config.json').write_text(POINTER), r'config\.json is a Git LFS pointer'),
        (lambda f: (f / 'model.safetensors').write_text(POINTER), r'model\.safetensors is a Git LFS pointer'),
        (lambda f: (f / 'model.safetensors').write_bytes(b''), r'model\.safetensors is empty'),
        (lambda f: save_file({}, f / 'model.safetensors'), 'holds no weights'),
        (lambda f: (f / 'config.json').unlink(), 'holds no config.json'),
        (lambda f: (f / 'config.json').write_text('[]'), 'expected an object'),
    ],
)
def test_what_a_folder_holds_instead(folder: Path, change: Edit, message: str) -> None:
    change(folder)
    with pytest.raises(InvalidInput, match=message):
        resolve_checkpoint(folder)


def test_links_of_a_cache_that_has_gone(folder: Path) -> None:
    for name in ('model.safetensors', 'config.json'):
        kept = (folder / name).read_bytes()
        (folder / name).unlink()
        (folder / name).symlink_to('../../blobs/4d7a')
        with pytest.raises(InvalidInput, match=rf'{name} is a link to \.\./\.\./blobs/4d7a, which does not exist'):
            load_policy(folder)
        (folder / name).unlink()
        (folder / name).write_bytes(kept)
    folder.rename(folder.parent / 'moved')
    folder.symlink_to('elsewhere')
    with pytest.raises(InvalidInput, match='is a link to elsewhere, which does not exist'):
        load_policy(folder)


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('', 'has no name'),
        ('Qwen/Qwen2.5-VL-3B-Instruct', 'hf download Qwen/Qwen2.5-VL-3B-Instruct --local-dir'),
        ('/no/such/folder/anywhere', 'not found'),
        ('x' * 5000, 'cannot be read|not found'),
    ],
)
def test_names_of_nothing(name: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        load_policy(name)


def test_a_file_instead_of_its_folder(tmp_path: Path) -> None:
    for name, message in (('model-q4.gguf', 'llama.cpp'), ('model.safetensors', 'is a file; give its folder')):
        (tmp_path / name).write_bytes(b'GGUF')
        with pytest.raises(InvalidInput, match=message):
            resolve_checkpoint(tmp_path / name)


@pytest.mark.parametrize('kind', ['pruner', 'early1'])
@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda f: (f / 'model.safetensors').write_text(POINTER), r'model\.safetensors is a Git LFS pointer'),
        (lambda f: (f / 'model.safetensors').write_bytes(b''), r'model\.safetensors is empty'),
        (
            lambda f: (f / 'model.safetensors').write_bytes((f / 'model.safetensors').read_bytes()[:9000]),
            'is cut off',
        ),
        (
            lambda f: ((f / 'model.safetensors').unlink(), (f / 'model.safetensors').symlink_to('gone')),
            'is a link to gone',
        ),
        (lambda f: save_file({'x': torch.zeros(1)}, f / 'model.safetensors'), 'do not fit|does not load'),
    ],
)
def test_pruners_and_heads_say_the_same(tmp_path: Path, kind: str, change: Edit, message: str) -> None:
    folder = Path(shutil.copytree(resource('models') / 'nano' / kind, tmp_path / kind))
    change(folder)
    with pytest.raises(InvalidInput, match=message):
        make_pruner(folder)


@pytest.mark.parametrize('kind', ['pruner', 'early1'])
def test_the_configuration_of_pruners_and_heads(tmp_path: Path, kind: str) -> None:
    """A pointer in place of config.json hides of which kind the folder is: either loader names it."""
    folder = Path(shutil.copytree(resource('models') / 'nano' / kind, tmp_path / kind))
    (folder / 'config.json').write_text(POINTER)
    with pytest.raises(InvalidInput, match=r'config\.json is a Git LFS pointer'):
        make_pruner(folder)


def test_a_tokenizer_that_was_not_fetched(checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is small, and said before the weights are read."""
    folder = checkpoint()
    monkeypatch.setattr('vla_driver.model.qwen.loading.load_weights', lambda *_: pytest.fail('the weights were read'))
    for name in ('tokenizer.json', 'preprocessor_config.json', 'generation_config.json'):
        kept = (folder / name).read_bytes()
        (folder / name).write_text(POINTER)
        with pytest.raises(InvalidInput, match=rf'{name} is a Git LFS pointer'):
            load_policy(folder)
        (folder / name).write_bytes(kept)
    (folder / 'tokenizer.json').unlink()
    with pytest.raises(InvalidInput, match=r'no tokenizer\.json'):
        load_policy(folder)


def test_a_type_that_torch_does_not_have(
    folder: Path, checkpoint: Callable[..., Path], edit_json: Callable[..., None]
) -> None:
    for given in (folder, checkpoint()):
        edit_json(given / 'config.json', dtype='bf16')
        with pytest.raises(InvalidInput, match=r"config\.json is no valid configuration: .*'bf16'"):
            load_policy(given)
