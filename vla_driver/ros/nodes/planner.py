# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The planner: six camera topics, odometry and a route in; a plan out, stamped with the images' time.

How it looks is in `ros/inputs/observing.py`.  The worker thread plans and publishes.  What the reasoner says is kept
when it comes, and heeded by the next plan; nobody waits for it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, Final

from builtin_interfaces.msg import Time
from nav_msgs.msg import Path
from visualization_msgs.msg import MarkerArray

from vla_driver.geometry.rig import load_rig
from vla_driver.msg import AgentForecasts, DrivingIntent, DrivingPlan, TokenSelection
from vla_driver.observation.ready import ReadySet
from vla_driver.observation.reasons import ReasonCounter, grouped, in_words
from vla_driver.planning.collision import CollisionLimits
from vla_driver.planning.intent import IntentLimits
from vla_driver.planning.tick import Outcome, Planner, TickLimits, TickResult
from vla_driver.policies.native_intents import set_guidance
from vla_driver.policies.pruning_settings import PruningSettings, settings_of
from vla_driver.policies.registry import checkpoint_of, make_policy
from vla_driver.ros.base.openmp import wait_briefly
from vla_driver.ros.base.own_thread import in_own_thread
from vla_driver.ros.base.process import run
from vla_driver.ros.inputs.observing import ObservingNode
from vla_driver.ros.nodes.pruning_control import PruningControl
from vla_driver.ros.wire import others, qos
from vla_driver.ros.wire.conversions import BASE_FRAME, ODOM_FRAME, from_nanoseconds, to_driving_plan, to_path
from vla_driver.ros.wire.diagnostics import Level, RateMeter, Status
from vla_driver.ros.wire.expert_load import load_status
from vla_driver.ros.wire.forecasts import to_agent_forecasts
from vla_driver.ros.wire.intents import from_driving_intent
from vla_driver.ros.wire.markers import intent_markers, no_plan_markers, plan_markers, token_markers
from vla_driver.ros.wire.selection import to_token_selection
from vla_driver.settings.nodes.planner import ALWAYS, PlannerParameters
from vla_driver.types import ANCHOR_CAMERA, CameraRig, FloatArray, InvalidInput, Plan, PlanSource, Selection

#: What the diagnostics call the outcomes of ticks.
_COUNTED: Final = {
    Outcome.POLICY: 'policy',
    Outcome.REFUSED: 'refused_by_guard',
    Outcome.STALE: 'stale',
    Outcome.NOT_READY: 'not_ready',
    Outcome.FAILED: 'failed',
    Outcome.OVERTAKEN: 'overtaken_by_jump',
}


class PlannerNode(ObservingNode[PlannerParameters]):
    """Images in, plan out."""

    parameter_table = PlannerParameters
    activity = 'planning'

    def __init__(self, **node_arguments: Any) -> None:
        self._outcomes = dict.fromkeys(_COUNTED.values(), 0)
        self._reasons = ReasonCounter()  # why sets gave no plan of the policy's own
        self._plan_times = RateMeter()
        self._last_plan: Plan | None = None
        self._last_load: tuple[float, Mapping[int, FloatArray]] | None = None  # of whose pictures, and what
        self._last_problem = ''
        self._refused_intents = 0
        self._own_threads: int | None = None  # torch's own choice, once the parameter has overruled it
        super().__init__('planner', **node_arguments)

    def setup(self) -> None:
        """Load the policy and warm it up, make assembler, guard and publishers."""
        rig = load_rig(self.parameters.rig)
        in_own_thread(partial(self._load_policy, rig), self.exit_requested)
        policy = self._planner.policy
        self.get_logger().info(f'policy: {policy.name}, {policy.engine.describe()}')
        self.observe(rig, policy.needs)
        self._plan_outlet = self.advertise(DrivingPlan, 'plan', qos.RELIABLE)
        self._path_outlet = self.advertise(Path, 'path', qos.RELIABLE)
        self._agent_outlet = self.advertise(AgentForecasts, 'agents', qos.RELIABLE)
        self._marker_outlet = self.advertise(MarkerArray, 'markers', qos.RELIABLE)
        self._token_outlet = self.advertise(TokenSelection, 'tokens', qos.RELIABLE)
        self._autoware = others.trajectory_types()
        if self._autoware is not None:
            self._trajectory_outlet = self.advertise(self._autoware[0], 'trajectory', qos.RELIABLE)

    def _load_policy(self, rig: CameraRig) -> None:
        p = self.parameters
        policy = make_policy(
            p.policy,
            p.model or None,
            prompt=p.prompt or None,
            device=p.device,
            engine=p.engine,
            threads=p.threads,
            guidance=p.guidance,
        )
        self._planner = Planner(policy, on_defect=self.on_defect)
        self.parameters_changed()
        self._pruning = PruningControl(self._planner, checkpoint_of(p.policy, p.model or None))
        self._prune(settings_of(p))
        self._planner.warm_up(rig)

    def _prune(self, wanted: PruningSettings) -> None:
        self._set_threads(self.parameters.threads)  # before a pruner is tried, and after one that has brought torch
        self._pruning.change(wanted)
        self._set_threads(self.parameters.threads)

    def _set_threads(self, wanted: int) -> None:
        """Let torch compute with so many threads; 0: with as many as it had chosen itself, before anybody asked.

        Nothing where torch is not loaded: nobody computes with it.
        """
        torch = sys.modules.get('torch')
        if torch is None or (wanted == 0 and self._own_threads is None):
            return
        if self._own_threads is None:
            self._own_threads = torch.get_num_threads()
        torch.set_num_threads(wanted or self._own_threads)

    def start(self) -> None:
        """Start the worker, then subscribe."""
        super().start()
        if self._planner.policy.needs.intents:
            self.listen(DrivingIntent, 'intent', self._on_intent, qos.RELIABLE)

    def _on_intent(self, message: DrivingIntent) -> None:
        """Keep what the reasoner says for the next plan."""
        try:
            intent = from_driving_intent(message, self.parameters.camera_time_offset_s)
        except InvalidInput as error:
            self._refused_intents += 1
            self.warn(f'refused: {error}')
            return
        self._planner.intents.put(intent)

    def stop(self) -> None:
        """Let the worker finish its plan, and wipe the path off the screens."""
        super().stop()
        self._tell_what_became()
        self._marker_outlet.publish(no_plan_markers(self.get_clock().now().to_msg()))

    def _tell_what_became(self) -> None:
        """Log what became of the pictures: whoever launched this node sees whether the plans were the policy's."""
        lost = self._assembler.sync.lost(time.monotonic(), self.parameters.stale_s)
        counters = ', '.join(f'{count} {name}' for name, count in self._counters.items() if count)
        why = in_words({**self._reasons.counts(), **lost})
        missing = () if self._outcomes['policy'] else self._assembler.problems()
        standing = '; '.join(grouped(dict.fromkeys(missing, 1)))
        log = self.get_logger().info if self._outcomes['policy'] and not lost else self.get_logger().warning
        log(f'pictures: {counters or "no complete set"}' + (f'; no plan: {why or standing}' if why or standing else ''))

    def parameters_wanted(self, wanted: PlannerParameters) -> None:
        """Change pruning and guidance, or say why not."""
        before, policy = self._pruning.settings, self._planner.policy
        with self._planner.between_ticks:
            set_guidance(policy, wanted.guidance)
        try:
            in_own_thread(partial(self._prune, settings_of(wanted)), self.exit_requested)
        except BaseException:
            with self._planner.between_ticks:
                set_guidance(policy, self.parameters.guidance)  # all of a change, or nothing
            raise
        if self._pruning.settings.describe() != before.describe():
            self.get_logger().info(f'{before.describe()} -> {self._pruning.settings.describe()}')

    def parameters_changed(self) -> None:
        """Take the new limits from the next tick on."""
        p = self.parameters
        self._planner.limits = TickLimits(p.max_age_s, p.plan_ttl_s, p.freeze_s)
        self._planner.guard.collision = CollisionLimits(p.collision_horizon_s, p.collision_existence)
        self._planner.intents.limits = IntentLimits(ttl_s=p.intent_ttl_s)

    def teardown(self) -> None:
        """Give the model up: the next one may need its room."""
        self._last_plan = self._last_load = None
        for name in ('_planner', '_pruning'):
            if hasattr(self, name):
                delattr(self, name)

    # The worker's thread.

    def on_failure(self, error: Exception) -> None:
        """Count a tick that a defect has ended."""
        self._outcomes['failed'] += 1
        self._reasons.add(f'{error!r}')

    def on_defect(self, error: Exception) -> None:
        """Log a defect, the same one seldom; the diagnostics name the last one."""
        self._last_problem = f'{error!r}'
        super().on_defect(error)

    def answer(self, ready: ReadySet) -> None:
        """Take one answer of the planner, tell about it, publish it."""
        drawn = self._marker_outlet.get_subscription_count()
        watched = self._token_outlet.get_subscription_count() or drawn
        foreseen = self.parameters.forecast == ALWAYS or self._agent_outlet.get_subscription_count() or drawn
        now = partial(self.now_s, ready, time.monotonic())
        result = self._planner.answer(ready, now, select=bool(watched), forecast=bool(foreseen))
        if result.jumped:
            self.tell_jump(ready)
        self._last_answer = (ready.epoch, ready.stamp_s)
        self._outcomes[_COUNTED[result.outcome]] += 1
        self._reasons.update(result.problems)
        if result.outcome in (Outcome.FAILED, Outcome.NOT_READY):
            self.warn(f'no plan of the policy: {"; ".join(grouped(dict.fromkeys(result.problems, 1)))}')
        if result.outcome in (Outcome.FAILED, Outcome.NOT_READY, Outcome.STALE):
            self._last_problem = result.problem
            if result.outcome is Outcome.STALE and (clock := self._images.clock_problem(ANCHOR_CAMERA)):
                self._last_problem += f' ({clock})'
        if result.expert_load:
            self._last_load = (ready.stamp_s, result.expert_load)
        if result.plan is not None:
            self._publish(result.plan, ready, result)

    def going(self) -> bool:
        """Whether plans are being published."""
        age_s = self._plan_times.age_s
        return age_s is not None and age_s <= self.parameters.plan_ttl_s

    def missing_answer(self) -> str:
        """Return in words why there is no plan."""
        return f'a plan ({self._last_problem or "no set of pictures has come together yet"})'

    def _publish(self, plan: Plan, ready: ReadySet, result: TickResult) -> None:
        stamp: Time = from_nanoseconds(ready.stamp_ns)
        selection: Selection | None = result.selection
        frame = self._assembler.odometry_frame or ODOM_FRAME
        self._path_outlet.publish(to_path(plan, stamp))
        self._plan_outlet.publish(to_driving_plan(plan, stamp, result.unseen, ready.synced.skew_s, frame))
        if self._autoware is not None and self._trajectory_outlet.get_subscription_count():
            self._trajectory_outlet.publish(others.to_trajectory(self._autoware, plan, stamp, frame))
        if self._agent_outlet.get_subscription_count():
            self._agent_outlet.publish(to_agent_forecasts(plan.forecasts, stamp, BASE_FRAME))
        if self._marker_outlet.get_subscription_count():
            markers = plan_markers(plan, stamp)
            if selection is not None:
                markers.markers += token_markers(selection, self._assembler.rig, stamp, plan.ttl_s)
            if result.intent is not None:
                markers.markers += intent_markers(result.intent, self._assembler.rig, stamp, plan)
            self._marker_outlet.publish(markers)
        if selection is not None and self._token_outlet.get_subscription_count():
            self._token_outlet.publish(to_token_selection(selection, stamp))
        self._last_plan = plan
        self._plan_times.tick()

    # Diagnostics.

    def report(self) -> Iterable[Status]:
        """Name every missing input, then what the planner makes of the rest."""
        yield from super().report()
        p = self.parameters
        about = {
            'policy': p.policy,
            'model': p.model,
            'pruning': self._pruning.settings.describe(),
            **asdict(self._planner.policy.engine),
        }
        yield Status('policy', Level.OK, f'{self._planner.policy.name} loaded', about)
        yield self._plan_status()
        if self._planner.policy.needs.intents:
            yield self._intent_status()
        last_load = self._last_load
        if last_load is not None:
            yield load_status(*last_load)

    @property
    def _counters(self) -> dict[str, int]:
        return {'sets': self._sets, **self._outcomes, 'replaced_by_newer': self._mailbox.replaced}

    def _intent_status(self) -> Status:
        """Say what the reasoner said, how old it is, and how the plan agrees; without one all is well, too."""
        intents, plan = self._planner.intents, self._last_plan
        heeded = None if plan is None else plan.heeded
        values: dict[str, object] = {
            'heard': intents.heard,
            'refused': self._refused_intents,
            'dropped': json.dumps(dict(intents.dropped)),
            'trust': intents.trust,
            'guidance': self.parameters.guidance,
        }
        if heeded is None:
            return Status('intent', Level.OK, 'none: the fast half plans alone', values)
        values.update(asdict(heeded))
        text = '' if intents.latest is None else intents.latest.text
        return Status('intent', Level.OK, text or heeded.meta_action.value, values)

    def _plan_status(self) -> Status:
        plan, age_s = self._last_plan, self._plan_times.age_s
        values: dict[str, object] = {
            'rate_hz': self._plan_times.rate_hz,
            'age_s': age_s,
            'published': self._plan_times.count,
            **self._counters,
            **{f'pictures_{name}': count for name, count in asdict(self._assembler.ahead.counts).items()},
            'not_matched': json.dumps(self._assembler.sync.lost(time.monotonic(), self.parameters.stale_s)),
            'not_planned': json.dumps(self._reasons.counts()),
            'last_problem': self._last_problem or None,
        }
        if plan is None or age_s is None:
            return Status('plan', Level.WARN, 'no plan yet', values)
        values.update({f'{stage}_ms': ms for stage, ms in plan.timing_ms.items()})
        if age_s > self.parameters.plan_ttl_s:
            return Status('plan', Level.ERROR, f'no plan for {age_s:.1f} s', values)
        if plan.source is not PlanSource.POLICY:
            return Status('plan', Level.WARN, f'guard: {plan.source.value}: {plan.reason}', values)
        return Status('plan', Level.OK, 'planning', values)


def main() -> int:
    """Run the node."""
    wait_briefly()
    return run(PlannerNode, sends_pictures=False)


if __name__ == '__main__':
    sys.exit(main())
