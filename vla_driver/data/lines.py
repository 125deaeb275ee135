# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What an episode's driver would have been told by the line of its way alone, as egodriver's contract tells it.

No junction is announced, only bends, and these begin a few metres off (observation/guidance.py).  A policy that is to
drive so must find junctions and their red lights in its pictures.
"""

from __future__ import annotations

import numpy as np

from vla_driver.data.episode import Episode
from vla_driver.observation.guidance import RouteGuide
from vla_driver.observation.route import RouteTracker
from vla_driver.types import EgoState

#: Members of an episode that say where to go.
TOLD = ('command', 'command_distance', 'targets')


def told_by_line(episode: Episode) -> Episode | None:
    """Return `TOLD` anew, made of the episode's route; None where it holds none (version 1)."""
    if 'route' not in episode:
        return None
    poses = np.asarray(episode['pose'], np.float64)
    guide = RouteGuide()
    guide.take(episode['route'], poses[0])
    tracker = RouteTracker(guide.targets_m())
    commands, distances, targets = [], [], []
    for pose, stamp, speed in zip(poses, episode['stamp'], episode['speed'], strict=True):
        command, distance_m = guide.next_turn(pose)
        told = tracker.navigation(
            EgoState(float(stamp), float(pose[0]), float(pose[1]), float(pose[2]), float(speed)), command, distance_m
        )
        commands.append(int(told.command))
        distances.append(told.distance_m)
        targets.append(told.target_points_m)
    return {
        'command': np.array(commands, np.asarray(episode['command']).dtype),
        'command_distance': np.array(distances, np.float32),
        'targets': np.array(targets, np.float32),
    }
