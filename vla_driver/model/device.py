# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""On which device a model runs, by name; torch is loaded only where there may be a GPU."""

from __future__ import annotations

import ctypes
import functools
import sys
from pathlib import Path
from typing import Final

from vla_driver.types import InvalidInput

#: What users may say, for help texts.
DEVICE_HELP: Final = 'auto (CUDA where torch sees it, else the CPU), cpu, cuda or cuda:N'
#: What torch itself loads first, and finds no GPU without: NVIDIA's driver, and the device file of AMD's.
_NVIDIA_DRIVER: Final = 'libcuda.so.1'
_AMD_DEVICE: Final = Path('/dev/kfd')


def choose_device(name: str = 'auto') -> str:
    """Return the device of a name as in DEVICE_HELP: 'cpu', 'cuda' or 'cuda:N', as torch calls them.

    Raises `InvalidInput` for other names, and for CUDA devices that are not there.
    """
    if name == 'auto':
        return 'cuda' if gpu_driver_is_here() and _cuda_devices() else 'cpu'
    kind, _, number = name.partition(':')
    if (kind, number) != ('cpu', '') and (kind != 'cuda' or (':' in name and not number.isdigit())):
        raise InvalidInput(f'device {name!r}: allowed is {DEVICE_HELP}')
    if kind == 'cuda' and int(number or 0) >= (count := _cuda_devices()):
        import torch

        raise InvalidInput(f'device {name!r}: torch {torch.__version__} sees {count} CUDA devices; use cpu or auto')
    return name


@functools.cache
def gpu_driver_is_here() -> bool:
    """Whether a driver of GPUs is installed, so that asking torch for one may be worth the seconds that it loads."""
    if not sys.platform.startswith('linux') or _AMD_DEVICE.exists():
        return True
    try:
        ctypes.CDLL(_NVIDIA_DRIVER)
    except OSError:
        return False
    return True


def _cuda_devices() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
