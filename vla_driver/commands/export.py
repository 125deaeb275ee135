# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Export a native checkpoint as ONNX graphs, which drive in half of torch's time and without torch.

The graphs come with a manifest (shapes, hash of the checkpoint, how far they are from torch) and a sample, on which
they are compared with torch again on every machine before they drive. Those of shipped models are made by themselves.

  vla_driver export runs/mine/checkpoint
  vla_driver drive --model runs/mine/checkpoint --engine onnx
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from vla_driver.commands.common import positive_int, progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument('checkpoint', metavar='CKPT', help='a folder, or the name of a shipped model')
    parser.add_argument(
        '--out', type=Path, metavar='DIR', help="folder of the graphs (default: `graphs` in the checkpoint's)"
    )
    parser.add_argument(
        '--jobs', type=positive_int, metavar='N', help='processes that follow graphs (default: one a core, up to 4)'
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; raises InvalidInput for a checkpoint that is no native one, and for other graphs than torch."""
    from vla_driver.model.export.export import export_checkpoint
    from vla_driver.model.export.following import usual_jobs
    from vla_driver.model.export.manifest import read_manifest

    began_s = time.monotonic()
    with progress(None, 'graph', str(args.checkpoint)) as bar:

        def on_graph(name: str, count: int) -> None:
            bar.total = count
            bar.set_postfix_str(name, refresh=True)
            bar.update()

        folder = export_checkpoint(args.checkpoint, args.out, on_graph, args.jobs or usual_jobs())
    manifest = read_manifest(folder)
    print(f'{folder}: {len(manifest.graphs)} graphs of opset {manifest.opset}, by {manifest.made_with}')
    print(f'  checkpoint {manifest.checkpoint[:12]}, {time.monotonic() - began_s:.0f} s')
    print(f'  {"graph":<18}{"nodes":>7}   plan of the sample, from torch')
    for name, graph in manifest.graphs.items():
        far = '' if graph.measured_m is None else f'{graph.measured_m:.1e} m'
        print(f'  {name:<18}{graph.nodes:>7}   {far}')
    allowed = ', '.join(f'{metres:g} m in {precision}' for precision, metres in manifest.tolerance_m.items())
    print(f'  allowed where they drive: {allowed}')
    if args.out is not None:
        print("  to drive with them, put the folder, or a link to it, into the checkpoint's folder as `graphs`")
    return 0
