# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Measure the time from a camera image to the planned path, through real processes over DDS.

A source sends six 1600x900 images at a fixed rate, the planner node plans from them, this process receives the paths.
camera_to_path_ms runs from the moment the front image is handed to DDS (the other five follow it) to the moment the
path arrives here. With --raw the same pictures are sent uncompressed as well (26 MB per tick), once with the
shared-memory profile of Fast DDS and once with its default transports, and lost images are counted.

  vla_driver evaluate latency --json latency.json
  vla_driver evaluate latency --raw --json latency_raw.json
  vla_driver evaluate latency --pruner early:1-head --prune-ratio 0.5
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from vla_driver.commands.common import (
    add_json_argument,
    add_policy_arguments,
    follow,
    positive_float,
    positive_int,
    progress,
    provenance,
    write_json,
)
from vla_driver.commands.demo import private_domain
from vla_driver.commands.pruning_arguments import (
    add_pruning_arguments,
    planner_parameters,
    pruning_json,
    pruning_settings,
)
from vla_driver.policies.registry import checkpoint_of, merged_adapter, require_checkpoint
from vla_driver.settings.options import add_options
from vla_driver.settings.planner import START_S
from vla_driver.settings.policy import PolicyParameters
from vla_driver.sim.workers import environment_variables
from vla_driver.types import CAMERA_NAMES, CameraRig, Image, VlaDriverError

#: A profile that changes nothing: with it, Fast DDS uses its default transports.
_EMPTY_PROFILE: Final = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<profiles xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"></profiles>\n'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_policy_arguments(parser)
    parser.add_argument('--seconds', type=positive_float, default=60.0, help='length of each run (default: 60)')
    parser.add_argument('--rate', type=positive_float, default=10.0, help='images per second and camera (default: 10)')
    parser.add_argument('--cores', type=positive_int, default=2, help='cores that all processes share (default: 2)')
    add_options(parser, PolicyParameters, 'threads')
    parser.add_argument('--raw', action='store_true', help='uncompressed images, too: with and without shared memory')
    parser.add_argument('--bag', type=Path, metavar='BAG', help='bag whose pictures are sent (default: the sample bag)')
    parser.add_argument('--verbose', action='store_true', help="show the processes' own output")
    add_pruning_arguments(parser)
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from vla_driver.evaluate.cost.latency import FRAMES, SIZE, bench_rig, write_frames
    from vla_driver.geometry.rig import load_rig, rig_to_yaml

    checkpoint = require_checkpoint(args.policy, args.model)
    pruning = pruning_settings(args)
    cores = sorted(os.sched_getaffinity(0))
    # Everything that is started from here inherits this.
    os.sched_setaffinity(0, cores[: args.cores])
    try:
        with tempfile.TemporaryDirectory() as name, environment_variables(private_domain()):
            folder = Path(name)
            rig = bench_rig(load_rig('sim'))
            (folder / 'rig.yaml').write_text(rig_to_yaml(rig), encoding='utf-8')
            (folder / 'default_transports.xml').write_text(_EMPTY_PROFILE, encoding='utf-8')
            print(f'making {len(CAMERA_NAMES) * FRAMES} pictures of {SIZE[0]}x{SIZE[1]} ...', flush=True)
            kilobytes = write_frames(folder, _bases(args.bag, rig))
            runs = {'compressed': _run(args, folder, 'compressed', shared_memory=True)}
            _print(f'JPEG, {kilobytes:.0f} kB each', runs['compressed'])
            if args.raw:
                runs['raw_shared_memory'] = _run(args, folder, 'raw', shared_memory=True)
                _print('raw, shared-memory profile', runs['raw_shared_memory'])
                runs['raw_default_transports'] = _run(args, folder, 'raw', shared_memory=False)
                _print('raw, default transports', runs['raw_default_transports'])
    finally:
        os.sched_setaffinity(0, cores)
    main = runs.pop('compressed')
    write_json(
        args.json,
        {
            'policy': args.policy,
            'model': checkpoint,
            'adapter': merged_adapter(checkpoint),
            'pruning': pruning_json(pruning),
            'size': list(SIZE),
            'jpeg_kb': kilobytes,
            'seconds': args.seconds,
            'camera_rate_hz': args.rate,
            'cores': min(args.cores, len(cores)),
            **main,
            **runs,
            'provenance': provenance(),
        },
    )
    return 0


def _bases(path: Path | None, rig: CameraRig) -> dict[str, list[Image]]:
    """Return a few pictures per camera from a bag; a plain street where there is no sample bag."""
    from vla_driver.bag.read import BagReader
    from vla_driver.bag.sample import sample_bag_path
    from vla_driver.evaluate.cost.latency import FRAMES, procedural_bases
    from vla_driver.types import InvalidInput

    if path is None:
        try:
            path = sample_bag_path()
        except InvalidInput as error:
            print(f'note: {error}; a drawn street stands in', file=sys.stderr)
            return procedural_bases()
    bases: dict[str, list[Image]] = {name: [] for name in rig.names}
    with BagReader(path) as bag:
        for count, observation in enumerate(bag.observations()):
            if count % 5:
                continue  # neighbouring frames are alike
            for name, frame in observation.frames.items():
                if name in bases:
                    bases[name].append(frame.image)
            if len(bases[rig.names[0]]) >= FRAMES:
                break
    return bases


def _run(args: argparse.Namespace, folder: Path, transport: str, *, shared_memory: bool) -> dict[str, Any]:
    """Start source and planner, receive for `args.seconds`, return the figures."""
    from vla_driver.evaluate.cost.latency import figures
    from vla_driver.ros.runs.plan_recorder import PlanRecorder
    from vla_driver.ros.runs.processes import NodeProcess, NodeProcesses
    from vla_driver.ros.wire.transport import PROFILE_VARIABLES, use_shared_memory_profile

    environment: dict[str, str] = {}
    if shared_memory:
        use_shared_memory_profile(environment)
    else:
        environment = dict.fromkeys(PROFILE_VARIABLES, str(folder / 'default_transports.xml'))
    # Fast DDS reads the profile once per process: this one only receives small messages, either will do.
    log = print if args.verbose else None
    parameters = {
        'policy': args.policy,
        'model': checkpoint_of(args.policy, args.model) or '',
        'device': args.device,
        'rig': str(folder / 'rig.yaml'),
        'image_transport': [transport],
        'threads': args.threads,
        **planner_parameters(pruning_settings(args)),
    }
    words = ['--frames', str(folder), '--rig', str(folder / 'rig.yaml'), '--transport', transport]
    words += ['--rate', str(args.rate), '--seconds', str(args.seconds)]
    command = [sys.executable, '-m', 'vla_driver.ros.runs.image_source', *words]
    with NodeProcesses(log=log, environment=environment) as nodes, PlanRecorder() as recorder:
        planner = nodes.start('planner', parameters)
        nodes.wait_active(planner, timeout_s=START_S)
        recorder.wait_for_planner()
        before = _frames_received(recorder.diagnostic_values())
        source = NodeProcess('image_source', command, {**os.environ, **environment}, log)
        try:
            with progress(args.seconds, 's', f'{transport}, {"shared memory" if shared_memory else "default"}') as bar:
                follow(
                    source,
                    nodes,
                    lambda: recorder.count,
                    lambda since_s: bar.update(min(args.seconds, since_s) - bar.n),
                    every_s=0.2,
                )
            source.check()
            time.sleep(1.5)  # the planner's last diagnostics
            after = _frames_received(recorder.diagnostic_values())
        finally:
            source.stop()
        sent = json.loads(source.output.strip().splitlines()[-1])
        recording = recorder.recording()
    if not after:
        raise VlaDriverError('the planner published no diagnostics, lost images cannot be counted')
    received = {camera: after[camera] - before.get(camera, 0) for camera in after}
    # Without the profile, raw images may not come through at all: the comparison is there to show just that.
    counted = figures(recording, int(sent['ticks']), received, silence_allowed=not shared_memory)
    return {**counted, 'source_latest_ms': sent['latest_ms']}


def _frames_received(values: Mapping[str, Mapping[str, str]]) -> dict[str, int]:
    """Return camera -> images that reached the planner, from its diagnostics."""
    frames = {}
    for camera in CAMERA_NAMES:
        count = values.get(f'planner: camera {camera}', {}).get('frames')
        if count is not None:
            frames[camera] = int(count)
    return frames


def _print(title: str, figures: Mapping[str, Any]) -> None:
    latency = figures['camera_to_path_ms']
    lost = f'{figures["images_lost"]} of {figures["images_sent"]} images lost'
    if latency is None:
        print(f'{title}: no plan at all; {lost}')
        return
    print(
        f'{title}: {figures["rate_hz"]:.2f} Hz; camera to path median {latency["p50"]:.1f} ms, '
        f'p99 {latency["p99"]:.1f} ms, worst {latency["max"]:.1f} ms (N = {figures["plans_counted"]}); '
        f'{lost}'
    )
    for name, stage in figures['stages_ms'].items():
        print(f'    {name:<20} median {stage["p50"]:6.1f} ms   p99 {stage["p99"]:6.1f} ms')
