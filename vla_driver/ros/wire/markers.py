# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Plans and agents as visualization_msgs, for RViz and Foxglove."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from vla_driver.planning.intent import PresentIntent, camera_azimuth
from vla_driver.ros.wire.conversions import BASE_FRAME, ODOM_FRAME, to_duration, to_quaternion, to_time
from vla_driver.ros.wire.forecasts import forecast_markers
from vla_driver.sim.world.scene import Actor, SemanticClass
from vla_driver.types import CameraModel, CameraRig, FloatArray, Plan, PlanSource, Selection

_COLOURS: Final = {
    PlanSource.POLICY: ColorRGBA(r=0.1, g=0.85, b=0.4, a=0.9),
    PlanSource.BRAKED: ColorRGBA(r=1.0, g=0.15, b=0.65, a=0.9),
    PlanSource.SHIFTED: ColorRGBA(r=1.0, g=0.75, b=0.1, a=0.9),
    PlanSource.STOP: ColorRGBA(r=0.95, g=0.2, b=0.15, a=0.9),
}
_AGENT_COLOURS: Final = {
    SemanticClass.CAR: ColorRGBA(r=0.25, g=0.5, b=0.95, a=0.8),
    SemanticClass.TRUCK: ColorRGBA(r=0.35, g=0.35, b=0.75, a=0.8),
    SemanticClass.PEDESTRIAN: ColorRGBA(r=0.95, g=0.3, b=0.55, a=0.9),
    SemanticClass.BICYCLE: ColorRGBA(r=0.95, g=0.6, b=0.2, a=0.9),
}
_OTHER_AGENT: Final = ColorRGBA(r=0.6, g=0.6, b=0.6, a=0.8)
_WIDTH_M: Final = 0.35
#: Above the ground plane, or the line flickers with the road surface of a viewer.
_HEIGHT_M: Final = 0.4
_TOKEN_COLOUR: Final = ColorRGBA(r=0.95, g=0.9, b=0.3, a=0.8)
#: Tokens that see no ground nearer than this are shown at this distance.
_TOKEN_REACH_M: Final = 18.0


def plan_markers(plan: Plan, stamp: Time | None = None) -> MarkerArray:
    """Return the path as a line, its points as dots, its source and speed as words, and the others' futures."""
    line, dots, words = Marker(), Marker(), Marker()
    path = [Point(x=0.0, y=0.0, z=_HEIGHT_M)]
    path += [Point(x=float(x), y=float(y), z=_HEIGHT_M) for x, y in plan.trajectory.positions_m]
    for identity, marker in enumerate((line, dots, words)):
        marker.header.stamp = to_time(plan.stamp_s) if stamp is None else stamp
        marker.header.frame_id = BASE_FRAME
        marker.ns, marker.id, marker.action = 'plan', identity, Marker.ADD
        marker.pose.orientation.w = 1.0
        marker.color = _COLOURS[plan.source]
        # Locked to base_link as it moves, and gone when the planner falls silent: an old path on the
        # screen would look like a plan.
        marker.frame_locked = True
        marker.lifetime = to_duration(plan.ttl_s)
    line.type, line.points, line.scale.x = Marker.LINE_STRIP, path, _WIDTH_M
    dots.type, dots.points = Marker.SPHERE_LIST, path[1:]
    dots.scale.x = dots.scale.y = dots.scale.z = 1.6 * _WIDTH_M
    words.type, words.scale.z = Marker.TEXT_VIEW_FACING, 0.8
    words.pose.position.z = 2.6
    speed = float(plan.trajectory.speed_mps[-1])
    words.text = f'{plan.policy}: {plan.ego.speed_mps:.1f} -> {speed:.1f} m/s'
    if plan.source is not PlanSource.POLICY:
        words.text += f'\n{plan.source.value}: {plan.reason}'
    others = forecast_markers(plan.forecasts, line.header.stamp, BASE_FRAME, line.lifetime)
    return MarkerArray(markers=[line, dots, words, *others])


def token_places(camera: CameraModel, kept: np.ndarray) -> FloatArray:
    """Return [K, 3] where the rays of kept cells [rows, columns] meet the ground, or end, in base_link."""
    rows, columns = np.nonzero(kept)
    pixels = np.column_stack(
        [
            (columns + 0.5) * camera.width / kept.shape[1],
            (rows + 0.5) * camera.height / kept.shape[0],
            np.ones(len(rows)),
        ]
    )
    origin = camera.base_from_camera[:3, 3]
    rays = pixels @ np.linalg.inv(camera.intrinsics).T @ camera.base_from_camera[:3, :3].T
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    down = np.minimum(rays[:, 2], -1e-6)
    places: FloatArray = origin + np.minimum(-origin[2] / down, _TOKEN_REACH_M)[:, None] * rays
    return places


def token_markers(selection: Selection, rig: CameraRig, stamp: Time, ttl_s: float) -> list[Marker]:
    """Return the kept tokens of each camera as dots where their rays meet the ground (at most 18 m away), and a count.

    The dots of one camera are one marker: namespace `tokens`, the camera's place in the rig as its id.
    """
    markers = []
    for number, camera in enumerate(rig):
        if camera.name not in selection.cameras:
            continue
        marker = Marker(type=Marker.SPHERE_LIST, action=Marker.ADD, ns='tokens', id=number)
        places = token_places(camera, selection.cameras[camera.name].kept)
        marker.points = [Point(x=float(x), y=float(y), z=float(z)) for x, y, z in places]
        marker.scale.x = marker.scale.y = marker.scale.z = 0.25
        markers.append(marker)
    words = Marker(type=Marker.TEXT_VIEW_FACING, action=Marker.ADD, ns='tokens', id=len(rig.names))
    words.text = f'{selection.pruner}: {selection.kept} of {selection.total} tokens'
    words.pose.position.z, words.scale.z = 1.6, 0.6
    markers.append(words)
    for marker in markers:
        marker.header.stamp, marker.header.frame_id = stamp, BASE_FRAME
        marker.pose.orientation.w, marker.color = 1.0, _TOKEN_COLOUR
        marker.frame_locked, marker.lifetime = True, to_duration(ttl_s)
    return markers


def intent_markers(told: PresentIntent, rig: CameraRig, stamp: Time, plan: Plan) -> list[Marker]:
    """Return what the slow half said as words beside the path, and what it reacts to as a ball where that is by now.

    Both fade as the intent does.
    """
    intent = told.intent
    words = Marker(type=Marker.TEXT_VIEW_FACING, action=Marker.ADD, ns='intent', id=0)
    words.text = intent.text or intent.meta_action.value
    agrees = '' if plan.heeded is None else f', agreement {plan.heeded.agreement:.1f}'
    words.text += f'\n{told.age_s:.1f} s ago{agrees}'
    words.pose.position.x, words.pose.position.y, words.pose.position.z = 4.0, 4.0, 1.8
    words.scale.z = 0.7
    markers = [words]
    if told.hazard_m > 0.0:  # neither unknown nor passed
        ball = Marker(type=Marker.SPHERE, action=Marker.ADD, ns='intent', id=1)
        azimuth = camera_azimuth(rig, intent.hazard_camera)
        ball.pose.position.x, ball.pose.position.y = (
            told.hazard_m * math.cos(azimuth),
            told.hazard_m * math.sin(azimuth),
        )
        ball.pose.position.z = 1.0
        ball.scale.x = ball.scale.y = ball.scale.z = 1.0
        markers.append(ball)
    for marker in markers:
        marker.header.stamp, marker.header.frame_id = stamp, BASE_FRAME
        marker.pose.orientation.w = 1.0
        marker.color = ColorRGBA(r=1.0, g=0.55, b=0.1, a=max(0.25, told.weight))
        marker.frame_locked, marker.lifetime = True, to_duration(plan.ttl_s)
    return markers


def no_plan_markers(stamp: Time) -> MarkerArray:
    """Return what wipes the plan off the screen."""
    wipe = Marker(action=Marker.DELETEALL)
    wipe.header.stamp, wipe.header.frame_id = stamp, BASE_FRAME
    return MarkerArray(markers=[wipe])


def agent_markers(agents: Sequence[Actor], stamp: Time) -> MarkerArray:
    """Return road users as boxes in the odometry frame (ground truth of the simulator)."""
    wipe = Marker(action=Marker.DELETEALL)
    wipe.header.stamp, wipe.header.frame_id = stamp, ODOM_FRAME
    markers = [wipe]
    for agent in agents:
        marker = Marker(type=Marker.CUBE, action=Marker.ADD, ns=agent.kind.name.lower(), id=agent.actor_id)
        marker.header.stamp, marker.header.frame_id = stamp, ODOM_FRAME
        marker.pose.position.x, marker.pose.position.y = float(agent.x_m), float(agent.y_m)
        marker.pose.position.z = 0.5 * float(agent.height_m)
        marker.pose.orientation = to_quaternion(float(agent.yaw_rad))
        marker.scale.x, marker.scale.y = float(agent.length_m), float(agent.width_m)
        marker.scale.z = float(agent.height_m)
        # As in our bags (bag/schema.py): shown by no viewer for a cube, read back by the bag reader.
        marker.text = f'{agent.speed_mps:.3f}'
        marker.color = _AGENT_COLOURS.get(agent.kind, _OTHER_AGENT)
        markers.append(marker)
    return MarkerArray(markers=markers)
