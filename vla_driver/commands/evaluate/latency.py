# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Measure the time from a camera image to the planned path, through real processes over DDS.

A source sends six 1600x900 images at a fixed rate, the planner node plans from them, this process receives the paths.
camera_to_path_ms runs from the moment the front image is handed to DDS (the other five follow it) to the moment the
path arrives here. Several pictures, rates, loads, engines and precisions are run one after another, each with a
planner of its own. raw: the same pictures uncompressed (26 MB per tick); raw-default: without the shared-memory
profile of Fast DDS. Lost images are counted, and where not every set of pictures got a plan, the reason is given.

  vla_driver evaluate latency --json latency.json
  vla_driver evaluate latency --pictures jpeg raw --rate 10 20 --load 0 2 --seconds 20 --json latency.json
  vla_driver evaluate latency --pruner early:1-head --prune-ratio 0.5
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

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
from vla_driver.settings.knob import knobs
from vla_driver.settings.nodes.planner import START_S, PlannerParameters
from vla_driver.settings.options import add_options
from vla_driver.settings.policy import PolicyParameters
from vla_driver.types import CAMERA_NAMES, CameraRig, Image, InvalidInput, VlaDriverError
from vla_driver.workers import environment_variables

if TYPE_CHECKING:
    from vla_driver.evaluate.cost.latency import Condition

#: A profile that changes nothing: with it, Fast DDS uses its default transports.
_EMPTY_PROFILE: Final = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<profiles xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"></profiles>\n'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_policy_arguments(parser)
    parser.add_argument('--seconds', type=positive_float, default=60.0, help='length of each run (default: 60)')
    parser.add_argument(
        '--pictures',
        nargs='+',
        choices=('jpeg', 'raw', 'raw-default'),
        default=['jpeg'],
        help='jpeg, raw, raw without the shared-memory profile (default: jpeg)',
    )
    parser.add_argument(
        '--rate',
        nargs='+',
        type=positive_float,
        default=[10.0],
        metavar='HZ',
        help='images per second and camera (default: 10)',
    )
    parser.add_argument(
        '--load',
        nargs='+',
        type=int,
        default=[0],
        metavar='N',
        help='busy processes on the same cores, started and stopped here (default: 0)',
    )
    parser.add_argument(
        '--engines', nargs='+', default=[''], metavar='NAME', help="engines, one after another (default: the planner's)"
    )
    parser.add_argument(
        '--precisions',
        nargs='+',
        choices=('auto', 'float32', 'bfloat16'),
        default=['auto'],
        help="precisions, one after another (default: auto, this machine's)",
    )
    parser.add_argument(
        '--repeats', type=positive_int, default=1, metavar='N', help='run all of them in turn N times (default: 1)'
    )
    parser.add_argument('--cores', type=positive_int, default=2, help='cores that all processes share (default: 2)')
    add_options(parser, PolicyParameters, 'threads')
    parser.add_argument('--bag', type=Path, metavar='BAG', help='bag whose pictures are sent (default: the sample bag)')
    parser.add_argument('--verbose', action='store_true', help="show the processes' own output")
    add_pruning_arguments(parser)
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from vla_driver.evaluate.cost.latency import FRAMES, SIZE, bench_rig, conditions_of, write_frames
    from vla_driver.geometry.rig import load_rig, rig_to_yaml

    checkpoint = require_checkpoint(args.policy, args.model)
    pruning = pruning_settings(args)
    _check_engines(args.engines)
    for load in args.load:
        if not 0 <= load <= 64:
            raise InvalidInput(f'--load {load}: expected 0 to 64 busy processes')
    conditions = conditions_of(args.pictures, args.rate, args.load, args.engines, args.precisions)
    cores = sorted(os.sched_getaffinity(0))
    # Everything that is started from here inherits this.
    os.sched_setaffinity(0, cores[: args.cores])
    rows = []
    try:
        with tempfile.TemporaryDirectory() as name, environment_variables(private_domain()):
            folder = Path(name)
            rig = bench_rig(load_rig('sim'))
            (folder / 'rig.yaml').write_text(rig_to_yaml(rig), encoding='utf-8')
            (folder / 'default_transports.xml').write_text(_EMPTY_PROFILE, encoding='utf-8')
            print(f'making {len(CAMERA_NAMES) * FRAMES} pictures of {SIZE[0]}x{SIZE[1]} ...', flush=True)
            kilobytes = write_frames(folder, _bases(args.bag, rig))
            for repeat in range(args.repeats):
                for condition in conditions:
                    rows.append({'repeat': repeat, **_run(args, folder, condition)})
                    _print(condition.describe(), rows[-1])
    finally:
        os.sched_setaffinity(0, cores)
    _print_loads(rows)
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
            'cores': min(args.cores, len(cores)),
            'rows': rows,
            'provenance': provenance(),
        },
    )
    return 0


def _check_engines(engines: Sequence[str]) -> None:
    """Raise InvalidInput for an engine that the planner does not know."""
    knob = knobs(PlannerParameters).get('engine')
    known = () if knob is None else knob.rule.choices
    for engine in engines:
        if engine and engine not in known:
            raise InvalidInput(f'--engines {engine}: expected {", ".join(known) or "none: the planner has no choice"}')


def _bases(path: Path | None, rig: CameraRig) -> dict[str, list[Image]]:
    """Return a few pictures per camera from a bag; a plain street where there is no sample bag."""
    from vla_driver.bag.read import BagReader
    from vla_driver.bag.sample import sample_bag_path
    from vla_driver.evaluate.cost.latency import FRAMES, procedural_bases

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


def _run(args: argparse.Namespace, folder: Path, condition: Condition) -> dict[str, Any]:
    """Start source and planner under a condition, receive for `args.seconds`, return the row."""
    from vla_driver.evaluate.cost.busy import busy_processes, processor_s, resident_mb
    from vla_driver.evaluate.cost.latency import HELD, engine_of, figures, limit_of
    from vla_driver.ros.runs.plan_recorder import PlanRecorder
    from vla_driver.ros.runs.processes import NodeProcess, NodeProcesses
    from vla_driver.ros.wire.transport import PROFILE_VARIABLES, use_shared_memory_profile

    environment: dict[str, str] = {}
    if condition.shared_memory:
        use_shared_memory_profile(environment)
    else:
        environment = dict.fromkeys(PROFILE_VARIABLES, str(folder / 'default_transports.xml'))
    if condition.precision != 'auto':
        environment['VLA_DRIVER_PRECISION'] = condition.precision
    # Fast DDS reads the profile once per process: this one only receives small messages, either will do.
    log = print if args.verbose else None
    pruning = pruning_settings(args)
    parameters = {
        'policy': args.policy,
        'model': checkpoint_of(args.policy, args.model) or '',
        'device': args.device,
        'rig': str(folder / 'rig.yaml'),
        'image_transport': [condition.transport],
        'threads': args.threads,
        **({'engine': condition.engine} if condition.engine else {}),
        **planner_parameters(pruning),
    }
    words = ['--frames', str(folder), '--rig', str(folder / 'rig.yaml'), '--transport', condition.transport]
    words += ['--rate', str(condition.rate_hz), '--seconds', str(args.seconds)]
    command = [sys.executable, '-m', 'vla_driver.ros.runs.image_source', *words]
    with ExitStack() as stack:
        nodes = stack.enter_context(NodeProcesses(log=log, environment=environment))
        recorder = stack.enter_context(PlanRecorder())
        began = time.monotonic()
        planner = nodes.start('planner', parameters)
        nodes.wait_active(planner, timeout_s=START_S)
        active_after_s = time.monotonic() - began
        recorder.wait_for_planner()
        before = _frames_received(recorder.diagnostic_values())
        # Not while the planner starts, which is no part of this measurement.
        stack.enter_context(busy_processes(condition.load))
        marks: list[tuple[float, float]] = []  # since the first plan: seconds, and the planner's processor time

        def tell(since_s: float) -> None:
            marks.append((since_s, processor_s(planner.pid)))
            bar.update(min(args.seconds, since_s) - bar.n)

        source = NodeProcess('image_source', command, {**os.environ, **environment}, log)
        try:
            with progress(args.seconds, 's', condition.describe()) as bar:
                follow(source, nodes, lambda: recorder.count, tell, every_s=0.2)
            source.check()
            used = {
                'planner_active_after_s': active_after_s,
                'planner_processors': _per_second(marks),
                'planner_resident_mb': resident_mb(planner.pid),
            }
            time.sleep(1.5)  # the planner's last diagnostics
            values = recorder.diagnostic_values()
        finally:
            source.stop()
        sent = json.loads(source.output.strip().splitlines()[-1])
        recording = recorder.recording()
    after = _frames_received(values)
    if not after:
        raise VlaDriverError('the planner published no diagnostics, lost images cannot be counted')
    received = {camera: after[camera] - before.get(camera, 0) for camera in after}
    # Without the profile, raw images may not come through at all: the comparison is there to show just that.
    counted = figures(recording, int(sent['ticks']), received, silence_allowed=not condition.shared_memory)
    latency = counted['camera_to_path_ms'] or {}
    row = {
        'pictures': condition.pictures,
        'camera_rate_hz': condition.rate_hz,
        'load': condition.load,
        'asked': {'engine': condition.engine or None, 'precision': condition.precision, 'threads': args.threads},
        **engine_of(values),
        'pruner': pruning.pruner,
        'prune_ratio': pruning.ratio if pruning.active else 0.0,
        'median_ms': latency.get('p50'),
        'p99_ms': latency.get('p99'),
        **counted,
        **used,
        'source_latest_ms': sent['latest_ms'],
    }
    return {**row, 'rate_held': row['rate_hz'] >= HELD * condition.rate_hz, 'limit': limit_of(row)}


def _per_second(marks: Sequence[tuple[float, float]]) -> float | None:
    """Return what was used per second, from (seconds, used so far) in their order; None for less than a second."""
    if not marks or marks[-1][0] - marks[0][0] < 1.0:
        return None
    return (marks[-1][1] - marks[0][1]) / (marks[-1][0] - marks[0][0])


def _frames_received(values: Mapping[str, Mapping[str, str]]) -> dict[str, int]:
    """Return camera -> images that reached the planner, from its diagnostics."""
    frames = {}
    for camera in CAMERA_NAMES:
        count = values.get(f'planner: camera {camera}', {}).get('frames')
        if count is not None:
            frames[camera] = int(count)
    return frames


def _print(title: str, row: Mapping[str, Any]) -> None:
    latency = row['camera_to_path_ms']
    lost = f'{row["images_lost"]} of {row["images_sent"]} images lost'
    if latency is None:
        print(f'{title}: no plan at all; {lost}')
        return
    print(
        f'{title}: {row["rate_hz"]:.2f} Hz; camera to path median {latency["p50"]:.1f} ms, '
        f'p99 {latency["p99"]:.1f} ms, worst {latency["max"]:.1f} ms (N = {row["plans_counted"]}); '
        f'{lost}'
    )
    if not row['rate_held']:
        print(f'    rate not held, {row["sets_sent"] - row["plans"]} sets without a plan: {row["limit"]}')
    told = ', '.join(str(row[name]) for name in ('engine', 'provider', 'precision') if row[name])
    threads = f', {row["threads"]} threads' if row['threads'] else ''
    processors = '' if row['planner_processors'] is None else f'{row["planner_processors"]:.2f} processors, '
    print(
        f'    planner: {told}{threads}{": " if told else ""}{processors}'
        f'{row["planner_resident_mb"]:.0f} MB, active after {row["planner_active_after_s"]:.1f} s'
    )
    for name, stage in row['stages_ms'].items():
        print(f'    {name:<20} median {stage["p50"]:6.1f} ms   p99 {stage["p99"]:6.1f} ms')


def _print_loads(rows: Sequence[Mapping[str, Any]]) -> None:
    """Say how many times the quiet median a run beside other load takes, in the same round."""
    for row in rows:
        alike = ('repeat', 'pictures', 'camera_rate_hz', 'asked')
        quiet = [one for one in rows if not one['load'] and all(one[key] == row[key] for key in alike)]
        if row['load'] and quiet and row['median_ms'] and quiet[0]['median_ms']:
            ratio = row['median_ms'] / quiet[0]['median_ms']
            engine = ', '.join(filter(None, (row['engine'], row['precision'])))
            print(
                f'{row["pictures"]} at {row["camera_rate_hz"]:g} Hz{", " if engine else ""}{engine}: beside '
                f'{row["load"]} busy processes the median is x{ratio:.2f} of the quiet one'
            )
