# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Forecasts go out with the plan and on a topic of their own, come back whole, and can be seen."""

from __future__ import annotations

import math

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message, serialize_message
from visualization_msgs.msg import Marker
from vla_driver.msg import AgentForecasts, DrivingPlan

from vla_driver.bag.outputs import outputs
from vla_driver.bag.schema import typestore
from vla_driver.geometry import unicycle
from vla_driver.ros.wire import conversions as convert
from vla_driver.ros.wire.forecasts import from_agent_forecast, to_agent_forecast, to_agent_forecasts
from vla_driver.ros.wire.markers import plan_markers
from vla_driver.types import AgentKind, EgoState, Forecast, InvalidInput, Plan

STAMP = Time(sec=1_790_000_123, nanosec=123_456_789)


def forecast(x: float = 12.0, kind: AgentKind = AgentKind.VEHICLE, existence: float = 0.75) -> Forecast:
    controls = np.stack([np.full((1, 20), -0.5), np.full((1, 20), 0.03)], axis=-1)
    path = unicycle.integrate_many([[x, -3.0, 0.4]], [6.0], controls)[0]
    return Forecast(kind, np.array([x, -3.0, 0.4]), 6.0, 4.5, 1.75, path[:, :2], path[:, 2], existence)


def plan() -> Plan:
    trajectory = unicycle.integrate(7.5, np.zeros(20), np.zeros(20))
    others = (forecast(), forecast(20.0, AgentKind.PERSON, 0.5))
    return Plan(100.0, trajectory, EgoState(100.0, 0.0, 0.0, 0.0, 7.5), 'model', forecasts=others)


def test_forecasts_survive_the_wire() -> None:
    message = deserialize_message(serialize_message(convert.to_driving_plan(plan(), STAMP)), DrivingPlan)
    back = convert.from_driving_plan(message).forecasts
    assert [one.kind for one in back] == [AgentKind.VEHICLE, AgentKind.PERSON]
    for one, sent in zip(back, plan().forecasts, strict=True):
        for name in ('pose', 'positions_m', 'yaw_rad'):
            np.testing.assert_allclose(getattr(one, name), getattr(sent, name), atol=1e-9)
        for name in ('speed_mps', 'length_m', 'width_m', 'existence', 'dt_s'):
            assert getattr(one, name) == pytest.approx(getattr(sent, name), abs=1e-6)


def test_all_forecasts_of_a_tick_have_a_topic_of_their_own() -> None:
    message = to_agent_forecasts(plan().forecasts, STAMP, 'base_link')
    message = deserialize_message(serialize_message(message), AgentForecasts)
    assert (message.header.stamp, message.header.frame_id) == (STAMP, 'base_link')
    assert [round(agent.existence, 3) for agent in message.agents] == [0.75, 0.5]
    assert len(message.agents[0].path) == 20


def test_bags_know_the_messages_and_a_replay_leaves_them_out() -> None:
    name = 'vla_driver/msg/AgentForecasts'
    store = typestore()
    data = serialize_message(to_agent_forecasts(plan().forecasts, STAMP, 'base_link'))
    read = store.deserialize_cdr(data, name)
    assert [agent.kind for agent in read.agents] == ['vehicle', 'person']
    kinds = {'/car/agents': name, '/ground_truth/agents': 'visualization_msgs/msg/MarkerArray'}
    assert set(outputs(kinds)) == {'/car/agents'}


def test_a_plan_of_an_earlier_version_has_none() -> None:
    whole = convert.to_driving_plan(plan(), STAMP)

    class Earlier:
        def __getattr__(self, name: str) -> object:
            if name == 'forecasts':
                raise AttributeError(name)
            return getattr(whole, name)

    assert convert.from_driving_plan(Earlier()).forecasts == ()


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'kind': 'cow'}, "kind 'cow', allowed: vehicle, person"),
        ({'length_m': 0.0}, 'positive sizes'),
        ({'speed_mps': math.nan}, 'speed_mps'),
    ],
)
def test_forecasts_that_are_none_are_refused(change: dict[str, object], words: str) -> None:
    message = to_agent_forecast(forecast())
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(InvalidInput, match=words):
        from_agent_forecast(message)
    message = to_agent_forecast(forecast())
    message.time_step.nanosec = 0
    with pytest.raises(InvalidInput, match='time_step'):
        from_agent_forecast(message)


def test_markers_show_a_box_and_a_line_for_everybody() -> None:
    markers = plan_markers(plan(), STAMP).markers
    boxes = [marker for marker in markers if marker.ns == 'forecast_boxes']
    lines = [marker for marker in markers if marker.ns == 'forecast_paths']
    assert [marker.type for marker in boxes] == [Marker.CUBE, Marker.CUBE]
    assert (boxes[0].pose.position.x, boxes[0].pose.position.y) == (12.0, -3.0)
    assert boxes[0].pose.position.z == pytest.approx(0.5 * boxes[0].scale.z)
    assert len(lines[0].points) == 21
    assert boxes[0].color.a > boxes[1].color.a, 'the less likely, the more transparent'
    lifetime = markers[0].lifetime
    assert all(marker.frame_locked and marker.lifetime == lifetime for marker in boxes + lines)
