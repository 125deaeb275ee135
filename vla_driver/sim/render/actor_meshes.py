# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Low-poly bodies of everything that moves, and of traffic lights.

Vehicles and cyclists fill the unit box x, y in [-0.5, 0.5], z in [0, 1] (x forward) and are scaled to an
actor's length, width and height.  Vertex parts [V, 5]: paint (1 = multiplied with the body colour, 2 =
the second garment colour, 0 = own colour), pivot x, pivot z, swing (+-1: turns with the gait about the
pivot), lamp (a `SignalState` for a lens, `GLOW` for a light that always shines, 0 for none).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vla_driver.sim.render.mesh import MeshArrays, MeshBuilder, unit_blob
from vla_driver.sim.world.scene import SignalState

PART_WIDTH = 5
GLOW = 9.0
_OWN = (0.0, 0.0, 0.0, 0.0, 0.0)
_PAINT = (1.0, 0.0, 0.0, 0.0, 0.0)
_SHINE = (0.0, 0.0, 0.0, 0.0, GLOW)
_GLASS, _RUBBER, _TRIM = (0.16, 0.20, 0.25), (0.10, 0.10, 0.11), (0.22, 0.22, 0.24)
_RED_LAMP, _WHITE_LAMP, _AMBER_LAMP = (0.85, 0.07, 0.06), (0.98, 0.97, 0.88), (0.95, 0.55, 0.1)
_SKIN = (0.80, 0.62, 0.50)
#: Lamps and plates stand this far out, just before the ends of the unit box.
_NOSE_X = 0.503

#: Box of a traffic-light head and its lenses, in metres (large, so that it reads in small pictures).
HEAD_WIDTH_M, HEAD_HEIGHT_M, HEAD_DEPTH_M, LENS_RADIUS_M = 0.75, 2.0, 0.3, 0.27

WHITE = (1.0, 1.0, 1.0)


def _ring(x: Sequence[float], y: float, z: float) -> npt.NDArray[np.float64]:
    """A rectangle [4, 3] from x[0] to x[1], half width y, at height z."""
    return np.array([[x[0], -y, z], [x[1], -y, z], [x[1], y, z], [x[0], y, z]])


def _wheels(mesh: MeshBuilder, at_x: Sequence[float], radius_x: float, radius_z: float) -> None:
    angle = 2 * np.pi * (np.arange(8) + 0.5) / 8
    for x in at_x:
        for side in (-1.0, 1.0):
            rim = np.column_stack([radius_x * np.cos(angle), np.full(8, side * 0.502), radius_z * np.sin(angle)])
            rim += [x, 0, radius_z]
            mesh.polygon(rim, _RUBBER, _OWN, (0, side, 0))
            hub = rim.mean(axis=0) + (rim - rim.mean(axis=0)) * 0.5 + [0, side * 0.004, 0]
            mesh.polygon(hub[::2], (0.55, 0.55, 0.57), _OWN, (0, side, 0))
            inner = rim * [1, 0.78, 1]
            for k in range(8):
                j = (k + 1) % 8
                quad = np.stack([rim[k], rim[j], inner[j], inner[k]])
                mesh.polygon(quad, _RUBBER, _OWN, quad.mean(axis=0) - rim.mean(axis=0) * [1, 0.9, 1])


def _lamps(mesh: MeshBuilder, z: tuple[float, float], y: tuple[float, float]) -> None:
    """Two white lamps in front, two red ones at the back, between heights z and half widths y."""
    for side in (-1.0, 1.0):
        for x, colour in ((_NOSE_X, _WHITE_LAMP), (-_NOSE_X, _RED_LAMP)):
            mesh.rectangle(0, x, (side * y[0], z[0]), (side * y[1], z[1]), colour, _SHINE)


def car(roof: tuple[float, float], base: tuple[float, float], shoulder: float, detailed: bool = True) -> MeshArrays:
    """A car: the roof and the window line reach from x = [0] to x = [1]; `shoulder` is the windows' lower edge."""
    mesh = MeshBuilder(PART_WIDTH)
    sill, bumper = 0.16, 0.34
    mesh.frustum(_ring((-0.49, 0.49), 0.46, sill), _ring((-0.5, 0.5), 0.5, bumper), WHITE, _PAINT, bottom=True)
    nose = shoulder - 0.05
    low, high = _ring((-0.5, 0.5), 0.5, bumper), _ring((-0.49, 0.485), 0.475, shoulder)
    high[1:3, 2] = nose
    mesh.frustum(low, high, WHITE, _PAINT)
    mesh.frustum(_ring(base, 0.46, shoulder - 0.02), _ring(roof, 0.39, 0.97), _GLASS, _OWN)
    mesh.frustum(_ring(roof, 0.392, 0.965), _ring((roof[0] + 0.02, roof[1] - 0.02), 0.37, 1.0), WHITE, _PAINT)
    _lamps(mesh, (shoulder - 0.17, shoulder - 0.07), (0.27, 0.46))
    mesh.rectangle(0, -_NOSE_X, (-0.16, 0.3), (0.16, 0.4), (0.9, 0.9, 0.85), _OWN)
    mesh.rectangle(0, _NOSE_X, (-0.25, 0.22), (0.25, 0.4), _TRIM, _OWN)
    if detailed:
        _wheels(mesh, (-0.3, 0.31), 0.075, 0.225)
        for side in (-1.0, 1.0):  # door pillars
            for t in (0.45, 0.72):
                x_low, x_high = base[0] + t * (base[1] - base[0]), roof[0] + t * (roof[1] - roof[0])
                quad = [
                    [x_low - 0.01, side * 0.462, shoulder],
                    [x_low + 0.01, side * 0.462, shoulder],
                    [x_high + 0.01, side * 0.394, 0.97],
                    [x_high - 0.01, side * 0.394, 0.97],
                ]
                mesh.polygon(quad, WHITE, _PAINT, (0, side, 0))
    else:
        for x in (-0.3, 0.31):
            mesh.box((x - 0.07, -0.502, 0.0), (x + 0.07, 0.502, 0.3), _RUBBER, _OWN, bottom=False)
    return mesh.build()


def sedan(detailed: bool = True) -> MeshArrays:
    """A saloon car with a boot."""
    return car((-0.24, 0.12), (-0.40, 0.26), 0.60, detailed)


def hatchback(detailed: bool = True) -> MeshArrays:
    """A car with a steep tail."""
    return car((-0.40, 0.10), (-0.48, 0.26), 0.58, detailed)


def van(detailed: bool = True) -> MeshArrays:
    """A people carrier or delivery van."""
    return car((-0.47, 0.24), (-0.49, 0.40), 0.52, detailed)


def truck(detailed: bool = True) -> MeshArrays:
    """A lorry: a cab in front of a pale box body."""
    mesh = MeshBuilder(PART_WIDTH)
    mesh.box((-0.5, -0.42, 0.14), (0.49, 0.42, 0.27), _TRIM, _OWN)
    mesh.box((-0.5, -0.5, 0.27), (0.24, 0.5, 1.0), (0.86, 0.86, 0.84), _OWN)
    mesh.frustum(_ring((0.27, 0.5), 0.48, 0.16), _ring((0.27, 0.5), 0.48, 0.52), WHITE, _PAINT)
    mesh.frustum(_ring((0.27, 0.5), 0.475, 0.52), _ring((0.27, 0.475), 0.455, 0.74), _GLASS, _OWN)
    mesh.frustum(_ring((0.27, 0.475), 0.46, 0.74), _ring((0.28, 0.46), 0.44, 0.80), WHITE, _PAINT)
    _lamps(mesh, (0.20, 0.28), (0.30, 0.47))
    _heavy_wheels(mesh, (-0.36, -0.24, 0.36), detailed)
    return mesh.build()


def bus(detailed: bool = True) -> MeshArrays:
    """A city bus: a long box with a band of windows."""
    mesh = MeshBuilder(PART_WIDTH)
    mesh.box((-0.5, -0.5, 0.1), (0.5, 0.5, 0.45), WHITE, _PAINT)
    mesh.box((-0.498, -0.495, 0.45), (0.498, 0.495, 0.82), _GLASS, _OWN, bottom=False)
    mesh.box((-0.5, -0.5, 0.82), (0.5, 0.5, 1.0), WHITE, _PAINT)
    _lamps(mesh, (0.2, 0.3), (0.28, 0.46))
    mesh.rectangle(0, _NOSE_X, (-0.3, 0.86), (0.3, 0.95), _AMBER_LAMP, _SHINE)
    if detailed:
        for x in np.linspace(-0.38, 0.38, 6):
            for side in (-0.5, 0.5):
                mesh.rectangle(1, side, (x - 0.008, 0.45), (x + 0.008, 0.82), WHITE, _PAINT)
    _heavy_wheels(mesh, (-0.3, 0.32), detailed)
    return mesh.build()


def _heavy_wheels(mesh: MeshBuilder, at_x: Sequence[float], detailed: bool) -> None:
    if detailed:
        _wheels(mesh, at_x, 0.055, 0.15)
        return
    for x in at_x:
        mesh.box((x - 0.05, -0.502, 0.0), (x + 0.05, 0.502, 0.22), _RUBBER, _OWN, bottom=False)


def bicycle() -> MeshArrays:
    """A bicycle with its rider, whose legs pedal."""
    mesh = MeshBuilder(PART_WIDTH)
    angle = 2 * np.pi * np.arange(8) / 8
    for x in (-0.31, 0.31):
        rim = np.column_stack([x + 0.19 * np.cos(angle), np.zeros(8), 0.19 * (1 + np.sin(angle))])
        hole = rim.mean(axis=0) + 0.72 * (rim - rim.mean(axis=0))
        for side in (-0.03, 0.03):
            for k in range(8):
                j = (k + 1) % 8
                mesh.polygon(np.stack([rim[k], rim[j], hole[j], hole[k]]) + [0, side, 0], _RUBBER, _OWN, (0, side, 0))
    tubes = (
        ((-0.31, 0.19), (-0.1, 0.48)),
        ((-0.1, 0.48), (0.24, 0.5)),
        ((-0.1, 0.2), (0.24, 0.5)),
        ((0.31, 0.19), (0.22, 0.58)),
    )
    for low, high in tubes:
        for side in (-0.04, 0.04):
            quad = [
                [low[0] - 0.015, side, low[1] - 0.012],
                [low[0] + 0.015, side, low[1] + 0.012],
                [high[0] + 0.015, side, high[1] + 0.012],
                [high[0] - 0.015, side, high[1] - 0.012],
            ]
            mesh.polygon(quad, _TRIM, _OWN, (0, side, 0))
    mesh.box((0.18, -0.45, 0.58), (0.24, 0.45, 0.61), _TRIM, _OWN)
    torso_low = np.array([[-0.18, -0.26, 0.5], [-0.04, -0.26, 0.5], [-0.04, 0.26, 0.5], [-0.18, 0.26, 0.5]])
    mesh.frustum(torso_low, torso_low * [0.8, 1.25, 1] + [0.1, 0, 0.3], WHITE, _PAINT)
    for sign in (-1.0, 1.0):
        y = sign * 0.36
        arm = np.array([[0.0, y - 0.08, 0.70], [0.04, y - 0.08, 0.78], [0.04, y + 0.08, 0.78], [0.0, y + 0.08, 0.70]])
        mesh.frustum(arm, arm * [1, 1, 0] + [0.2, 0, 0.6], WHITE, _PAINT)
        leg = (2.0, -0.1, 0.5, 0.6 * sign, 0.0)
        mesh.box((-0.12, sign * 0.2 - 0.1, 0.17), (-0.03, sign * 0.2 + 0.1, 0.52), WHITE, leg)
    _head(mesh, (0.06, 0.0, 0.91), (0.065, 0.2, 0.09))
    mesh.rectangle(0, -0.45, (-0.1, 0.4), (0.1, 0.46), _RED_LAMP, _SHINE)
    return mesh.build()


def _head(mesh: MeshBuilder, centre: Sequence[float], radii: Sequence[float]) -> None:
    directions, faces = unit_blob(2, 6)
    hair = directions[:, 2:] - 0.6 * directions[:, :1] > 0.35
    colour = np.where(hair, (0.20, 0.15, 0.12), _SKIN)
    mesh.add(np.asarray(centre) + directions * np.asarray(radii), faces, directions, colour, _OWN)


def pedestrian() -> MeshArrays:
    """A person, x forward: legs and arms swing about hip and shoulder against each other."""
    mesh = MeshBuilder(PART_WIDTH)
    hip, shoulder = 0.50, 0.80
    chest = _ring((-0.20, 0.22), 0.36, shoulder + 0.02)
    mesh.frustum(_ring((-0.20, 0.20), 0.29, hip - 0.03), chest, WHITE, _PAINT, bottom=True)
    for sign in (-1.0, 1.0):
        leg = (2.0, 0.0, hip, sign, 0.0)
        y = sign * 0.17
        ankle, thigh = _ring((-0.15, 0.17), 0.10, 0.04), _ring((-0.20, 0.20), 0.14, hip)
        mesh.frustum(ankle + [0, y, 0], thigh + [0, y, 0], WHITE, leg)
        mesh.box((-0.17, y - 0.11, 0.0), (0.36, y + 0.11, 0.045), _RUBBER, (0.0, 0.0, hip, sign, 0.0))
        y = sign * 0.43
        arm = (1.0, 0.0, shoulder, -0.8 * sign, 0.0)
        wrist, upper = _ring((-0.11, 0.11), 0.05, 0.50), _ring((-0.15, 0.15), 0.07, shoulder + 0.02)
        mesh.frustum(wrist + [0, y, 0], upper + [0, y, 0], WHITE, arm)
        hand = (0.0, 0.0, shoulder, -0.8 * sign, 0.0)
        mesh.box((-0.09, y - 0.05, 0.44), (0.09, y + 0.05, 0.50), _SKIN, hand)
    _head(mesh, (0.03, 0.0, 0.92), (0.24, 0.17, 0.085))
    return mesh.build()


def signal_head() -> MeshArrays:
    """A traffic-light head in metres about its centre, shining along +x: red on top, green below."""
    mesh = MeshBuilder(PART_WIDTH)
    depth, half_y, half_z = HEAD_DEPTH_M, HEAD_WIDTH_M / 2, HEAD_HEIGHT_M / 2
    mesh.box((-depth, -half_y, -half_z), (0.0, half_y, half_z), (0.07, 0.075, 0.07), _OWN)
    y, z = half_y + 0.06, half_z + 0.06
    plate = np.array([[-0.1, -y, -z], [-0.1, y, -z], [-0.1, y, z], [-0.1, -y, z]])
    for facing in (1.0, -1.0):
        mesh.polygon(plate, (0.05, 0.05, 0.05), _OWN, (facing, 0, 0))
    angle = 2 * np.pi * (np.arange(10) + 0.5) / 10
    disc = LENS_RADIUS_M * np.column_stack([np.zeros(10), np.cos(angle), np.sin(angle)])
    lenses = (
        (0.64, (1.0, 0.12, 0.08), SignalState.RED),
        (0.0, (1.0, 0.72, 0.05), SignalState.AMBER),
        (-0.64, (0.10, 1.0, 0.45), SignalState.GREEN),
    )
    for z, colour, state in lenses:
        mesh.polygon(disc + [0.02, 0, z], colour, (0.0, 0.0, 0.0, 0.0, float(state)), (1, 0, 0))
    return mesh.build()


def post() -> MeshArrays:
    """A unit square post, z in [0, 1], one metre thick: scaled to poles; turned, to mast arms."""
    mesh = MeshBuilder(PART_WIDTH)
    mesh.box((-0.5, -0.5, 0.0), (0.5, 0.5, 1.0), (0.42, 0.44, 0.45), _OWN)
    return mesh.build()
