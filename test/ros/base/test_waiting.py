# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What a node says while it waits: for what, what the graph has instead, and when all is there."""

import re
import time

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path
from sensor_msgs.msg import CompressedImage, Image
from vla_driver.msg import DrivingPlan

from vla_driver.ros.base.waiting import (
    Listened,
    Offer,
    WaitingLog,
    explain,
    mismatch,
    nearest,
    split_problem,
    waiting_text,
)
from vla_driver.ros.wire import conversions as convert
from vla_driver.ros.wire import qos

PATH, ODOMETRY, IMAGE = 'nav_msgs/msg/Path', 'nav_msgs/msg/Odometry', 'sensor_msgs/msg/Image'
ROUTE = Listened('/route', PATH, qos.LATCHED)


def test_a_publisher_is_received_or_it_is_said_why_not():
    assert mismatch(ROUTE, Offer('/map', PATH, qos.LATCHED)) == ''
    assert mismatch(ROUTE, Offer('/map', PATH, qos.RELIABLE)) == (
        '/map publishes it reliable, volatile, wanted is reliable, transient local'
    )
    assert '/map publishes it best effort, volatile' in mismatch(ROUTE, Offer('/map', PATH, qos.STATE_SUBSCRIPTION))
    assert mismatch(ROUTE, Offer('/map', 'geometry_msgs/msg/PoseArray', qos.LATCHED)) == (
        '/map publishes geometry_msgs/msg/PoseArray, wanted is nav_msgs/msg/Path'
    )
    # Best effort takes both.
    assert mismatch(Listened('/odom', ODOMETRY, qos.STATE_SUBSCRIPTION), Offer('/a', ODOMETRY, qos.RELIABLE)) == ''


def test_the_nearest_topics_of_the_type_come_first():
    published = {
        '/cam_back/image_raw': [IMAGE],
        '/cam_front/image_raw': [IMAGE],
        '/lidar/picture': [IMAGE],
        '/rear_view': [IMAGE],
        '/back/points': ['sensor_msgs/msg/PointCloud2'],
        '/camera/back/image': [IMAGE],
    }
    listened = [Listened('/camera/back/image', IMAGE, qos.SENSOR_SUBSCRIPTION)]
    got = nearest(listened, published, 'camera back')
    assert got[0] == '/cam_back/image_raw'
    assert len(got) == 3
    assert '/camera/back/image' not in got
    assert '/back/points' not in got


def test_the_graph_in_words():
    offers = {'/route': [Offer('/map', PATH, qos.RELIABLE)]}
    assert explain('route', [ROUTE], offers, {}).startswith('not received: /route: /map publishes it reliable')
    assert explain('route', [ROUTE], {}, {'/goal/path': [PATH]}) == ('nobody publishes on /route; there is /goal/path')
    assert explain('route', [ROUTE], {}, {}).endswith('there is no other topic of Path either')
    both = [ROUTE, Listened('/route', PATH, qos.STATE_SUBSCRIPTION)]
    told = explain('route', both, offers, {})
    assert told.startswith('/map publishes /route reliable, volatile: what it sent before this node came is lost')
    kept = {'/route': [Offer('/map', PATH, qos.LATCHED)]}
    assert explain('route', both, kept, {}) == '/route has a publisher, /map; does it send? ros2 topic hz /route'


def test_problems_are_split_by_their_input():
    inputs = ['camera front', 'camera front_left', 'route']
    assert split_problem('camera front_left: no frame yet', inputs) == ('camera front_left', 'no frame yet')
    assert split_problem('route: withdrawn by an empty path', inputs) == ('route', 'withdrawn by an empty path')
    assert split_problem('route (silent for 2 s)', inputs) == ('route', 'silent for 2 s')
    assert split_problem('the clocks are 2 h apart', inputs) == ('the clocks are 2 h apart', '')
    assert waiting_text([('route', 'none received'), ('x', '')], {'route': 'nobody'}) == (
        'waiting for: route (none received), x\n  route: nobody'
    )
    six = [(f'camera {name}', 'no frame yet') for name in ('front', 'back', 'left')]
    assert waiting_text([*six, ('odometry', 'none received'), ('route', 'none received')], {}) == (
        'waiting for: cameras front, back, left (no frame yet), odometry, route (none received)'
    )


def test_it_is_said_seldom_and_the_end_of_it_once():
    now = [0.0]
    log = WaitingLog(lambda wanted: dict.fromkeys(wanted, 'nobody'), clock=lambda: now[0])

    def look(problems, planning):
        return log.look(problems, {'route': []}, planning)

    assert look(['route: none received'], False) is None  # a moment for discovery
    now[0] = 2.0
    assert look(['route: none received'], False) == (True, 'waiting for: route (none received)\n  route: nobody')
    for now[0] in (2.5, 6.9):
        assert look(['route: none received'], False) is None
    now[0] = 7.0
    assert look(['route: none received'], False) is not None
    now[0] = 8.0
    assert look([], False) is None
    assert look([], True) == (False, 'all inputs are there; planning')
    for now[0] in (9.0, 100.0):
        assert look([], True) is None
    assert look(['route: withdrawn'], True) is None  # for a moment
    now[0] = 101.0
    assert look([], True) is None
    now[0] = 102.5
    assert look(['route: withdrawn'], True) is None
    now[0] = 104.0
    # It has come; the graph has nothing to say about it.
    assert look(['route: withdrawn'], True)[1] == 'waiting for: route (withdrawn)'
    now[0] = 105.0
    assert look([], True) == (False, 'all inputs are there; planning')


@pytest.fixture
def planner(nodes):
    made = nodes.start('planner', {'policy': 'constant-velocity'})
    nodes.wait_active(made)
    return made


def test_a_planner_says_what_it_waits_for_and_that_all_is_there(probe, vehicle, planner):
    vehicle.cameras.remove('back')
    probe.node.destroy_publisher(vehicle._images.pop('back'))
    probe.publisher(Image, '/rear/back/image_raw', qos.SENSOR_PUBLICATION)
    vehicle.wait_for_listener()
    # Of a busy planner, others may be named with it at first.
    probe.until(lambda: 'camera back (no frame yet)' in planner.output, act=vehicle.tick)
    told = planner.output
    assert '/rear/back/image_raw' in told
    assert 'route (none received' in told
    assert 'camera back: nobody publishes on /camera/back/image and' in told
    assert 'all inputs are there' not in told
    count = planner.output.count('waiting for')
    probe.until(lambda: planner.output.count('waiting for') == count + 1, act=vehicle.tick)
    began_s = time.monotonic()
    probe.until(lambda: planner.output.count('waiting for') == count + 2, act=vehicle.tick)
    assert time.monotonic() - began_s > 4.0
    vehicle._images['back'] = probe.publisher(CompressedImage, 'camera/back/image/compressed', qos.SENSOR_PUBLICATION)
    vehicle.cameras.append('back')
    vehicle.publish_route()
    probe.until(lambda: 'all inputs are there; planning' in planner.output, act=vehicle.tick)
    count = planner.output.count('waiting for')
    for _ in range(60):
        vehicle.tick()
        probe.spin(0.05)
    assert planner.output.count('waiting for') == count
    assert planner.output.count('all inputs are there; planning') == 1
    vehicle.cameras.remove('front_right')
    probe.until(lambda: planner.output.count('waiting for') > count, act=vehicle.tick)
    assert 'camera front_right (last frame' in planner.output


def test_a_controller_says_so_too(probe, vehicle, nodes):
    controller = nodes.start('controller')
    nodes.wait_active(controller)
    probe.until(lambda: 'waiting for: odometry, plan (none received)' in controller.output, act=None)
    nodes.wait_active(nodes.start('planner', {'policy': 'constant-velocity'}))
    vehicle.wait_for_listener()
    vehicle.publish_route()
    probe.until(lambda: 'all inputs are there; following plans' in controller.output, act=vehicle.tick)


def test_another_type_is_named(probe, planner):
    probe.publisher(PoseStamped, 'odom')
    probe.until(lambda: 'wanted is nav_msgs/msg/Odometry' in planner.output, timeout_s=15.0)
    assert '/probe publishes geometry_msgs/msg/PoseStamped' in planner.output


def test_a_route_that_is_not_latched_is_driven_by(probe, vehicle, planner):
    plans = probe.listen(DrivingPlan, 'plan')
    route = probe.publisher(Path, 'route', qos.RELIABLE)
    vehicle.wait_for_listener()
    probe.until(lambda: route.get_subscription_count() == 1)
    line = convert.to_route(np.array([[40.0, 0.0], [90.0, 0.0]]), vehicle.stamp)

    def act():
        route.publish(line)
        vehicle.tick()

    probe.until(lambda: plans and plans[-1].source == 'policy', act=act)


def test_a_publisher_that_does_not_fit_is_warned_of(probe, nodes):
    controller = nodes.start('controller')
    nodes.wait_active(controller)
    outlet = probe.publisher(DrivingPlan, 'plan', qos.SENSOR_SUBSCRIPTION)
    probe.until(lambda: 'a publisher on /plan does not fit (RELIABILITY)' in controller.output)
    assert re.search(r'(/probe|a node) publishes it best effort, volatile, wanted is reliable', controller.output)
    assert outlet.get_subscription_count() == 0
