# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""On which device a model runs."""

from __future__ import annotations

import torch

from vla_driver.types import InvalidInput

#: What users may say, for help texts.
DEVICE_HELP = 'auto (CUDA where torch sees it, else the CPU), cpu, cuda or cuda:N'


def choose_device(name: str = 'auto') -> torch.device:
    """Return the device of a name as in DEVICE_HELP.

    Raises `InvalidInput` for other names, and for CUDA devices that are not there.
    """
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    kind, _, number = name.partition(':')
    if (kind, number) != ('cpu', '') and (kind != 'cuda' or (':' in name and not number.isdigit())):
        raise InvalidInput(f'device {name!r}: allowed is {DEVICE_HELP}')
    if kind == 'cuda':
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number or 0) >= count:
            raise InvalidInput(f'device {name!r}: torch {torch.__version__} sees {count} CUDA devices; use cpu or auto')
    return torch.device(name)
