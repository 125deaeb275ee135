# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Compare solvers and numbers of steps of the flow decoder with a 50-step reference, on recorded episodes.

minADE is that of the best of K samples over the whole plan, against the expert's; `to 50` is by how much it differs
from the reference's (0: not at all).  Where the checkpoint forecasts others and the episodes recorded them (version
2), it is also said how many are found and how well their futures are forecast, against constant velocity.

  vla_driver evaluate flow --checkpoint nano --data episodes/val --json flow.json
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vla_driver.commands.common import add_json_argument, positive_int, progress, provenance, write_json
from vla_driver.settings.options import add_options
from vla_driver.settings.policy import PolicyParameters
from vla_driver.types import InvalidInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        '--checkpoint', default='nano', metavar='CKPT', help='a native checkpoint, or the name of a shipped one'
    )
    parser.add_argument('--data', type=Path, nargs='+', required=True, metavar='DIR', help='folders of episodes')
    parser.add_argument(
        '--clips', type=positive_int, default=100, metavar='N', help='at most so many clips (default: %(default)s)'
    )
    parser.add_argument(
        '--samples', type=positive_int, default=6, metavar='K', help='samples of a tick (default: %(default)s)'
    )
    parser.add_argument('--seed', type=int, default=0, metavar='S', help='seed of the samples (default: %(default)s)')
    parser.add_argument(
        '--held-out', action='store_true', help='only the episodes that `train policy` holds out of such folders'
    )
    parser.add_argument(
        '--timed', type=positive_int, default=40, metavar='N', help='decodings timed (default: %(default)s)'
    )
    add_options(parser, PolicyParameters, 'device')
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from vla_driver.data.clips import ClipDataset, find_episodes, split_episodes
    from vla_driver.evaluate.flow import evaluate_flow
    from vla_driver.model.device import choose_device
    from vla_driver.model.native.loading import load_model

    device = choose_device(args.device)
    model = load_model(args.checkpoint).to(device)
    paths = find_episodes(args.data)
    if args.held_out:
        paths = split_episodes(paths)[1]
        if not paths:
            raise InvalidInput('--held-out: of a single episode nothing is held out; give more, or leave it out')
    dataset = ClipDataset(paths, model.config, augment=False)
    # How many clips lie so far apart shows at the end only.
    with progress(None, 'batch', args.checkpoint) as bar:
        found = evaluate_flow(
            model,
            dataset.validation_batches(4, args.clips),
            samples=args.samples,
            seed=args.seed,
            timed=args.timed,
            on_batch=bar.update,
        )
    _print(found)
    write_json(
        args.json,
        {
            'checkpoint': str(args.checkpoint),
            'episodes': len(paths),
            'held_out': args.held_out,
            **found,
            'provenance': provenance(),
        },
    )
    return 0


def _print(found: Mapping[str, Any]) -> None:
    print(f'{found["ticks"]} ticks, {found["samples"]} samples of each')
    print(
        f'  {"solver":<10}{"steps":>6}{"minADE":>10}{"to 50":>9}{"ADE":>10}{"to 50":>9}{"misses":>8}{"drivable":>10}'
        f'{"time":>10}'
    )
    for row in found['rows']:
        print(
            f'  {row["solver"]:<10}{row["steps"]:>6}{row["minade_m"]:>8.3f} m{row["relative_to_50"]:>+9.2%}'
            f'{row["ade_m"]:>8.3f} m{row["ade_relative_to_50"]:>+9.2%}{row["miss_rate"]:>8.1%}{row["drivable"]:>10.1%}'
            f'{row["ms"]:>7.2f} ms'
        )
    others = found.get('others')
    if others is None:
        print('others: this checkpoint forecasts none, or these episodes recorded none')
        return
    print(
        f'others: {others["found_share"]:.0%} of {others["seen"]} that cameras show are found, '
        f'{others["found_share_near"]:.0%} of the {others["seen_near"]} within 20 m; '
        f'{others["true_share"]:.0%} of {others["forecast"]} forecasts are of somebody; '
        + ', '.join(f'{name} {value:.2f}' for name, value in others['state'].items())
    )
    for title in ('all', 'moving'):
        if title not in others:
            continue
        print(
            f'  {title}, {others[title]["count"]} futures{"":<20}{"minADE":>10}{"ADE":>10}{"misses":>9}{"of best":>9}'
        )
        for name, row in others[title].items():
            if name != 'count':
                print(
                    f'    {name.replace("_", " "):<36}{row["minade_m"]:>8.2f} m{row["ade_m"]:>8.2f} m'
                    f'{row["miss"]:>9.1%}{row["min_miss"]:>9.1%}'
                )
