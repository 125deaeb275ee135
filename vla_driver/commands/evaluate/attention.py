# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Measure what sparse attention (half of the heads local, half strided) saves over full attention.

For every number of tokens: forward, forward and backward, the causal form, one token decoded against a cache, and a
whole layer of the language model; full over sparse, so above 1 sparse is faster. Full attention is the faster one of
torch's fused kernel and plain products. All cases take turns in one run.

  vla_driver evaluate attention --json attention.json
  vla_driver evaluate attention --tokens 512 1024 2048 4096 8192 --precision bfloat16 --json attention.json
"""

from __future__ import annotations

import argparse
from typing import Any, Final

from vla_driver.commands.common import add_json_argument, positive_int, progress, provenance, write_json
from vla_driver.commands.train.arguments import add_machine_arguments
from vla_driver.statistics import bracketed

_TOKENS: Final = (128, 256, 512, 1024, 2048, 3072, 4096, 8192)
_PRECISIONS: Final = ('float32', 'bfloat16')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        '--tokens',
        type=positive_int,
        nargs='+',
        default=list(_TOKENS),
        metavar='N',
        help=f'how many tokens attend to each other (default: {" ".join(map(str, _TOKENS))})',
    )
    parser.add_argument('--heads', type=positive_int, default=8, help='heads of attention (default: %(default)s)')
    parser.add_argument('--head-dim', type=positive_int, default=64, help='width of a head (default: %(default)s)')
    parser.add_argument(
        '--window',
        type=int,
        default=0,
        metavar='W',
        help='tokens in a window (default: 0, by their number)',
    )
    parser.add_argument(
        '--unit',
        type=positive_int,
        default=1,
        metavar='U',
        help='tokens that a stride keeps together; 64 or 128 on CUDA (default: %(default)s)',
    )
    parser.add_argument(
        '--rounds', type=positive_int, default=7, help='timed rounds, fewer where they take long (default: %(default)s)'
    )
    parser.add_argument(
        '--precision', choices=_PRECISIONS, default='float32', help='what it computes in (default: %(default)s)'
    )
    add_machine_arguments(
        parser, threads="CPU threads (default: torch's; on cores that others use, too, 1 gives steadier ratios)"
    )
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    import torch

    from vla_driver.evaluate.cost.attention import KINDS, AttentionBench, growth, measure_attention, pays_from
    from vla_driver.model.device import choose_device

    torch.set_num_threads(args.threads or torch.get_num_threads())
    bench = AttentionBench(
        heads=args.heads,
        head_dim=args.head_dim,
        window=args.window,
        unit=args.unit,
        rounds=args.rounds,
        dtype=getattr(torch, args.precision),
        device=choose_device(args.device),
    )
    with progress(len(args.tokens), 'size', 'attention') as bar:
        rows = measure_attention(bench, args.tokens, bar.update)
    exponents = growth(rows)
    begins = {kind: pays_from(rows, kind) for kind in KINDS}
    _print(rows, exponents, begins)
    write_json(
        args.json,
        {
            'provenance': provenance(),
            'heads': args.heads,
            'head_dim': args.head_dim,
            'unit': args.unit,
            'precision': args.precision,
            'device': bench.device,
            'threads': torch.get_num_threads(),
            'rows': rows,
            'exponents': exponents,
            'pays_from': begins,
        },
    )
    return 0


def _print(rows: list[dict[str, Any]], exponents: dict[str, float], begins: dict[str, int | None]) -> None:
    kinds = list(begins)
    names = [kind.replace('_', ' ') for kind in kinds]
    print('full / sparse, above 1 where sparse is faster, with its 95 % interval')
    print(f'{"tokens":>6} {"window":>6}  ' + ' '.join(f'{name:>22}' for name in names))
    for row in rows:
        cells = []
        for kind in kinds:
            cells.append(f'{row[f"{kind}_ratio"]:.2f}{bracketed(row[f"{kind}_ratio_ci"], ".2f")}')
        print(f'{row["tokens"]:>6} {row["window"]:>6}  ' + ' '.join(f'{cell:>22}' for cell in cells))
    print('pays from ' + ', '.join(f'{name}: {begins[kind] or "-"}' for name, kind in zip(names, kinds, strict=True)))
    if exponents:
        print('time grows as N to the ' + ', '.join(f'{k.replace("_", " ")}: {v:.2f}' for k, v in exponents.items()))
