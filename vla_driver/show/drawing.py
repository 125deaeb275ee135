# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of a plan: drawn into the cameras, and from above.  RGB uint8 arrays in, RGB uint8 arrays out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np

from vla_driver.geometry import se2
from vla_driver.geometry.projection import project
from vla_driver.show.forecasts import draw_forecasts_from_above, draw_forecasts_in_camera
from vla_driver.sim.world.vehicle import WIDTH_M, ego_rectangle, rectangle
from vla_driver.types import CAMERA_NAMES, CameraModel, CameraRig, FloatArray, Image, Plan, PlanSource

Colour = tuple[int, int, int]

#: One palette for cameras, bird's-eye view and curves, told apart with colour-blind eyes, too (after Okabe and Ito).
PLAN_COLOUR: Final[Colour] = (0, 190, 170)
BRAKED_COLOUR: Final[Colour] = (255, 40, 170)
SHIFTED_COLOUR: Final[Colour] = (230, 159, 0)
STOP_COLOUR: Final[Colour] = (222, 64, 50)
DRIVEN_COLOUR: Final[Colour] = (240, 240, 240)
EXPERT_COLOUR: Final[Colour] = (255, 206, 84)
AGENT_COLOUR: Final[Colour] = (122, 156, 214)
PERSON_COLOUR: Final[Colour] = (238, 130, 170)
TARGET_COLOUR: Final[Colour] = (200, 150, 255)
HAZARD_COLOUR: Final[Colour] = (255, 150, 40)
_BACKGROUND: Final[Colour] = (17, 22, 29)
_GRID: Final[Colour] = (38, 46, 57)
_TEXT: Final[Colour] = (222, 228, 235)

_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX
#: OpenCV takes coordinates in sixteenths of a pixel.
_SHIFT: Final = 4


@dataclass(frozen=True)
class Scene:
    """What a picture shows beside the plan; all in base_link at the plan's t0.

    agents [N, 5]: x, y, yaw, length, width; driven_m, expert_m [M, 2]: where the car went, what the expert
    wanted; targets_m [2, 2]: the navigation's target points; hazards_m [H, 2]: what the slow half reacts to;
    lines: text under the bird's-eye view.
    """

    agents: FloatArray = field(default_factory=lambda: np.zeros((0, 5)))
    driven_m: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    expert_m: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    targets_m: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    hazards_m: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    lines: Sequence[str] = ()


def colour_of(plan: Plan) -> Colour:
    """Return the colour of a plan's source: a fallback must be seen at once."""
    return {
        PlanSource.POLICY: PLAN_COLOUR,
        PlanSource.BRAKED: BRAKED_COLOUR,
        PlanSource.SHIFTED: SHIFTED_COLOUR,
        PlanSource.STOP: STOP_COLOUR,
    }[plan.source]


def dense_path(plan: Plan, spacing_m: float = 0.2) -> FloatArray:
    """Return [N, 3] poses along the plan from t0 on, about `spacing_m` apart; a single pose for a standing car."""
    t = plan.trajectory
    positions = np.vstack([[0.0, 0.0], t.positions_m])
    yaw = np.unwrap(np.concatenate([[0.0], t.yaw_rad]))
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(positions, axis=0).T))])
    # Interpolation needs growing lengths; a car that stands repeats its last point.
    keep = np.concatenate([[True], np.diff(length) > 1e-6])
    length, positions, yaw = length[keep], positions[keep], yaw[keep]
    at = np.linspace(0.0, length[-1], max(2, int(length[-1] / spacing_m) + 1)) if length[-1] > 0 else np.zeros(1)
    return np.column_stack([np.interp(at, length, column) for column in (*positions.T, yaw)])


def _ribbon(path: FloatArray, width_m: float) -> tuple[FloatArray, FloatArray]:
    """Return the left and right edges [N, 2] of a band around the poses [N, 3]."""
    normal = np.column_stack([-np.sin(path[:, 2]), np.cos(path[:, 2])])
    return path[:, :2] + 0.5 * width_m * normal, path[:, :2] - 0.5 * width_m * normal


def _fixed(points: FloatArray) -> np.ndarray:
    # Far outside the picture OpenCV's fixed-point coordinates would overflow.
    return np.round(np.clip(points, -4000, 8000) * (1 << _SHIFT)).astype(np.int32)


def draw_plan_in_camera(image: Image, camera: CameraModel, plan: Plan) -> Image:
    """Return the picture with the plan as a carpet on the road, as wide as the car, fading with distance.

    image: [H, W, 3] RGB of any size; the camera is scaled to it.  A picture that cannot see the plan is unchanged.
    """
    height, width = image.shape[:2]
    camera = camera.resized(width, height)
    path = dense_path(plan)
    if len(path) < 2:
        return image.copy()
    left, right = _ribbon(path, WIDTH_M)
    ground = np.zeros((len(path), 1))
    edges = [project(camera, np.hstack([edge, ground])) for edge in (left, right)]
    (left_px, left_depth, _), (right_px, right_depth, _) = edges
    # Both ends of a piece must be in front of the camera; behind it, projection turns things over.
    ahead = (left_depth > 0.3) & (right_depth > 0.3)
    carpet = image.copy()
    weight = np.zeros((height, width), np.float32)
    colour = colour_of(plan)
    fade = np.linspace(0.62, 0.16, len(path))
    for k in range(len(path) - 1):
        if ahead[k] and ahead[k + 1]:
            quad = _fixed(np.stack([left_px[k], left_px[k + 1], right_px[k + 1], right_px[k]]))
            cv2.fillConvexPoly(weight, quad, float(fade[k]), cv2.LINE_8, _SHIFT)
    weight = cv2.GaussianBlur(weight, (3, 3), 0)[..., None]
    carpet = (image * (1 - weight) + np.array(colour, np.float32) * weight).astype(np.uint8)
    bright = tuple(int(0.35 * 255 + 0.65 * c) for c in colour)
    thickness = max(1, round(width / 320))
    for pixels in (left_px, right_px):
        for piece in _runs(pixels, ahead):
            cv2.polylines(carpet, [_fixed(piece)], False, bright, thickness, cv2.LINE_AA, _SHIFT)
    return carpet


def _runs(pixels: FloatArray, ahead: np.ndarray) -> list[FloatArray]:
    """Return the stretches of consecutive points in front of the camera."""
    breaks = np.flatnonzero(np.diff(ahead.astype(int))) + 1
    pieces = zip(np.split(pixels, breaks), np.split(ahead, breaks))
    return [piece for piece, seen in pieces if seen[0] and len(piece) > 1]


def label(image: Image, text: str, *, alarm: bool = False, scale: float | None = None) -> None:
    """Write a name into the upper left corner of a picture, in place; letters grow with its width by default."""
    scale = image.shape[1] / 640 * 0.62 if scale is None else scale
    (width, height), base = cv2.getTextSize(text, _FONT, scale, 1)
    pad = round(10 * scale) + 2
    box = image[: height + base + pad, : width + 2 * pad]
    box[:] = (box * 0.35 + np.array(STOP_COLOUR if alarm else (0, 0, 0)) * 0.65).astype(np.uint8)
    cv2.putText(image, text, (pad, height + pad), _FONT, scale, (255, 255, 255), 1, cv2.LINE_AA)


def mosaic(frames: Mapping[str, Image], rig: CameraRig, plan: Plan | None, cell: tuple[int, int] = (640, 384)) -> Image:
    """Return the cameras in two rows of three (types.CAMERA_NAMES) with the plan drawn in; a missing one is named.

    cell: width and height of one camera's picture; its own aspect ratio is kept, the rest stays dark.
    """
    gap = 4
    width, height = cell
    sheet = np.full((2 * height + gap, 3 * width + 2 * gap, 3), _BACKGROUND, np.uint8)
    for k, name in enumerate(CAMERA_NAMES):
        row, column = divmod(k, 3)
        field_ = sheet[row * (height + gap) :, column * (width + gap) :][:height, :width]
        image = frames.get(name)
        if image is None:
            cv2.putText(field_, 'no picture', (width // 2 - 70, height // 2), _FONT, 0.8, _GRID, 2, cv2.LINE_AA)
        else:
            scale = min(width / image.shape[1], height / image.shape[0])
            size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
            shown = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
            if plan is not None and name in rig:
                shown = draw_forecasts_in_camera(draw_plan_in_camera(shown, rig[name], plan), rig[name], plan.forecasts)
            top, left = (height - size[1]) // 2, (width - size[0]) // 2
            field_[top : top + size[1], left : left + size[0]] = shown
        label(field_, name.replace('_', ' '), alarm=image is None)
    return sheet


def birds_eye(plan: Plan | None, scene: Scene, size: tuple[int, int] = (512, 772), ahead_m: float = 42.0) -> Image:
    """Return the scene from above, driving upwards: plan, agents, driven and expert paths, target points.

    size: width and height in pixels; ahead_m: metres between the rear axle and the upper edge.
    """
    width, height = size
    behind_m = 14.0
    scale = height / (ahead_m + behind_m)
    text = height / 772  # letters grow with the picture
    centre = np.array([width / 2, height * ahead_m / (ahead_m + behind_m)])

    def pixels(points_m: FloatArray) -> FloatArray:
        # x forward is up, y left is left.
        return centre + scale * np.column_stack([-points_m[:, 1], -points_m[:, 0]])

    sheet = np.full((height, width, 3), _BACKGROUND, np.uint8)
    for ring in range(10, 60, 10):
        cv2.circle(sheet, _point(centre), round(ring * scale), _GRID, 1, cv2.LINE_AA)
        if ring < ahead_m - 2:
            at = (int(centre[0]) + 4, int(centre[1] - ring * scale) - 4)
            cv2.putText(sheet, f'{ring} m', at, _FONT, 0.55 * text, (110, 122, 136), 1, cv2.LINE_AA)
    for x, y, yaw, length, box_width in scene.agents:
        corners = _fixed(pixels(rectangle(x, y, yaw, length, box_width)))
        person = length < 1.2
        cv2.fillConvexPoly(sheet, corners, PERSON_COLOUR if person else AGENT_COLOUR, cv2.LINE_AA, _SHIFT)
        if not person:  # a nose shows where it is heading
            nose_x, nose_y, _ = se2.compose([x, y, yaw], [0.38 * length, 0, 0])
            nose = _fixed(pixels(rectangle(nose_x, nose_y, yaw, 0.12 * length, 0.8 * box_width)))
            cv2.fillConvexPoly(sheet, nose, _BACKGROUND, cv2.LINE_AA, _SHIFT)
    if plan is not None:
        draw_forecasts_from_above(sheet, plan.forecasts, pixels)
    for k, target in enumerate(scene.targets_m):
        _target(sheet, pixels(target[None])[0], centre, k)
    if plan is not None:
        _plan_from_above(sheet, plan, pixels)
    for place in pixels(scene.hazards_m):
        cv2.circle(sheet, _point(place), round(1.6 * scale), HAZARD_COLOUR, max(2, round(3 * text)), cv2.LINE_AA)
    # Thin and on top: where the plan is right, both lines lie inside its band.
    for points, colour in ((scene.driven_m, DRIVEN_COLOUR), (scene.expert_m, EXPERT_COLOUR)):
        if len(points) > 1:
            cv2.polylines(sheet, [_fixed(pixels(points))], False, colour, max(1, round(text)), cv2.LINE_AA, _SHIFT)
    ego = _fixed(pixels(ego_rectangle(np.zeros(3))))
    cv2.fillConvexPoly(sheet, ego, (250, 250, 250), cv2.LINE_AA, _SHIFT)
    cv2.polylines(sheet, [ego], True, colour_of(plan) if plan is not None else _GRID, 2, cv2.LINE_AA, _SHIFT)
    for k, line in enumerate(scene.lines):
        at = (12, round(height - (14 + 32 * (len(scene.lines) - 1 - k)) * text))
        cv2.putText(sheet, line, at, _FONT, 0.78 * text, _BACKGROUND, 4, cv2.LINE_AA)
        cv2.putText(sheet, line, at, _FONT, 0.78 * text, _TEXT, 1, cv2.LINE_AA)
    label(sheet, "bird's eye", scale=0.62 * text)
    return sheet


def _plan_from_above(sheet: Image, plan: Plan, pixels: Callable[[FloatArray], FloatArray]) -> None:
    colour = colour_of(plan)
    path = dense_path(plan)
    if len(path) > 1:
        left, right = _ribbon(path, WIDTH_M)
        band = sheet.copy()
        cv2.fillPoly(band, [_fixed(pixels(np.vstack([left, right[::-1]])))], colour, cv2.LINE_AA, _SHIFT)
        cv2.addWeighted(band, 0.38, sheet, 0.62, 0.0, dst=sheet)
        cv2.polylines(sheet, [_fixed(pixels(path[:, :2]))], False, colour, 2, cv2.LINE_AA, _SHIFT)
    for k, waypoint in enumerate(pixels(plan.trajectory.positions_m)):
        whole_second = (k + 1) % round(1.0 / plan.trajectory.dt_s) == 0
        cv2.circle(sheet, _point(waypoint), 5 if whole_second else 2, colour, -1, cv2.LINE_AA)


def _target(sheet: Image, at: FloatArray, centre: FloatArray, order: int) -> None:
    """Draw a target point; one outside the picture becomes an arrow head at its edge."""
    height, width = sheet.shape[:2]
    margin = 14.0
    inside = margin <= at[0] <= width - margin and margin <= at[1] <= height - margin
    size = 9 if order == 0 else 6
    if inside:
        diamond = at + size * np.array([[0, -1], [1, 0], [0, 1], [-1, 0]])
        cv2.polylines(sheet, [_fixed(diamond)], True, TARGET_COLOUR, 2, cv2.LINE_AA, _SHIFT)
        return
    direction = (at - centre) / max(float(np.hypot(*(at - centre))), 1e-6)
    bounds = np.array([width - margin, height - margin])
    with np.errstate(divide='ignore'):
        reach = np.where(direction > 0, (bounds - centre) / direction, (margin - centre) / direction)
    tip = centre + direction * float(np.min(reach[np.isfinite(reach)]))
    side = np.array([-direction[1], direction[0]])
    head = np.stack([tip, tip - size * (1.6 * direction - side), tip - size * (1.6 * direction + side)])
    cv2.fillConvexPoly(sheet, _fixed(head), TARGET_COLOUR, cv2.LINE_AA, _SHIFT)


def _point(at: FloatArray) -> tuple[int, int]:
    return round(float(at[0])), round(float(at[1]))


def beside(left: Image, right: Image, gap: int = 6) -> Image:
    """Return two pictures of one height side by side."""
    if left.shape[0] != right.shape[0]:
        width = round(right.shape[1] * left.shape[0] / right.shape[0])
        right = cv2.resize(right, (width, left.shape[0]), interpolation=cv2.INTER_AREA)
    strip = np.full((left.shape[0], gap, 3), _BACKGROUND, np.uint8)
    return np.hstack([left, strip, right])
