# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Count and time what pruning visual tokens saves: vision encoder, pruner, language model, whole.

Architectures have their full size and random weights. --device meta counts operations only, without memory for
weights; cpu and cuda also measure times, every pruner in each round of one run. On a CPU, --scale 8 divides all
widths by 8, so that ratios come out in minutes. 'early:B' prunes before block B of the vision encoder, all others
after it or inside the language model.

  vla_driver evaluate efficiency --arch qwen2.5-vl-3b --tokens 3249 --keep 2436 1624 812 --device meta --json e.json
  vla_driver evaluate efficiency --arch native --device cpu
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from vla_driver.commands.common import add_json_argument, positive_int, progress, provenance, write_json
from vla_driver.types import InvalidInput

ARCHS: Final = ('qwen2.5-vl-3b', 'qwen2.5-vl-7b', 'native')
#: Before these blocks early pruning is tried by default; full attention, the costly kind, is in 7, 15, 23 and 31.
_EARLY_BLOCKS: Final = (2, 4, 6, 7, 8, 12, 16)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument('--arch', choices=ARCHS, default='qwen2.5-vl-3b', help='which model (default: %(default)s)')
    parser.add_argument(
        '--tokens',
        type=positive_int,
        metavar='N',
        help='visual tokens (default: 3249; for native: what its pictures give)',
    )
    parser.add_argument(
        '--keep', type=positive_int, nargs='+', metavar='K', help='tokens kept (default: 75, 50 and 25 %% of them)'
    )
    parser.add_argument('--pruners', nargs='+', metavar='NAME', help='which pruners (default: all)')
    parser.add_argument(
        '--early-blocks',
        type=positive_int,
        nargs='*',
        default=list(_EARLY_BLOCKS),
        metavar='B',
        help='prune early before these blocks of the vision encoder (default: 2 4 6 7 8 12 16)',
    )
    parser.add_argument(
        '--device',
        choices=('meta', 'cpu', 'cuda'),
        default=None,
        help='where it computes (default: meta; for native: cpu)',
    )
    parser.add_argument('--scale', type=positive_int, default=1, help='divide all widths, to run on a CPU (default: 1)')
    parser.add_argument('--repeats', type=positive_int, default=5, help='timed rounds (default: 5)')
    parser.add_argument('--answer', type=positive_int, default=16, help='tokens decoded in a round (default: 16)')
    parser.add_argument(
        '--model', metavar='DIR', default='nano', help='checkpoint whose sizes native has (default: nano)'
    )
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from vla_driver.evaluate.cost.efficiency import ANSWER_TOKENS, PROMPT_TOKENS, as_dicts, check_device, check_keep

    device = check_device(args.device or ('cpu' if args.arch == 'native' else 'meta'))
    total = _tokens(args)
    keep = args.keep or [int(total * share) for share in (0.75, 0.5, 0.25)]
    check_keep(total, keep)
    if args.scale > 1 and args.arch == 'native':
        raise InvalidInput(f'scale {args.scale}: arch native is small as it is; leave --scale out')
    rows, setup = _native(args, total, keep, device) if args.arch == 'native' else _qwen(args, total, keep, device)
    figures = as_dicts(rows)
    _print(figures)
    write_json(
        args.json,
        {
            'provenance': provenance(),
            'arch': args.arch,
            'tokens': total,
            'device': _device_name(device),
            'scale': args.scale,
            'weights': 'random',
            'prompt_tokens': None if args.arch == 'native' else PROMPT_TOKENS,
            'answer_tokens': None if args.arch == 'native' else ANSWER_TOKENS,
            'repeats': args.repeats,
            **setup,
            'rows': figures,
        },
    )
    return 0


def _tokens(args: argparse.Namespace) -> int:
    if args.arch != 'native':
        return args.tokens or 3249
    config = _native_config(args.model)
    total = sum(len(names) * rows * columns for rows, columns, names in _native_grids(config))
    if args.tokens not in (None, total):
        raise InvalidInput(f'tokens {args.tokens}: the pictures of {args.model} give {total}; leave --tokens out')
    return total


def _native_config(model: str) -> Any:
    from vla_driver.model.checkpoint import resolve_checkpoint
    from vla_driver.model.config import VlaConfig

    return VlaConfig.from_pretrained(resolve_checkpoint(Path(model)))


def _native_grids(config: Any) -> list[tuple[int, int, tuple[str, ...]]]:
    return [(*config.token_grid(size), names) for size, names in config.camera_groups]


def _native(args: argparse.Namespace, total: int, keep: list[int], device: Any) -> tuple[list[Any], dict[str, Any]]:
    from vla_driver.evaluate.cost.native import NativeBench, measure_native
    from vla_driver.geometry.rig import load_rig
    from vla_driver.model.pruning.registry import PRUNER_NAMES

    bench = NativeBench(_native_config(args.model), load_rig('sim'), device)
    blocks = range(1, bench.policy.config.vision_config.num_hidden_layers)
    every = [name for name in PRUNER_NAMES if name != 'plan']  # which knows the weights of one checkpoint
    names = tuple(args.pruners or (*every, *(f'early:{block}' for block in blocks)))
    print(f'{args.model}: {total} tokens of six cameras, random weights, on {_device_name(device)}', flush=True)
    cases = 1 + len(keep) * sum(name != 'none' for name in names)
    with progress(cases * (1 + args.repeats), 'piece', 'efficiency') as bar:
        rows = list(measure_native(bench, keep, names, repeats=args.repeats, advance=lambda _: bar.update()))
    return rows, {}


def _qwen(args: argparse.Namespace, total: int, keep: list[int], device: Any) -> tuple[list[Any], dict[str, Any]]:
    from vla_driver.evaluate.cost.efficiency import QwenBench, measure_qwen, pruner_names

    names = tuple(args.pruners or pruner_names(args.early_blocks))
    bench = QwenBench(args.arch, total, device, args.scale)
    text = bench.model.config.text_config
    pictures = [f'{c}x{r}' for r, c in zip(bench.grids.rows, bench.grids.columns, strict=True)]
    print(
        f'{args.arch}{f", all widths divided by {args.scale}" if args.scale > 1 else ""}: language model '
        f'{text.num_hidden_layers} layers of {text.hidden_size}, vision encoder {bench.tower.depth} blocks of '
        f'{bench.model.config.vision_config.hidden_size}; {total} tokens ({", ".join(pictures)}) and '
        f'{bench.ids.shape[1] - total} words; random weights, on {_device_name(device)}',
        flush=True,
    )
    cases = 1 + len(keep) * sum(name != 'none' for name in names)
    with progress(cases * (2 + args.repeats if device.type != 'meta' else 1), 'piece', 'efficiency') as bar:
        rows = list(
            measure_qwen(bench, keep, names, repeats=args.repeats, answer=args.answer, advance=lambda _: bar.update())
        )
    return rows, {'pictures': pictures, 'words': bench.ids.shape[1] - total}


def _device_name(device: Any) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == 'cuda' else str(device)


def _print(rows: list[dict[str, Any]]) -> None:
    """Print the rows: operations in 10^9 and the whole's saving, then times where there are any."""

    def shown(value: float | None, form: str) -> str:
        return format(value, form) if value is not None else '-'

    print(f'{"pruner":>14} {"kept":>5} {"vision":>9} {"pruner":>9} {"language":>9} {"whole":>9} GFLOP {"saving":>6}'
          f' {"prefill":>9} {"decode":>8} {"to plan":>9} ms {"MB":>7}')  # fmt: skip
    for row in rows:
        operations = [row[f'flops_{part}'] / 1e9 for part in ('vision', 'pruner', 'language_model', 'whole')]
        print(
            f'{row["pruner"]:>14} {row["kept"]:>5} ' + ' '.join(f'{value:9.1f}' for value in operations)
            + f'       x{row["flops_saving"]:5.2f} {shown(row["prefill_ms"], "9.1f")}'
            f' {shown(row["decode_ms_per_token"], "8.2f")} {shown(row["image_to_plan_ms"], "9.1f")}   '
            f' {shown(row["peak_memory_mb"], "7.0f")}'
        )  # fmt: skip
