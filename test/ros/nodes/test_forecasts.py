# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A running planner says where the others will be: with the plan, on a topic of its own, and on the screen."""

import numpy as np
import pytest
import torch
from visualization_msgs.msg import MarkerArray
from vla_driver.msg import AgentForecasts, DrivingPlan

from vla_driver.model.config import VlaConfig
from vla_driver.model.native.vla import VlaModel
from vla_driver.ros.wire import conversions as convert


@pytest.fixture
def forecaster(tmp_path, tiny_settings):
    """A small checkpoint that calls every one of its four others there."""
    settings = tiny_settings()
    settings['action_config'] |= {'num_agents': 4, 'agent_existence': 0.0}
    torch.manual_seed(0)
    model = VlaModel(VlaConfig(**settings, auxiliary=False))
    with torch.no_grad():
        model.flow.anchors.normal_()
    model.save_pretrained(tmp_path / 'forecaster')
    return tmp_path / 'forecaster'


@pytest.mark.parametrize(('forecast', 'expected'), [('asked', 0), ('always', 4)])
def test_nobody_asks_for_forecasts(probe, nodes, vehicle, forecaster, forecast, expected):
    plans = probe.listen(DrivingPlan, 'plan')
    parameters = {'policy': 'model', 'model': str(forecaster), 'engine': 'torch', 'threads': 1, 'max_age_s': 10.0}
    planner = nodes.start('planner', parameters | {'forecast': forecast})
    nodes.wait_active(planner, timeout_s=120.0)
    vehicle.wait_for_listener()
    vehicle.publish_route()
    probe.spin(0.2)
    vehicle.tick()
    probe.until(lambda: plans, timeout_s=60.0)
    assert len(plans[-1].forecasts) == expected
    assert 'others' not in plans[-1].timing_names


def test_forecasts_go_out_with_every_plan(probe, nodes, vehicle, forecaster):
    plans, agents = probe.listen(DrivingPlan, 'plan'), probe.listen(AgentForecasts, 'agents')
    markers = probe.listen(MarkerArray, 'markers')
    parameters = {'policy': 'model', 'model': str(forecaster), 'engine': 'torch', 'threads': 1, 'max_age_s': 10.0}
    planner = nodes.start('planner', parameters)
    nodes.wait_active(planner, timeout_s=120.0)
    vehicle.wait_for_listener()
    vehicle.publish_route()
    probe.spin(0.2)
    stamp = vehicle.tick()
    probe.until(lambda: plans and agents and markers, timeout_s=60.0)
    assert agents[-1].header.stamp == plans[-1].header.stamp == stamp
    assert agents[-1].header.frame_id == 'base_link'
    assert len(agents[-1].agents) == 4
    assert agents[-1].agents == plans[-1].forecasts
    assert {'plan', 'forecast_boxes', 'forecast_paths'} == {marker.ns for marker in markers[-1].markers}
    back = convert.from_driving_plan(plans[-1]).forecasts
    assert np.isfinite([one.positions_m for one in back]).all()
