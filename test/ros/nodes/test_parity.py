# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The same recording through the nodes and through the offline core gives the same plans."""

import numpy as np
from nav_msgs.msg import Path
from vla_driver.msg import DrivingPlan

from vla_driver.bag.read import BagReader
from vla_driver.planning.tick import Planner
from vla_driver.policies.loading import load_policy
from vla_driver.ros.runs.plan_recorder import PlanRecorder
from vla_driver.ros.wire import conversions as convert


def test_plans_through_the_nodes_equal_those_of_the_offline_core(probe, nodes, bag, tiny_checkpoint):
    checkpoint = tiny_checkpoint
    policy = load_policy(checkpoint)
    planner = Planner(policy)
    with BagReader(bag) as reader:
        offline = [planner.answer(ready).plan for ready in reader.ready_sets(needs=policy.needs)]
    assert len(offline) == 20
    # The plans must tell the frames apart, or their agreement would show nothing.
    spread = np.ptp([plan.trajectory.positions_m[-1] for plan in offline], axis=0)
    assert spread.max() > 0.01

    plans, paths = probe.listen(DrivingPlan, 'plan'), probe.listen(Path, 'path')
    planner = nodes.start('planner', {'policy': 'model', 'model': str(checkpoint), 'threads': 1, 'max_age_s': 5.0})
    nodes.wait_active(planner)
    cameras = [f'/camera/{name}/image/compressed' for name in policy.needs.image_sizes]
    needed = [*cameras, '/odom', '/turn_command']
    player = nodes.start(
        'bag_player', {'bag': str(bag), 'rate': 0.4, 'wait_for_subscribers': needed, 'autostart': False}
    )
    with PlanRecorder() as recorder:
        recorder.start_when_heard('bag_player', needed=needed)
    probe.until(lambda: len(plans) == len(paths) == len(offline), timeout_s=60.0)
    assert player.wait(10.0) == 0
    for expected, message, path in zip(offline, plans, paths, strict=True):
        got = convert.from_driving_plan(message)
        assert got.stamp_s == expected.stamp_s
        assert (got.policy, got.source, got.reason) == (expected.policy, expected.source, expected.reason)
        for name in ('positions_m', 'yaw_rad', 'speed_mps', 'acceleration_mps2', 'curvature_per_m'):
            np.testing.assert_allclose(getattr(got.trajectory, name), getattr(expected.trajectory, name), atol=1e-4)
        points = [[pose.pose.position.x, pose.pose.position.y] for pose in path.poses]
        np.testing.assert_allclose(points, expected.trajectory.positions_m, atol=1e-4)
