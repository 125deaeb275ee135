# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The quality of service of every kind of topic, in one place, and its translation from bag metadata."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

#: Camera images and camera_info, subscribed.  Best effort also matches reliable publishers (the CARLA
#: bridge); a depth of 5 rides out a hiccup of the executor while latest-wins keeps the queue from ageing.
SENSOR_SUBSCRIPTION = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=5,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)

#: Packets of video, subscribed: small, and each is needed by those after it, so that more of them may wait.
VIDEO_SUBSCRIPTION = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=60,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)

#: Camera images, published: reliable serves subscribers of both kinds.
SENSOR_PUBLICATION = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=5,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)

#: Odometry and turn commands, subscribed: small and frequent, the newest counts, from either kind of publisher.
STATE_SUBSCRIPTION = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=20,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)

#: Plans, paths, markers, controls and everything small that is published.
RELIABLE = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=10,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)

#: Routes: published once, wanted by whoever comes later.
LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)

#: /tf_static: every publisher's last message is wanted, and there are several publishers.
LATCHED_BY_MANY = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=100,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


def latched(profile: QoSProfile) -> QoSProfile:
    """Return the profile made transient local and reliable, which serves every kind of subscriber.

    A subscriber that asks for the last message (`LATCHED`) matches no publisher that does not keep it.
    """
    return QoSProfile(
        history=profile.history,
        depth=max(1, profile.depth),
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )


def from_bag(offered: Sequence[Any]) -> QoSProfile:
    """Return the profile to replay a topic with, given the profiles its publishers offered when recorded.

    offered: `rosbags.interfaces.Qos` values (their numbers are those of rmw); empty when the bag does not say.  With
    several publishers the strictest reliability and durability win, so that every subscriber of the
    original topic matches again.
    """
    if not offered:
        return RELIABLE
    reliable = any(q.reliability.value != ReliabilityPolicy.BEST_EFFORT.value for q in offered)
    latched = any(q.durability.value == DurabilityPolicy.TRANSIENT_LOCAL.value for q in offered)
    keep_all = any(q.history.value == HistoryPolicy.KEEP_ALL.value for q in offered)
    depth = max((int(q.depth) for q in offered), default=0)
    return QoSProfile(
        history=HistoryPolicy.KEEP_ALL if keep_all else HistoryPolicy.KEEP_LAST,
        depth=depth if depth > 0 else (1 if latched else 10),
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )
