# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Every input as it is found gets one answer: from a live node, from `replay` and from open loop."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from fixtures.found_cases import CASES, Case
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter

from vla_driver.bag.matching import Matching
from vla_driver.bag.read import BagReader
from vla_driver.bag.recording import Recording
from vla_driver.commands.replaying import ReplayRequest, exit_status, replay
from vla_driver.geometry.rig import load_rig, rig_to_yaml
from vla_driver.observation.reasons import without_figures
from vla_driver.planning.tick import Planner, TickResult
from vla_driver.policies.constant_velocity import ConstantVelocityPolicy
from vla_driver.policies.loading import load_policy
from vla_driver.ros.nodes.planner import PlannerNode
from vla_driver.ros.nodes.playback import Bag
from vla_driver.ros.wire import qos
from vla_driver.ros.wire.transport import PROFILE_VARIABLES
from vla_driver.types import PlanSource, Policy

#: The first ticks may come before a live node has heard of everything.
_FIRST_S = 0.35
#: Pictures of the next set may come while one is being answered.
_PERIOD_NS = 100_000_000


@dataclass(frozen=True)
class Tick:
    """What one set of inputs gave.  own_m: what the policy proposed, whatever the guard made of it."""

    outcome: str
    problems: tuple[str, ...]
    own_m: Any

    @staticmethod
    def of(result: TickResult) -> Tick:
        own = result.proposed
        return Tick(str(result.outcome), result.problems, None if own is None else own.trajectory.positions_m)


@dataclass(frozen=True)
class Answer:
    """stamp in nanoseconds -> tick; what is missing at the end; what was said."""

    ticks: Mapping[int, Tick]
    standing: tuple[str, ...]
    notes: tuple[str, ...]

    def reasons(self) -> set[str]:
        return {without_figures(problem) for tick in self.ticks.values() for problem in tick.problems}


def _rig(case: Case) -> Any:
    name = case.options.get('rig', 'nuscenes')
    return None if name is None else load_rig(name)


def _matching(case: Case) -> Matching:
    return Matching(**{name: value for name, value in case.options.items() if name != 'rig'})


def open_loop(path: Path, case: Case, policy: Policy) -> Answer:
    planner = Planner(policy)
    with BagReader(path, rig=_rig(case)) as bag:
        matching = _matching(case).keywords(bag.rig().names)
        ticks = {
            ready.stamp_ns: Tick.of(planner.answer(ready)) for ready in bag.ready_sets(needs=policy.needs, **matching)
        }
        return Answer(ticks, bag.standing, bag.notes)


class KeepingUp:
    """Holds a player back while sets that are due have no answer yet.

    A planner that is busy for a moment, because the machine is, skips to the newest pictures: that is right, but not
    what is compared here.
    """

    def __init__(self, due: Iterable[int], answers: Mapping[int, Tick]) -> None:
        self._due, self._answers = deque(sorted(due)), answers

    def wait(self, log_time_ns: int) -> float:
        """Wait for all that belongs before log_time_ns, and return how long it took in s.

        A set that never comes is given up after a while.
        """
        began_s = time.monotonic()
        while self._due and self._due[0] < log_time_ns - _PERIOD_NS:
            if self._due[0] in self._answers or time.monotonic() > began_s + 1.0:
                self._due.popleft()
            else:
                time.sleep(0.002)
        return time.monotonic() - began_s


def live(path: Path, case: Case, checkpoint: Path, domain: int, folder: Path, due: Iterable[int]) -> Answer:
    """Play the bag's messages, at their pace, to a planner node that was configured as a vehicle would.

    due: stamps in nanoseconds of the sets that are compared.
    """
    with BagReader(path, rig=_rig(case)) as bag:
        inputs, rig, kinds, mount = bag.inputs(), bag.rig(), bag.topics, bag.odometry_mount()
    rig_file = folder / 'rig.yaml'
    rig_file.write_text(rig_to_yaml(rig), encoding='utf-8')
    absent = [name for name in rig.names if name not in inputs.cameras]
    parameters = {
        'policy': 'model',
        'model': str(checkpoint),
        'rig': str(rig_file),
        'threads': 1,
        'max_age_s': 10.0,  # open loop knows no clock that pictures could be too old by
        'odometry_mount': list(mount),  # what /tf_static says, for tf2_msgs is not to be had from PyPI
        'turn_command_required': inputs.turn_command is not None,
        'missing_cameras': [*case.options.get('missing_cameras', ()), *(f'{name}=skip' for name in absent)]
        or ['require'],
        **{name: value for name, value in case.options.items() if name not in ('rig', 'missing_cameras')},
    }
    names = {topic: f'/camera/{camera}/camera_info' for camera, topic in inputs.infos.items()}
    for camera, topic in inputs.cameras.items():
        raw = kinds[topic] == 'sensor_msgs/msg/Image'
        names[topic] = f'/camera/{camera}/image' + ('' if raw else '/compressed')
    names.update({inputs.odometry: '/odom', inputs.route: '/route', inputs.turn_command: '/turn_command'})
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = PlannerNode(
        context=context,
        use_global_arguments=False,
        parameter_overrides=[Parameter(name, value=value) for name, value in parameters.items()],
    )
    vehicle = rclpy.create_node('vehicle', context=context, use_global_arguments=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        node.trigger_configure()
        assert node.configured, node.failure
        answers: dict[int, Tick] = {}
        answer = node._planner.answer

        def remember(ready: Any, *args: Any, **how: Any) -> TickResult:
            result = answer(ready, *args, **how)
            answers[ready.stamp_ns] = Tick.of(result)
            return result

        node._planner.answer = remember  # the real tick, listened to
        spinning = threading.Thread(target=executor.spin, daemon=True)
        spinning.start()
        node.trigger_activate()
        with Bag(path) as bag:
            channels = {topic: channel for topic, channel in bag.channels.items() if topic in names}
            outlets = {
                topic: vehicle.create_publisher(
                    channel.message_type, names[topic], qos.LATCHED if names[topic] == '/route' else qos.RELIABLE
                )
                for topic, channel in channels.items()
            }
            _until(lambda: all(outlet.get_subscription_count() for outlet in outlets.values()))
            time.sleep(0.3)  # discovery is not symmetric
            began_s, first_ns, keeping_up = time.monotonic(), None, KeepingUp(due, answers)
            for letter in bag.letters(channels):
                first_ns = letter.log_time_ns if first_ns is None else first_ns
                began_s += keeping_up.wait(letter.log_time_ns)
                time.sleep(max(0.0, began_s + (letter.log_time_ns - first_ns) * 1e-9 - time.monotonic()))
                outlets[letter.channel.topic].publish(letter.data)
        time.sleep(0.3)
        inside = node._assembler
        return Answer(answers, inside.problems(), inside.notes)
    finally:
        node.trigger_deactivate()
        executor.shutdown()
        node.destroy_node()
        vehicle.destroy_node()
        rclpy.shutdown(context=context)


def replayed(path: Path, case: Case) -> tuple[Recording, int]:
    """Replay it as the command does; return what came, and the command's exit status."""
    request = ReplayRequest(path, policy='constant-velocity', rig=_rig(case), matching=_matching(case))
    recording = replay(request).recording
    return recording, exit_status(recording)


def _until(condition: Any, timeout_s: float = 20.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f'not within {timeout_s:g} s'
        time.sleep(0.02)


def check(case: Case, answer: Answer) -> None:
    """The answer is the right one."""
    own = sum(tick.own_m is not None for tick in answer.ticks.values())
    least, most = case.range(len(answer.ticks))
    assert least <= own <= most, (own, len(answer.ticks), answer.reasons(), answer.standing)
    if case.plans == 'all':
        assert own >= 8
    if case.reason:
        told = [*(problem for tick in answer.ticks.values() for problem in tick.problems), *answer.standing]
        assert any(re.search(case.reason, problem) for problem in told), told
    if case.note:
        assert any(re.search(case.note, note) for note in answer.notes), answer.notes
    else:
        assert answer.notes == ()


def agree(one: Answer, other: Answer, first_s: float = _FIRST_S) -> None:
    """Both give the same plans, and the same reasons where there is none."""
    assert one.ticks or not other.ticks
    if not one.ticks:
        return
    begin_ns = min(one.ticks) + round(first_s * 1e9)
    common = [stamp for stamp in one.ticks if stamp in other.ticks and stamp >= begin_ns]
    late = [stamp for stamp in one.ticks if stamp >= begin_ns]
    assert len(common) >= 0.8 * len(late), (len(common), len(late))
    for stamp in common:
        a, b = one.ticks[stamp], other.ticks[stamp]
        assert a.outcome == b.outcome, (a.problems, b.problems)
        if a.outcome != 'refused':  # by what the guard goes on instead depends on how long things took
            assert {without_figures(p) for p in a.problems} == {without_figures(p) for p in b.problems}
        assert (a.own_m is None) == (b.own_m is None)
        if a.own_m is not None:
            np.testing.assert_allclose(a.own_m, b.own_m, atol=1e-3)
    assert {without_figures(note) for note in one.notes} == {without_figures(note) for note in other.notes}


@pytest.fixture(scope='session')
def found_bags(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, made = tmp_path_factory.mktemp('found'), {}

    def make(case: Case) -> Path:
        if case.name not in made:
            made[case.name] = case.make(folder)
        return made[case.name]

    return make


@pytest.mark.clock
@pytest.mark.parametrize('case', CASES, ids=lambda case: case.name)
def test_a_live_node_and_open_loop_answer_alike(case: Case, found_bags, tiny_checkpoint, domain, tmp_path):
    path = found_bags(case)
    offline = open_loop(path, case, load_policy(tiny_checkpoint))
    check(case, offline)
    begin_ns = min(offline.ticks, default=0) + round(_FIRST_S * 1e9)
    due = [stamp for stamp in offline.ticks if stamp >= begin_ns]
    online = live(path, case, tiny_checkpoint, domain, tmp_path, due)
    check(case, online)
    agree(offline, online)


@pytest.fixture
def small_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain transports: these pictures need no large shared memory, with which nodes find each other 3 s later."""
    profile = tmp_path / 'plain.xml'
    profile.write_text('<profiles xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"></profiles>')
    for variable in PROFILE_VARIABLES:
        monkeypatch.setenv(variable, str(profile))


@pytest.mark.usefixtures('small_messages')
@pytest.mark.parametrize('case', CASES, ids=lambda case: case.name)
def test_replay_and_open_loop_answer_alike(case: Case, found_bags, domain):
    path = found_bags(case)
    offline = open_loop(path, case, ConstantVelocityPolicy())
    check(case, offline)
    recording, status = replayed(path, case)
    own = {round(r.plan.stamp_s, 4): r.plan for r in recording.plans if r.plan.source is PlanSource.POLICY}
    wanted = {round(stamp * 1e-9, 4): tick.own_m for stamp, tick in offline.ticks.items() if tick.own_m is not None}
    assert set(own) <= set(wanted)
    assert len(own) >= 0.8 * (len(wanted) - _FIRST_S * 10)
    for stamp, plan in own.items():
        if stamp >= min(wanted) + _FIRST_S:
            np.testing.assert_allclose(plan.trajectory.positions_m, wanted[stamp], atol=1e-3)
    assert status == (0 if own else 1)
    if case.reason:
        told = [*recording.why_not, *recording.standing]
        assert any(re.search(case.reason, reason) for reason in told), told
    said = {without_figures(note) for note in recording.notes}
    assert said == {without_figures(note) for note in offline.notes}
