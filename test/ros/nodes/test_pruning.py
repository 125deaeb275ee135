# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Pruning on a running planner: changed by parameter, refused with the reason, seen on `tokens` and `markers`."""

import numpy as np
import pytest
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from visualization_msgs.msg import MarkerArray
from vla_driver.msg import CameraTokens, DrivingPlan, TokenSelection

from vla_driver.geometry.rig import load_rig
from vla_driver.planning.tick import Planner
from vla_driver.policies.loading import load_policy
from vla_driver.policies.pruning_settings import PruningSettings
from vla_driver.ros.nodes.planner import PlannerNode
from vla_driver.ros.nodes.pruning_control import PruningControl
from vla_driver.ros.wire import conversions as convert
from vla_driver.ros.wire.markers import token_markers, token_places
from vla_driver.ros.wire.selection import from_token_selection, to_token_selection
from vla_driver.types import CameraSelection, InvalidInput, Selection

RIG = load_rig('sim')


def selection():
    kept = np.zeros((3, 5), bool)
    kept[0, 1] = kept[2, 4] = True
    scores = np.arange(15, dtype=np.float32).reshape(3, 5)
    scores[1, 1] = -np.inf
    cameras = {'front': CameraSelection(kept, scores), 'back': CameraSelection(np.ones((2, 2), bool), None)}
    return Selection('recon', 12.5, cameras)


def test_a_selection_becomes_a_message_and_back():
    message = to_token_selection(selection())
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (12, 500_000_000)
    assert (message.header.frame_id, message.pruner) == ('base_link', 'recon')
    assert (message.before, message.after) == (19, 6)
    assert message.ratio == pytest.approx(13 / 19)
    front, back = message.cameras
    assert (front.name, front.rows, front.columns, list(front.kept)) == ('front', 3, 5, [1, 14])
    assert list(front.scores[:6]) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert front.scores[6] == -np.inf
    assert (list(back.kept), list(back.scores)) == ([0, 1, 2, 3], [])
    got = from_token_selection(message)
    assert (got.stamp_s, got.pruner) == (12.5, 'recon')
    np.testing.assert_array_equal(got.kept['front'], selection().cameras['front'].kept)
    message.cameras = [CameraTokens(name='front', rows=1, columns=2, kept=[2])]
    with pytest.raises(InvalidInput, match='cell 2 of camera front, which has 2'):
        from_token_selection(message)


def test_planning_goes_on_while_graphs_are_opened(graphs_made, monkeypatch):
    policy = load_policy(graphs_made, engine='onnx', threads=1)
    planner = Planner(policy)
    control = PruningControl(planner, str(graphs_made))
    held = []

    def opened(*names):
        held.append(planner.between_ticks.locked())
        return kept(*names)

    kept = policy._opened.open
    monkeypatch.setattr(policy._opened, 'open', opened)
    control.change(PruningSettings('recon', 0.5))
    assert held
    assert not any(held)
    assert policy.pruning[0].name == 'recon'


def test_kept_tokens_are_shown_where_their_rays_meet_the_ground():
    kept = np.zeros((6, 10), bool)
    kept[5, 4] = kept[5, 5] = kept[0, 0] = True
    places = token_places(RIG['front'], kept)
    up, left, right = places
    # The lowest row looks at the road just ahead of the car, column 4 to the left of column 5.
    assert left[2] == pytest.approx(0.0, abs=1e-9)
    assert 2.0 < left[0] < 8.0
    np.testing.assert_allclose(left * [1, -1, 1], right, atol=1e-9)
    assert left[1] > 0.0
    # A ray into the sky ends 18 m away.
    assert up[2] > 2.0
    assert np.linalg.norm(up - RIG['front'].base_from_camera[:3, 3]) == pytest.approx(18.0)
    markers = token_markers(selection(), RIG, convert.to_time(12.5), 1.0)
    assert [(m.ns, len(m.points)) for m in markers] == [('tokens', 2), ('tokens', 4), ('tokens', 0)]
    assert len({m.id for m in markers}) == 3
    assert markers[-1].text == 'recon: 6 of 19 tokens'


def setter(probe):
    """Return a function that sets parameters of /planner over DDS, all or none, and returns the answer."""
    client = probe.node.create_client(SetParametersAtomically, 'planner/set_parameters_atomically')

    def set_parameters(**values):
        probe.until(client.service_is_ready)
        request = SetParametersAtomically.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        )
        future = client.call_async(request)
        probe.until(future.done)
        return future.result().result

    return set_parameters


def drive(vehicle, ticks):
    stamps = []
    for _ in range(ticks):
        stamps.append(convert.to_nanoseconds(vehicle.tick()))
        vehicle.probe.spin(0.1)
    return stamps


def stamps_of(messages):
    return [convert.to_nanoseconds(message.header.stamp) for message in messages]


def test_the_pruner_changes_between_two_ticks_of_a_running_planner(probe, nodes, vehicle, tiny_checkpoint):
    plans, tokens = probe.listen(DrivingPlan, 'plan'), probe.listen(TokenSelection, 'tokens')
    markers = probe.listen(MarkerArray, 'markers')
    planner = nodes.start(
        'planner', {'policy': 'model', 'model': str(tiny_checkpoint), 'threads': 1, 'max_age_s': 10.0}
    )
    nodes.wait_active(planner, timeout_s=120.0)
    vehicle.wait_for_listener()
    vehicle.publish_route()
    probe.spin(0.2)
    set_parameters = setter(probe)

    def plan_once():
        """Drive a tick and wait for its plan (the newest set wins, so that one may replace another)."""
        (stamp,) = drive(vehicle, 1)
        probe.until(lambda: stamps_of(plans)[-1:] == [stamp], timeout_s=60.0)
        return plans[-1]

    everything = plan_once()
    assert 'pruner' not in everything.timing_names
    assert tokens == []
    probe.until(lambda: markers and {marker.ns for marker in markers[-1].markers} == {'plan'})

    assert set_parameters(pruner='uniform', prune_ratio=0.5).successful
    pruned = plan_once()
    assert pruned.source == 'policy'
    timing = dict(zip(pruned.timing_names, pruned.timing_ms, strict=True))
    assert timing['pruner'] > 0.0
    probe.until(lambda: stamps_of(tokens)[-1:] == stamps_of(plans)[-1:])
    (first,) = tokens
    # 60 tokens in front, 15 in each other camera.
    assert (first.pruner, first.before, first.after) == ('uniform', 135, 67)
    assert {camera.name: len(camera.kept) > 0 for camera in first.cameras} == dict.fromkeys(RIG.names, True)
    probe.until(lambda: {marker.ns for marker in markers[-1].markers} == {'plan', 'tokens'})

    for values, words in (
        ({'pruner': 'unifrom'}, "pruner 'unifrom' is neither known nor a folder"),
        ({'pruner': 'recon'}, 'is no folder'),
        ({'prune_floor': 40}, 'cannot give each of 6 cameras its floor of 40'),
        ({'prune_count': 136}, 'count 136 of 135'),
        ({'prune_camera_weights': ['front:2']}, "'front:2': expected CAMERA=NUMBER"),
        ({'prune_scope': 'camera', 'prune_camera_weights': ['roof=2.0']}, "weights name ['roof']"),
        ({'prune_ratio': 1.0}, 'prune_ratio'),
        ({'pruner': 'none', 'prune_scope': 'cammera'}, "did you mean 'camera'"),
    ):
        refused = set_parameters(**values)
        assert not refused.successful
        assert words in refused.reason, refused.reason
    plan_once()
    probe.until(lambda: len(tokens) == 2)
    assert (tokens[-1].pruner, tokens[-1].after) == ('uniform', 67)

    weights = {'prune_scope': 'camera', 'prune_count': 30, 'prune_camera_weights': ['front=4.0']}
    assert set_parameters(pruner='random:3', **weights).successful
    plan_once()
    probe.until(lambda: len(tokens) == 3)
    assert (tokens[-1].pruner, tokens[-1].after) == ('random', 30)
    assert {c.name: len(c.kept) for c in tokens[-1].cameras}['front'] == 23  # 30 * 240 / 315, largest remainder

    assert set_parameters(pruner='none').successful
    last = plan_once()
    assert 'pruner' not in last.timing_names
    probe.spin(0.3)
    assert len(tokens) == 3


def test_a_policy_without_tokens_refuses_a_pruner_but_takes_the_rest(probe):
    overrides = [Parameter('policy', value='constant-velocity')]
    planner = PlannerNode(context=probe.context, parameter_overrides=overrides)

    def set_one(name, value):
        return planner.set_parameters([Parameter(name, value=value)])[0]

    try:
        assert planner.trigger_configure() == TransitionCallbackReturn.SUCCESS
        refused = set_one('pruner', 'uniform')
        assert not refused.successful
        assert "policy 'constant-velocity' has no visual tokens" in refused.reason
        assert set_one('prune_ratio', 0.75).successful
        assert planner.get_parameter('pruner').value == 'none'
        assert planner.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
        # Not configured, the parameter is taken; configuring then fails, saying why.
        assert set_one('pruner', 'uniform').successful
        assert planner.trigger_configure() == TransitionCallbackReturn.FAILURE
        assert 'has no visual tokens' in planner.failure
    finally:
        planner.destroy_node()


def test_of_a_change_that_is_refused_in_one_part_nothing_is_taken(probe, tmp_path, small_model):
    small_model(intent=True).save_pretrained(tmp_path)
    given = {'policy': 'model', 'model': str(tmp_path), 'engine': 'torch', 'threads': 1}
    planner = PlannerNode(context=probe.context, parameter_overrides=[Parameter(k, value=v) for k, v in given.items()])
    try:
        assert planner.trigger_configure() == TransitionCallbackReturn.SUCCESS, planner.failure
        change = [Parameter('guidance', value=0.0), Parameter('pruner', value='nosuch')]
        refused = planner.set_parameters_atomically(change)
        assert not refused.successful
        assert 'nosuch' in refused.reason
        assert planner._planner.policy.guidance == planner.get_parameter('guidance').value == 1.0
        assert planner.set_parameters_atomically(change[:1]).successful
        assert planner._planner.policy.guidance == planner.get_parameter('guidance').value == 0.0
    finally:
        planner.destroy_node()
