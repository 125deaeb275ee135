# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Plan from recorded drives and measure the distance to what was driven (L2) and collisions at 1, 2, 3 s.

Two protocols, by name, for they are not comparable: "UniAD" is the error at the horizon, "ST-P3/VAD" the mean error
up to it. Open-loop figures say little about driving (a policy without eyes does well): always run the controls
--policy blind and --policy constant-velocity beside the model, and see evaluate closed-loop.
Collisions are those of exact boxes. --protocol counts as a published evaluation of nuScenes does, on its grid, too, and
bev-planner says how often the road's boundary is touched (bags of record and convert nuscenes have one).

  vla_driver evaluate open-loop bags/val0 bags/val1 --policy model --json model.json
  vla_driver evaluate open-loop bags/val0 --protocol st-p3 --protocol uniad --protocol bev-planner
  vla_driver evaluate open-loop my_bag --model IMPROMPTU_3B --pruner RECON_PRUNER --prune-ratio 0.5
  vla_driver evaluate open-loop my_bag --rig nuscenes --camera-topic front=/CAM_FRONT/image_rect_compressed
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from tqdm import tqdm

from vla_driver.bag.inventory import inventory_lines
from vla_driver.bag.schema import AGENTS_TOPIC, ROAD_BOUNDARY_TOPIC
from vla_driver.commands.common import (
    add_bag_arguments,
    add_json_argument,
    add_matching_arguments,
    add_policy_arguments,
    bag_rig,
    bag_topics,
    calibration_json,
    matching_of,
    progress,
    provenance,
    tell_calibration,
    tell_notes,
    write_json,
)
from vla_driver.commands.flags import in_flags
from vla_driver.commands.pruning_arguments import add_pruning_arguments, pruning_json, pruning_settings
from vla_driver.observation.reasons import grouped, in_words
from vla_driver.policies.registry import POLICY_NAMES, checkpoint_of, make_policy, merged_adapter
from vla_driver.settings.options import add_options
from vla_driver.settings.policy import PolicyParameters
from vla_driver.types import InvalidInput, Policy

if TYPE_CHECKING:
    from vla_driver.bag.read import BagReader
    from vla_driver.evaluate.open_loop import BagResult
    from vla_driver.evaluate.published import Protocol


#: See `evaluate.published`, which is imported when it is needed.
PROTOCOL_NAMES: Final = ('st-p3', 'uniad', 'bev-planner')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        'bags', nargs='+', type=Path, metavar='BAG', help='a rosbag2 folder, .mcap, .db3 or ROS 1 .bag file'
    )
    parser.add_argument(
        '--protocol',
        action='append',
        default=[],
        choices=PROTOCOL_NAMES,
        help='also count as this published evaluation does, on its grid; may be given several times',
    )
    add_policy_arguments(parser, POLICY_NAMES)
    add_options(parser, PolicyParameters, 'prompt', 'engine', 'threads')
    add_bag_arguments(parser)
    add_matching_arguments(parser)
    add_pruning_arguments(parser)
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from vla_driver.evaluate.displacement import HORIZONS_S, PROTOCOLS, summarise
    from vla_driver.evaluate.open_loop import NO_PLAN, RecordedExpert, evaluate_bag
    from vla_driver.evaluate.published import PROTOCOLS as PUBLISHED

    protocols = [PUBLISHED[name] for name in dict.fromkeys(args.protocol)]
    checkpoint, pruning = checkpoint_of(args.policy, args.model), pruning_settings(args)
    if pruning.active and args.policy != 'model':
        raise InvalidInput(f'--pruner {args.pruner}: policy {args.policy} has no visual tokens; use --policy model')
    topics, rig = bag_topics(args), bag_rig(args)
    loaded: list[Policy] = []

    def policy_for(bag: BagReader) -> Policy:
        if args.policy == 'expert':
            return RecordedExpert(list(bag.expert_trajectories()))
        if not loaded:
            loaded.append(
                make_policy(
                    args.policy,
                    args.model,
                    pruning=pruning,
                    prompt=args.prompt,
                    device=args.device,
                    engine=args.engine,
                    threads=args.threads,
                )
            )
        return loaded[0]

    results = []
    told: list[str] = []
    with progress(None, 'plan', args.policy) as bar:
        for path in args.bags:
            bar.set_postfix_str(str(path), refresh=False)
            results.append(
                evaluate_bag(
                    path,
                    policy_for,
                    topics=topics,
                    rig=rig,
                    rectified=args.rectified,
                    matching=matching_of(args),
                    protocols=protocols,
                    on_inputs=partial(_tell_inputs, path, told),
                    on_sample=bar.update,
                )
            )
    tell_calibration({result.bag: result.calibration for result in results})
    for result in results:
        tell_notes(result.notes, result.bag if len(results) > 1 else '')
    samples = [sample for result in results for sample in result.samples]
    skipped: Counter[str] = Counter()
    for result in results:
        skipped.update(result.skipped)
    about = {
        'policy': args.policy,
        'model': checkpoint,
        'adapter': merged_adapter(checkpoint),
        'pruning': pruning_json(pruning),
        **({'engine': asdict(loaded[0].engine)} if loaded else {}),
    }
    ends = {'bags': [_of_bag(result) for result in results], 'provenance': provenance()}
    if not samples:
        write_json(args.json, {**about, 'samples': 0, **ends})
        why = '; '.join(filter(None, [_why_unscored(results), in_words(skipped)]))
        raise InvalidInput(f'open loop: no plan could be scored: {why or "no set of pictures was planned from"}')
    summary = summarise(samples)

    print(
        f'{args.policy}: N = {summary["samples"]} plans in {summary["segments"]} segments of {len(results)} bags; '
        f'{sum(result.without_future for result in results)} at the ends have no 3 s of future'
    )
    for torn in _torn(results):
        print(f'  {torn}')
    for problem, count in list(grouped(skipped).items())[:5]:
        print(in_flags(f'  {count} sets of images left out: {problem}'))
    without = sum((result.without_camera for result in results), Counter[str]())
    for camera, count in without.most_common():
        print(f'  {count} plans without camera {camera}, whose pictures were missing')
    if any(problem.startswith(NO_PLAN) for problem in skipped):
        print(
            '  figures are of the sets with an answer: beside those of another model or pruner, mind which are missing'
        )
    columns = [f'{horizon}s' for horizon in HORIZONS_S] + ['mean']
    print(f'  {"":<34}' + ''.join(f'{column:>9}' for column in columns))
    for protocol in PROTOCOLS:
        figures = summary[protocol]
        print(f'  {"L2 (m), " + protocol:<34}' + ''.join(f'{figures["l2_m"][c]:>9.2f}' for c in columns))
        print(f'  {"  95 % CI, half width":<34}' + _half_widths([figures['l2_m_ci'][c] for c in columns]))
        for key, name in (('collision_rate', 'collisions (%)'), ('driven_collision_rate', '  of the driven path')):
            if key in figures:
                text = f'{name}, {protocol}'
                print(f'  {text:<34}' + ''.join(f'{100 * figures[key][c]:>9.2f}' for c in columns))
    published = {protocol.name: _tell_published(protocol, results) for protocol in protocols}
    if loaded and loaded[0].engine.engine:
        print(f'  computed by {loaded[0].engine.describe()}')
    times = [ms for result in results for ms in result.plan_ms]
    beside = {'published': published} if published else {}
    write_json(args.json, {**about, **summary, **beside, 'plan_ms': float(np.median(times)), **ends})
    return 0


def _half_widths(intervals: Sequence[Sequence[float] | None]) -> str:
    """Return half of each interval's width in columns; in words where one segment knows none."""
    known = [interval for interval in intervals if interval is not None]
    if len(known) < len(intervals):
        return '  too few segments for an interval'
    return ''.join(f'  +-{(high - low) / 2:>5.2f}' for low, high in known)


def _torn(results: Sequence[BagResult]) -> list[str]:
    """Return in words how many plans have a future that was recorded, but not whole, and what the odometry lacks."""
    from vla_driver.bag.track import gaps_text, jumps_text

    breaks = [one for result in results for one in result.breaks.values()]
    lines = []
    if count := sum(result.across_gap for result in results):
        lines.append(f'{count} plans are not scored, whose 3 s of future go across {gaps_text(breaks)}')
    if count := sum(result.across_jump for result in results):
        lines.append(f'{count} plans are not scored, whose 3 s of future go across a jump: {jumps_text(breaks)}')
    return lines


def _why_unscored(results: Sequence[BagResult]) -> str:
    """Return in words why no plan has a score; '' where there is no plan."""
    count, torn = sum(result.without_future for result in results), _torn(results)
    if not torn:
        short = 'plans were made, but each needs 3 s of driving after it, and no recording goes on for so long'
        return f'{count} {short}' if count else ''
    return '; '.join([*torn, *([f'{count} at the ends have no 3 s of future'] if count else [])])


def _tell_published(protocol: Protocol, results: Sequence[BagResult]) -> dict[str, Any]:
    """Print and return the figures of a published evaluation over all bags."""
    from vla_driver.evaluate.displacement import HORIZONS_S
    from vla_driver.evaluate.published import summarise

    plans = [counted for result in results for counted in result.counted.get(protocol.name, [])]
    figures = summarise(protocol, plans)
    valid = f'N valid = {figures["samples"]} of {len(plans)} plans'
    print(f'  as {protocol.name} counts: {valid}, cells of {protocol.cell_m} m')
    rows: list[tuple[str, dict[str, float], float, str]] = [('L2 (m)', figures['l2_m'], 1.0, '')]
    for key, name, count in (
        ('collision_rate', 'collisions (%)', 'samples_with_agents'),
        ('driven_collision_rate', '  of the driven path', 'samples_with_agents'),
        ('off_road_rate', 'off-road (%)', 'samples_with_boundary'),
        ('driven_off_road_rate', '  of the driven path', 'samples_with_boundary'),
    ):
        if key in figures:
            fewer = figures[count] < figures['samples']
            rows.append((name, figures[key], 100.0, f'  known of {figures[count]} plans' if fewer else ''))
    columns = [f'{horizon}s' for horizon in HORIZONS_S] + ['mean']
    for name, values, factor, known in rows:
        print(f'  {f"{name}, {protocol.name}":<34}' + ''.join(f'{factor * values[c]:>9.2f}' for c in columns) + known)
    if 'collision_rate' not in figures:
        recorded = any(plan.agents for plan in plans)
        why = 'agents of no plan are known at all its steps' if recorded else f'no bag has {AGENTS_TOPIC}'
        print(f'  no collisions: {why}')
    if protocol.ever and 'off_road_rate' not in figures:
        print(f'  no off-road rate: no bag has {ROAD_BOUNDARY_TOPIC}')
    return figures


def _tell_inputs(path: Path, told: list[str], found: Mapping[str, Any]) -> None:
    """Print which topics of a bag are used; of several bags in a row with the same topics, once."""
    lines = inventory_lines(found)
    if lines != told:
        tqdm.write(f'{path}\n' + '\n'.join(f'  {line}' for line in lines))
        told[:] = lines


def _breaks_json(result: BagResult) -> dict[str, Any]:
    from vla_driver.bag.track import MAX_GAP_S

    breaks = sorted(result.breaks.values(), key=lambda one: one.begin_s)
    gaps = [one.seconds for one in breaks if not one.jumps]
    return {
        'across_gap': result.across_gap,
        'across_jump': result.across_jump,
        'odometry_gaps': {'count': len(gaps), 'longest_s': max(gaps, default=0.0), 'allowed_s': MAX_GAP_S},
        'odometry_jumps': [{'stamp_s': one.end_s, 'moved_m': one.moved_m} for one in breaks if one.jumps],
    }


def _of_bag(result: BagResult) -> dict[str, Any]:
    return {
        'bag': result.bag,
        'samples': len(result.samples),
        'without_future': result.without_future,
        **_breaks_json(result),
        'inputs': dict(result.inputs),
        'skipped': grouped(result.skipped),
        'rejected': dict(result.rejected),
        'calibration': calibration_json(result.calibration),
        'notes': list(result.notes),
        'without_camera': dict(result.without_camera),
        'unread': list(result.unread),
    }
