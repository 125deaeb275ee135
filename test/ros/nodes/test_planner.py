# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The planner node in a process of its own: what it publishes, and what it says when something is missing."""

import math
import pickle
import re
import threading
import time

import numpy as np
import pytest
import torch
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Path
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo
from visualization_msgs.msg import MarkerArray
from vla_driver.msg import DrivingPlan

from vla_driver.geometry import unicycle
from vla_driver.ros.base.own_thread import in_own_thread
from vla_driver.ros.nodes.planner import PlannerNode
from vla_driver.ros.runs.processes import NodeProcessError
from vla_driver.ros.wire import conversions as convert
from vla_driver.ros.wire import qos
from vla_driver.ros.wire.diagnostics import Level
from vla_driver.types import TurnCommand

FAST = {'policy': 'constant-velocity', 'diagnostics_period_s': 0.1, 'stale_s': 0.3}


@pytest.fixture
def plans(probe):
    return probe.listen(DrivingPlan, 'plan')


@pytest.fixture
def report(probe):
    return probe.diagnostics()


def start(nodes, vehicle, route=True, **parameters):
    planner = nodes.start('planner', {**FAST, **parameters})
    nodes.wait_active(planner)
    vehicle.wait_for_listener()
    if route:
        vehicle.publish_route()
        vehicle.probe.spin(0.2)
    return planner


def drive(vehicle, ticks, plans=None):
    """Publish some ticks at about 20 Hz, with `plans` each when the one before has been answered; return the stamps.

    Of frames that a busy machine leaves waiting the planner takes the newest only.
    """
    stamps = []
    for _ in range(ticks):
        stamps.append(convert.to_nanoseconds(vehicle.tick()))
        vehicle.probe.spin(0.05)
        if plans is not None:
            vehicle.probe.until(lambda: stamps_of(plans)[-1:] == stamps[-1:])
    return stamps


def stamps_of(messages):
    return [convert.to_nanoseconds(message.header.stamp) for message in messages]


def says(report, name, words, level=Level.ERROR):
    """Return a condition: the planner's status `name` has this level and these words."""

    def holds():
        status = report(f'planner: {name}')
        return status is not None and status['level'] == level and words in status['message']

    return holds


def calibrated(report, camera, words):
    """Return a condition: the diagnostics of a camera say these words of its calibration."""
    return lambda: words in (report(f'planner: camera {camera}') or {}).get('calibration', '')


def test_plan_path_and_markers_carry_the_images_stamp(probe, nodes, vehicle, plans, report):
    paths, markers = probe.listen(Path, 'path'), probe.listen(MarkerArray, 'markers')
    start(nodes, vehicle)
    stamps = drive(vehicle, 10, plans)
    probe.until(lambda: len(plans) == len(paths) == len(markers) == 10)
    assert stamps_of(plans) == stamps_of(paths) == stamps
    assert {path.header.frame_id for path in paths} == {'base_link'}
    expected = unicycle.integrate(5.0, np.zeros(20), np.zeros(20)).positions_m
    got = [[pose.pose.position.x, pose.pose.position.y] for pose in paths[-1].poses]
    np.testing.assert_allclose(got, expected, atol=1e-6)
    plan = convert.from_driving_plan(plans[-1])
    assert (plan.policy, plan.source, plan.reason) == ('constant-velocity', 'policy', '')
    assert plan.ego.x_m == pytest.approx(vehicle.x_m)
    assert {'wait', 'decode', 'total'} <= set(plan.timing_ms)
    totals = [convert.from_driving_plan(each).timing_ms['total'] for each in plans]
    assert 0.0 < np.median(totals) < 500.0  # one of them may meet a busy moment
    assert len(markers[-1].markers) == 3
    probe.until(lambda: report('planner: camera front') and report('planner: camera front')['frames'] == '10')
    assert says(report, 'plan', 'planning', Level.OK)()
    probe.until(lambda: int(report('planner: plan')['policy']) == 10)
    pictures = {name: int(report('planner: plan')[f'pictures_{name}']) for name in ('decoded', 'ahead', 'in_vain')}
    assert 0 < pictures['ahead'] <= pictures['decoded'] <= 60  # none twice
    assert pictures['in_vain'] <= 6


def test_autowares_trajectory_is_the_same_plan_in_the_odometrys_frame(probe, nodes, vehicle, plans):
    messages = pytest.importorskip('autoware_planning_msgs.msg', reason="Autoware's messages are not installed")
    trajectories = probe.listen(messages.Trajectory, 'trajectory')
    start(nodes, vehicle)
    drive(vehicle, 3, plans)
    last = probe.until(lambda: next((t for t in trajectories if t.header.stamp == plans[-1].header.stamp), None))
    assert last.header.frame_id == 'odom'
    assert last.points[0].pose.position.x == pytest.approx(vehicle.x_m, abs=1.0)
    way = plans[-1].trajectory.points
    assert len(last.points) == len(way) + 1
    ahead = last.points[-1].pose.position.x - last.points[0].pose.position.x
    assert ahead == pytest.approx(way[-1].pose.position.x, abs=1e-3)  # the vehicle drives along x


def test_raw_and_compressed_cameras_may_be_mixed(probe, nodes, make_vehicle, plans, report):
    vehicle = make_vehicle(raw=('front', 'back_left'))
    start(nodes, vehicle)
    stamps = drive(vehicle, 4, plans)
    assert stamps_of(plans) == stamps
    probe.until(lambda: (report('planner: camera front') or {}).get('transport') == 'raw')
    assert report('planner: camera back')['transport'] == 'compressed'


def test_calibration_is_read_from_one_message_and_now_and_then_again(probe, nodes, vehicle, plans, report):
    start(nodes, vehicle)
    told = {name: convert.to_camera_info(vehicle.rig[name], vehicle.stamp) for name in vehicle.rig.names}

    def tell():
        for name, outlet in vehicle.infos.items():
            outlet.publish(told[name])

    def listeners():
        return sum(outlet.get_subscription_count() for outlet in vehicle.infos.values())

    probe.until(lambda: listeners() == 6)
    probe.until(lambda: listeners() == 0, act=tell)
    drive(vehicle, 3, plans)
    probe.until(calibrated(report, 'back', 'from camera_info K'))
    vehicle.stamp_ns -= 5_000_000_000
    drive(vehicle, 2)
    probe.until(lambda: listeners() == 6)
    # Another one in the middle of the drive is noticed, and one that cannot be is said.
    told['back'].k[0] = told['back'].k[4] = 150.0
    told['front'].distortion_model = 'double_sphere'
    probe.until(calibrated(report, 'back', 'fx 150.0'), act=tell)
    probe.until(says(report, 'camera front', "'double_sphere' is not known here", Level.WARN), act=vehicle.tick)
    assert 'from camera_info K' in report('planner: camera front')['calibration']


def test_calibration_is_found_below_the_pictures_and_if_it_was_published_once(probe, nodes, vehicle, plans, report):
    front, back = convert.to_camera_info(vehicle.rig['front'], vehicle.stamp), vehicle.rig['back']
    below = probe.publisher(CameraInfo, 'camera/front/image/camera_info')
    kept = probe.publisher(CameraInfo, 'camera/back/camera_info/once', qos.LATCHED)
    kept.publish(convert.to_camera_info(back, vehicle.stamp))
    planner = nodes.start('planner', FAST, remappings={'camera/back/camera_info': '/camera/back/camera_info/once'})
    nodes.wait_active(planner)
    for name in ('front', 'back'):
        probe.until(calibrated(report, name, 'from camera_info K'), act=lambda: below.publish(front))


def test_pictures_called_rectified_have_the_intrinsics_of_p(probe, nodes, vehicle, report):
    info = convert.to_camera_info(vehicle.rig['front'], vehicle.stamp)
    info.d, info.p[0], info.p[5] = [-0.3, 0.1, 0.0, 0.0, 0.0], 200.0, 200.0
    topics = {
        'camera/front/image': '/cam/front/image_rect_color',
        'camera/front/image/compressed': '/cam/front/image_rect_color/compressed',
    }
    beside = probe.publisher(CameraInfo, '/cam/front/camera_info')
    nodes.wait_active(nodes.start('planner', FAST, remappings=topics))
    probe.until(calibrated(report, 'front', 'fx 200.0'), act=lambda: beside.publish(info))
    assert calibrated(report, 'front', 'camera_info P (rectified)')()


@pytest.mark.parametrize('use_tf', [True, False])
def test_cameras_are_mounted_where_tf_static_says(probe, nodes, vehicle, report, use_tf):
    """`test/observation/test_calibration.py` has the rest."""
    tf2_msgs = pytest.importorskip('tf2_msgs.msg')
    frame = convert.to_camera_info(vehicle.rig['front'], vehicle.stamp).header.frame_id
    told = TransformStamped(child_frame_id=frame)
    told.header.frame_id = 'base_link'
    told.transform.translation.x = 2.5
    turn = told.transform.rotation
    turn.x, turn.y, turn.z, turn.w = -0.5, 0.5, -0.5, 0.5  # an optical frame that looks ahead
    probe.publisher(tf2_msgs.TFMessage, '/tf_static', qos.LATCHED).publish(tf2_msgs.TFMessage(transforms=[told]))
    start(nodes, vehicle, use_tf=use_tf)
    words = f'mounted as tf ({frame} in base_link) says' if use_tf else 'mounted as rig sim says'
    probe.until(calibrated(report, 'front', words), act=vehicle.tick)
    if not use_tf:
        probe.spin(1.0)
        assert calibrated(report, 'front', words)()


def test_a_camera_that_is_missing_or_stops_is_named_and_nothing_is_planned(probe, nodes, vehicle, plans, report):
    start(nodes, vehicle)
    vehicle.cameras.remove('back_left')
    drive(vehicle, 5)
    probe.until(says(report, 'inputs', 'camera back_left: no frame yet'))
    assert says(report, 'camera back_left', 'no frame yet')()
    assert plans == []
    vehicle.cameras.append('back_left')
    stamps = drive(vehicle, 5, plans)
    assert stamps_of(plans) == stamps
    vehicle.cameras.remove('front_right')
    drive(vehicle, 10)
    probe.until(says(report, 'inputs', 'camera front_right'))
    assert stamps_of(plans) == stamps


@pytest.mark.clock
def test_a_camera_may_be_left_out_by_policy(probe, nodes, vehicle, plans):
    vehicle.cameras.remove('back')
    start(nodes, vehicle, missing_cameras=['skip'])
    drive(vehicle, 6)
    probe.until(lambda: len(plans) >= 5)
    assert {tuple(plan.missing_cameras) for plan in plans} == {('back',)}
    assert {plan.source for plan in plans} == {'policy'}


def test_odometry_that_is_not_a_number_is_refused_and_named(probe, nodes, vehicle, plans, report):
    start(nodes, vehicle)
    stamps = drive(vehicle, 3, plans)
    assert stamps_of(plans) == stamps
    broken = vehicle.odometry()
    broken.twist.twist.linear.x = math.nan
    vehicle.tick(odometry=broken)
    probe.until(says(report, 'inputs', 'speed_mps is nan'))
    assert report('planner: inputs')['refused odometry'] == '1'
    vehicle.speed_mps = 3.0
    drive(vehicle, 3, plans)
    assert plans[-1].ego.twist.twist.linear.x == 3.0
    assert all(np.isfinite(point.pose.position.x) for plan in plans for point in plan.trajectory.points)


def test_without_a_route_the_plan_is_a_stop_that_says_so(probe, nodes, vehicle, plans, report):
    start(nodes, vehicle, route=False)
    drive(vehicle, 3, plans)
    probe.until(says(report, 'inputs', 'route: none received'))
    assert len(plans) == 3
    assert {plan.source for plan in plans} == {'stop'}
    assert 'route: none received' in plans[0].reason
    assert plans[-1].trajectory.points[-1].longitudinal_velocity_mps == 0.0
    vehicle.publish_route()
    probe.spin(0.2)
    drive(vehicle, 2)
    probe.until(lambda: plans[-1].source == 'policy')


def test_a_route_that_is_withdrawn_or_in_another_frame_is_named_and_not_driven_by(probe, nodes, vehicle, plans, report):
    start(nodes, vehicle)
    drive(vehicle, 2)
    probe.until(lambda: plans and plans[-1].source == 'policy')
    vehicle._route.publish(Path())
    probe.until(says(report, 'inputs', 'route: withdrawn by an empty path'))
    drive(vehicle, 3)
    probe.until(lambda: plans[-1].source != 'policy' and 'route: withdrawn' in plans[-1].reason)
    elsewhere = convert.to_route(np.array([[40.0, 0.0], [90.0, 0.0]]), vehicle.stamp)
    elsewhere.header.frame_id = 'map'
    vehicle._route.publish(elsewhere)
    probe.until(says(report, 'inputs', "in frame 'map', the odometry is in 'odom'"))
    drive(vehicle, 3)
    probe.until(
        lambda: plans[-1].source != 'policy' and "publish the route in the odometry's frame" in plans[-1].reason
    )
    vehicle.publish_route()
    probe.spin(0.2)
    drive(vehicle, 2)
    probe.until(lambda: plans[-1].source == 'policy')


def test_time_that_jumps_back_resets_and_planning_goes_on(probe, nodes, vehicle, plans, report):
    start(nodes, vehicle)
    began = vehicle.stamp_ns
    first = drive(vehicle, 12, plans)
    assert stamps_of(plans) == first
    vehicle.stamp_ns, vehicle.x_m = began, 0.0
    second = drive(vehicle, 12)
    assert second == first
    probe.until(lambda: stamps_of(plans)[-1] == second[-1] and len(plans) > len(first))
    assert len(plans) >= len(first) + len(second) - 1
    assert plans[-1].ego.pose.pose.position.x == pytest.approx(vehicle.x_m)
    probe.until(lambda: report('planner: node')['resets'] == '1')


def test_pictures_that_cannot_be_read_are_named_and_bridged_by_the_last_plan(probe, nodes, make_vehicle, plans, report):
    vehicle = make_vehicle(raw=('front',))
    start(nodes, vehicle)
    drive(vehicle, 3, plans)
    assert len(plans) == 3
    assert plans[-1].source == 'policy'

    def bridged(count, name, words):
        probe.until(lambda: len(plans) == count)
        assert plans[-1].source == 'shifted_previous'
        assert f'camera {name}' in plans[-1].reason
        assert words in plans[-1].reason
        probe.until(lambda: words in report('planner: inputs')['message'])

    def next_image(name):
        message = vehicle.image(name)
        message.header.stamp = convert.later(vehicle.stamp, 0.1)
        return message

    truncated = next_image('back')
    truncated.data = truncated.data[: len(truncated.data) // 2]
    vehicle.tick(back=truncated)
    bridged(4, 'back', 'JPEG')
    odd = next_image('front')
    odd.encoding = 'yuv422_odd'
    vehicle.tick(front=odd)
    bridged(5, 'front', 'yuv422_odd')
    short = next_image('front')
    short.height += 7
    vehicle.tick(front=short)
    bridged(6, 'front', 'bytes')
    drive(vehicle, 1, plans)
    assert len(plans) == 7
    assert plans[-1].source == 'policy'


def test_old_images_are_dropped_and_counted(probe, vehicle, plans, report):
    """In this process, where it can be said exactly how long ago an image was sent."""
    overrides = [Parameter(name, value=value) for name, value in {**FAST, 'max_age_s': 1.0}.items()]
    planner = PlannerNode(context=probe.context, parameter_overrides=overrides)
    try:
        assert planner.trigger_configure() == planner.trigger_activate() == TransitionCallbackReturn.SUCCESS
        probe.until(lambda: planner.count_subscribers('plan'))
        route = convert.to_route(np.array([[40.0, 0.0], [90.0, 0.0]]), vehicle.stamp)
        planner._assembler.push_route(route)

        def send(age_s):
            vehicle.stamp_ns += 100_000_000
            planner._on_odometry(vehicle.odometry())
            planner._on_turn_command(convert.to_turn_command(TurnCommand.FOLLOW, 0.0, vehicle.stamp))
            for name in vehicle.cameras:
                planner._on_image(name, vehicle.image(name), time.monotonic() - age_s)
            return convert.to_nanoseconds(vehicle.stamp)

        first = send(0.0)
        probe.until(lambda: stamps_of(plans) == [first])
        before_s = time.monotonic()
        send(1.2)
        probe.until(lambda: planner._counters['stale'] == 1)
        took_s = time.monotonic() - before_s
        planner.diagnostics.publish()
        probe.until(lambda: (report('planner: plan') or {}).get('stale') == '1')
        told = re.search(r'published (\d+\.\d+) s ago', report('planner: plan')['last_problem'])
        assert told is not None
        assert 1.195 < float(told[1]) < 1.205 + took_s
        last = send(0.0)
        probe.until(lambda: stamps_of(plans) == [first, last])
    finally:
        planner.destroy_node()


def test_with_simulated_time_the_clock_says_how_old_images_are(probe, vehicle, plans):
    """A world that waits for its driver stands still meanwhile, however long the wall's clock says it took."""
    overrides = {**FAST, 'max_age_s': 1.0, 'use_sim_time': True}
    planner = PlannerNode(
        context=probe.context, parameter_overrides=[Parameter(name, value=value) for name, value in overrides.items()]
    )
    clock = probe.publisher(Clock, '/clock')
    probe._executor.add_node(planner)
    try:
        assert planner.trigger_configure() == planner.trigger_activate() == TransitionCallbackReturn.SUCCESS
        probe.until(lambda: planner.count_subscribers('plan') and clock.get_subscription_count())
        planner._assembler.push_route(convert.to_route(np.array([[40.0, 0.0], [90.0, 0.0]]), vehicle.stamp))

        def send(age_s):
            vehicle.stamp_ns += 100_000_000
            now_ns = vehicle.stamp_ns + round(age_s * 1e9)
            clock.publish(Clock(clock=convert.from_nanoseconds(now_ns)))
            probe.until(lambda: planner.get_clock().now().nanoseconds == now_ns)
            planner._on_odometry(vehicle.odometry())
            planner._on_turn_command(convert.to_turn_command(TurnCommand.FOLLOW, 0.0, vehicle.stamp))
            for name in vehicle.cameras:
                planner._on_image(name, vehicle.image(name), time.monotonic() - 30.0)
            return convert.to_nanoseconds(vehicle.stamp)

        first = send(0.0)
        probe.until(lambda: stamps_of(plans) == [first])
        assert plans[0].source == 'policy'
        send(1.2)
        probe.until(lambda: planner._counters['stale'] == 1)
        assert 'published 1.20 s ago' in planner._last_problem
    finally:
        probe._executor.remove_node(planner)
        planner.destroy_node()


def test_a_defect_leaves_the_guards_plan_and_is_logged_once(probe, vehicle, plans, monkeypatch, capfd):
    """In decoding and in the policy: whatever is broken, the vehicle is not left without a plan."""
    overrides = [Parameter(name, value=value) for name, value in FAST.items()]
    planner = PlannerNode(context=probe.context, parameter_overrides=overrides)
    try:
        assert planner.trigger_configure() == planner.trigger_activate() == TransitionCallbackReturn.SUCCESS
        probe.until(lambda: planner.count_subscribers('plan'))
        planner._assembler.push_route(convert.to_route(np.array([[40.0, 0.0], [90.0, 0.0]]), vehicle.stamp))

        def send():
            vehicle.stamp_ns += 100_000_000
            vehicle.x_m += 0.1 * vehicle.speed_mps
            planner._on_odometry(vehicle.odometry())
            planner._on_turn_command(convert.to_turn_command(TurnCommand.FOLLOW, 0.0, vehicle.stamp))
            for name in vehicle.cameras:
                planner._on_image(name, vehicle.image(name), time.monotonic())
            stamp = convert.to_nanoseconds(vehicle.stamp)
            probe.until(lambda: stamps_of(plans)[-1:] == [stamp])
            return plans[-1]

        assert send().source == 'policy'

        def broken(*_):
            raise AttributeError('_ARRAY_API not found')

        with monkeypatch.context() as patch:
            patch.setattr('vla_driver.observation.decode.PictureDecoder.picture', broken)
            for _ in range(3):
                bridged = send()
                assert bridged.source == 'shifted_previous'
                assert '_ARRAY_API not found' in bridged.reason
        assert send().source == 'policy'
        planner._planner.policy.plan = broken
        assert send().source == 'shifted_previous'
        printed = capfd.readouterr().err
        assert printed.count('Traceback') == 2  # one place each
        assert 'planning failed by a defect' in printed
    finally:
        planner.destroy_node()


def test_sets_that_newer_ones_replace_are_counted_in_the_last_word(probe, vehicle, plans, monkeypatch, capfd):
    planner = PlannerNode(
        context=probe.context, parameter_overrides=[Parameter(name, value=value) for name, value in FAST.items()]
    )
    entered, go_on = threading.Event(), threading.Event()
    try:
        assert planner.trigger_configure() == planner.trigger_activate() == TransitionCallbackReturn.SUCCESS
        probe.until(lambda: planner.count_subscribers('plan'))
        planner._assembler.push_route(convert.to_route(np.array([[40.0, 0.0], [90.0, 0.0]]), vehicle.stamp))
        plan = planner._planner.policy.plan

        def busy(observation, intent=None):
            entered.set()
            assert go_on.wait(20.0)
            return plan(observation, intent)

        monkeypatch.setattr(planner._planner.policy, 'plan', busy)
        stamps = []
        for _ in range(4):
            vehicle.stamp_ns += 100_000_000
            stamps.append(convert.to_nanoseconds(vehicle.stamp))
            planner._on_odometry(vehicle.odometry())
            planner._on_turn_command(convert.to_turn_command(TurnCommand.FOLLOW, 0.0, vehicle.stamp))
            for name in vehicle.cameras:
                planner._on_image(name, vehicle.image(name), time.monotonic())
            assert entered.wait(20.0)  # the first is being worked on, the others wait
        go_on.set()
        probe.until(lambda: stamps_of(plans) == [stamps[0], stamps[3]])
        assert planner.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    finally:
        go_on.set()
        planner.destroy_node()
    assert 'pictures: 4 sets, 2 policy, 2 replaced_by_newer' in capfd.readouterr().err


def test_a_planner_that_was_inactive_forgets_the_way(probe, vehicle):
    """Nobody listened meanwhile: a route that was withdrawn, or another turn, went by unheard."""
    planner = PlannerNode(
        context=probe.context, parameter_overrides=[Parameter(name, value=value) for name, value in FAST.items()]
    )
    try:
        assert planner.trigger_configure() == planner.trigger_activate() == TransitionCallbackReturn.SUCCESS
        planner._assembler.push_route(convert.to_route(np.array([[40.0, 0.0], [90.0, 0.0]]), vehicle.stamp))
        planner._on_turn_command(convert.to_turn_command(TurnCommand.LEFT, 40.0, vehicle.stamp))
        missing = planner._assembler.problems()
        assert not any('route' in problem or 'turn command' in problem for problem in missing)
        assert planner.trigger_deactivate() == planner.trigger_activate() == TransitionCallbackReturn.SUCCESS
        missing = planner._assembler.problems()
        assert 'route: none received' in missing
        assert any('turn command' in problem and 'none received' in problem for problem in missing)
    finally:
        planner.destroy_node()


def test_zero_threads_is_the_librarys_own_choice_again(probe):
    """Configured with one thread, then with none asked for: torch's own number comes back."""
    own = torch.get_num_threads()
    overrides = [Parameter(name, value=value) for name, value in {**FAST, 'threads': 1}.items()]
    torch.set_num_threads(2)
    planner = PlannerNode(context=probe.context, parameter_overrides=overrides)
    try:
        for wanted, got in ((1, 1), (3, 3), (0, 2), (0, 2), (1, 1)):
            assert planner.set_parameters([Parameter('threads', value=wanted)])[0].successful
            assert planner.trigger_configure() == TransitionCallbackReturn.SUCCESS
            assert in_own_thread(torch.get_num_threads) == got
            planner.trigger_cleanup()
    finally:
        planner.destroy_node()
        torch.set_num_threads(own)


@pytest.mark.parametrize(
    ('parameters', 'words'),
    [
        ({'policy': 'constant-velocty'}, "did you mean 'constant-velocity'"),
        ({'policy': 'model', 'model': 'no-such-model'}, "checkpoint 'no-such-model' not found"),
        ({'rig': 'no-such-rig'}, "rig 'no-such-rig'"),
        ({'policy': 'model', 'device': 'cuda:99'}, "device 'cuda:99'"),
        ({'image_transport': ['front=telepathy']}, 'auto, raw, compressed'),
        ({'max_age_s': -1.0}, 'max_age_s is -1'),
        ({'polcy': 'model'}, "did you mean 'policy'"),
    ],
)
def test_what_cannot_work_ends_the_process_saying_why(nodes, parameters, words):
    planner = nodes.start('planner', {**FAST, **parameters})
    assert planner.wait(60.0) == 1
    assert words in planner.output
    assert 'Traceback' not in planner.output


def test_a_pickled_checkpoint_is_refused(nodes, tmp_path):
    (tmp_path / 'pytorch_model.bin').write_bytes(pickle.dumps({'weights': [1.0]}))
    planner = nodes.start('planner', {**FAST, 'policy': 'model', 'model': str(tmp_path)})
    with pytest.raises(NodeProcessError, match=r'pickles \(pytorch_model.bin\)'):
        nodes.wait_active(planner)
    assert planner.status == 1
