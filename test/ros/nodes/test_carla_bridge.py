# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The emulator of CARLA's bridge: its topics are the bridge's, and it drops commands as the leaderboard does."""

import math

import numpy as np
import pytest
from nav_msgs.msg import Odometry, Path
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Bool, Float32

from vla_driver.ros.wire import qos
from vla_driver.ros.wire.conversions import from_nanoseconds, to_nanoseconds
from vla_driver.sim.simulation import Simulation
from vla_driver.sim.world.scenario import scenarios
from vla_driver.sim.world.vehicle import WHEELBASE_M

carla = pytest.importorskip('carla_msgs.msg', reason='carla_msgs is not installed')
HERO = '/carla/hero'


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
            ('status', Bool, qos.LATCHED),
        )
    }
    heard['clock'] = probe.listen(Clock, '/clock')
    probe.publisher(carla.CarlaEgoVehicleControl, f'{HERO}/vehicle_control_cmd')
    bridge = nodes.start('carla_bridge', {'split': 'val', 'wait_for_driver_s': 20.0})
    nodes.wait_active(bridge)
    probe.until(lambda: all(heard.values()))
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
        assert route[-1] == pytest.approx(twin.path.points_m[-1], abs=1.5)
    middle = [ego.x_m + 0.5 * WHEELBASE_M * math.cos(ego.yaw_rad), ego.y_m + 0.5 * WHEELBASE_M * math.sin(ego.yaw_rad)]
    assert [odometry.pose.pose.position.x, odometry.pose.pose.position.y] == pytest.approx(middle, abs=1e-6)
    assert heard['speedometer'][0].data == pytest.approx(ego.speed_mps, abs=1e-5)
    assert heard['vehicle_info'][0].wheels[0].max_steer_angle == pytest.approx(math.radians(70.0))
    assert heard['waypoints'][0].header.frame_id == 'map'
    assert heard['status'][0].data is True


def test_a_tick_takes_one_command_with_its_stamp(probe, nodes):
    odometry = probe.listen(Odometry, f'{HERO}/odometry')
    outlet = probe.publisher(carla.CarlaEgoVehicleControl, f'{HERO}/vehicle_control_cmd')
    report = probe.diagnostics()
    parameters = {'render': False, 'split': 'val', 'synchronous_timeout_s': 60.0, 'diagnostics_period_s': 0.1}
    bridge = nodes.start('carla_bridge', parameters)
    nodes.wait_active(bridge)
    probe.until(lambda: odometry)
    probe.spin(0.3)
    outlet.publish(control(50_000_000))  # another tick's
    probe.spin(0.3)
    assert len(odometry) == 1
    outlet.publish(control(400_000))  # within a millisecond
    probe.until(lambda: len(odometry) == 2)
    outlet.publish(control(400_000))  # once more for the tick before
    probe.spin(0.3)
    assert len(odometry) == 2
    assert to_nanoseconds(odometry[1].header.stamp) == 100_000_000
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
