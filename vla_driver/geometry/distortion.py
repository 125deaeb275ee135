# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Lenses: where a ray falls in a raw picture, and the table that makes a pinhole's picture of it (numpy only).

    plumb_bob             k1 k2 p1 p2 [k3]
    rational_polynomial   k1 k2 p1 p2 k3 k4 k5 k6 [s1 s2 s3 s4 [tau_x tau_y]]   thin prism, tilted sensor
    equidistant           k1 k2 k3 k4; all zero: an ideal fisheye, not a pinhole
    ftheta                p0 p1 ... pn: the radius p0 + p1 theta + ... + pn theta^n (NVIDIA's f-theta, `ftheta_lens`)

The formulas are those of OpenCV's calib3d and fisheye modules, which ROS's distortion models name (REP-104,
sensor_msgs/distortion_models.hpp).  They are evaluated here because OpenCV's fisheye goes wrong for rays near and
beyond 90 degrees, and because a polynomial that folds back on itself must not show a place twice.  ROS knows no f-theta
lens, so no CameraInfo tells of one: simulators that are served do (`serve/cameras.py`).

Pixel coordinates: the picture spans [0, width] x [0, height] (`geometry.rig`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vla_driver.types import FloatArray, InvalidInput

PLUMB_BOB: Final = 'plumb_bob'
RATIONAL: Final = 'rational_polynomial'
EQUIDISTANT: Final = 'equidistant'
FTHETA: Final = 'ftheta'
#: Model -> how many coefficients it may have; a longer list whose rest is zero is as good.
MODELS: Final = {PLUMB_BOB: (4, 5), RATIONAL: (4, 5, 8, 12, 14), EQUIDISTANT: (4,)}
#: Other names of the same formulas.
_ALIASES: Final = {'fisheye': EQUIDISTANT, 'radtan': PLUMB_BOB, 'plumb bob': PLUMB_BOB}
#: Models without distortion; coefficients must be zero.
_NONE: Final = ('', 'none', 'pinhole')

#: An undistorted picture shows at most this, across and upright: a pinhole spreads what lies beyond over half of it.
MAX_FOV_DEG: Final = 120.0
#: A lens that moves no pixel of the picture farther is a pinhole.
_PINHOLE_PX: Final = 0.1
#: Coefficients that ask for a focal length longer than the plain pinhole's by more than this fold the picture.
_LONGEST: Final = 3.0
_STEEPEST: Final = math.radians(85.0)  # a pinhole lens sees nothing beyond
_STEPS: Final = 2000
#: An f-theta lens given by its inverse: degree of its own polynomial, and how far that may be off.
_INVERSE_DEGREE: Final = 9
_INVERSE_PX: Final = 0.25


@dataclass(frozen=True, eq=False)
class Lens:
    """How rays fall into the raw picture of width x height pixels.

    model: a key of MODELS, or FTHETA; matrix: [3, 3], the principal point in this package's pixel coordinates;
    coefficients: [14], or, equidistant, [4], or, ftheta, [n + 1] for a radius in units of the matrix' focal length.
    max_angle_rad: from the optical axis; the lens sees nothing beyond.
    """

    model: str
    width: int
    height: int
    matrix: FloatArray
    coefficients: FloatArray
    max_angle_rad: float = math.pi

    @property
    def fisheye(self) -> bool:
        """Whether angles, not their tangents, are laid out on the picture."""
        return self.model in (EQUIDISTANT, FTHETA)

    def cropped(self, x: float, y: float, width: int, height: int) -> Lens:
        """Return the lens of a region of the picture."""
        shift = np.array([[1.0, 0.0, -x], [0.0, 1.0, -y], [0.0, 0.0, 1.0]])
        return replace(self, width=width, height=height, matrix=shift @ self.matrix)

    def resized(self, width: int, height: int) -> Lens:
        """Return the lens of the same picture at another resolution."""
        scale = np.diag([width / self.width, height / self.height, 1.0])
        return replace(self, width=width, height=height, matrix=scale @ self.matrix)

    def project(self, rays: npt.ArrayLike) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Return where rays [..., 3] of the optical frame fall, [..., 2] pixels, and which of them the lens sees.

        Not seen is what lies behind it, and beyond the angle where its polynomial turns back.
        """
        rays = np.asarray(rays, dtype=np.float64)
        x, y, z = rays[..., 0], rays[..., 1], rays[..., 2]
        if self.fisheye:
            rho = np.hypot(x, y)
            theta = np.arctan2(rho, z)
            scale = np.divide(self._radius(theta), rho, out=np.ones_like(rho), where=rho > 1e-12)
            xd, yd, seen = x * scale, y * scale, theta < self._limit
        else:
            ahead = z > 1e-9
            depth = np.where(ahead, z, 1.0)
            a, b = x / depth, y / depth
            seen = ahead & (np.hypot(a, b) < self._limit)
            xd, yd = _brown_conrady(np.where(seen, a, 0.0), np.where(seen, b, 0.0), self.coefficients)
        pixels = np.stack([xd, yd, np.ones_like(xd)], axis=-1) @ self.matrix.T
        return pixels[..., :2], seen

    @cached_property
    def _limit(self) -> float:
        """The angle (fisheye) or its tangent at which the picture's radius stops growing."""
        if self.fisheye:
            angle = np.linspace(0.0, min(math.pi, self.max_angle_rad), _STEPS)
            radius = self._radius(angle)
        else:
            angle = np.tan(np.linspace(0.0, min(_STEEPEST, self.max_angle_rad), _STEPS))
            radius = angle * _radial(angle**2, self.coefficients)
        # A pole of the rational polynomial shows as a fall, or as a jump to infinity.
        grows = np.isfinite(radius[1:]) & (np.diff(radius) > 0.0)
        return float(angle[-1] if grows.all() else angle[int(np.argmin(grows))])

    def _radius(self, theta: FloatArray) -> FloatArray:
        """Return how far from the middle a fisheye shows what is theta from its axis, in focal lengths."""
        if self.model == FTHETA:
            return np.asarray(np.polynomial.polynomial.polyval(theta, self.coefficients))
        return _polynomial(theta, self.coefficients)

    def bends(self) -> bool:
        """Whether the picture differs visibly from a pinhole's of the same matrix."""
        if self.fisheye:
            return True
        pixels = _grid(self.width, self.height, 17)
        there, seen = self.project(_rays(self.matrix, pixels))
        return bool((~seen).any() or np.abs(there - pixels).max() > _PINHOLE_PX)


def read_model(name: str, values: npt.ArrayLike) -> tuple[str, FloatArray] | None:
    """Return (model, coefficients) of a CameraInfo's distortion_model and D; None where nothing is distorted.

    Raises InvalidInput for a model that is not known, a wrong number of coefficients, NaN and infinity.
    """
    given = np.asarray(values, dtype=np.float64).ravel()
    if not np.isfinite(given).all():
        raise InvalidInput(f'D is {given.tolist()}, expected finite numbers')
    model = _ALIASES.get(name.strip().lower(), name.strip().lower())
    if model in _NONE:
        if given.any():
            raise InvalidInput(
                f'distortion_model is {name!r} and D {given.tolist()}: name the model ({", ".join(MODELS)})'
            )
        return None
    if model not in MODELS:
        raise InvalidInput(f'distortion_model {name!r} is not known here, allowed: {", ".join(MODELS)}')
    counts = MODELS[model]
    if given.size and given.size not in counts and (given.size < counts[-1] or given[counts[-1] :].any()):
        allowed = ' or '.join(map(str, counts))
        raise InvalidInput(f'D has {given.size} numbers, {given.tolist()}; {model} has {allowed}')
    if model != EQUIDISTANT and not given.any():
        return None
    coefficients = np.zeros(4 if model == EQUIDISTANT else 14)
    kept = given[: counts[-1]]
    coefficients[: kept.size] = kept
    return model, coefficients


def ftheta_lens(
    width: int,
    height: int,
    centre_px: tuple[float, float],
    radius_px: npt.ArrayLike,
    angle_rad: npt.ArrayLike = (),
    max_angle_rad: float = 0.0,
    linear: tuple[float, float, float] = (1.0, 0.0, 0.0),
) -> Lens:
    """Return NVIDIA's f-theta lens: a pixel lies at `centre_px` + [[c, d], [e, 1]] (radius in the ray's direction).

    radius_px: coefficients, lowest power first, of the radius in pixels as a polynomial of the angle in radians;
    angle_rad: those of the inverse, which decides where it is given: then `radius_px` may be empty.  max_angle_rad: 0
    where nobody says.  linear: c, d, e.

    Source: the parameters' description in NVIDIA's NCore (`FThetaCameraModelParameters`) and in AlpaSim's
    `sensorsim.proto`.  Raises InvalidInput for polynomials that no lens has.
    """
    radius, angle = _coefficients('radius', radius_px), _coefficients('angle', angle_rad)
    c, d, e = (float(value) for value in linear)
    if not all(map(math.isfinite, (c, d, e, max_angle_rad))) or abs(c - d * e) < 1e-6:
        raise InvalidInput(f'f-theta lens: linear term {(c, d, e)}, largest angle {max_angle_rad}: expected a lens')
    limit = max_angle_rad if 0.0 < max_angle_rad < math.pi else math.pi
    if angle.size:
        corner_px = math.hypot(*(max(at, size - at) for at, size in zip(centre_px, (width, height), strict=True)))
        radius, reached = _inverse(angle, corner_px)
        limit = min(limit, reached)
    if radius.size < 2 or radius[1] <= 0.0 or abs(radius[0]) > 1.0:
        raise InvalidInput(
            f'f-theta lens: the radius is {radius.tolist()} by powers of the angle, expected 0 at an angle of 0 and '
            'growing from there'
        )
    focal = float(radius[1])
    matrix = np.array([[c * focal, d * focal, centre_px[0]], [e * focal, focal, centre_px[1]], [0.0, 0.0, 1.0]])
    return Lens(FTHETA, width, height, matrix, radius / focal, limit)


def _coefficients(what: str, values: npt.ArrayLike) -> FloatArray:
    given = np.asarray(values, dtype=np.float64).ravel()
    if not np.isfinite(given).all():
        raise InvalidInput(f'f-theta lens: the polynomial of the {what} is {given.tolist()}, expected finite numbers')
    return given if given.any() else np.zeros(0)


def _inverse(angle: FloatArray, radius_px: float) -> tuple[FloatArray, float]:
    """Return the polynomial of the radius by the angle whose inverse is `angle`, and the angle up to which it serves.

    radius_px: farther out there is no picture.
    """
    radii = np.linspace(0.0, radius_px, _STEPS)
    angles = np.polynomial.polynomial.polyval(radii, angle)
    turns = np.flatnonzero(np.diff(angles) <= 0.0)
    end = int(turns[0]) + 1 if turns.size else _STEPS
    if end < _STEPS // 4:
        raise InvalidInput(f'f-theta lens: the angle {angle.tolist()} by powers of the radius does not grow with it')
    # Without a constant: at the axis the radius is 0.
    powers = np.stack([angles[:end] ** power for power in range(1, _INVERSE_DEGREE + 1)], axis=-1)
    found = np.linalg.lstsq(powers, radii[:end], rcond=None)[0]
    error_px = float(np.abs(powers @ found - radii[:end]).max())
    if error_px > _INVERSE_PX:
        raise InvalidInput(
            f'f-theta lens: the angle {angle.tolist()} by powers of the radius has no polynomial as its inverse '
            f'({error_px:.2f} px off, limit {_INVERSE_PX})'
        )
    return np.concatenate([[0.0], found]), float(angles[end - 1])


def undistorted_matrix(lens: Lens) -> FloatArray:
    """Return K [3, 3] of the pinhole picture, of the same size, that a lens' pictures are made into.

    Principal point and shape of the pixels stay; the focal length is the shortest with which every pixel of the new
    picture lies in the raw one, and which shows no more than MAX_FOV_DEG across and upright.  So nothing is black, and
    as little as possible is cut off.  Raises InvalidInput where the coefficients fold the picture.
    """
    width, height = lens.width, lens.height
    cx, cy = lens.matrix[0, 2], lens.matrix[1, 2]
    if not (0.0 <= cx <= width and 0.0 <= cy <= height):
        raise InvalidInput(
            f'the region of interest of {width}x{height} does not hold the principal point ({cx:g}, {cy:g}) in it: '
            'such a piece of a distorted picture is not undistorted here; send the whole picture'
        )
    border = _border(width, height, 33)

    def matrix(scale: float) -> FloatArray:
        k = lens.matrix.copy()
        k[1, 0] = 0.0  # a sensor that is not square is the lens' own
        k[:2, :2] *= scale
        return k

    def filled(scale: float) -> bool:
        k = matrix(scale)
        if max(fields_of_view_deg(k, width, height)) > MAX_FOV_DEG:
            return False
        pixels, seen = lens.project(_rays(k, border))
        inside = (pixels >= -1e-6).all(axis=-1) & (pixels <= [width + 1e-6, height + 1e-6]).all(axis=-1)
        return bool((seen & inside).all())

    low, high = 0.02, 1.0
    while not filled(high) and high < 64.0:
        low, high = high, 2.0 * high
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if filled(middle) else (middle, high)
    shown = min(fields_of_view_deg(matrix(high), width, height))
    if not filled(high) or (not lens.fisheye and high > _LONGEST):
        raise InvalidInput(
            f'D is {lens.coefficients.tolist()}: only {shown:.0f} degrees of the picture could be undistorted; '
            'with these numbers it folds over itself: calibrate again'
        )
    return matrix(high)


def undistortion_table(lens: Lens, matrix: FloatArray, width: int, height: int) -> npt.NDArray[np.float32]:
    """Return [height, width, 2]: for each pixel of the pinhole's picture, where it lies in the raw one.

    Both are of width x height pixels, the calibrated picture (and its K, `matrix`) scaled.  The numbers are indices
    of pixels, as cv2.remap takes them: 0 is the middle of the first.  What the lens does not see is far outside.
    """
    scale = np.diag([width / lens.width, height / lens.height, 1.0])
    small = lens.resized(width, height)
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    pixels, seen = small.project(_rays(scale @ matrix, np.stack([u, v], axis=-1)))
    # The outer half of an edge pixel has no neighbour to be mixed with.
    last = np.array([width, height]) - 1.0
    inside = (pixels >= -0.5).all(axis=-1) & (pixels <= last + 1.5).all(axis=-1)
    return np.where((seen & inside)[..., None], np.clip(pixels - 0.5, 0.0, last), -1e4).astype(np.float32)


def fields_of_view_deg(k: FloatArray, width: int, height: int) -> tuple[float, float]:
    """Return how much a pinhole of matrix k [3, 3] sees across and upright, in degrees."""
    return (
        math.degrees(math.atan2(k[0, 2], k[0, 0]) + math.atan2(width - k[0, 2], k[0, 0])),
        math.degrees(math.atan2(k[1, 2], k[1, 1]) + math.atan2(height - k[1, 2], k[1, 1])),
    )


def _rays(k: FloatArray, pixels: FloatArray) -> FloatArray:
    """Return rays [..., 3] with z = 1 through pixels [..., 2]."""
    ones = np.ones((*pixels.shape[:-1], 1))
    return np.asarray(np.concatenate([pixels, ones], axis=-1) @ np.linalg.inv(k).T)


def _grid(width: int, height: int, count: int) -> FloatArray:
    u, v = np.meshgrid(np.linspace(0.0, width, count), np.linspace(0.0, height, count))
    return np.stack([u.ravel(), v.ravel()], axis=-1)


def _border(width: int, height: int, count: int) -> FloatArray:
    points = _grid(width, height, count)
    edge = (points == 0.0).any(axis=1) | (points[:, 0] == width) | (points[:, 1] == height)
    return points[edge]


def _polynomial(theta: FloatArray, k: FloatArray) -> FloatArray:
    """Return theta (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8)."""
    t = theta * theta
    return np.asarray(theta * (1.0 + t * (k[0] + t * (k[1] + t * (k[2] + t * k[3])))))


def _radial(r2: FloatArray, d: FloatArray) -> FloatArray:
    above = 1.0 + r2 * (d[0] + r2 * (d[1] + r2 * d[4]))
    below = 1.0 + r2 * (d[5] + r2 * (d[6] + r2 * d[7]))
    with np.errstate(divide='ignore', invalid='ignore'):
        return np.asarray(np.where(below > 0.0, above / below, np.nan))


def _brown_conrady(x: FloatArray, y: FloatArray, d: FloatArray) -> tuple[Any, Any]:
    """Return where (x, y) at depth 1 is seen: radial, tangential, thin prism, then the tilt of the sensor."""
    r2, xy = x * x + y * y, x * y
    radial = _radial(r2, d)
    xd = x * radial + 2.0 * d[2] * xy + d[3] * (r2 + 2.0 * x * x) + r2 * (d[8] + r2 * d[9])
    yd = y * radial + 2.0 * d[3] * xy + d[2] * (r2 + 2.0 * y * y) + r2 * (d[10] + r2 * d[11])
    if not d[12:].any():
        return xd, yd
    (sx, cx), (sy, cy) = ((math.sin(angle), math.cos(angle)) for angle in d[12:])
    turn = np.array([[cy, sy * sx, -sy * cx], [0.0, cx, sx], [sy, -cy * sx, cy * cx]])
    onto = np.array([[turn[2, 2], 0.0, -turn[0, 2]], [0.0, turn[2, 2], -turn[1, 2]], [0.0, 0.0, 1.0]]) @ turn
    moved = np.stack([xd, yd, np.ones_like(xd)], axis=-1) @ onto.T
    return moved[..., 0] / moved[..., 2], moved[..., 1] / moved[..., 2]
