# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What sparse attention saves over full attention, by the number of tokens: forward, with backward, causal, decoding.

All cases of one number of tokens take turns in every round, and ratios are taken within the round, so that what else
the machine does meets all alike.  Full attention is the faster one of two: torch's fused kernel, and plain products
as `layers/attention.py` has them on the CPU (left out where their scores alone would fill `PRODUCTS_MB`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vla_driver.model.attention_pattern import LocalStrided
from vla_driver.model.config import LanguageConfig
from vla_driver.model.layers.attention import attention
from vla_driver.model.layers.decoder import LanguageLayer
from vla_driver.model.layers.flex_attention import sparse_attention
from vla_driver.model.layers.sparse_attention import cached_local_strided
from vla_driver.statistics import median_ci
from vla_driver.types import FloatArray, InvalidInput

PRODUCTS_MB: Final = 256.0
#: After so many seconds a number of tokens gets no more rounds than the least.
_ENOUGH_S: Final = 20.0
LEAST_ROUNDS: Final = 3
#: What is compared; each is measured as FULL and SPARSE.
KINDS: Final = ('forward', 'forward_backward', 'causal_forward', 'decode', 'layer_forward')
#: What a fitted exponent of growth is given for.
GROWTH: Final = ('forward', 'forward_backward')


@dataclass(frozen=True)
class AttentionBench:
    """What is attended: `heads` heads of `head_dim`, in a precision, on a device.

    window, unit: of the pattern, as in `LanguageConfig`; rounds: how often each case runs, after one to warm up.
    Raises `InvalidInput` for an odd number of heads, too few rounds, or a pattern that does not fit together.
    """

    heads: int = 8
    head_dim: int = 64
    window: int = 0
    unit: int = 1
    rounds: int = 7
    dtype: torch.dtype = torch.float32
    device: str = 'cpu'

    def __post_init__(self) -> None:
        if self.heads % 2:
            raise InvalidInput(f'{self.heads} heads; half of them are local and half strided: give an even number')
        if self.rounds < LEAST_ROUNDS:
            raise InvalidInput(f'{self.rounds} rounds, expected at least {LEAST_ROUNDS}')
        LocalStrided.of(1, self.window, self.unit)


def measure_attention(
    bench: AttentionBench, tokens: Iterable[int], advance: Callable[[], object] | None = None
) -> list[dict[str, Any]]:
    """Return a row for each number of tokens; advance: called after each.

    Of every kind in `KINDS`: `KIND_ratio`, full over sparse (above 1: sparse is faster), the median over rounds, its
    95 % interval `KIND_ratio_ci`, and the medians `KIND_full_ms` and `KIND_sparse_ms`.  decode: one token against the
    keys and values of all; layer_forward: a whole decoder layer.  window: of the pattern; full_kernel: the faster one.
    """
    torch.manual_seed(0)
    rows = []
    for count in tokens:
        rows.append(_row(bench, count))
        if advance is not None:
            advance()
    return rows


def growth(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the exponents x of time ~ N ** x of full and sparse attention, least squares over logarithms.

    {} for fewer than two numbers of tokens.
    """
    if len({row['tokens'] for row in rows}) < 2:
        return {}
    at = np.log([row['tokens'] for row in rows])
    return {
        f'{kind}_{which}': float(np.polyfit(at, np.log([row[f'{kind}_{which}_ms'] for row in rows]), 1)[0])
        for kind in GROWTH
        for which in ('full', 'sparse')
    }


def pays_from(rows: Sequence[dict[str, Any]], kind: str) -> int | None:
    """Return the least number of tokens from which on sparse is faster at all larger ones; None: at none."""
    found = None
    for row in sorted(rows, key=lambda row: -row['tokens']):
        if row[f'{kind}_ratio'] <= 1.0:
            break
        found = row['tokens']
    return found


def _row(bench: AttentionBench, tokens: int) -> dict[str, Any]:
    cases = _cases(bench, tokens)
    times = _timed(cases, bench)
    row: dict[str, Any] = {'tokens': tokens, 'window': LocalStrided.of(tokens, bench.window, bench.unit).window}
    for kind in KINDS:
        fulls = [name for name in times if name.startswith(f'{kind}/full')]
        best = min(fulls, key=lambda name: float(np.median(times[name])))
        ratios = times[best] / times[f'{kind}/sparse']
        row[f'{kind}_ratio'] = float(np.median(ratios))
        row[f'{kind}_ratio_ci'] = median_ci(ratios)
        row[f'{kind}_full_ms'] = float(np.median(times[best]))
        row[f'{kind}_sparse_ms'] = float(np.median(times[f'{kind}/sparse']))
        if kind == 'forward':
            row['full_kernel'] = best.rpartition(' ')[2]
    row['rounds'] = len(ratios)
    return row


def _timed(cases: dict[str, Callable[[], object]], bench: AttentionBench) -> dict[str, FloatArray]:
    """Return milliseconds [rounds] of each case; each round begins with another one."""
    names, rows, began = list(cases), [], time.perf_counter()
    for number in range(bench.rounds + 1):
        if number > LEAST_ROUNDS and time.perf_counter() - began > _ENOUGH_S:
            break
        taken = dict.fromkeys(names, 0.0)
        for place in range(len(names)):
            name = names[(place + number) % len(names)]
            start = time.perf_counter()
            cases[name]()
            if bench.device != 'cpu':
                torch.cuda.synchronize()
            taken[name] = 1e3 * (time.perf_counter() - start)
        rows.append(list(taken.values()))
    columns = np.asarray(rows[1:]).T
    return dict(zip(names, columns, strict=True))


def _cases(bench: AttentionBench, tokens: int) -> dict[str, Callable[[], object]]:
    """Return what runs: 'KIND/full NAME' and 'KIND/sparse'."""
    pattern = LocalStrided.of(tokens, bench.window, bench.unit)
    shape = (1, bench.heads, tokens, bench.head_dim)
    made = {'dtype': bench.dtype, 'device': bench.device}
    inputs = tuple(torch.randn(shape, **made).requires_grad_() for _ in range(3))  # type: ignore[call-overload]
    sparse = partial(sparse_attention, pattern=pattern)
    fulls: dict[str, Callable[..., Tensor]] = {'fused': _fused}
    if bench.heads * tokens**2 * 4e-6 <= PRODUCTS_MB:
        fulls['products'] = attention
    cases: dict[str, Callable[[], object]] = {}
    for name, full in fulls.items():
        cases[f'forward/full {name}'] = partial(_forward, full, inputs)
        cases[f'forward_backward/full {name}'] = partial(_both, full, inputs)
        cases[f'decode/full {name}'] = partial(_decode, full, inputs)
    cases['forward/sparse'] = partial(_forward, sparse, inputs)
    cases['forward_backward/sparse'] = partial(_both, sparse, inputs)
    cases['decode/sparse'] = partial(_decode, partial(cached_local_strided, pattern=pattern), inputs)
    cases['causal_forward/full fused'] = partial(_forward, partial(_fused, causal=True), inputs)
    cases['causal_forward/sparse'] = partial(_forward, partial(sparse, causal=True), inputs)
    width = bench.heads * bench.head_dim
    x = torch.randn(1, tokens, width, **made)  # type: ignore[call-overload]
    for kind, name in (('full', 'full own'), ('local_strided', 'sparse')):
        config = LanguageConfig(
            hidden_size=width,
            num_hidden_layers=1,
            num_attention_heads=bench.heads,
            num_key_value_heads=bench.heads,
            intermediate_size=5 * width // 2,
            attention=[kind],
            attention_window=bench.window,
            attention_unit=bench.unit,
        )
        layer = LanguageLayer(config, kind).to(x.device, x.dtype)
        cases[f'layer_forward/{name}'] = partial(_forward, layer, (x,))
    return cases


def _fused(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)


@torch.no_grad()
def _forward(call: Callable[..., object], inputs: Sequence[Tensor]) -> None:
    call(*inputs)


@torch.no_grad()
def _decode(call: Callable[..., object], inputs: Sequence[Tensor]) -> None:
    q, k, v = inputs
    call(q[:, :, -1:], k, v)


def _both(call: Callable[..., Tensor], inputs: Sequence[Tensor]) -> None:
    torch.autograd.grad(call(*inputs).square().mean(), inputs)
