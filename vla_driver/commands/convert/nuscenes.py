# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Scenes of nuScenes as ROS 2 bags (mcap), which `ros2 bag play`, `vla_driver replay` and the evaluations read.

In a bag: six CompressedImage as they are stored, with their CameraInfo and where the cameras are mounted (/tf_static),
/odom with speed and yaw rate made of the poses, /route and /turn_command made of the way that was driven, and, under
/ground_truth/agents, the annotated road users, ten times a second between the key frames. Read from the tables; the
devkit is not needed. Where the map expansion is unpacked (maps/expansion/), /ground_truth/road_boundary holds the
outlines of road segments and lanes within 80 m of the way.

  vla_driver convert nuscenes NUSCENES --out bags --scenes scene-0061 scene-0103
  vla_driver replay bags/scene-0061 --out out/scene-0061
  vla_driver evaluate open-loop bags/scene-0061 bags/scene-0103 --json F
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vla_driver.bag.schema import AGENTS_TOPIC
from vla_driver.commands.common import add_json_argument, progress, provenance, write_json
from vla_driver.types import InvalidInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument('source', type=Path, metavar='SRC', help='nuScenes folder: samples/, sweeps/ and v1.0-*')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='where the bags go, one folder a scene')
    parser.add_argument('--version', metavar='NAME', help='tables to read, e.g. v1.0-mini (default: the only ones)')
    parser.add_argument('--scenes', nargs='+', metavar='NAME', help='scenes by name (default: all)')
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from dataclasses import asdict

    from vla_driver.data.nuscenes.bag import write_scene
    from vla_driver.data.nuscenes.boundaries import RoadMaps
    from vla_driver.data.nuscenes.scenes import read_scenes

    done = {}
    maps, absent, unlabelled = RoadMaps(args.source), set(), False
    for scene in read_scenes(args.source, args.scenes, args.version):
        out = args.out / scene.name
        if out.exists():
            raise InvalidInput(f'{out} exists already; give another --out, or remove it')
        out.parent.mkdir(parents=True, exist_ok=True)
        with progress(len(scene.pictures), 'picture', scene.name) as bar:
            made = write_scene(args.source, scene, out, lambda bar=bar: bar.update(1), maps)  # type: ignore[misc]
        print(
            f'{out}: {made.seconds:.1f} s, {made.distance_m:.0f} m, {made.pictures} pictures of '
            f'{len(scene.rig.cameras)} cameras, '
            + ('no annotations' if made.agents is None else f'{made.agents} road users')
        )
        if made.agents is None and not unlabelled:
            unlabelled = True
            print(
                f'{scene.name} is not annotated: bags of such scenes hold no {AGENTS_TOPIC}, so that collisions cannot '
                'be counted'
            )
        if made.boundary is None and scene.location not in absent:
            absent.add(scene.location)
            print(
                f'{maps.path(scene.location)} is not there: bags of {scene.location} hold no road boundary, so that '
                'the off-road rate cannot be computed; unpack the map expansion of nuScenes (v1.3)'
            )
        done[scene.name] = asdict(made)
    write_json(args.json, {'source': str(args.source), 'scenes': done, 'provenance': provenance()})
    return 0
