# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Values to messages, and plans back: pure functions.  (What a planner reads is read by `observation/messages.py`.)

Frames (REP-105): odometry, routes and agents in `odom`; plans in `base_link` as it was at t0.
Stamps travel as float seconds inside the package (about 0.2 microseconds fine for today's dates);
where a stamp is passed on, the message's own is kept, so that it comes out to the nanosecond.
"""

from __future__ import annotations

import array
import math
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Pose, PoseStamped, Quaternion
from nav_msgs.msg import Odometry, Path
from sensor_msgs.msg import CameraInfo, CompressedImage
from sensor_msgs.msg import Image as ImageMessage

from vla_driver.msg import DrivingPlan, TrajectoryPoint
from vla_driver.msg import TurnCommand as TurnCommandMessage
from vla_driver.observation.decode import encode_jpeg
from vla_driver.observation.messages import read_odometry, stamp_seconds, yaw_of
from vla_driver.planning.agreement import plans_to
from vla_driver.ros.wire.forecasts import from_agent_forecast, to_agent_forecast
from vla_driver.types import (
    CameraModel,
    EgoState,
    FloatArray,
    HeededIntent,
    Image,
    InvalidInput,
    MetaAction,
    Plan,
    PlanSource,
    Trajectory,
    TurnCommand,
)

ODOM_FRAME = 'odom'
BASE_FRAME = 'base_link'


def to_nanoseconds(stamp: Any) -> int:
    """Return a Time message as integer nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def to_time(seconds: float) -> Time:
    """Return seconds as a Time message, rounded to the nanosecond; raise InvalidInput outside its range."""
    if not (math.isfinite(seconds) and 0.0 <= seconds < 2**31):
        raise InvalidInput(f'stamp {seconds} s, expected 0 to 2^31 (builtin_interfaces/Time)')
    return from_nanoseconds(round(seconds * 1e9))


def from_nanoseconds(nanoseconds: int) -> Time:
    """Return integer nanoseconds as a Time message."""
    whole, rest = divmod(nanoseconds, 1_000_000_000)
    return Time(sec=whole, nanosec=rest)


def to_duration(seconds: float) -> Duration:
    """Return seconds as a Duration message, rounded to the nanosecond."""
    whole, nanoseconds = divmod(round(seconds * 1e9), 1_000_000_000)
    return Duration(sec=whole, nanosec=nanoseconds)


def duration_seconds(duration: Any) -> float:
    """Return a Duration message in seconds."""
    return float(duration.sec) + float(duration.nanosec) * 1e-9


def later(stamp: Time, seconds: float) -> Time:
    """Return `stamp` moved by `seconds`, exact to the nanosecond."""
    return from_nanoseconds(to_nanoseconds(stamp) + round(seconds * 1e9))


def to_quaternion(yaw_rad: float) -> Quaternion:
    """Return the rotation about z by `yaw_rad`."""
    return Quaternion(x=0.0, y=0.0, z=math.sin(0.5 * yaw_rad), w=math.cos(0.5 * yaw_rad))


def to_pose(x_m: float, y_m: float, yaw_rad: float) -> Pose:
    """Return a planar pose."""
    pose = Pose()
    pose.position.x, pose.position.y = float(x_m), float(y_m)
    pose.orientation = to_quaternion(float(yaw_rad))
    return pose


def to_odometry(ego: EgoState, stamp: Time | None = None) -> Odometry:
    """Return the ego state as odometry (twist in base_link, as the message demands)."""
    message = Odometry()
    message.header.stamp = to_time(ego.stamp_s) if stamp is None else stamp
    message.header.frame_id = ODOM_FRAME
    message.child_frame_id = BASE_FRAME
    message.pose.pose = to_pose(ego.x_m, ego.y_m, ego.yaw_rad)
    message.twist.twist.linear.x = float(ego.speed_mps)
    message.twist.twist.angular.z = float(ego.yaw_rate_rps)
    return message


def to_camera_info(camera: CameraModel, stamp: Time) -> CameraInfo:
    """Return a camera's calibration; the frame is the optical one, `<camera>_optical_frame` (REP-103)."""
    message = CameraInfo()
    message.header.stamp, message.header.frame_id = stamp, optical_frame(camera.name)
    message.width, message.height = camera.width, camera.height
    message.distortion_model, message.d = 'plumb_bob', [0.0] * 5
    message.k = camera.intrinsics.ravel().tolist()
    message.r = np.eye(3).ravel().tolist()
    message.p = np.hstack([camera.intrinsics, np.zeros((3, 1))]).ravel().tolist()
    return message


def to_image(camera: str, image: Image, stamp: Time) -> ImageMessage:
    """Return an RGB picture [H, W, 3] as a raw image message."""
    message = ImageMessage()
    message.header.stamp, message.header.frame_id = stamp, optical_frame(camera)
    message.height, message.width = image.shape[:2]
    message.encoding, message.step = 'rgb8', 3 * image.shape[1]
    # An array takes half the time that bytes take here: bytes are checked one by one.
    message.data = array.array('B', np.ascontiguousarray(image).tobytes())
    return message


def to_jpeg_image(camera: str, image: Image, stamp: Time, quality: int = 90) -> CompressedImage:
    """Return an RGB picture [H, W, 3] as a JPEG message."""
    message = CompressedImage(format='jpeg')
    message.header.stamp, message.header.frame_id = stamp, optical_frame(camera)
    message.data = array.array('B', encode_jpeg(image, quality))
    return message


def optical_frame(camera: str) -> str:
    """Return the name of a camera's optical frame."""
    return f'{camera}_optical_frame'


def to_route(points_m: FloatArray, stamp: Time) -> Path:
    """Return sparse target points [N, 2] of the odometry frame as a latched route message."""
    message = Path()
    message.header.stamp, message.header.frame_id = stamp, ODOM_FRAME
    for x_m, y_m in np.asarray(points_m, dtype=np.float64):
        pose = PoseStamped()
        pose.header = message.header
        pose.pose = to_pose(x_m, y_m, 0.0)
        message.poses.append(pose)
    return message


def to_turn_command(command: TurnCommand, distance_m: float, stamp: Time) -> TurnCommandMessage:
    """Return the navigation's turn command as a message."""
    message = TurnCommandMessage(command=int(command), distance_m=float(distance_m))
    message.header.stamp, message.header.frame_id = stamp, BASE_FRAME
    return message


def to_driving_plan(
    plan: Plan,
    stamp: Time | None = None,
    missing: tuple[str, ...] = (),
    skew_s: float = 0.0,
    frame: str = ODOM_FRAME,
) -> DrivingPlan:
    """Return the plan as a message; `stamp` is the anchor image's own stamp where it is at hand.

    frame: that of the odometry which the plan starts from.
    """
    message = DrivingPlan()
    message.header.stamp = to_time(plan.stamp_s) if stamp is None else stamp
    message.header.frame_id = BASE_FRAME
    message.trajectory.header = message.header
    trajectory = plan.trajectory
    before_mps = np.concatenate([[plan.ego.speed_mps], trajectory.speed_mps[:-1]])
    yaw_rate_rps = trajectory.curvature_per_m * 0.5 * (before_mps + trajectory.speed_mps)
    for k, (x_m, y_m) in enumerate(trajectory.positions_m):
        point = TrajectoryPoint()
        point.time_from_start = to_duration(float(trajectory.times_s[k]))
        point.pose = to_pose(x_m, y_m, trajectory.yaw_rad[k])
        point.longitudinal_velocity_mps = float(trajectory.speed_mps[k])
        point.acceleration_mps2 = float(trajectory.acceleration_mps2[k])
        point.curvature = float(trajectory.curvature_per_m[k])
        point.heading_rate_rps = float(yaw_rate_rps[k])
        message.trajectory.points.append(point)
    message.ego = to_odometry(plan.ego)
    message.ego.header.frame_id = frame
    message.ego_acceleration_mps2 = float(plan.ego.acceleration_mps2)
    message.policy = plan.policy
    message.source = plan.source.value
    message.reason = plan.reason
    message.time_to_live = to_duration(plan.ttl_s)
    message.forecasts = [to_agent_forecast(forecast) for forecast in plan.forecasts]
    message.timing_names = list(plan.timing_ms)
    message.timing_ms = [float(value) for value in plan.timing_ms.values()]
    message.missing_cameras = list(missing)
    message.camera_skew_s = float(skew_s)
    message.meta_action = plans_to(plan).value
    heeded = plan.heeded
    message.intent = '' if heeded is None else heeded.meta_action.value
    message.intent_age_s = math.nan if heeded is None else float(heeded.age_s)
    message.intent_weight = math.nan if heeded is None else float(heeded.weight)
    message.intent_agreement = math.nan if heeded is None else float(heeded.agreement)
    message.uncertainty, message.wants_words = float(plan.uncertainty), float(plan.wants_words)
    return message


def from_driving_plan(message: Any) -> Plan:
    """Return the message as a plan; raise InvalidInput where it is not one (no points, uneven times, NaN)."""
    points = message.trajectory.points
    if len(points) == 0:
        raise InvalidInput('plan: a trajectory without points')
    times = np.array([duration_seconds(p.time_from_start) for p in points])
    dt_s = float(times[0])
    if not dt_s > 0 or not np.allclose(times, dt_s * np.arange(1, len(points) + 1), atol=1e-6):
        raise InvalidInput(f'plan: points at {times.tolist()} s after t0, expected even steps from the first')
    if message.header.frame_id != BASE_FRAME:
        raise InvalidInput(f'plan: frame {message.header.frame_id!r}, expected {BASE_FRAME!r}')
    try:
        source = PlanSource(message.source)
    except ValueError:
        allowed = ', '.join(s.value for s in PlanSource)
        raise InvalidInput(f'plan: source {message.source!r}, allowed: {allowed}') from None
    if len(message.timing_names) != len(message.timing_ms):
        raise InvalidInput(
            f'plan: {len(message.timing_names)} timing_names and {len(message.timing_ms)} timing_ms, expected as many'
        )
    trajectory = Trajectory(
        positions_m=np.array([[p.pose.position.x, p.pose.position.y] for p in points]),
        yaw_rad=np.array([yaw_of(p.pose.orientation, 'plan: orientation of a point') for p in points]),
        speed_mps=np.array([p.longitudinal_velocity_mps for p in points]),
        acceleration_mps2=np.array([p.acceleration_mps2 for p in points]),
        curvature_per_m=np.array([p.curvature for p in points]),
        dt_s=dt_s,
    )
    ego = read_odometry(message.ego)
    return Plan(
        stamp_s=stamp_seconds(message),
        trajectory=trajectory,
        ego=EgoState(**{**vars(ego), 'acceleration_mps2': float(message.ego_acceleration_mps2)}),
        policy=message.policy,
        source=source,
        reason=message.reason,
        ttl_s=duration_seconds(message.time_to_live),
        timing_ms=dict(zip(message.timing_names, map(float, message.timing_ms), strict=True)),
        # Bags of earlier versions know nothing of these.
        forecasts=tuple(from_agent_forecast(forecast) for forecast in getattr(message, 'forecasts', ())),
        uncertainty=float(getattr(message, 'uncertainty', math.nan)),
        wants_words=float(getattr(message, 'wants_words', math.nan)),
        heeded=_heeded(message),
    )


def _heeded(message: Any) -> HeededIntent | None:
    """Return what became of the intent in a DrivingPlan; None without one."""
    if not getattr(message, 'intent', ''):
        return None
    try:
        wanted = MetaAction(message.intent)
    except ValueError:
        raise InvalidInput(f'plan: intent {message.intent!r}, allowed: {", ".join(MetaAction)}, or none') from None
    age_s, weight, agreement = message.intent_age_s, message.intent_weight, message.intent_agreement
    return HeededIntent(wanted, float(age_s), float(weight), float(agreement))


def to_path(plan: Plan, stamp: Time | None = None) -> Path:
    """Return the plan's positions as nav_msgs/Path: stamped t0, each pose with the time it is meant for."""
    message = Path()
    message.header.stamp = to_time(plan.stamp_s) if stamp is None else stamp
    message.header.frame_id = BASE_FRAME
    trajectory = plan.trajectory
    for k, (x_m, y_m) in enumerate(trajectory.positions_m):
        pose = PoseStamped()
        # In the frame base_link *as it was at t0*; a pose's own stamp says when to be there.
        pose.header.frame_id = BASE_FRAME
        pose.header.stamp = later(message.header.stamp, float(trajectory.times_s[k]))
        pose.pose = to_pose(x_m, y_m, trajectory.yaw_rad[k])
        message.poses.append(pose)
    return message
