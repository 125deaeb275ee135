# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Devices by name."""

from __future__ import annotations

import pytest
import torch

from vla_driver.model import device as devices
from vla_driver.model.device import choose_device, gpu_driver_is_here
from vla_driver.policies.loading import load_policy
from vla_driver.types import InvalidInput


@pytest.mark.parametrize(
    ('there', 'name', 'device'),
    [
        (0, 'auto', 'cpu'),
        (0, 'cpu', 'cpu'),
        (2, 'auto', 'cuda'),
        (2, 'cpu', 'cpu'),
        (2, 'cuda', 'cuda'),
        (2, 'cuda:1', 'cuda:1'),
    ],
)
def test_a_name_is_a_device_that_is_there(there: int, name: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: there > 0)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: there)
    monkeypatch.setattr(devices, 'gpu_driver_is_here', lambda: True)
    assert choose_device(name) == device


def test_without_a_driver_torch_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: pytest.fail('torch was asked'))
    monkeypatch.setattr(devices, 'gpu_driver_is_here', lambda: False)
    assert choose_device('auto') == 'cpu'


def test_where_torch_sees_a_gpu_its_driver_is_seen() -> None:
    assert gpu_driver_is_here() or not torch.cuda.is_available()


def test_any_library_in_place_of_the_driver_sends_the_question_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    for library, there in (('libc.so.6', True), ('libno-such-driver.so.1', devices._AMD_DEVICE.exists())):
        monkeypatch.setattr(devices, '_NVIDIA_DRIVER', library)
        assert gpu_driver_is_here.__wrapped__() == there


@pytest.mark.parametrize(
    ('there', 'name', 'words'),
    [
        (0, 'cuda', "'cuda': torch .* sees 0 CUDA devices; use cpu"),
        (1, 'cuda:1', 'sees 1 CUDA devices'),
        (1, 'gpu', "'gpu': allowed is auto"),
        (1, 'cuda:', 'allowed is auto'),
        (1, 'cuda:first', 'allowed is auto'),
        (1, 'cpu:0', 'allowed is auto'),
        (1, '', 'allowed is auto'),
    ],
)
def test_other_devices_are_refused(there: int, name: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: there > 0)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: there)
    with pytest.raises(InvalidInput, match=words):
        choose_device(name)


def test_a_checkpoint_is_not_loaded_for_a_device_that_is_not_there() -> None:
    with pytest.raises(InvalidInput, match="device 'cuda:99'"):
        load_policy('nano', device='cuda:99')
