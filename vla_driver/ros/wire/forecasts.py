# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Forecasts of others as messages and markers, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point, Pose
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker

from vla_driver.msg import AgentForecast, AgentForecasts
from vla_driver.observation.messages import yaw_of
from vla_driver.types import AgentKind, Forecast, InvalidInput

_COLOURS: Final = {
    AgentKind.VEHICLE: (0.45, 0.62, 0.95),
    AgentKind.PERSON: (0.95, 0.45, 0.65),
}
_HEIGHTS_M: Final = {AgentKind.VEHICLE: 1.5, AgentKind.PERSON: 1.7}
#: Above the road and below the plan.
_PATH_HEIGHT_M: Final = 0.3


def to_agent_forecast(forecast: Forecast) -> AgentForecast:
    """Return one forecast as a message."""
    message = AgentForecast()
    message.kind, message.existence = forecast.kind.value, float(forecast.existence)
    message.pose = _pose(*forecast.pose)
    message.speed_mps = float(forecast.speed_mps)
    message.length_m, message.width_m = float(forecast.length_m), float(forecast.width_m)
    nanoseconds = round(forecast.dt_s * 1e9)
    message.time_step = Duration(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)
    message.path = [_pose(x, y, yaw) for (x, y), yaw in zip(forecast.positions_m, forecast.yaw_rad, strict=True)]
    return message


def to_agent_forecasts(forecasts: Iterable[Forecast], stamp: Time, frame: str) -> AgentForecasts:
    """Return all forecasts of one tick as a message."""
    message = AgentForecasts(agents=[to_agent_forecast(forecast) for forecast in forecasts])
    message.header.stamp, message.header.frame_id = stamp, frame
    return message


def from_agent_forecast(message: Any) -> Forecast:
    """Return the message as a forecast; raise InvalidInput for unknown kinds, no steps in time, and NaN."""
    try:
        kind = AgentKind(message.kind)
    except ValueError:
        raise InvalidInput(f'forecast: kind {message.kind!r}, allowed: {", ".join(AgentKind)}') from None
    dt_s = float(message.time_step.sec) + 1e-9 * float(message.time_step.nanosec)
    if not dt_s > 0:
        raise InvalidInput(f'forecast: time_step is {dt_s} s, expected a positive time')
    what = 'forecast: orientation'
    return Forecast(
        kind=kind,
        pose=np.array([message.pose.position.x, message.pose.position.y, yaw_of(message.pose.orientation, what)]),
        speed_mps=float(message.speed_mps),
        length_m=float(message.length_m),
        width_m=float(message.width_m),
        positions_m=np.array([[p.position.x, p.position.y] for p in message.path]).reshape(-1, 2),
        yaw_rad=np.array([yaw_of(p.orientation, what) for p in message.path]),
        existence=float(np.clip(message.existence, 0.0, 1.0)),
        dt_s=dt_s,
    )


def forecast_markers(forecasts: Sequence[Forecast], stamp: Time, frame: str, lifetime: Duration) -> list[Marker]:
    """Return a box for everybody forecast and a line along where they go, the surer the less transparent.

    Namespaces `forecast_boxes` and `forecast_paths`; ids count from 0, the likeliest first.
    """
    markers = []
    for number, forecast in enumerate(forecasts):
        red, green, blue = _COLOURS[forecast.kind]
        colour = ColorRGBA(r=red, g=green, b=blue, a=0.25 + 0.6 * float(forecast.existence))
        box = Marker(type=Marker.CUBE, action=Marker.ADD, ns='forecast_boxes', id=number, color=colour)
        box.pose = _pose(*forecast.pose)
        box.scale.x, box.scale.y = float(forecast.length_m), float(forecast.width_m)
        box.scale.z = _HEIGHTS_M[forecast.kind]
        box.pose.position.z = 0.5 * box.scale.z
        line = Marker(type=Marker.LINE_STRIP, action=Marker.ADD, ns='forecast_paths', id=number, color=colour)
        places = np.vstack([forecast.pose[:2], forecast.positions_m])
        line.points = [Point(x=float(x), y=float(y), z=_PATH_HEIGHT_M) for x, y in places]
        line.scale.x, line.pose.orientation.w = 0.2, 1.0
        markers += [box, line]
    for marker in markers:
        marker.header.stamp, marker.header.frame_id = stamp, frame
        marker.frame_locked, marker.lifetime = True, lifetime
    return markers


def _pose(x_m: float, y_m: float, yaw_rad: float) -> Pose:
    pose = Pose()
    pose.position.x, pose.position.y = float(x_m), float(y_m)
    pose.orientation.z, pose.orientation.w = float(np.sin(0.5 * yaw_rad)), float(np.cos(0.5 * yaw_rad))
    return pose
