# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Open-loop evaluation: a policy plans from a recorded drive and is compared with what was driven.

The driven future comes from odometry alone, so any bag with cameras, odometry and a route will do; agents
under /ground_truth/agents add collision rates.  The plan guard is left out: the policy's own errors are measured.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vla_driver.bag.inventory import inventory
from vla_driver.bag.matching import Matching
from vla_driver.bag.read import BagReader
from vla_driver.bag.track import JUMP_M, MAX_GAP_S, Break, OdometryTrack, jumps_text
from vla_driver.evaluate.displacement import STEP_TIMES_S, Boxes, Sample, planned_poses, score
from vla_driver.evaluate.published import Around, Counted, Protocol, count
from vla_driver.geometry import se2
from vla_driver.observation.calibration import CameraCalibration
from vla_driver.observation.notes import Notes
from vla_driver.planning.tick import Planner
from vla_driver.sim.world.scene import Actor, SemanticClass
from vla_driver.types import (
    NO_ENGINE,
    NO_PICTURES,
    CameraRig,
    EgoState,
    FloatArray,
    Intent,
    InvalidInput,
    MalformedAnswer,
    Observation,
    Plan,
    Policy,
    Trajectory,
)

#: A recorded value belongs to a time if it is this close: half a tick of 0.1 s and a little jitter.
_MATCH_S = 0.06

#: Odometry and agents come at most this late after a plan's future; and plans are scored in batches this long.
_LATE_S, _BATCH_S = 5.0, 20.0

#: What `BagResult.skipped` calls a malformed answer, before its fault.
NO_PLAN = 'no plan: '


@dataclass
class BagResult:
    """One bag: the scored plans, what could not be scored and why.

    without_future: plans at the ends, whose next 3 s were not recorded.  across_gap, across_jump: those within, whose
    next 3 s lie across a gap or a jump of the odometry; breaks: these, by the stamps at which they begin.
    inputs: `bag.inventory`.  unread: what of the bag could not be read.  counted: of each published protocol that was
    asked for, the plans, those at the ends, too.
    """

    bag: str
    samples: list[Sample] = field(default_factory=list)
    without_future: int = 0
    across_gap: int = 0
    across_jump: int = 0
    breaks: dict[float, Break] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    rejected: Mapping[str, int] = field(default_factory=dict)
    calibration: Mapping[str, CameraCalibration] = field(default_factory=dict)
    plan_ms: list[float] = field(default_factory=list)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    without_camera: Counter[str] = field(default_factory=Counter)
    unread: Sequence[str] = ()
    counted: dict[str, list[Counted]] = field(default_factory=dict)


class RecordedExpert:
    """The privileged expert of a bag that recorded its trajectories."""

    name = 'expert'
    needs = NO_PICTURES
    engine = NO_ENGINE

    def __init__(self, trajectories: Sequence[tuple[float, Trajectory]]) -> None:
        if not trajectories:
            raise InvalidInput(
                'policy expert: the bag holds no /ground_truth/expert_trajectory (`vla_driver record` writes it)'
            )
        ordered = sorted(trajectories, key=lambda item: item[0])
        self._stamps = [stamp for stamp, _ in ordered]
        self._trajectories = [trajectory for _, trajectory in ordered]

    def plan(self, observation: Observation, intent: Intent | None = None) -> Plan:
        """Return the trajectory recorded at the observation's stamp; raise InvalidInput if there is none."""
        del intent
        k = nearest(self._stamps, observation.stamp_s)
        if k is None:
            raise InvalidInput(f'policy expert: no trajectory was recorded at {observation.stamp_s:.3f} s')
        return Plan(observation.stamp_s, self._trajectories[k], observation.ego, self.name)

    def reset(self) -> None:
        """Nothing is remembered."""


def nearest(stamps_s: Sequence[float], stamp_s: float, within_s: float = _MATCH_S) -> int | None:
    """Return the index of the sorted stamp nearest to `stamp_s`, None if none is within `within_s`."""
    k = bisect.bisect_left(stamps_s, stamp_s)
    candidates = [i for i in (k - 1, k) if 0 <= i < len(stamps_s)]
    best = min(candidates, key=lambda i: abs(stamps_s[i] - stamp_s), default=None)
    return best if best is not None and abs(stamps_s[best] - stamp_s) <= within_s else None


def boxes_of(actors: Sequence[Actor]) -> Boxes:
    """Return [N, 5] x, y, yaw, length, width of agents."""
    return np.array([[a.x_m, a.y_m, a.yaw_rad, a.length_m, a.width_m] for a in actors], dtype=np.float64).reshape(-1, 5)


class AgentTrack:
    """The recorded agents by time."""

    def __init__(self, recorded: Sequence[tuple[float, Sequence[Actor]]]) -> None:
        ordered = sorted(recorded, key=lambda item: item[0])
        self._stamps = [stamp for stamp, _ in ordered]
        self._boxes = [boxes_of(actors) for _, actors in ordered]
        self._people = [np.array([a.kind is SemanticClass.PEDESTRIAN for a in actors], bool) for _, actors in ordered]

    def around(self, stamp_s: float, pose: FloatArray) -> Around | None:
        """Return the agents at a time in base_link at `pose` [3], None where nothing was recorded then."""
        k = nearest(self._stamps, stamp_s)
        if k is None:
            return None
        boxes = self._boxes[k]
        return Around(np.column_stack([se2.relative(pose, boxes[:, :3]), boxes[:, 3:]]), self._people[k])

    def at(self, stamp_s: float) -> Boxes | None:
        """Return the boxes at a time, None where nothing was recorded then."""
        k = nearest(self._stamps, stamp_s)
        return None if k is None else self._boxes[k]


def evaluate_bag(
    path: str | Path,
    make_policy: Callable[[BagReader], Policy],
    *,
    topics: Mapping[str, str] | None = None,
    rig: CameraRig | None = None,
    rectified: bool = False,
    matching: Matching = Matching(),  # noqa: B008 - it is frozen
    protocols: Sequence[Protocol] = (),
    on_inputs: Callable[[Mapping[str, Any]], None] | None = None,
    on_sample: Callable[[], None] | None = None,
) -> BagResult:
    """Plan at every set of images in a bag and score each plan whose 3 s of future were recorded.

    topics, rig, rectified: see `BagReader`.
    make_policy: given the open bag, so that an expert can be made of what it recorded; the policy is reset first.
    matching: which pictures make a set.  protocols: to count by, beside the exact figures.
    on_inputs: told which topics are used (`bag.inventory`) before planning.
    Where a language model's answer is malformed there is no plan: counted in `skipped`, by its fault.  Raises
    InvalidInput for a bag that cannot be used (no cameras, odometry or route).
    """
    with BagReader(path, topics=topics, rig=rig, rectified=rectified) as bag:
        result = BagResult(str(path))
        # Cameras first: "no camera topics, but these" is the message for a bag of another kind.
        inputs = bag.inputs()
        matched = matching.keywords(bag.rig().names)
        result.inputs = inventory(inputs, matched['policies'])
        if on_inputs is not None:
            on_inputs(result.inputs)
        policy = make_policy(bag)
        planner = Planner(policy)
        planner.reset()
        scoring = _Scoring(result, protocols, bag.road_boundary() if protocols else ())
        seen = 0
        sets = bag.ready_sets(
            **matched,
            needs=policy.needs,
            on_odometry=scoring.add_odometry,
            on_agents=scoring.add_agents,
        )
        notes, said = Notes(), list[str]()
        for ready in sets:
            tick = planner.answer(ready, forecast=False)
            said += notes.new(bag.notes)  # at the end, what has passed by then is no longer said
            if tick.proposed is not None:
                result.without_camera.update(camera for camera in tick.unseen if camera in inputs.cameras)
            seen += tick.observation is not None
            if isinstance(tick.error, MalformedAnswer):  # no plan; on the road the guard's fallback would be driven
                result.skipped[f'{NO_PLAN}{tick.error.fault}'] += 1
            elif tick.error is not None:
                raise tick.error
            elif tick.proposed is None:
                result.skipped.update(tick.problems)
            else:
                result.plan_ms.append(tick.proposed_ms)
                if on_sample is not None:
                    on_sample()
                scoring.add_plan(tick.proposed)
        scoring.finish()
        if not seen:
            if not scoring.heard:
                bag.track()  # says why none of the odometry can be used
            raise bag.no_observation(result.skipped)
        result.skipped.update(bag.lost())
        result.rejected, result.calibration = dict(bag.rejected), bag.calibration
        result.notes, result.unread = [*said, *notes.new(bag.notes), *_jumps_noted(result)], bag.unread
    return result


class _Scoring:
    """Scores plans as soon as what was driven after them has been read, and forgets both.

    A long bag is read once, and held for some seconds of it.
    """

    def __init__(
        self, result: BagResult, protocols: Sequence[Protocol] = (), boundary: Sequence[FloatArray] = ()
    ) -> None:
        self._result, self._protocols, self._boundary = result, protocols, boundary
        self._any_agents = False
        self._plans: list[Plan] = []
        self._states: list[EgoState] = []
        self._agents: list[tuple[float, Sequence[Actor]]] = []
        self._newest_s = -np.inf
        self.heard = False  # any odometry

    def add_odometry(self, state: EgoState) -> None:
        """Take in what was driven next."""
        if state.stamp_s < self._newest_s - _LATE_S:  # time has jumped: what comes is no future of what was
            self.finish()
        self._states.append(state)
        self.heard = True
        self._newest_s = max(self._newest_s, state.stamp_s)
        oldest_s = self._plans[0].stamp_s if self._plans else self._states[0].stamp_s + _BATCH_S
        if oldest_s + _BATCH_S < self._newest_s:
            self._score_until(self._newest_s - float(STEP_TIMES_S[-1]) - _LATE_S)

    def add_agents(self, stamp_s: float, actors: Sequence[Actor]) -> None:
        """Take in where the others were."""
        self._agents.append((stamp_s, actors))
        self._any_agents = True

    def add_plan(self, plan: Plan) -> None:
        """Take in a plan; those before it may get their score."""
        self._plans.append(plan)

    def finish(self) -> None:
        """Score what is left: nothing more of the future comes."""
        self._score_until(np.inf)
        self._states, self._agents, self._newest_s = [], [], -np.inf

    def _score_until(self, stamp_s: float) -> None:
        due = [plan for plan in self._plans if plan.stamp_s <= stamp_s]
        self._plans = [plan for plan in self._plans if plan.stamp_s > stamp_s]
        if due:
            track, agents = OdometryTrack(self._states), AgentTrack(self._agents)
            for plan in due:
                self._score(plan, track, agents)
        begin_s = min((plan.stamp_s for plan in self._plans), default=self._newest_s - _BATCH_S) - _LATE_S
        self._states = [state for state in self._states if state.stamp_s >= begin_s]
        self._agents = [item for item in self._agents if item[0] >= begin_s]

    def _score(self, plan: Plan, track: OdometryTrack, agents: AgentTrack) -> None:
        breaks = _crossed(plan, track)
        self._result.breaks.update((one.begin_s, one) for one in breaks)
        if not breaks:  # published evaluations know recordings that end, none that are torn
            self._count(plan, track, agents)
        sample = None if breaks else _sample(plan, self._result.bag, track, agents)
        if sample is not None:
            self._result.samples.append(sample)
        elif not breaks or plan.stamp_s + STEP_TIMES_S[-1] > track.stamps_s[-1] + 1e-6:
            self._result.without_future += 1
        elif any(one.jumps for one in breaks):
            self._result.across_jump += 1
        else:
            self._result.across_gap += 1

    def _count(self, plan: Plan, track: OdometryTrack, agents: AgentTrack) -> None:
        if not self._protocols:
            return
        pose, times_s = plan.ego.pose, plan.stamp_s + STEP_TIMES_S
        planned, driven = planned_poses(plan), se2.relative(pose, track.at(times_s))
        others = [agents.around(float(time_s), pose) for time_s in times_s] if self._any_agents else None
        lines = [se2.points_to_local(pose, line) for line in self._boundary] or None
        for protocol in self._protocols:
            counted = count(protocol, planned, driven, others, lines)
            self._result.counted.setdefault(protocol.name, []).append(counted)


def _crossed(plan: Plan, track: OdometryTrack) -> list[Break]:
    """Return the breaks of the odometry between what a plan was made from and the end of its 3 s."""
    begin_s = plan.stamp_s
    recorded = track.at(begin_s)[0]
    if np.hypot(*(recorded - plan.ego.pose)[:2]) > JUMP_M:  # odometry from before a jump: the newest came too late
        begin_s -= MAX_GAP_S
    return track.breaks(begin_s, plan.stamp_s + float(STEP_TIMES_S[-1]))


def _jumps_noted(result: BagResult) -> list[str]:
    breaks = list(result.breaks.values())
    if not any(one.jumps for one in breaks):
        return []
    return [f'{jumps_text(breaks)}: {result.across_jump} plans whose 3 s go across are not scored']


def _sample(plan: Plan, bag: str, track: OdometryTrack, agents: AgentTrack) -> Sample | None:
    """Return the score of a plan; None where the next 3 s were not recorded."""
    driven = track.at(plan.stamp_s + STEP_TIMES_S)
    if not np.isfinite(driven).all():
        return None
    boxes = [agents.at(plan.stamp_s + float(step)) for step in STEP_TIMES_S]
    known = [box for box in boxes if box is not None]
    return score(plan, plan.ego.pose, driven, known if len(known) == len(boxes) else None, bag=bag)
