# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A running planner reports how much each expert of its model read, and a recording of it holds that."""

import pytest

from vla_driver.bag.recording import figures
from vla_driver.ros.runs.plan_recorder import PlanRecorder

DRIVING = {'policy': 'model', 'engine': 'torch', 'threads': 1, 'max_age_s': 10.0, 'diagnostics_period_s': 0.1}


def recorded(probe, nodes, vehicle, checkpoint, enough):
    """Drive with a checkpoint until the recorder has heard enough; return what it has."""
    planner = nodes.start('planner', {**DRIVING, 'model': str(checkpoint)})
    nodes.wait_active(planner, timeout_s=120.0)
    with PlanRecorder() as recorder:
        vehicle.wait_for_listener()
        vehicle.publish_route()
        recorder.wait_for_planner()
        probe.until(lambda: enough(recorder), timeout_s=90.0, act=vehicle.tick)
        recorder.wait_for_report()
    return recorder.recording(), recorder.diagnostic_values()


def test_the_load_of_experts_is_recorded(probe, nodes, vehicle, tmp_path, small_model):
    folder = tmp_path / 'routed'
    experts = {'num_experts': 4, 'experts_per_token': 2, 'expert_size': 16, 'shared_size': 16, 'expert_layers': [0]}
    language = small_model().config.language_config.to_dict() | experts
    small_model(language_config=language).save_pretrained(folder)
    recording, values = recorded(
        probe, nodes, vehicle, folder, lambda recorder: len(recorder.recording().loads) >= 2 and recorder.count >= 2
    )
    stamps = [one.stamp_s for one in recording.loads]
    assert len(set(stamps)) == len(stamps)
    planned = {round(received.plan.stamp_s, 6) for received in recording.plans}
    assert {round(stamp, 6) for stamp in stamps} & planned
    for one in recording.loads:
        assert list(one.load) == [0] and one.load[0].shape == (4,)
        assert one.load[0].mean() == pytest.approx(1.0, abs=1e-3)
    assert 'load_layer_0' in values['planner: experts']
    assert figures(recording)['experts']['reports'] == len(recording.loads)


def test_a_model_without_experts_says_nothing_of_them(probe, nodes, vehicle, tiny_checkpoint):
    recording, values = recorded(probe, nodes, vehicle, tiny_checkpoint, lambda recorder: recorder.count >= 2)
    assert recording.loads == () and 'planner: experts' not in values
    assert figures(recording)['experts'] is None
