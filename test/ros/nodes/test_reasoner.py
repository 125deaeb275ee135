# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The slow half in a process of its own: what it says, when it looks, and what the planner makes of it."""

import json
import math
import os
from pathlib import Path as FilePath
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from std_msgs.msg import String
from visualization_msgs.msg import MarkerArray
from vla_driver.msg import DrivingIntent, DrivingPlan

from vla_driver.bag.outputs import outputs
from vla_driver.bag.recording import figures, write_plan_bag
from vla_driver.ros.nodes.reasoner import ReasonerNode
from vla_driver.ros.runs.plan_recorder import PlanRecorder
from vla_driver.ros.wire import conversions as convert
from vla_driver.ros.wire.diagnostics import Level
from vla_driver.ros.wire.intents import from_driving_intent, to_driving_intent
from vla_driver.types import HazardKind, Intent, MetaAction

WORDS = ('<INTENT>', 'slow_down', '</INTENT>')
FAST = {'diagnostics_period_s': 0.1, 'device': 'cpu'}


@pytest.fixture
def told_checkpoint(tmp_path, small_model):
    """A native checkpoint of random weights that can be told an intent."""
    folder = tmp_path / 'told'
    small_model(intent=True).save_pretrained(folder)
    return folder


def niceness_of(pid):
    """Return the niceness of every thread of a process."""
    return {os.getpriority(os.PRIO_PROCESS, int(task.name)) for task in FilePath(f'/proc/{pid}/task').iterdir()}


def turn(vehicle, seconds):
    """Publish ticks for a while, at about 10 Hz; return their stamps."""
    stamps = []
    for _ in range(round(seconds / 0.1)):
        stamps.append(convert.to_nanoseconds(vehicle.tick()))
        vehicle.probe.spin(0.1)
    return stamps


@pytest.mark.parametrize('clock', ['', "does its sender's clock lag?"])
def test_pictures_dropped_as_too_old_are_said_with_what_is_known_of_their_clock(clock):
    node = Mock(parameters=SimpleNamespace(max_age_s=2.0), _outcomes={'stale': 0})
    node.now_s.return_value = 7.5
    node._images.clock_problem.return_value = clock
    ReasonerNode.answer(node, Mock(stamp_s=5.0))
    words = 'images published 2.50 s ago, limit 2 s: dropped'
    node._note.assert_called_once_with(f'{words} ({clock})' if clock else words)
    node._images.clock_problem.assert_called_once_with('front')


def two_halves(nodes, vehicle, words, told, *, nice, **both):
    """Start a reasoner and a planner; return them, what drives a tick, and the stamps of all ticks so far."""
    how = {**FAST, **both}
    slow = nodes.start('reasoner', {**how, 'checkpoint': str(words), 'rate_hz': 10.0, 'nice': nice})
    fast = nodes.start('planner', {**how, 'model': str(told), 'engine': 'torch'})
    nodes.wait_active(slow, fast, timeout_s=120.0)
    vehicle.wait_for_listener()
    vehicle.publish_route()
    stamps = []

    def drive():
        stamps.append(convert.to_nanoseconds(vehicle.tick()))

    return slow, fast, drive, stamps


def test_it_says_what_it_sees_and_the_planner_heeds_it(probe, nodes, vehicle, checkpoint, told_checkpoint):
    """A vision-language model is the slow half of a native fast half, in two processes."""
    intents, words = probe.listen(DrivingIntent, 'intent'), probe.listen(String, 'reasoning')
    plans, report = probe.listen(DrivingPlan, 'plan'), probe.diagnostics()
    slow, fast, drive, stamps = two_halves(nodes, vehicle, checkpoint('qwen2.5', WORDS), told_checkpoint, nice=7)
    probe.until(lambda: any(plan.intent for plan in plans), timeout_s=90.0, act=drive)
    # What is said is said of pictures, where the vehicle was then, in its words.
    said = intents[0]
    assert convert.to_nanoseconds(said.header.stamp) in stamps
    assert (said.meta_action, said.reasoner, said.hazard, said.hazard_camera) == ('slow_down', 'qwen', 'none', '')
    assert said.pose_known and said.pose.position.x == pytest.approx(0.5 * (1 + stamps.index(stamp_of(said))), abs=0.01)
    assert math.isnan(said.target_speed_mps) and said.text == words[0].data == '<INTENT>slow_down</INTENT>'
    heeding = next(plan for plan in plans if plan.intent)
    heard = [stamp_of(intent) for intent in intents]
    age_s = 1e-9 * (stamp_of(heeding) - stamp_of(said))
    assert heeding.intent == 'slow_down' and stamp_of(heeding) >= heard[0]
    assert 0.0 <= heeding.intent_age_s <= age_s + 1e-6
    assert heeding.intent_weight == pytest.approx(1.0 - heeding.intent_age_s / 3.0, abs=1e-5)
    assert heeding.intent_agreement in (0.0, 0.5, 1.0) and 0.0 <= heeding.uncertainty <= 1.0
    assert any(not plan.intent and math.isnan(plan.intent_age_s) for plan in plans) or stamps[0] in heard
    assert convert.from_driving_plan(heeding).heeded.meta_action is MetaAction.SLOW_DOWN
    # Pictures go on: a reasoner that gets none says nothing, and warns of it.
    probe.until(lambda: (report('planner: intent') or {}).get('meta_action') == 'slow_down', act=drive)
    probe.until(lambda: (report('reasoner: reasoning') or {}).get('level') == Level.OK, timeout_s=60.0, act=drive)
    assert niceness_of(slow.pid) == {7}
    assert niceness_of(fast.pid) == {os.getpriority(os.PRIO_PROCESS, 0)}
    status = report('reasoner: reasoning')
    assert status['meta_action'] == 'slow_down' and int(status['said']) >= 1
    # The slow half dies: the fast one goes on, at first with what was said, then alone.
    slow.stop()
    count = len(plans)
    probe.until(lambda: len(plans) > count and not plans[-1].intent, timeout_s=60.0, act=drive)
    assert plans[-1].source == 'policy'


def test_cameras_of_another_clock_do_not_age_what_is_said(probe, nodes, vehicle, checkpoint, told_checkpoint):
    """An intent bears its image's own stamp, and the planner moves that once, as it moves the images'."""
    intents, plans = probe.listen(DrivingIntent, 'intent'), probe.listen(DrivingPlan, 'plan')
    words = checkpoint('qwen2.5', WORDS)
    *_, drive, stamps = two_halves(nodes, vehicle, words, told_checkpoint, nice=0, camera_time_offset_s=-0.4)
    probe.until(lambda: any(plan.intent for plan in plans), timeout_s=90.0, act=drive)
    assert stamp_of(intents[0]) in stamps
    heeding = next(plan for plan in plans if plan.intent)
    # Of which of the intents that came before the plan is not said; of one, to the microsecond.
    ages = [1e-9 * (stamp_of(heeding) - stamp_of(intent)) + 0.4 for intent in intents]
    assert min(abs(heeding.intent_age_s - age) for age in ages) < 1e-6


def test_one_model_is_both_halves_and_what_it_says_is_recorded(probe, nodes, vehicle, tmp_path, small_model):
    """The native model speaks in one process and drives in another; its gate says with every plan how sure it is."""
    folder = tmp_path / 'both'
    small_model(intent=True, words_config={'grammar': 1}).save_pretrained(folder)
    plans, markers = probe.listen(DrivingPlan, 'plan'), probe.listen(MarkerArray, 'markers')
    slow = nodes.start('reasoner', {**FAST, 'checkpoint': str(folder), 'rate_hz': 5.0, 'nice': 0})
    fast = nodes.start('planner', {**FAST, 'model': str(folder), 'engine': 'torch', 'guidance': 1.5})
    nodes.wait_active(slow, fast, timeout_s=120.0)
    with PlanRecorder() as recorder:
        vehicle.wait_for_listener()
        vehicle.publish_route()
        recorder.wait_for_planner()
        probe.until(lambda: len(recorder.recording().intents) >= 2, timeout_s=90.0, act=vehicle.tick)
        probe.until(lambda: sum(bool(plan.intent) for plan in plans) >= 3, timeout_s=90.0, act=vehicle.tick)
        probe.spin(0.5)
    recording = recorder.recording()
    said = recording.intents[0]
    assert said.text and 0.0 < said.confidence <= 1.0 and said.ttl_s == pytest.approx(2.0)
    told = [plan for plan in plans if plan.intent]
    assert all(0.0 <= plan.wants_words <= 1.0 and plan.intent_age_s < 2.0 for plan in plans if plan.intent)
    assert {plan.wants_words for plan in plans if not plan.intent} <= {1.0}
    words = figures(recording)['words']
    assert words['plans_told'] >= 1 and words['intents'] == len(recording.intents)
    assert told[-1].intent in words['meta_actions']
    assert {'intent', 'reasoning', 'plan'} <= {message.topic for message in recording.raw}
    shown = [marker.text for array in markers for marker in array.markers if marker.ns == 'intent' and marker.text]
    assert shown and any(said.text in text for said in recording.intents for text in shown)
    write_plan_bag(tmp_path / 'plans', vehicle.rig, recording.raw)
    with AnyReader([tmp_path / 'plans']) as bag:
        assert {'/intent', '/reasoning', '/plan'} <= set(bag.topics)
        assert set(outputs({name: bag.topics[name].msgtype for name in bag.topics})) >= {'/intent', '/reasoning'}


def stamp_of(message):
    return convert.to_nanoseconds(message.header.stamp)


def test_it_looks_when_it_is_asked(probe, nodes, vehicle, checkpoint):
    """With no rate of its own it looks at once when a plan is undecided, or wants words, and not otherwise."""
    intents, report = probe.listen(DrivingIntent, 'intent'), probe.diagnostics()
    plans = probe.publisher(DrivingPlan, 'plan')
    slow = nodes.start(
        'reasoner', {**FAST, 'checkpoint': str(checkpoint('qwen2.5', WORDS)), 'rate_hz': 0.0, 'nice': 0, 'pause_s': 0.1}
    )
    nodes.wait_active(slow, timeout_s=120.0)
    vehicle.wait_for_listener()
    vehicle.publish_route()
    probe.until(plans.get_subscription_count)
    sure, undecided, wanting = (
        DrivingPlan(uncertainty=u, wants_words=w) for u, w in ((0.2, 0.1), (0.8, 0.0), (0.0, 0.9))
    )
    sure.wants_words = math.nan
    for _ in range(5):
        vehicle.tick()
        plans.publish(sure)
        probe.spin(0.1)
    assert not intents

    def asked():
        return json.loads((report('reasoner: reasoning') or {'asked': '{}'})['asked'])

    # Until the reasoner itself says so: how many intents come of one plan that is said again and again is nobody's law.
    for why, plan in (('uncertainty', undecided), ('wanted', wanting)):
        probe.until(lambda: asked().get(why), act=lambda: (vehicle.tick(), plans.publish(plan)))  # noqa: B023
    probe.until(lambda: len(intents) >= 2, act=vehicle.tick)
    assert 'timer' not in asked()


def test_what_cannot_reason_is_refused_by_name(nodes, small_checkpoint):
    from vla_driver.ros.runs.processes import NodeProcessError

    node = nodes.start('reasoner', {**FAST, 'checkpoint': str(small_checkpoint), 'nice': 0})
    with pytest.raises(NodeProcessError, match=r'has no words .*it drives, but cannot reason'):
        nodes.wait_active(node, timeout_s=60.0)


def test_messages_hold_what_was_said_exactly():
    pose = np.array([3.0, -2.0, 1.5])
    intent = Intent(
        100.25, MetaAction.STOP, 2.0, pose, 3.5, HazardKind.PERSON, 'front_left', 12.5, 0.75, 'person, left, near: stop'
    )
    message = to_driving_intent(intent, 'nano')
    back = from_driving_intent(message)
    assert {**vars(back), 'pose': None} == {**vars(intent), 'pose': None}
    np.testing.assert_allclose(back.pose, pose)
    assert from_driving_intent(message, offset_s=-0.25).stamp_s == 100.0
    bare = from_driving_intent(to_driving_intent(Intent(1.0, MetaAction.KEEP, 1.0), 'nano'))
    assert bare.pose is None and math.isnan(bare.hazard_m) and math.isnan(bare.target_speed_mps)
    known = {getattr(DrivingIntent, action.name) for action in MetaAction}
    assert known == {action.value for action in MetaAction}
    assert {getattr(DrivingIntent, kind.name) for kind in HazardKind} == {kind.value for kind in HazardKind}


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        ({'meta_action': 'fly'}, "meta_action 'fly', allowed: keep"),
        ({'hazard': 'ghost'}, "hazard 'ghost', allowed: none"),
        ({'confidence': math.nan}, 'confidence is nan'),
        ({'target_speed_mps': math.inf}, 'target_speed_mps is inf'),
        ({'hazard_m': -3.0}, 'hazard_m is -3.0'),
    ],
)
def test_a_planner_refuses_nonsense_and_drives_on(change, says):
    message = to_driving_intent(Intent(1.0, MetaAction.KEEP, 1.0, np.zeros(3)), 'nano')
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ValueError, match=says):
        from_driving_intent(message)
