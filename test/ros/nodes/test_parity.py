# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The same recording through the nodes and through the offline core gives the same plans."""

import json
from itertools import groupby

import numpy as np
from nav_msgs.msg import Path
from vla_driver.msg import DrivingPlan

from vla_driver.bag.read import BagReader
from vla_driver.planning.tick import Planner
from vla_driver.policies.loading import load_policy
from vla_driver.ros.nodes.playback import Bag
from vla_driver.ros.wire import conversions as convert


def split(letters):
    """Return what comes with the pictures of a moment, and these."""
    listed = list(letters)
    pictures = [letter for letter in listed if letter.channel.topic.startswith('/camera/')]
    return [letter for letter in listed if letter not in pictures], pictures


def waits_for_cameras(problems):
    """Whether pictures are all that is missing."""
    return bool(problems) and all(one.startswith('camera') for one in problems)


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
    how = {'policy': 'model', 'model': str(checkpoint), 'threads': 1, 'max_age_s': 10.0, 'wait_s': 1.0}
    nodes.wait_active(nodes.start('planner', {**how, 'diagnostics_period_s': 0.1}))
    status = probe.diagnostics()

    def about_inputs():
        told = status('planner: inputs') or {'publishers': '{}', 'problems': '[]'}
        return {name: json.loads(told[name]) for name in ('publishers', 'problems')}

    with Bag(bag) as played:
        outlets = {t: probe.publisher(c.message_type, t, c.profile) for t, c in played.channels.items()}
        needed = [t for t in outlets if not t.endswith('camera_info')]
        probe.until(lambda: all(about_inputs()['publishers'].get(topic) for topic in needed))
        probe.until(lambda: all(outlets[topic].get_subscription_count() for topic in needed))
        for tick, (_, letters) in enumerate(groupby(played.letters(outlets), lambda letter: letter.log_time_ns)):
            # One moment after the other: a planner that is still busy skips to the newest pictures.
            first, pictures = split(letters)
            for letter in first:
                outlets[letter.channel.topic].publish(letter.data)
            if tick == 0:
                # Pictures wait for inputs that are late, but not for those that have never come.
                probe.until(lambda: waits_for_cameras(about_inputs()['problems']))
            for letter in pictures:
                outlets[letter.channel.topic].publish(letter.data)
            probe.until(lambda: len(plans) == len(paths) == tick + 1, timeout_s=60.0)  # noqa: B023 - called here only
    assert len(plans) == len(offline)
    for expected, message, path in zip(offline, plans, paths, strict=True):
        got = convert.from_driving_plan(message)
        assert got.stamp_s == expected.stamp_s
        assert (got.policy, got.source, got.reason) == (expected.policy, expected.source, expected.reason)
        for name in ('positions_m', 'yaw_rad', 'speed_mps', 'acceleration_mps2', 'curvature_per_m'):
            np.testing.assert_allclose(getattr(got.trajectory, name), getattr(expected.trajectory, name), atol=1e-4)
        points = [[pose.pose.position.x, pose.pose.position.y] for pose in path.poses]
        np.testing.assert_allclose(points, expected.trajectory.positions_m, atol=1e-4)
