# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The planner: six camera topics, odometry and a route in; a plan out, stamped with the images' time.

Callbacks only hand messages to the assembler, which has pictures decoded while the others of their set are on their
way.  A set that is complete goes through a mailbox of one letter to the worker thread, which plans and publishes; while
it is busy, newer sets replace each other, so that it never works on old pictures.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from typing import Any, Final

from nav_msgs.msg import Odometry, Path
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from vla_driver.geometry.rig import load_rig
from vla_driver.msg import TurnCommand as TurnCommandMessage
from vla_driver.observation.assemble import ObservationAssembler
from vla_driver.observation.notes import Notes
from vla_driver.observation.ready import ReadySet
from vla_driver.observation.reasons import ReasonCounter, grouped, in_words
from vla_driver.observation.sync import CameraSync
from vla_driver.planning.collision import CollisionLimits
from vla_driver.planning.tick import Outcome, Planner, TickLimits
from vla_driver.policies.pruning_settings import PruningSettings, settings_of
from vla_driver.policies.registry import checkpoint_of, make_policy
from vla_driver.ros.nodes.calibration_topics import CalibrationTopics, rectified_cameras
from vla_driver.ros.nodes.image_topics import ImageTopics
from vla_driver.ros.nodes.lifecycle import DriverNode
from vla_driver.ros.nodes.mailbox import Mailbox
from vla_driver.ros.nodes.openmp import wait_briefly
from vla_driver.ros.nodes.own_thread import give_up, in_own_thread
from vla_driver.ros.nodes.plan_outlets import PlanOutlets
from vla_driver.ros.nodes.process import run
from vla_driver.ros.nodes.pruning_control import PruningControl
from vla_driver.ros.nodes.repeats import Repeats
from vla_driver.ros.nodes.waiting import WaitingLog, describe_inputs
from vla_driver.ros.wire import qos
from vla_driver.ros.wire.conversions import from_nanoseconds
from vla_driver.ros.wire.diagnostics import Level, RateMeter, Status
from vla_driver.settings.per_camera import per_camera
from vla_driver.settings.planner import TRANSPORTS, PlannerParameters, missing_policies
from vla_driver.types import (
    CameraRig,
    Plan,
    PlanSource,
    Selection,
)

#: What the diagnostics call the outcomes of ticks.
_COUNTED: Final = {
    Outcome.POLICY: 'policy',
    Outcome.REFUSED: 'refused_by_guard',
    Outcome.STALE: 'stale',
    Outcome.NOT_READY: 'not_ready',
    Outcome.FAILED: 'failed',
    Outcome.OVERTAKEN: 'overtaken_by_jump',
}


class PlannerNode(DriverNode[PlannerParameters]):
    """Images in, plan out."""

    parameter_table = PlannerParameters

    def __init__(self, **node_arguments: Any) -> None:
        self._counters = dict.fromkeys(('sets', *_COUNTED.values()), 0)
        self._reasons = ReasonCounter()  # why sets gave no plan of the policy's own
        self._plan_times = RateMeter()
        self._last_plan: Plan | None = None
        self._last_problem = ''
        self._mailbox: Mailbox[ReadySet] = Mailbox()
        self._pumping = threading.Lock()
        self._info_epoch = 0
        self._own_threads: int | None = None  # torch's own choice, once the parameter has overruled it
        self._late: Timer | None = None  # runs while something waits for an input that is late
        self._worker: threading.Thread | None = None
        self._repeats = Repeats()
        self._last_answer: tuple[int, float] | None = None  # epoch and stamp of the set answered last
        self._told_epoch: int | None = None  # whose beginning has been said already
        self._inputs: dict[str, list[Subscription]] = {}
        super().__init__('planner', **node_arguments)

    def setup(self) -> None:
        """Load the policy and warm it up, make assembler, guard and publishers."""
        p = self.parameters
        rig = load_rig(p.rig)
        in_own_thread(partial(self._load_policy, rig), self.exit_requested)
        self.get_logger().info(f'policy: {self._planner.policy.name}, {self._planner.policy.engine.describe()}')
        sync = CameraSync(
            rig.names,
            max_skew_s=p.max_skew_s,
            wait_s=p.wait_s,
            policies=missing_policies(p.missing_cameras, rig.names),
        )
        self._assembler = ObservationAssembler(
            rig,
            sync,
            needs=self._planner.policy.needs,
            turn_command_required=p.turn_command_required,
            rectified=p.rectified or rectified_cameras(self, rig.names),
            use_tf=p.use_tf,
            camera_time_offset_s=p.camera_time_offset_s,
            odometry_mount=p.odometry_mount,
        )
        self._calibration = CalibrationTopics(self, self._assembler, infos=p.use_camera_info)
        transports = per_camera(p.image_transport, rig.names, TRANSPORTS, 'parameter image_transport')
        needed = self._planner.policy.needs.image_sizes
        self._images = ImageTopics(self, rig.names, transports, self._on_image, needed)
        self._outlets = PlanOutlets(self, rig)

    def _load_policy(self, rig: CameraRig) -> None:
        p = self.parameters
        policy = make_policy(
            p.policy,
            p.model or None,
            prompt=p.prompt or None,
            device=p.device,
            engine=p.engine,
            threads=p.threads,
        )
        self._planner = Planner(policy, on_defect=self._on_defect)
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
        self._mailbox = Mailbox()
        self._assembler.ahead.start()
        self._worker = threading.Thread(target=self._work, args=(self._mailbox,), name='planner-worker', daemon=True)
        self._worker.start()
        push_route = self._assembler.push_route
        self._inputs = {
            'odometry': [self.listen(Odometry, 'odom', self._on_odometry, qos.STATE_SUBSCRIPTION)],
            # A route is latched, or published again and again without that; the same route twice is one.
            'route': [
                self.listen(Path, 'route', push_route, qos.LATCHED, strict=False),
                self.listen(Path, 'route', push_route, qos.STATE_SUBSCRIPTION),
            ],
            'turn command': [
                self.listen(TurnCommandMessage, 'turn_command', self._on_turn_command, qos.STATE_SUBSCRIPTION)
            ],
        }
        self._info_epoch = self._assembler.epoch
        self._calibration.start()
        self._images.start()
        self._notes = Notes()
        self.every(1.0, self._say_notes)
        # Sets that wait for a late input must leave in time although no message comes.
        self._late = self.every(0.01, self._pump)
        self._waiting = WaitingLog(partial(describe_inputs, self))
        self.every(0.5, self._look_for_inputs)

    def stop(self) -> None:
        """Let the worker finish its plan, and wipe the path off the screens."""
        with self._pumping:
            self._late = None  # the node removes it
        self._images.stop()
        self._calibration.stop()
        self._mailbox.close()
        if self._worker is not None:
            # Whoever is told to stop does not wait for a plan that takes long.
            self._worker.join(timeout=1.0 if self.exit_requested.is_set() else 10.0)
            if self._worker.is_alive():
                give_up(self._worker)
            self._worker = None
        self._assembler.ahead.stop(timeout_s=1.0)
        self._tell_what_became()
        self._outlets.wipe(self.get_clock().now().to_msg())

    def _tell_what_became(self) -> None:
        """Log what became of the pictures: whoever launched this node sees whether the plans were the policy's."""
        lost = self._assembler.sync.lost(time.monotonic(), self.parameters.stale_s)
        counters = ', '.join(f'{count} {name}' for name, count in self._counters.items() if count)
        why = in_words({**self._reasons.counts(), **lost})
        missing = () if self._counters['policy'] else self._assembler.problems()
        standing = '; '.join(grouped(dict.fromkeys(missing, 1)))
        log = self.get_logger().info if self._counters['policy'] and not lost else self.get_logger().warning
        log(f'pictures: {counters or "no complete set"}' + (f'; no plan: {why or standing}' if why or standing else ''))

    def parameters_wanted(self, wanted: PlannerParameters) -> None:
        """Change the pruning, or say why not."""
        before = self._pruning.settings
        in_own_thread(partial(self._prune, settings_of(wanted)), self.exit_requested)
        if self._pruning.settings.describe() != before.describe():
            self.get_logger().info(f'{before.describe()} -> {self._pruning.settings.describe()}')

    def parameters_changed(self) -> None:
        """Take the new limits from the next tick on."""
        p = self.parameters
        self._planner.limits = TickLimits(p.max_age_s, p.plan_ttl_s, p.freeze_s)
        self._planner.guard.collision = CollisionLimits(p.collision_horizon_s, p.collision_existence)

    def teardown(self) -> None:
        """Give the model up: the next one may need its room."""
        self._last_plan = None
        for name in ('_planner', '_pruning'):
            if hasattr(self, name):
                delattr(self, name)

    def reset(self, reason: str) -> None:
        """Forget what lies before the jump; the worker notices by the assembler's epoch."""
        del reason
        self._assembler.reset()
        self._told_epoch = self._assembler.epoch
        if (old := self._mailbox.clear()) is not None:
            self._assembler.ahead.let_go(old.synced)

    # Callbacks: hand over, never wait.

    def _on_image(self, camera: str, message: Any, sent_s: float) -> None:
        """Take a picture; raw ones come in a thread of their own."""
        self._assembler.push_image(camera, message, sent_s)
        with self._pumping:
            self._move_sets(time.monotonic())

    def _on_odometry(self, message: Odometry) -> None:
        now = time.monotonic()
        self._assembler.push_odometry(message, now)
        self._pump(now)

    def _on_turn_command(self, message: TurnCommandMessage) -> None:
        now = time.monotonic()
        self._assembler.push_turn_command(message, now)
        self._pump(now)

    def _pump(self, now: float | None = None) -> None:
        """Move complete sets to the worker's mailbox, and look whether time has jumped."""
        with self._pumping:
            self._move_sets(time.monotonic() if now is None else now)
        if self._late is not None and self._assembler.epoch != self._info_epoch:
            self._info_epoch = self._assembler.epoch
            self._calibration.listen_again()

    def _move_sets(self, now: float) -> None:
        """Move complete sets, oldest first; held by one thread at a time, or a newer one could be overtaken."""
        while (ready := self._assembler.take(now)) is not None:
            self._counters['sets'] += 1
            self._assembler.ahead.hold(ready.synced)
            if (replaced := self._mailbox.put(ready)) is not None:
                self._assembler.ahead.let_go(replaced.synced)
        if self._late is None:
            return  # stopped while this message was under way
        waiting = self._assembler.waiting
        if waiting and self._late.is_canceled():
            self._late.reset()
        elif not waiting and not self._late.is_canceled():
            self._late.cancel()

    def _say_notes(self) -> None:
        """Say once what is used in place of what was sent."""
        for note in self._notes.new(self._assembler.notes):
            self.get_logger().warning(note)

    # The worker's thread.

    def _work(self, mailbox: Mailbox[ReadySet]) -> None:
        while (ready := mailbox.take()) is not None:
            try:
                with self._assembler.ahead.tick(ready.synced):
                    self._tick(ready)
            except Exception as error:  # a defect must not silence the planner for good
                self._counters['failed'] += 1
                self._reasons.add(f'{error!r}')
                self._on_defect(error)

    def _on_defect(self, error: Exception) -> None:
        self._last_problem = f'{error!r}'
        if (told := self._repeats.say(''.join(traceback.format_exception(error)))) is not None:
            self.get_logger().error(f'planning failed by a defect of this program or its libraries:\n{told}')

    def _tick(self, ready: ReadySet) -> None:
        """Take one answer of the planner, tell about it, publish it."""
        now_s = partial(self._now_s, ready, time.monotonic())
        result = self._planner.answer(ready, now_s, select=self._outlets.want_selection)
        if result.jumped:
            self._tell_jump(ready)
        self._last_answer = (ready.epoch, ready.stamp_s)
        self._counters[_COUNTED[result.outcome]] += 1
        self._reasons.update(result.problems)
        if result.outcome in (Outcome.FAILED, Outcome.NOT_READY):
            self._warn(f'no plan of the policy: {"; ".join(grouped(dict.fromkeys(result.problems, 1)))}')
        if result.outcome in (Outcome.FAILED, Outcome.NOT_READY, Outcome.STALE):
            self._last_problem = result.problem
        if result.plan is not None:
            self._publish(result.plan, ready, result.unseen, result.selection)

    def _warn(self, text: str) -> None:
        """Log a warning, the same one seldom."""
        if (told := self._repeats.say(text)) is not None:
            self.get_logger().warning(told)

    def _tell_jump(self, ready: ReadySet) -> None:
        """Say that time has jumped back, unless it was said when the clock did."""
        self.resets = ready.epoch
        if ready.epoch == self._told_epoch or self._last_answer is None:
            return
        _, before_s = self._last_answer
        if ready.stamp_s < before_s:
            self.get_logger().warning(f'reset: time jumped back from {before_s:.3f} s to {ready.stamp_s:.3f} s')
        else:
            self.get_logger().warning(
                f'reset: the stamps of a camera or of the odometry jumped back, before the pictures of '
                f'{ready.stamp_s:.3f} s'
            )

    def _look_for_inputs(self) -> None:
        """Say what is waited for, or that all is there."""
        now, p = time.monotonic(), self.parameters
        problems = list(self._assembler.problems(now, p.stale_s))
        age_s = self._plan_times.age_s
        planning = age_s is not None and age_s <= p.plan_ttl_s
        if not problems and not planning:
            problems = [f'a plan ({self._last_problem or "no set of pictures has come together yet"})']
        cameras = {f'camera {name}': self._images.subscriptions(name) for name in self._assembler.rig.names}
        told = self._waiting.look(problems, {**cameras, **self._inputs}, planning)
        if told is not None and told[0]:
            self.get_logger().warning(told[1])
        elif told is not None:  # on a line of its own: rclpy refuses another severity from the same one
            self.get_logger().info(told[1])

    def _now_s(self, ready: ReadySet, began_s: float) -> float:
        """Return the present time by the clock of the images' stamps.

        It is moved on from theirs by what has passed since they were published, by this machine's steady clock.  With
        use_sim_time by /clock: a world that waits for its driver, or plays in slow motion, makes nothing stale.
        """
        if self.get_parameter('use_sim_time').value:
            clock_s = self.get_clock().now().nanoseconds * 1e-9
            if clock_s > 0.0:  # until the first /clock it is 0
                return float(clock_s)
        sent_s = began_s if ready.arrival_s is None else ready.arrival_s
        return ready.stamp_s + time.monotonic() - sent_s

    def _publish(self, plan: Plan, ready: ReadySet, missing: tuple[str, ...], selection: Selection | None) -> None:
        self._outlets.publish(plan, from_nanoseconds(ready.stamp_ns), missing, ready.synced.skew_s, selection)
        self._last_plan = plan
        self._plan_times.tick()

    # Diagnostics.

    def report(self) -> Iterable[Status]:
        """Name every missing input, then what the planner makes of the rest."""
        now, p = time.monotonic(), self.parameters
        cameras = self._assembler.sync.status(now, p.stale_s).cameras
        problems = self._assembler.problems(now, p.stale_s)
        refused, calibration = self._assembler.rejected, self._assembler.calibration
        yield Status(
            'inputs',
            Level.ERROR if problems else Level.OK,
            f'missing: {"; ".join(problems)}' if problems else 'all inputs fresh',
            {
                'problems': json.dumps(problems),
                'turn_command_age_s': self._assembler.turn_command_age_s(now),
                'notes': json.dumps(self._assembler.notes),
                **{f'refused {name}': count for name, count in refused.items()},
            },
        )
        for name, camera in cameras.items():
            yield Status(
                f'camera {name}',
                Level.ERROR if camera.problem else Level.WARN if calibration[name].warnings else Level.OK,
                camera.problem or '; '.join(calibration[name].warnings) or 'fresh',
                {
                    'rate_hz': self._images.rate_hz(name),
                    'age_s': camera.age_s,
                    'frames': camera.frames,
                    'transport': self._images.transport(name),
                    'refused': refused.get(f'camera {name}', 0),
                    'calibration': calibration[name].describe(),
                },
            )
        about = {
            'policy': p.policy,
            'model': p.model,
            'pruning': self._pruning.settings.describe(),
            **asdict(self._planner.policy.engine),
        }
        yield Status('policy', Level.OK, f'{self._planner.policy.name} loaded', about)
        yield self._plan_status()

    def _plan_status(self) -> Status:
        plan, age_s = self._last_plan, self._plan_times.age_s
        values: dict[str, object] = {
            'rate_hz': self._plan_times.rate_hz,
            'age_s': age_s,
            'published': self._plan_times.count,
            **self._counters,
            'replaced_by_newer': self._mailbox.replaced,
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
