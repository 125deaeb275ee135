# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Foreground masks for the key frames of nuScenes, as in FastDriveVLA's nuScenes-FG, for `train pruner`.

Grounding DINO and SAM (local checkpoint folders, safetensors) outline people, roads, vehicles, signs and lights, and
barriers in every picture of six cameras.  The pictures stay where they are; --out gets the masks and an index
(the format is described in vla_driver/data/foreground/masks.py).  An interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vla_driver.commands.common import progress
from vla_driver.settings.options import add_options
from vla_driver.settings.policy import PolicyParameters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument('source', type=Path, metavar='SRC', help='nuScenes folder: samples/CAM_* and v1.0-*')
    parser.add_argument(
        '--detector', type=Path, required=True, metavar='DIR', help='folder of a Grounding DINO checkpoint'
    )
    parser.add_argument('--segmenter', type=Path, required=True, metavar='DIR', help='folder of a SAM checkpoint')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='where masks and index go')
    parser.add_argument('--version', metavar='NAME', help='tables to read, e.g. v1.0-mini (default: the only ones)')
    parser.add_argument(
        '--box-threshold',
        type=float,
        default=0.3,
        metavar='S',
        help='lowest score of a detection that counts (default: %(default)s)',
    )
    parser.add_argument('--limit', type=int, metavar='N', help='only the first N key frames')
    add_options(parser, PolicyParameters, 'device')


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from vla_driver.data.foreground.grounded_sam import GroundedSam
    from vla_driver.data.foreground.pairs import convert_nuscenes
    from vla_driver.data.nuscenes.tables import read_samples
    from vla_driver.model.device import choose_device
    from vla_driver.types import InvalidInput

    if args.limit is not None and args.limit < 1:
        raise InvalidInput(f'--limit {args.limit}, expected 1 or more')
    device = choose_device(args.device)
    samples = list(read_samples(args.source, args.version))[: args.limit]
    segmenter = GroundedSam(args.detector, args.segmenter, threshold=args.box_threshold, device=device)
    settings = {
        'detector': str(args.detector),
        'segmenter': str(args.segmenter),
        'box_threshold': args.box_threshold,
    }
    with progress(len(samples), 'frame', 'masks') as bar:
        written = convert_nuscenes(args.source, samples, segmenter, args.out, settings, lambda: bar.update(1))
    print(f'{args.out}: {written} key frames added, {len(samples)} in all')
    return 0
