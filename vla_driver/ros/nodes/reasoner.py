# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The reasoner: the same inputs as the planner's in; what to do next and why out, at its own pace.

It looks at its own rate, and when the planner's plans say that the fast half is undecided or that words are worth it.
It works in a process of its own with a lowered priority; nobody waits for it, and what it says is stamped with the
pictures that it looked at.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Any, Final

from rclpy.timer import Timer
from std_msgs.msg import String

from vla_driver.geometry.rig import load_rig
from vla_driver.msg import DrivingIntent, DrivingPlan
from vla_driver.observation.ready import NotReady, ReadySet
from vla_driver.observation.reasons import ReasonCounter, grouped, in_words
from vla_driver.planning.tick import black_observation
from vla_driver.policies.priority import give_way, give_way_here
from vla_driver.policies.reasoners import load_reasoner
from vla_driver.policies.registry import DEFAULT_CHECKPOINTS
from vla_driver.ros.base.mailbox import Mailbox
from vla_driver.ros.base.openmp import wait_briefly
from vla_driver.ros.base.own_thread import OwnThread, Stopped, in_own_thread
from vla_driver.ros.base.process import run
from vla_driver.ros.inputs.observing import ObservingNode
from vla_driver.ros.wire import qos
from vla_driver.ros.wire.conversions import from_nanoseconds
from vla_driver.ros.wire.diagnostics import Level, RateMeter, Status
from vla_driver.ros.wire.intents import to_driving_intent
from vla_driver.settings.nodes.reasoner import ReasonerParameters
from vla_driver.types import ANCHOR_CAMERA, CameraRig, Intent, MalformedAnswer, VlaDriverError

#: How often the worker looks whether it is to end.
_LOOK_S: Final = 0.2


class ReasonerNode(ObservingNode[ReasonerParameters]):
    """Images in, intent out."""

    parameter_table = ReasonerParameters
    activity = 'reasoning'
    #: It looks at one set of many; decoding them all would cost more than reasoning.
    decodes_ahead = False

    def __init__(self, **node_arguments: Any) -> None:
        self._outcomes = dict.fromkeys(('said', 'nothing_said', 'not_ready', 'stale', 'overtaken_by_jump', 'failed'), 0)
        self._asked: Counter[str] = Counter()
        self._reasons = ReasonCounter()
        self._intent_times = RateMeter()
        self._took_ms = 0.0
        self._last_intent: Intent | None = None
        self._last_problem = ''
        self._due = threading.Event()
        self._began_s = -1e9  # when the latest look began
        self._pace: Timer | None = None
        self._epoch: int | None = None
        self._niceness = 0
        super().__init__('reasoner', **node_arguments)

    def setup(self) -> None:
        """Load the reasoner and try it, make assembler and publishers."""
        rig = load_rig(self.parameters.rig)
        give_way(self.parameters.nice)
        in_own_thread(partial(self._load, rig), self.exit_requested)  # not where it thinks: that may take for ever
        self._mind = OwnThread()
        self._niceness = self._mind.do(partial(give_way_here, self.parameters.nice), self.exit_requested)
        self.get_logger().info(f'reasoner: {self._reasoner.name}, niceness {self._niceness}')
        self.observe(rig, self._reasoner.needs)
        self._intent_outlet = self.advertise(DrivingIntent, 'intent', qos.RELIABLE)
        self._words_outlet = self.advertise(String, 'reasoning', qos.RELIABLE)

    def _load(self, rig: CameraRig) -> None:
        p = self.parameters
        self._reasoner = load_reasoner(p.checkpoint or DEFAULT_CHECKPOINTS['model'], p.prompt or None, p.device)
        torch = sys.modules.get('torch')
        if p.threads and torch is not None:
            torch.set_num_threads(p.threads)
        # A model that writes may have nothing sensible to say about black pictures: that is no fault.
        with contextlib.suppress(MalformedAnswer):
            self._reasoner.reason(black_observation(rig, self._reasoner.needs))
        self._reasoner.reset()

    def start(self) -> None:
        """Start the worker and the pace, then subscribe."""
        self._due.clear()
        super().start()
        self.listen(DrivingPlan, 'plan', self._on_plan, qos.RELIABLE)
        self._set_pace()

    def _set_pace(self) -> None:
        """Look at the parameter's rate from now on."""
        if self._pace is not None:
            self._pace.cancel()
            self._pace = None
        if (rate_hz := self.parameters.rate_hz) > 0.0:
            self._pace = self.every(1.0 / rate_hz, partial(self._ask, 'timer'))

    def stop(self) -> None:
        """Let the worker finish its thought."""
        self._pace = None  # the node removes it
        super().stop()
        counters = ', '.join(f'{count} {name}' for name, count in self._outcomes.items() if count)
        why = in_words(self._reasons.counts())
        self.get_logger().info(f'thoughts: {counters or "none"}' + (f'; nothing said: {why}' if why else ''))

    def teardown(self) -> None:
        """Give the model up."""
        self._last_intent = None
        if hasattr(self, '_mind'):
            self._mind.close(timeout_s=1.0)
            del self._mind
        if hasattr(self, '_reasoner'):
            del self._reasoner

    def parameters_changed(self) -> None:
        """Look at the new rate."""
        if self.active:
            self._set_pace()

    # Who asks.

    def _on_plan(self, message: DrivingPlan) -> None:
        """Look sooner where the fast half is undecided, or wants words."""
        p = self.parameters
        if message.uncertainty >= p.ask_uncertainty:
            self._ask('uncertainty')
        elif message.wants_words >= p.ask_wanted:
            self._ask('wanted')

    def _ask(self, why: str) -> None:
        if not self._due.is_set() and time.monotonic() - self._began_s >= self.parameters.pause_s:
            self._asked[why] += 1
            self._due.set()

    # The worker's thread.

    def work(self, mailbox: Mailbox[ReadySet]) -> None:
        """Whenever somebody asks, think about the newest set of pictures."""
        while not mailbox.closed:
            if not self._due.wait(_LOOK_S):
                continue
            ready = mailbox.take()
            self._due.clear()
            if ready is not None:
                self._began_s = time.monotonic()
                self.work_on(ready)

    def on_failure(self, error: Exception) -> None:
        """Count a thought that a defect has ended."""
        self._outcomes['failed'] += 1
        self._note(f'{error!r}')

    def answer(self, ready: ReadySet) -> None:
        """Think about one set of pictures, and say what comes of it."""
        self._follow_time(ready)
        age_s = self.now_s(ready, time.monotonic()) - ready.stamp_s
        if age_s > self.parameters.max_age_s:
            self._outcomes['stale'] += 1
            clock = self._images.clock_problem(ANCHOR_CAMERA)
            dropped = f'images published {age_s:.2f} s ago, limit {self.parameters.max_age_s:g} s: dropped'
            self._note(dropped + (f' ({clock})' if clock else ''))
            return
        observation = ready.observe()
        if isinstance(observation, NotReady):
            self._outcomes['not_ready'] += 1
            self._note(*observation.problems)
            return
        began_s = time.perf_counter()
        try:
            intent = self._mind.do(partial(self._reasoner.reason, observation), self.exit_requested)
        except Stopped:
            return
        except VlaDriverError as error:
            self._outcomes['nothing_said'] += 1
            self._note(f'{error}')
            self.warn(f'nothing said: {error}')
            return
        finally:
            self._took_ms = 1e3 * (time.perf_counter() - began_s)
        if ready.overtaken:
            self._outcomes['overtaken_by_jump'] += 1
            return
        self._outcomes['said'] += 1
        # The image's own stamp: whoever takes it moves it to the odometry's clock, as the images.
        own = from_nanoseconds(ready.stamp_ns - ready.offset_ns)
        self._intent_outlet.publish(to_driving_intent(intent, self._reasoner.name, own))
        self._words_outlet.publish(String(data=intent.text or intent.meta_action.value))
        self._last_intent = intent
        self._intent_times.tick()

    def _follow_time(self, ready: ReadySet) -> None:
        """Forget what lies before a jump of time."""
        if ready.epoch != self._epoch:
            if self._epoch is not None:
                self._reasoner.reset()
                self.tell_jump(ready)
            self._epoch = ready.epoch
        self._last_answer = (ready.epoch, ready.stamp_s)

    def _note(self, *problems: str) -> None:
        self._reasons.update(problems)
        self._last_problem = '; '.join(grouped(dict.fromkeys(problems, 1)))

    # Diagnostics.

    def going(self) -> bool:
        """Whether intents are being published."""
        age_s, intent = self._intent_times.age_s, self._last_intent
        return age_s is not None and intent is not None and age_s <= max(intent.ttl_s, self._period_s())

    def _period_s(self) -> float:
        """Return how long the time between two looks may be, asked or not."""
        return 2.0 / self.parameters.rate_hz if self.parameters.rate_hz > 0 else float('inf')

    def missing_answer(self) -> str:
        """Return in words why nothing is said."""
        return f'an intent ({self._last_problem or "nobody has asked yet"})'

    def report(self) -> Iterable[Status]:
        """Name every missing input, then what comes of the thoughts."""
        yield from super().report()
        p, intent = self.parameters, self._last_intent
        values: dict[str, object] = {
            'reasoner': self._reasoner.name,
            'checkpoint': p.checkpoint or DEFAULT_CHECKPOINTS['model'],
            'niceness': self._niceness,
            'rate_hz': self._intent_times.rate_hz,
            'age_s': self._intent_times.age_s,
            'reason_ms': self._took_ms,
            'sets': self._sets,
            **self._outcomes,
            'asked': json.dumps(dict(self._asked)),
            'nothing_said_because': json.dumps(self._reasons.counts()),
            'last_problem': self._last_problem or None,
        }
        if intent is None:
            yield Status('reasoning', Level.WARN, 'nothing said yet', values)
            return
        values |= {
            'meta_action': intent.meta_action.value,
            'hazard': intent.hazard.value,
            'hazard_camera': intent.hazard_camera,
            'confidence': intent.confidence,
        }
        # A slow half that is silent is a loss, not a danger: the fast half goes on alone.
        level = Level.OK if self.going() else Level.WARN
        yield Status('reasoning', level, intent.text or intent.meta_action.value, values)


def main() -> int:
    """Run the node."""
    wait_briefly()
    return run(ReasonerNode, sends_pictures=False)


if __name__ == '__main__':
    sys.exit(main())
