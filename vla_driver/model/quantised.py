# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Quantised checkpoints are named and refused: their weights need kernels of their own, on some GPUs only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from vla_driver.model.files import Stored
from vla_driver.types import InvalidInput

#: quant_method in config.json -> what it is called.
_NAMES: Final = {
    'awq': 'AWQ',
    'gptq': 'GPTQ',
    'fp8': 'FP8',
    'fbgemm_fp8': 'FP8',
    'finegrained_fp8': 'FP8',
    'bitsandbytes': 'bitsandbytes',
    'bitsandbytes_4bit': 'bitsandbytes',
    'bitsandbytes_8bit': 'bitsandbytes',
    'compressed-tensors': 'compressed-tensors',
    'auto-round': 'AutoRound',
    'intel/auto-round': 'AutoRound',
    'hqq': 'HQQ',
    'quanto': 'Quanto',
    'torchao': 'torchao',
    'modelopt': 'NVIDIA ModelOpt',
    'mxfp4': 'MXFP4',
}
#: Last part of a tensor's name -> which scheme writes it.
_SIGNS: Final = {
    'qweight': 'GPTQ or AWQ',
    'qzeros': 'GPTQ or AWQ',
    'weight_packed': 'compressed-tensors',
    'SCB': 'bitsandbytes',
    'absmax': 'bitsandbytes',
    'quant_map': 'bitsandbytes',
    'weight_scale_inv': 'FP8',
}
#: The types in which unquantised weights, and counters beside them, are stored.
_PLAIN: Final = ('F64', 'F32', 'F16', 'BF16', 'I64', 'I32', 'BOOL')
_WHAT_TO_DO: Final = (
    'give the unquantised weights (BF16, FP16 or FP32) of the same model; they are read in bfloat16 where the device '
    'computes in it'
)


def refuse_quantised(config_file: Path, config: Mapping[str, Any], tensors: Mapping[str, Stored]) -> None:
    """Raise InvalidInput, naming the scheme and what shows it, for a checkpoint whose weights are quantised.

    config: of config.json; tensors: of all its safetensors files.
    """
    shown = _by_tensors(tensors)
    for part, entries in (('', config), *((f'{key}.', config.get(key)) for key in ('text_config', 'vision_config'))):
        for key in ('quantization_config', 'compression_config'):
            found = entries.get(key) if isinstance(entries, Mapping) else None
            if found:
                where = f'{config_file} has {part}{key}'
                if shown is None and tensors:
                    # Left behind by a tool that merged a quantised base; transformers would quantise the weights anew.
                    kinds = ', '.join(sorted({one.dtype for one in tensors.values()}))
                    raise InvalidInput(
                        f'{where} ({_scheme(found)}), but its weights are not quantised ({kinds}): delete that entry'
                    )
                raise InvalidInput(f'{where}: a quantised model ({_scheme(found)}), which is not read; {_WHAT_TO_DO}')
    if shown is not None:
        raise InvalidInput(f'checkpoint {config_file.parent} holds quantised weights ({shown}); {_WHAT_TO_DO}')


def _scheme(found: Any) -> str:
    if not isinstance(found, Mapping):
        return str(found)
    method = found.get('quant_method')
    if not method and (found.get('load_in_4bit') or found.get('load_in_8bit')):
        method = 'bitsandbytes'
    name = _NAMES.get(str(method).lower(), str(method or 'of an unnamed kind'))
    bits = found.get('bits') or found.get('w_bit') or (4 if found.get('load_in_4bit') else None)
    return f'{name}, {bits} bit' if bits else name


def _by_tensors(tensors: Mapping[str, Stored]) -> str | None:
    """Return the scheme and the tensor that shows it; None for plain weights."""
    for name, one in tensors.items():
        sign = _SIGNS.get(name.rpartition('.')[2])
        if sign is not None:
            return f'{sign}: {name} is {one.dtype}'
        if one.dtype not in _PLAIN:
            return f'{"FP8" if one.dtype.startswith("F8") else one.dtype}: {name} is {one.dtype}'
    return None
