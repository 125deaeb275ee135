# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Compare a mixture of experts with the dense language model: at equal active operations, and at equal time.

Both are trained on the same clips, in the same order, from the same weights wherever both have the same part; the
encoder is a trained one and stays as it is. "Equal operations" is equally many steps, "equal time" as many fewer as
a step with experts takes longer (measured in turn, before). Losses are of held-out episodes. Then both drive through
the sample bag, tick by tick in turn, in torch and as graphs (tick_ratio). What was trained stays in --work: the same
command goes on where it was interrupted.

Exit status 1: an aim is missed (four times the parameters of the feed-forward networks, at most 1.15 x the dense tick,
a lower loss at equal operations, no expert read by more than twice its share of the tokens).

  vla_driver train collect --out runs/data --episodes 200 --seconds 60
  vla_driver evaluate moe --data runs/data --minutes 30 --json moe.json --png moe.png
  vla_driver evaluate moe --data runs/data --steps 300 --num-experts 28 --experts-per-token 4 --expert-size 80
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vla_driver.commands.common import add_json_argument, positive_float, positive_int, progress, provenance, write_json
from vla_driver.statistics import bracketed
from vla_driver.types import InvalidInput

#: What is aimed at.
AIMS = {'parameters_ratio': 4.0, 'tick_ratio': 1.15, 'load_max_over_uniform': 2.0}
#: Sizes that reach it on a CPU with a language model of nano's sizes: four times the feed-forward parameters.
DEFAULTS: dict[str, Any] = {'num_experts': 18, 'experts_per_token': 2, 'expert_size': 160, 'shared_size': 320}
_OPTIONS = (
    ('num_experts', int, 'N', 'routed experts of a layer'),
    ('experts_per_token', int, 'K', 'how many of them read a token'),
    ('expert_size', int, 'I', 'hidden width of each'),
    ('shared_size', int, 'I', 'hidden width of the expert that reads every token'),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument('--data', type=Path, nargs='+', metavar='DIR', help='folders of episodes (train collect)')
    length = parser.add_mutually_exclusive_group()
    length.add_argument('--steps', type=positive_int, metavar='N', help='optimiser steps of either')
    length.add_argument(
        '--minutes', type=positive_float, metavar='M', help='as many steps as the dense model takes in M (default: 10)'
    )
    for name, kind, metavar, words in _OPTIONS:
        parser.add_argument(
            f'--{name.replace("_", "-")}',
            type=kind,
            default=DEFAULTS[name],
            metavar=metavar,
            help=f'{words} (default: %(default)s)',
        )
    parser.add_argument(
        '--expert-layers', type=int, nargs='+', metavar='L', help='layers with experts (default: all but the first)'
    )
    parser.add_argument('--bias-step', type=positive_float, metavar='G', help='how far biases move at a step')
    parser.add_argument('--route-scale', type=positive_float, metavar='S', help="what a token's weights add up to")
    parser.add_argument(
        '--config',
        type=Path,
        metavar='FILE',
        help='JSON of VlaConfig entries for both, such as a larger language model',
    )
    parser.add_argument(
        '--encoder', default='nano', metavar='CKPT', help='whose encoder both read (default: %(default)s)'
    )
    parser.add_argument(
        '--work', type=Path, default=Path('out/moe'), metavar='DIR', help='where the models go (default: out/moe)'
    )
    parser.add_argument(
        '--features', type=Path, metavar='DIR', help='where encoded features are kept (default: features in --work)'
    )
    parser.add_argument(
        '--engine', choices=('onnx', 'torch'), default='onnx', help='what drives when ticks are timed (default: onnx)'
    )
    parser.add_argument('--batch', type=positive_int, default=4, metavar='K', help='clips per step (default: 4)')
    parser.add_argument('--seed', type=int, default=0, metavar='S', help='of weights, data and noise (default: 0)')
    parser.add_argument(
        '--validate-clips', type=positive_int, default=120, metavar='N', help='held-out clips (default: 120)'
    )
    parser.add_argument(
        '--rounds', type=positive_int, default=60, metavar='N', help='timed ticks of either (default: 60)'
    )
    parser.add_argument('--threads', type=positive_int, metavar='N', help="CPU threads (default: torch's)")
    parser.add_argument('--png', type=Path, metavar='FILE', help='draw the load of each expert over the steps')
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from vla_driver.ros.base.openmp import wait_briefly

    wait_briefly()  # before torch is loaded: threads must not spin where neighbours want the cores
    import torch

    from vla_driver.bag.read import BagReader
    from vla_driver.bag.sample import sample_bag_path
    from vla_driver.evaluate.moe.comparison import compare
    from vla_driver.evaluate.moe.run import EXPERTS, MoeRun
    from vla_driver.train.architecture import read_architecture

    if not args.data:
        raise InvalidInput(
            '--data is missing: folders of episodes to train on. None come with the package; collect some first: '
            'vla_driver train collect --out runs/data --episodes 200 --seconds 60'
        )
    if args.threads:
        torch.set_num_threads(args.threads)
    experts = {name: getattr(args, name) for name, *_ in _OPTIONS}
    for name in ('expert_layers', 'bias_step', 'route_scale'):
        if getattr(args, name) is not None:
            experts[name] = getattr(args, name)
    task = MoeRun(
        data=args.data,
        encoder=args.encoder,
        work=args.work,
        features=args.features,
        engine=args.engine,
        experts=experts,
        changes={} if args.config is None else read_architecture(args.config),
        steps=args.steps,
        minutes=10.0 if args.steps is None and args.minutes is None else args.minutes,
        seed=args.seed,
        clips=args.batch,
        validate_clips=args.validate_clips,
        tick_rounds=args.rounds,
    )
    with BagReader(sample_bag_path()) as bag:
        observations = list(itertools.islice(bag.observations(), 8))
    with progress(None, 'step', 'training') as bar:

        def step(of: int) -> None:
            bar.total = of
            bar.update()

        report, trained = compare(task, observations, tell=bar.write, on_step=step)
    report['aims'] = aims_of(report)
    _print(report)
    if args.png is not None:
        _draw(args.png, *trained[EXPERTS].loads)
    write_json(args.json, report | {'provenance': provenance()})
    return 0 if all(report['aims'].values()) else 1


def aims_of(report: Mapping[str, Any]) -> dict[str, bool]:
    """Return which aims are met."""
    return {
        'parameters_ratio': report['parameters_ratio'] >= AIMS['parameters_ratio'],
        'tick_ratio': report['tick_ratio'] <= AIMS['tick_ratio'],
        'loss': report['loss_moe'] < report['loss_dense'],
        'load_max_over_uniform': report['load_max_over_uniform'] <= AIMS['load_max_over_uniform'],
    }


def _draw(file: Path, steps: list[int], loads: Mapping[str, Any]) -> None:
    from vla_driver.show.experts import draw_training_loads, save_png

    save_png(file, draw_training_loads(steps, loads))


def _print(report: Mapping[str, Any]) -> None:
    print(f'{"":<24}{"steps":>8}{"loss":>10}{"L2, 3 s":>10}{"to dense":>12}  95 % interval')
    for name in ('dense', 'moe', 'moe_equal_time'):
        row = f'{name:<24}{report["steps"][name]:>8}{report[f"loss_{name}"]:>10.4f}{report[f"l2_m_{name}"]:>8.3f} m'
        if name != 'dense':
            row += (
                f'{report[f"loss_{name}_less_dense"]:>+12.4f} {bracketed(report[f"loss_{name}_less_dense_ci"], "+.4f")}'
            )
        print(row)
    for name in ('parameters_ratio', 'parameters_ratio_all', 'active_ratio'):
        print(f'{name}: {report[name]:.2f}')
    for name in ('step_ratio', 'tick_ratio', 'tick_ratio_torch', 'prefill_ratio'):
        print(f'{name}: {report[name]:.3f}{bracketed(report[f"{name}_ci"], ".3f")}')
    print(f'load_max_over_uniform: {report["load_max_over_uniform"]:.2f}')
    missed = [name for name, met in report['aims'].items() if not met]
    print('aims: ' + ('all met' if not missed else 'missed: ' + ', '.join(missed)))
