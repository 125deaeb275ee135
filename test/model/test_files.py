# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A file of a checkpoint that is not what it is called is named, with what it is and what to do."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vla_driver.model.files import Stored, read_header, read_json
from vla_driver.types import InvalidInput

POINTER = b'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 3968658944\n'
PAGE = b'<!DOCTYPE html>\n<html><body>429 Too Many Requests</body></html>'


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / 'model.safetensors'
    save_file({'a': torch.zeros(3, 5), 'b': torch.zeros(4, dtype=torch.bfloat16)}, path, metadata={'format': 'pt'})
    return path


def test_the_header_says_what_is_stored(weights: Path) -> None:
    assert read_header(weights) == {'a': Stored('F32', (3, 5)), 'b': Stored('BF16', (4,))}


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', r'is empty \(0 bytes\)'),
        (POINTER, r'Git LFS pointer.*3,968,658,944 bytes.*git lfs pull'),
        (b'/annex/objects/SHA256E-s12--4d7a.safetensors\n', 'git annex get'),
        (PAGE, 'holds a web page'),
        (b'\xef\xbb\xbf\n<html>', 'holds a web page'),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', 'holds a web page'),
        (b'{"error": "Repository not found"}', r"begins with '\{\"error\""),
        (b'not safetensors at all', "begins with 'not safetensors at all'"),
        (b'PK\x03\x04' + bytes(60), r'zip archive \(what torch.save writes'),
        (b'\x80\x02\x8a\x0al\xfc\x9cF', 'a pickle'),
        (b'GGUF' + bytes(60), 'llama.cpp'),
        (b'\x1f\x8b\x08' + bytes(60), 'gzip'),
        (bytes(4096), 'no safetensors file'),
        (b'\x07', 'no safetensors file'),
        (struct.pack('<Q', 500) + b'{"a": {"dtype"', 'cut off within its header'),
        (struct.pack('<Q', 20) + b'{"a": {"dtype": 7   ' + bytes(9), 'its header is damaged'),
        (struct.pack('<Q', 16) + b'{"a": [1, 2, 3]}', 'its header is damaged'),
    ],
)
def test_other_content_is_named(weights: Path, content: bytes, message: str) -> None:
    weights.write_bytes(content)
    with pytest.raises(InvalidInput, match=message) as caught:
        read_header(weights)
    assert str(weights) in str(caught.value)


@pytest.mark.parametrize('left', [1, 20, 60, 100, 200])
def test_a_file_that_was_cut_off(weights: Path, left: int) -> None:
    whole = weights.read_bytes()
    assert left < len(whole)
    weights.write_bytes(whole[:-left])
    with pytest.raises(InvalidInput, match=r'cut off|no safetensors file'):
        read_header(weights)
    weights.write_bytes(whole + b'x' * left)
    with pytest.raises(InvalidInput, match='its header says'):
        read_header(weights)


def test_links_folders_and_absent_files(tmp_path: Path, weights: Path) -> None:
    link = tmp_path / 'config.json'
    link.symlink_to('../../blobs/4d7a2146')
    with pytest.raises(InvalidInput, match=r'is a link to \.\./\.\./blobs/4d7a2146, which does not exist'):
        read_json(link)
    good = tmp_path / 'link.safetensors'
    good.symlink_to(weights)
    assert len(read_header(good)) == 2
    loop = tmp_path / 'loop.json'
    loop.symlink_to('loop.json')
    with pytest.raises(InvalidInput, match=r'loop\.json'):
        read_json(loop)
    with pytest.raises(InvalidInput, match='is a folder'):
        read_json(tmp_path)
    with pytest.raises(InvalidInput, match='does not exist'):
        read_header(tmp_path / 'nothing.safetensors')


def test_a_file_without_the_right_to_read_it(tmp_path: Path) -> None:
    path = tmp_path / 'config.json'
    path.write_text('{}')
    path.chmod(0)
    if os.geteuid() == 0:  # who may read everything: as the user nobody, in a process of its own
        for folder in (tmp_path, *tmp_path.parents[:2]):
            folder.chmod(0o755)
        child = os.fork()
        if child == 0:
            os.setuid(65534)
            try:
                read_json(path)
            except InvalidInput as error:
                os._exit(0 if 'let this user read it' in str(error) else 2)
            os._exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        return
    with pytest.raises(InvalidInput, match='let this user read it'):
        read_json(path)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (POINTER, 'git lfs pull'),
        (b'{', 'no valid configuration'),
        (b'[1, 2]', 'expected an object, found a list'),
        (json.dumps({'a': 1}).encode('utf-16'), 'no valid configuration'),
        (b'[' * 100_000, 'no valid configuration'),
        (PAGE, 'web page'),
        (b'', 'is empty'),
    ],
)
def test_json_that_is_none(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / 'config.json'
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=message):
        read_json(path)
