# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""From a replayed bag and the planner's answers to files: plan.mcap, metrics.json's figures, report.html, a film."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from vla_driver.bag.inventory import inventory_lines
from vla_driver.bag.loads import nearest_load
from vla_driver.bag.matching import Matching
from vla_driver.bag.read import BagReader
from vla_driver.bag.recording import ReceivedTokens, Recording, figures, what_became, write_plan_bag
from vla_driver.bag.track import OdometryTrack
from vla_driver.evaluate.displacement import HORIZONS_S, PROTOCOLS, STEP_TIMES_S, Sample, at_horizons, score, summarise
from vla_driver.evaluate.open_loop import AgentTrack, nearest
from vla_driver.geometry import se2
from vla_driver.planning.intent import PresentIntent
from vla_driver.show.drawing import Scene
from vla_driver.show.film import FilmWriter, tick_picture
from vla_driver.show.report import Report, ReportTick
from vla_driver.show.tokens import kept_mosaic
from vla_driver.show.words import hazard_place, told_to, word_lines
from vla_driver.types import CameraRig, InvalidInput, Observation, Plan, PlanSource, Trajectory

#: At most this many pictures in the page: 15 MB at 60 kB each, with a margin.
_MAX_PICTURES: Final = 160
#: One camera in a picture of the page; three and the view from above make 1,520 pixels.
_CELL: Final = (416, 250)
_FILM_WIDTH: Final = 1140
#: Pictures per second of the film: enough to the eye, and half of what 10 Hz would weigh.
_FILM_HZ: Final = 5.0
#: Pictures of what the model kept, evenly spread over the bag, and one camera in them.
_TOKEN_PICTURES: Final = 6
_TOKEN_CELL: Final = (320, 192)


@dataclass
class BagTruth:
    """What a bag knows about the drive itself."""

    track: OdometryTrack | None
    agents: AgentTrack
    expert_stamps: list[float] = field(default_factory=list)
    expert: list[Trajectory] = field(default_factory=list)

    @staticmethod
    def read(bag: BagReader) -> BagTruth:
        """Read it all."""
        trajectories = sorted(bag.expert_trajectories(), key=lambda item: item[0])
        return BagTruth(
            bag.track(),
            AgentTrack(list(bag.agents())),
            [stamp for stamp, _ in trajectories],
            [trajectory for _, trajectory in trajectories],
        )

    @staticmethod
    def none() -> BagTruth:
        """Return what is known where nothing is asked for."""
        return BagTruth(None, AgentTrack([]))

    def expert_at(self, stamp_s: float) -> Trajectory | None:
        """Return the expert's trajectory at a time, None where none was recorded."""
        k = nearest(self.expert_stamps, stamp_s)
        return None if k is None else self.expert[k]


def write_replay_report(
    folder: Path,
    bag_path: Path,
    recording: Recording,
    *,
    title: str,
    topics: Mapping[str, str] | None = None,
    rig: CameraRig | None = None,
    rectified: bool = False,
    matching: Matching = Matching(),  # noqa: B008 - it is frozen
    inputs: Mapping[str, Any] | None = None,
    film: bool = True,
    on_picture: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Write plan.mcap, report.html and (film) drive.webp into `folder`; return the figures for metrics.json.

    Pictures are taken of the plans as received over DDS, on the bag's own images; where no plan is the policy's own
    there may be none, and no film.  matching: as it was for the planner.  inputs: the bag's
    `bag.inventory`, to be shown.  Raises InvalidInput if the plans do not belong to the bag (no stamp in common).
    """
    folder.mkdir(parents=True, exist_ok=True)
    by_stamp = {round(received.plan.stamp_s, 4): received for received in recording.plans}
    to_show = _tokens_to_show(recording)
    kept = {round(tokens.stamp_s, 4): tokens.kept for tokens in recording.tokens}
    with BagReader(bag_path, topics=topics, rig=rig, rectified=rectified) as bag:
        # Without a plan there is nothing to compare, and the odometry may be what was missing.
        truth = BagTruth.read(bag) if recording.plans else BagTruth.none()
        calibration = bag.rig()
        samples, ticks = _score(recording, truth, str(bag_path))
        result = figures(recording) | {'open_loop': summarise(samples) if samples else None}
        report = Report(
            title,
            _subtitle(recording, bag_path, bag.duration_s),
            ticks,
            tiles=_tiles(recording, result),
            tables=_tables(result, inputs),
            notes=_notes(result),
            latency_p99_ms=result['camera_to_path_ms'].get('p99'),
        )
        every = max(1, -(-len(by_stamp) // _MAX_PICTURES))
        step_s = _median_step(recording)
        film_every = max(1, round(1.0 / (_FILM_HZ * step_s)))
        writer = FilmWriter(folder / 'drive.webp', 1.0 / (step_s * film_every), width=_FILM_WIDTH) if film else None
        shown = 0
        for observation in _observations(bag, recording, matching):
            received = by_stamp.get(round(observation.stamp_s, 4))
            if received is None:
                continue
            tokens = to_show.get(round(observation.stamp_s, 4))
            if tokens is not None:
                images = {name: frame.image for name, frame in observation.frames.items()}
                stays = sum(int(cells.sum()) for cells in tokens.kept.values())
                total = sum(cells.size for cells in tokens.kept.values())
                after_s = observation.stamp_s - min(by_stamp)
                report.add_figure(
                    kept_mosaic(images, tokens.kept, _TOKEN_CELL),
                    f'{after_s:.1f} s',
                    f'{tokens.pruner}: {stays} of {total} tokens kept',
                )
            in_page, in_film = shown % every == 0, writer is not None and shown % film_every == 0
            if in_page or in_film:
                told = told_to(received.plan, observation, recording.intents)
                picture = tick_picture(
                    observation,
                    received.plan,
                    _scene(observation, truth, received.plan, told),
                    _CELL,
                    kept=kept.get(round(observation.stamp_s, 4)),
                    load=nearest_load(recording.loads, observation.stamp_s),
                )
                if in_page:
                    report.add_picture(observation.stamp_s, picture, _caption(received.plan, told))
                if in_film and writer is not None:
                    writer.add(picture)
            shown += 1
            if on_picture is not None:
                on_picture()
        if shown == 0 and recording.own_plans:
            raise InvalidInput(f'none of the {len(recording.plans)} plans has a stamp of an image in {bag_path}')
        if writer is not None and shown:
            writer.close()
    report.write(folder / 'report.html')
    _replace_bag(folder / 'plan.mcap', calibration, recording)
    return result


def _observations(bag: BagReader, recording: Recording, matching: Matching) -> Iterator[Observation]:
    """Yield the bag's observations; where it gives none, that is why the policy has planned nothing."""
    if not recording.plans:
        return
    try:
        yield from bag.observations(**matching.keywords(bag.rig().names))
    except InvalidInput:
        if recording.own_plans:
            raise


def _tokens_to_show(recording: Recording) -> dict[float, ReceivedTokens]:
    """Return stamp -> what was kept, of a few ticks evenly spread over the recording."""
    tokens = sorted(recording.tokens, key=lambda item: item.stamp_s)
    count = min(_TOKEN_PICTURES, len(tokens))
    chosen = {round((k + 0.5) * len(tokens) / count - 0.5) for k in range(count)}
    return {round(tokens[k].stamp_s, 4): tokens[k] for k in sorted(chosen)}


def _replace_bag(path: Path, rig: CameraRig, recording: Recording) -> None:
    """Write the plans' bag as one file; a rosbag2 folder is made beside it and taken apart."""
    folder = path.with_suffix('.bag')
    for old in (path, folder):
        if old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink(missing_ok=True)
    write_plan_bag(folder, rig, recording.raw)
    (file,) = folder.glob('*.mcap')
    file.replace(path)
    shutil.rmtree(folder)


def _score(recording: Recording, truth: BagTruth, name: str) -> tuple[list[Sample], list[ReportTick]]:
    samples, ticks = [], []
    for received in sorted(recording.plans, key=lambda r: r.plan.stamp_s):
        plan = received.plan
        assert truth.track is not None
        driven = truth.track.at(plan.stamp_s + STEP_TIMES_S)
        error: tuple[float | None, float | None, float | None] = (None, None, None)
        last_s = plan.stamp_s + float(STEP_TIMES_S[-1])
        if np.isfinite(driven).all() and not truth.track.breaks(plan.ego.stamp_s, last_s):
            boxes = [truth.agents.at(plan.stamp_s + float(step)) for step in STEP_TIMES_S]
            known = [box for box in boxes if box is not None]
            # Of the plan as sent, fallbacks included: this is what a car would have driven.
            sample = score(plan, plan.ego.pose, driven, known if len(known) == len(boxes) else None, bag=name)
            samples.append(sample)
            first, second, third = at_horizons(sample.error_m, 'UniAD')
            error = (float(first), float(second), float(third))
        expert = truth.expert_at(plan.stamp_s)
        ticks.append(
            ReportTick(
                plan.stamp_s,
                plan.ego.speed_mps,
                _speed_after_1s(plan.trajectory),
                plan.source,
                plan.reason,
                error,
                received.latency_ms,
                None if expert is None else _speed_after_1s(expert),
            )
        )
    return samples, ticks


def _speed_after_1s(trajectory: Trajectory) -> float:
    return float(np.interp(1.0, trajectory.times_s, trajectory.speed_mps))


def _median_step(recording: Recording) -> float:
    stamps = np.unique([received.plan.stamp_s for received in recording.plans])
    return float(np.median(np.diff(stamps))) if len(stamps) > 1 else 0.1


def _scene(observation: Observation, truth: BagTruth, plan: Plan, told: PresentIntent | None) -> Scene:
    ego = observation.ego
    agents = truth.agents.at(observation.stamp_s)
    boxes = np.zeros((0, 5)) if agents is None else agents.copy()
    if len(boxes):
        boxes[:, :3] = se2.relative(ego.pose, boxes[:, :3])
    assert truth.track is not None
    driven = truth.track.future_poses(observation.stamp_s)[:, :2]
    expert = truth.expert_at(observation.stamp_s)
    navigation = observation.navigation
    command = navigation.command.name.lower()
    return Scene(
        agents=boxes,
        driven_m=driven[np.isfinite(driven).all(axis=1)],
        expert_m=np.zeros((0, 2)) if expert is None else expert.positions_m,
        targets_m=navigation.target_points_m,
        hazards_m=hazard_place(told, observation.rig),
        lines=(
            *word_lines(told, plan),
            f'{ego.speed_mps:.1f} m/s',
            f'{command} in {navigation.distance_m:.0f} m',
        ),
    )


def _caption(plan: Plan, told: PresentIntent | None) -> str:
    caption = plan.policy if plan.source is PlanSource.POLICY else f'{plan.source.value}: {plan.reason}'
    return caption if told is None else f'{caption}; {told.age_s:.1f} s ago: {told.intent.text}'


def _subtitle(recording: Recording, bag_path: Path, seconds: float) -> str:
    policy = f'policy {recording.plans[0].plan.policy}' if recording.plans else 'no plan was published'
    return f'{bag_path.name}, {seconds:.1f} s; {policy}; images and plans went between processes over DDS'


def _tiles(recording: Recording, result: Mapping[str, Any]) -> list[tuple[str, str]]:
    own = result['sources'].get(PlanSource.POLICY.value, 0)
    tiles = [(f'{result["rate_hz"]:.1f} Hz', 'plans'), (f'{own} of {result["plans"]}', "plans are the policy's own")]
    latency = result['camera_to_path_ms']
    if latency:
        tiles += [
            (f'{latency["p50"]:.0f} ms', 'camera to path, median'),
            (f'{latency["p99"]:.0f} ms', 'camera to path, 99 %'),
        ]
    if result['pruning'] is not None:
        pruning = result['pruning']
        tiles.append(
            (
                f'{pruning["tokens_kept"]:.0f} of {pruning["tokens"]:.0f}',
                f'tokens read ({", ".join(pruning["pruners"])})',
            )
        )
    if result['words'] is not None and result['words']['agreement'] is not None:
        tiles.append((f'{result["words"]["agreement"]:.2f}', 'agreement of plans and words'))
    if result['experts'] is not None:
        most = max(one['most'] for one in result['experts']['layers'].values())
        tiles.append((f'{most:.2f} x', 'busiest expert, over an even load'))
    if result['open_loop'] is not None:
        tiles.append((f'{result["open_loop"]["UniAD"]["l2_m"]["3s"]:.2f} m', 'from the driven path after 3 s'))
    return tiles


def _tables(result: Mapping[str, Any], inputs: Mapping[str, Any] | None) -> dict[str, list[list[str]]]:
    tables = {}
    became = what_became(result)
    if became:
        tables['What became of the pictures'] = [
            ['sets, and why others gave no plan of the policy'],
            *([line] for line in became),
        ]
    if result['words'] is not None:
        said = ((f'{count} times', action) for action, count in result['words']['meta_actions'].items())
        tables['Words'] = [['said', 'what to do'], *map(list, said)]
    if result['others'] is not None:
        others = result['others']
        kinds = [[f'{count}', f'forecasts of a {kind}'] for kind, count in others['kinds'].items()]
        tables["Others' futures"] = [
            ['how many', 'what'],
            *kinds,
            [f'{others["mean"]:.1f}', 'forecast by a plan, mean'],
        ]
    if result['experts'] is not None:
        head = ['layer', 'experts', 'busiest', 'least asked', 'hardly asked', 'most in a tick']
        tables[f'Load of experts over the drive, 1 is even, {result["experts"]["reports"]} ticks'] = [
            head,
            *(
                [
                    layer,
                    f'{len(one["load"])}',
                    f'{one["most"]:.2f}',
                    f'{one["least"]:.2f}',
                    f'{one["idle"]}',
                    f'{one["most_at_once"]:.2f}',
                ]
                for layer, one in result['experts']['layers'].items()
            ),
        ]
    if inputs is not None:
        tables['Inputs'] = [['topics of the bag'], *([line] for line in inventory_lines(inputs))]
    stages = [['stage', 'median', '99 %', 'worst']]
    for name, values in {**result['stages_ms'], 'camera to path': result['camera_to_path_ms']}.items():
        if values:
            stages.append([name, *(f'{values[key]:.1f}' for key in ('p50', 'p99', 'max'))])
    tables['Time by stage (ms)'] = stages
    if result['open_loop'] is not None:
        rows = [['open loop, L2 (m)', *(f'{horizon} s' for horizon in HORIZONS_S), 'mean']]
        for protocol in PROTOCOLS:
            l2 = result['open_loop'][protocol]['l2_m']
            rows.append([protocol, *(f'{value:.2f}' for value in l2.values())])
        tables[f'Against the driven path, N = {result["open_loop"]["samples"]}'] = rows
    return tables


def _notes(result: Mapping[str, Any]) -> list[str]:
    notes = [
        'The carpet on the road, and the green band seen from above, is the planned path of the next 5 s: green is the '
        "policy's own plan, magenta its own path braked for somebody (`braked`), orange the previous plan moved on "
        "(`shifted_previous`), red a stop (the last three are the plan guard's).",
        'From above: white line: driven afterwards; yellow: the expert; blue: vehicles; pink: people; violet: the two '
        'target points that navigation gives (an arrow at the edge when they are farther away). The model sees the '
        'pictures, its own motion and these two points with the turn command; it sees neither agents nor map.',
        'Distance from the driven path is an open-loop figure: another path can be as good. Protocol "UniAD" is the '
        'error at the horizon, "ST-P3/VAD" the mean error up to it.',
        'Latency: from the moment the front image is handed to DDS to the moment the path arrives in another process. '
        'Stages are by the planner\'s own clock: "wait" is transport and matching, "total" from sending to the plan.',
        '`plan.mcap` holds the plans, paths and markers with the stamps of the images; RViz and Foxglove open it.',
    ]
    if result['others'] is not None:
        notes.append(
            'Outlines with a line ahead of them are the others that the policy forecasts, and where it says they go; '
            'the thinner, the less likely they are there.'
        )
    if result['words'] is not None:
        notes.append(
            'Words: what the reasoner said of earlier pictures, in a process of its own, as the plan was told it; an '
            'orange ring is where what it reacts to is by then, moved by odometry. Agreement: 1 where the plan does '
            'what was wanted, 0.5 where something near it, else 0.'
        )
    if result['pruning'] is not None:
        notes.append(
            'Tokens: cells that the pruner dropped are dark and grey; what is bright is what the language model read. '
            '`kept/all` stands beside each camera.'
        )
    if result['experts'] is not None:
        notes.append(
            'Experts: the strip below the view from above has a row for each layer with experts and a cell for each of '
            'these: dark where an expert read nothing, green at an even share of the tokens, red at twice of it and '
            "more; the row's largest load stands behind it. The planner reports a tick's load a few times a second; "
            'a strip is of the report nearest to its picture.'
        )
    return notes
