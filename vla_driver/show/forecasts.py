# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Forecasts of others, drawn into the cameras and from above: an outline where they are, a line where they go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import cv2
import numpy as np

from vla_driver.geometry import boxes
from vla_driver.geometry.projection import project
from vla_driver.types import AgentKind, CameraModel, FloatArray, Forecast, Image

#: Of the same hues as agents and people from above, but lighter: outlines lie on their bodies.
_COLOURS: Final = {AgentKind.VEHICLE: (170, 205, 255), AgentKind.PERSON: (255, 170, 205)}
#: OpenCV takes coordinates in sixteenths of a pixel.
_SHIFT: Final = 4
#: Shown for so long, in seconds: farther on, lines of many others cover one another.
_SHOWN_S: Final = 3.0


def draw_forecasts_from_above(
    sheet: Image, forecasts: Sequence[Forecast], pixels: Callable[[FloatArray], FloatArray]
) -> None:
    """Draw into a picture from above, in place; pixels: metres of base_link [N, 2] to pixels."""
    for forecast in forecasts:
        colour, thickness = _COLOURS[forecast.kind], _thickness(forecast)
        cv2.polylines(sheet, [_fixed(pixels(_outline(forecast)))], True, colour, thickness, cv2.LINE_AA, _SHIFT)
        path = pixels(_path(forecast))
        cv2.polylines(sheet, [_fixed(path)], False, colour, thickness, cv2.LINE_AA, _SHIFT)
        if np.hypot(*(path[-1] - path[0])) > 4.0:
            cv2.circle(sheet, (round(float(path[-1, 0])), round(float(path[-1, 1]))), 3, colour, -1, cv2.LINE_AA)


def draw_forecasts_in_camera(image: Image, camera: CameraModel, forecasts: Sequence[Forecast]) -> Image:
    """Return the picture [H, W, 3] with outlines and lines on the ground, in place where there are any."""
    height, width = image.shape[:2]
    camera = camera.resized(width, height)
    for forecast in forecasts:
        colour, thickness = _COLOURS[forecast.kind], _thickness(forecast)
        outline = _outline(forecast)
        for line in (np.vstack([outline, outline[:1]]), _path(forecast)):
            places, depth, _ = project(camera, np.column_stack([line, np.zeros(len(line))]))
            for start, end, near, far in zip(places, places[1:], depth, depth[1:], strict=False):
                # Behind the camera, projection turns things over.
                if near > 0.5 and far > 0.5:
                    cv2.polylines(
                        image, [_fixed(np.stack([start, end]))], False, colour, thickness, cv2.LINE_AA, _SHIFT
                    )
    return image


def _outline(forecast: Forecast) -> FloatArray:
    return boxes.corners(forecast.pose, [forecast.length_m, forecast.width_m])


def _path(forecast: Forecast) -> FloatArray:
    shown = max(1, round(_SHOWN_S / forecast.dt_s))
    return np.vstack([forecast.pose[:2], forecast.positions_m[:shown]])


def _thickness(forecast: Forecast) -> int:
    return 2 if forecast.existence >= 0.6 else 1


def _fixed(points: FloatArray) -> np.ndarray:
    # Far outside the picture OpenCV's fixed-point coordinates would overflow.
    return np.round(np.clip(points, -4000, 8000) * (1 << _SHIFT)).astype(np.int32)
