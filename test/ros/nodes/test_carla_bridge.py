# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The emulator of CARLA's bridge: its topics are the bridge's, and it drops commands as the leaderboard does."""

import math

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from nav_msgs.msg import Odometry, Path
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, Imu, NavSatFix
from std_msgs.msg import Bool, Float32, String

from vla_driver.geometry.carla import map_displacement_m
from vla_driver.geometry.opendrive import JunctionMap
from vla_driver.observation.messages import read_global_plan, yaw_of
from vla_driver.ros.wire import carla as carla_wire
from vla_driver.ros.wire import qos
from vla_driver.ros.wire.carla import Driveline, to_global_plan
from vla_driver.ros.wire.conversions import from_nanoseconds, to_nanoseconds
from vla_driver.settings.knob import as_lists
from vla_driver.settings.nodes.carla_bridge import PLANNER, topics_of
from vla_driver.sim.simulation import Simulation
from vla_driver.sim.world.scenario import scenarios
from vla_driver.sim.world.vehicle import WHEELBASE_M
from vla_driver.types import InvalidInput, TurnCommand

carla = pytest.importorskip('carla_msgs.msg', reason='carla_msgs is not installed')
HERO = '/carla/hero'
#: What the leaderboard's vehicle has besides cameras.
LEADERBOARD = {'imu': Imu, 'gnss': NavSatFix, 'speed': carla.CarlaSpeedometer}


def control(stamp_ns: int, throttle: float = 0.5, steer: float = 0.0):
    message = carla.CarlaEgoVehicleControl(throttle=throttle, steer=steer)
    message.header.stamp = from_nanoseconds(stamp_ns)
    return message


@pytest.mark.gl
def test_its_topics_are_those_of_the_bridge(probe, nodes):
    names = {'image': Image, 'camera_info': CameraInfo}
    heard = {name: probe.listen(kind, f'{HERO}/front/{name}') for name, kind in names.items()}
    heard |= {
        name: probe.listen(kind, f'{HERO}/{name}', profile)
        for name, kind, profile in (
            ('odometry', Odometry, qos.RELIABLE),
            ('speedometer', Float32, qos.RELIABLE),
            ('vehicle_status', carla.CarlaEgoVehicleStatus, qos.RELIABLE),
            ('vehicle_info', carla.CarlaEgoVehicleInfo, qos.LATCHED),
            ('waypoints', Path, qos.LATCHED),
        )
    }
    world = probe.listen(String, '/carla/map', qos.LATCHED)
    heard['clock'] = probe.listen(Clock, '/clock')
    probe.publisher(carla.CarlaEgoVehicleControl, f'{HERO}/vehicle_control_cmd')
    bridge = nodes.start('carla_bridge', {'split': 'val', 'wait_for_driver_s': 3.0})
    nodes.wait_active(bridge)
    probe.until(lambda: all(heard.values()) and world)
    image, info, odometry = (heard[name][0] for name in ('image', 'camera_info', 'odometry'))
    assert (image.encoding, image.step, image.width, image.height) == ('bgra8', 4 * 320, 320, 192)
    assert image.header.frame_id == info.header.frame_id == 'hero/front'
    assert (info.distortion_model, list(info.d)) == ('plumb_bob', [0.0] * 5)
    assert info.k[0] == pytest.approx(160.0 / math.tan(math.radians(35.0)))
    # Time starts at 0 with each scenario, and everything of a tick has its stamp.
    assert [to_nanoseconds(m.header.stamp) for m in (image, info, odometry)] == [0, 0, 0]
    assert (odometry.header.frame_id, odometry.child_frame_id) == ('map', 'hero')
    with Simulation(scenarios('val', 1)[0], render=False) as twin:
        ego = twin.ego
        route = np.array([[p.pose.position.x, p.pose.position.y] for p in heard['waypoints'][0].poses])
        assert np.hypot(*np.diff(route, axis=0).T) == pytest.approx(1.0, abs=0.1)
        manoeuvres = twin.path.manoeuvres
        assert route[-1] == pytest.approx(twin.path.points_m[-1], abs=1.5)
    middle = [ego.x_m + 0.5 * WHEELBASE_M * math.cos(ego.yaw_rad), ego.y_m + 0.5 * WHEELBASE_M * math.sin(ego.yaw_rad)]
    assert [odometry.pose.pose.position.x, odometry.pose.pose.position.y] == pytest.approx(middle, abs=1e-6)
    assert heard['speedometer'][0].data == pytest.approx(ego.speed_mps, abs=1e-5)
    assert heard['vehicle_info'][0].wheels[0].max_steer_angle == pytest.approx(math.radians(70.0))
    assert heard['waypoints'][0].header.frame_id == 'map'
    [opendrive] = world
    crossings = [c for c in JunctionMap(opendrive.data).crossings(route) if c.last < len(route) - 1]
    assert [c.first for c in crossings] == pytest.approx([m.start_m for m in manoeuvres], abs=5.0)


def test_a_tick_takes_one_command_with_its_stamp(probe, nodes):
    odometry = probe.listen(Odometry, f'{HERO}/odometry')
    outlet = probe.publisher(carla.CarlaEgoVehicleControl, f'{HERO}/vehicle_control_cmd')
    report = probe.diagnostics()
    parameters = {'render': False, 'split': 'val', 'synchronous_timeout_s': 60.0, 'diagnostics_period_s': 0.1}
    bridge = nodes.start('carla_bridge', parameters)
    nodes.wait_active(bridge)
    probe.until(lambda: odometry)
    probe.spin(0.3)
    outlet.publish(control(100_000_000))  # another tick's
    probe.spin(0.3)
    assert len(odometry) == 1
    outlet.publish(control(400_000))  # within a millisecond
    probe.until(lambda: len(odometry) == 2)
    outlet.publish(control(400_000))  # once more for the tick before
    probe.spin(0.3)
    assert len(odometry) == 2
    assert to_nanoseconds(odometry[1].header.stamp) == 50_000_000  # the bridge's fixed_delta_seconds
    told = probe.until(lambda: (said := report('carla_bridge: commands')) and said['level'] and said)
    assert told['message'] == '2 commands dropped for their stamps'


def test_what_is_sent_before_the_first_tick_is_no_answer_to_it(probe, nodes):
    """A controller that looks for its odometry stops with stamp 0, which the first tick has, too."""
    outlet = probe.publisher(carla.CarlaEgoVehicleControl, f'{HERO}/vehicle_control_cmd')
    bridge = nodes.start('carla_bridge', {'render': False, 'split': 'val', 'synchronous_timeout_s': 60.0})
    nodes.wait_active(bridge)
    for _ in range(5):
        outlet.publish(control(0))
        probe.spin(0.1)
    odometry = probe.listen(Odometry, f'{HERO}/odometry')
    probe.until(lambda: odometry)
    outlet.publish(control(0))
    probe.until(lambda: len(odometry) == 2)


def test_an_emulator_of_another_role_is_where_it_says(probe, nodes):
    odometry = probe.listen(Odometry, '/carla/ego_vehicle/odometry')
    probe.publisher(carla.CarlaEgoVehicleControl, '/carla/ego_vehicle/vehicle_control_cmd')
    bridge = nodes.start('carla_bridge', {'render': False, 'split': 'val', 'role_name': 'ego_vehicle'})
    nodes.wait_active(bridge)
    probe.until(lambda: odometry)
    assert odometry[0].child_frame_id == 'ego_vehicle'


@pytest.mark.parametrize('role', ['/hero', 'hero/', '', 'my hero', '2nd', 'a//b', 'h\u00e9ro'])
def test_a_role_that_no_topic_can_have_is_named(role):
    with pytest.raises(InvalidInput, match=f'role_name {role!r}: expected letters, digits and .*, such as hero'):
        carla_wire.topic(role, 'odometry')
    assert carla_wire.topic('team/ego_2', 'odometry') == '/carla/team/ego_2/odometry'


@pytest.mark.parametrize('node', ['carla_bridge', 'carla_localizer'])
def test_a_node_says_so_without_a_traceback(nodes, node):
    process = nodes.start(node, {'role_name': '/hero'})
    assert process.wait(60.0) == 1
    assert "role_name '/hero': expected letters" in process.output
    assert 'Traceback' not in process.output


def test_the_leaderboard_shows_nothing_before_its_driver_is_ready(probe, nodes):
    sensors = {name: probe.listen(kind, f'{HERO}/{name}') for name, kind in LEADERBOARD.items()}
    plans = probe.listen(carla.CarlaRoute, f'{HERO}/global_plan', qos.LATCHED)
    odometry = probe.listen(Odometry, f'{HERO}/odometry')
    outlet = probe.publisher(carla.CarlaEgoVehicleControl, f'{HERO}/vehicle_control_cmd')
    ready = probe.publisher(Bool, f'{HERO}/status', qos.LATCHED)
    parameters = {'render': False, 'split': 'val', 'leaderboard': True, 'synchronous_timeout_s': 60.0}
    nodes.wait_active(nodes.start('carla_bridge', parameters))
    probe.spin(2.0)
    assert not plans
    assert not any(sensors.values())
    ready.publish(Bool(data=True))
    probe.until(lambda: plans and all(sensors.values()))
    stamps = [to_nanoseconds(sensors[name][0].header.stamp) for name in LEADERBOARD]
    assert stamps == [0, 0, 0]
    points, told = read_global_plan(plans[0])
    with Simulation(scenarios('val', 1)[0], render=False) as twin:
        ego, path = twin.ego, twin.path
        ahead = [m for m in path.manoeuvres if m.start_m > twin.progress_m]
    assert [manoeuvre.command for manoeuvre in told] == [manoeuvre.command for manoeuvre in ahead]
    assert np.hypot(*np.diff(points, axis=0).T).max() <= 200.0
    assert points[0] == pytest.approx([ego.x_m + 1.4 * math.cos(ego.yaw_rad), ego.y_m + 1.4 * math.sin(ego.yaw_rad)])
    assert points[-1] == pytest.approx(path.points_m[-1], abs=0.1)
    assert yaw_of(sensors['imu'][0].orientation, 'imu') == pytest.approx(ego.yaw_rad, abs=1e-6)
    assert sensors['speed'][0].speed == pytest.approx(ego.speed_mps, abs=1e-5)
    fix = sensors['gnss'][0]
    assert map_displacement_m(fix.latitude, fix.longitude, (42.0, 2.0)) == pytest.approx(points[0], abs=3.0)
    outlet.publish(control(0))
    probe.until(lambda: len(sensors['imu']) == 2)
    assert not odometry


@pytest.mark.parametrize('step_s', [0.05, 0.1])
def test_the_localiser_makes_odometry_of_the_leaderboards_sensors(probe, nodes, step_s):
    """It drives along with the emulator: what it says of the way is what the simulator does under the same pedals."""
    odometry = probe.listen(Odometry, f'{HERO}/odometry')
    imu = probe.listen(Imu, f'{HERO}/imu')
    outlet = probe.publisher(carla.CarlaEgoVehicleControl, f'{HERO}/vehicle_control_cmd')
    report = probe.diagnostics()
    localizer = nodes.start('carla_localizer', {'diagnostics_period_s': 0.1})
    nodes.wait_active(localizer)
    told = probe.until(lambda: report('carla_localizer: localisation'))
    assert 'waiting for /carla/hero/global_plan, /carla/hero/speed, /carla/hero/imu' in told['message']
    parameters = {'split': 'val', 'leaderboard': True, 'render': False, 'synchronous_timeout_s': 60.0}
    nodes.wait_active(nodes.start('carla_bridge', {**parameters, 'step_s': step_s}))
    probe.spin(1.0)
    assert not imu  # nobody looks at the camera yet: the driver is not ready
    probe.listen(Image, f'{HERO}/front/image')
    probe.until(lambda: odometry)
    step_ns = round(step_s * 1e9)
    with Simulation(scenarios('val', 1)[0], render=False, step_s=step_s) as twin:
        driveline = Driveline()
        for tick in range(round(4.0 / step_s)):
            message = control(step_ns * tick, 0.6, 0.02)
            twin.step(driveline.command(message.throttle, message.brake, message.steer, twin.ego.speed_mps))
            outlet.publish(message)
            probe.until(lambda: len(odometry) == tick + 2)  # noqa: B023 - it is called at once
            ego, said = twin.ego, odometry[-1]
            middle = [ego.x_m + 1.4 * math.cos(ego.yaw_rad), ego.y_m + 1.4 * math.sin(ego.yaw_rad)]
            assert [said.pose.pose.position.x, said.pose.pose.position.y] == pytest.approx(middle, abs=0.3)
            assert said.twist.twist.linear.x == pytest.approx(ego.speed_mps, abs=0.5)
            assert to_nanoseconds(said.header.stamp) == step_ns * (tick + 1)
        moved = odometry[-1].pose.pose.position.x - odometry[0].pose.pose.position.x
        assert math.hypot(moved, odometry[-1].pose.pose.position.y - odometry[0].pose.pose.position.y) > 5.0
    told = probe.until(lambda: (said := report('carla_localizer: localisation')) and said['ready'] == 'True' and said)
    assert told['message'] == 'odometry is published'


def test_a_role_that_does_not_exist_is_answered_with_those_that_do(probe, nodes):
    nodes.wait_active(nodes.start('carla_bridge', {'render': False, 'split': 'val', 'role_name': 'ego_vehicle'}))
    topics = topics_of('/carla/nobody')
    planner = nodes.start('planner', {'policy': 'constant-velocity', **as_lists(PLANNER)}, remappings=topics)
    nodes.wait_active(planner)
    probe.until(lambda: '/carla/ego_vehicle/odometry' in planner.output, timeout_s=20.0)
    lines = planner.output.splitlines()
    assert any('odometry' in line and '/carla/nobody/odometry' in line for line in lines)
    assert any('route' in line and '/carla/ego_vehicle/waypoints' in line for line in lines)


def test_the_localiser_goes_on_where_it_was_and_stops_with_its_speedometer(probe, nodes):
    odometry = probe.listen(Odometry, f'{HERO}/odometry')
    report = probe.diagnostics()
    nodes.wait_active(nodes.start('carla_localizer', {'diagnostics_period_s': 0.1}))
    imu, speed = (
        probe.publisher(kind, f'{HERO}/{name}') for kind, name in ((Imu, 'imu'), (carla.CarlaSpeedometer, 'speed'))
    )
    plan = probe.publisher(carla.CarlaRoute, f'{HERO}/global_plan', qos.LATCHED)
    way = to_global_plan([(np.zeros(2), TurnCommand.FOLLOW), (np.array([100.0, 0.0]), TurnCommand.FOLLOW)])
    plan.publish(way)

    def tick(stamp_ns: int, mps: float | None = 10.0) -> None:
        if mps is not None:
            message = carla.CarlaSpeedometer(speed=mps)
            message.header.stamp = from_nanoseconds(stamp_ns)
            speed.publish(message)
            probe.spin(0.02)
        message = Imu()
        message.header.stamp = from_nanoseconds(stamp_ns)
        message.orientation.w = 1.0
        imu.publish(message)

    probe.until(lambda: odometry, act=lambda: tick(0))
    for k in range(1, 11):
        heard = len(odometry)
        tick(100_000_000 * k)
        probe.until(lambda: len(odometry) > heard)  # noqa: B023 - it is called at once
    assert odometry[-1].pose.pose.position.x == pytest.approx(10.0, abs=0.1)
    plan.publish(way)  # the same once more
    probe.spin(0.2)
    tick(999_000_000)  # two messages overtook each other
    tick(1_100_000_000)
    probe.until(lambda: to_nanoseconds(odometry[-1].header.stamp) == 1_100_000_000)
    assert odometry[-1].pose.pose.position.x == pytest.approx(11.0, abs=0.1)
    tick(2_500_000_000, None)
    told = probe.until(
        lambda: (said := report('carla_localizer: localisation')) and 'waiting' in said['message'] and said
    )
    assert told['message'].startswith('waiting for /carla/hero/speed')
    assert to_nanoseconds(odometry[-1].header.stamp) == 1_100_000_000
    tick(0)  # another scenario
    probe.until(lambda: to_nanoseconds(odometry[-1].header.stamp) == 0, act=lambda: tick(0))
    assert odometry[-1].pose.pose.position.x == pytest.approx(0.0, abs=0.1)
    for k in range(1, 26):
        heard = len(odometry)
        tick(100_000_000 * k)
        probe.until(lambda: len(odometry) > heard)  # noqa: B023 - it is called at once
    tick(0)  # a third one, whose plan has not come yet: it does not begin where the last one did
    heard = len(odometry)
    for k in range(3):
        tick(100_000_000 * k)
        probe.spin(0.1)
    told = probe.until(
        lambda: (said := report('carla_localizer: localisation')) and 'waiting' in said['message'] and said
    )
    assert told['message'].startswith('waiting for /carla/hero/global_plan')
    assert len(odometry) == heard
    there = [(np.array([5000.0, 0.0]), TurnCommand.FOLLOW), (np.array([5100.0, 0.0]), TurnCommand.FOLLOW)]
    plan.publish(to_global_plan(there))
    probe.until(lambda: len(odometry) > heard, act=lambda: tick(300_000_000))
    assert odometry[-1].pose.pose.position.x == pytest.approx(5000.0, abs=0.1)


def test_a_localiser_that_is_configured_again_says_again_that_the_driver_is_ready(probe, nodes):
    probe.listen(Image, f'{HERO}/front/image')
    probe.publisher(carla.CarlaEgoVehicleControl, f'{HERO}/vehicle_control_cmd')
    nodes.wait_active(nodes.start('carla_localizer'))
    first = probe.listen(Bool, f'{HERO}/status', qos.LATCHED)
    probe.until(lambda: first)
    client = probe.node.create_client(ChangeState, 'carla_localizer/change_state')
    for name in ('DEACTIVATE', 'CLEANUP', 'CONFIGURE', 'ACTIVATE'):
        answer = client.call_async(
            ChangeState.Request(transition=Transition(id=getattr(Transition, f'TRANSITION_{name}')))
        )
        probe.until(answer.done)
        assert answer.result().success
    probe.until(lambda: len(first) == 2)
    assert first[-1].data
