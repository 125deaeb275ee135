# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What the slow half says, as a message and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time

from vla_driver.msg import DrivingIntent
from vla_driver.observation.messages import stamp_seconds, yaw_of
from vla_driver.ros.wire.conversions import BASE_FRAME, duration_seconds, to_duration, to_quaternion, to_time
from vla_driver.types import Intent, InvalidInput


def to_driving_intent(intent: Intent, reasoner: str, stamp: Time | None = None) -> DrivingIntent:
    """Return the intent as a message; `stamp` is the anchor image's own stamp where it is at hand."""
    message = DrivingIntent()
    message.header.stamp = to_time(intent.stamp_s) if stamp is None else stamp
    message.header.frame_id = BASE_FRAME
    message.pose.orientation.w = 1.0
    message.pose_known = intent.pose is not None
    if intent.pose is not None:
        message.pose.position.x, message.pose.position.y = float(intent.pose[0]), float(intent.pose[1])
        message.pose.orientation = to_quaternion(float(intent.pose[2]))
    message.meta_action, message.hazard = intent.meta_action.value, intent.hazard.value
    message.target_speed_mps, message.hazard_m = float(intent.target_speed_mps), float(intent.hazard_m)
    message.hazard_camera, message.confidence = intent.hazard_camera, float(intent.confidence)
    message.time_to_live = to_duration(intent.ttl_s)
    message.text, message.reasoner = intent.text, reasoner
    return message


def from_driving_intent(message: Any, offset_s: float = 0.0) -> Intent:
    """Return the message as an intent; raise InvalidInput where it is none.

    offset_s: added to its stamp, where the pictures' clock differs from the odometry's.
    """
    if message.header.frame_id != BASE_FRAME:
        raise InvalidInput(f'intent: frame {message.header.frame_id!r}, expected {BASE_FRAME!r}')
    pose = None
    if message.pose_known:
        yaw = yaw_of(message.pose.orientation, 'intent: orientation')
        pose = np.array([message.pose.position.x, message.pose.position.y, yaw])
    for name in ('target_speed_mps', 'hazard_m', 'confidence'):
        if math.isinf(getattr(message, name)):
            raise InvalidInput(f'intent: {name} is {getattr(message, name)}, expected a finite number, or NaN for none')
    return Intent(
        stamp_seconds(message) + offset_s,
        message.meta_action,
        duration_seconds(message.time_to_live),
        pose,
        float(message.target_speed_mps),
        message.hazard,
        message.hazard_camera,
        float(message.hazard_m),
        float(message.confidence),
        message.text,
    )
