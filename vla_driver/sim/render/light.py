# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The light of one run: sun, sky and haze colours that follow from a `Look`.

All colours are display values in 0..1 (no gamma step in the shaders: one multiplication per pixel is
what software GL can afford).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_driver.sim.world.scene import Look
from vla_driver.types import FloatArray

#: Haze 1 halves the contrast at 1 / 0.0032 m, about 310 m.
HAZE_PER_M = 0.0032


@dataclass(frozen=True)
class Light:
    """sun_direction [3] points to the sun; the other arrays [3] are RGB; haze_per_m: see `HAZE_PER_M`."""

    sun_direction: FloatArray
    sun: FloatArray
    ambient_up: FloatArray
    ambient_down: FloatArray
    horizon: FloatArray
    zenith: FloatArray
    cloud: FloatArray
    haze_per_m: float

    @staticmethod
    def of(look: Look) -> Light:
        """Return the light of a look: warm light is redder, a hazy sky is greyer."""
        cos = np.cos(look.sun_elevation_rad)
        direction = np.array(
            [
                cos * np.cos(look.sun_azimuth_rad),
                cos * np.sin(look.sun_azimuth_rad),
                np.sin(look.sun_elevation_rad),
            ]
        )
        warm = np.array([1 + 0.16 * look.warmth, 1.0, 1 - 0.22 * look.warmth])
        brightness = look.brightness
        grey = np.clip(0.35 * (look.haze - 0.4), 0.0, 0.6)
        zenith = np.array([0.30, 0.50, 0.80]) * (1 - grey) + np.array([0.66, 0.70, 0.74]) * grey
        return Light(
            sun_direction=direction,
            sun=0.50 * brightness * warm * np.array([1.0, 0.96, 0.88]),
            ambient_up=0.64 * brightness * np.array([0.96, 1.0, 1.06]),
            ambient_down=0.46 * brightness * np.array([1.0, 0.99, 0.97]),
            horizon=np.clip(brightness * warm**0.5 * np.array([0.78, 0.82, 0.86]), 0, 1),
            zenith=np.clip(brightness * zenith, 0, 1),
            cloud=np.clip(brightness * warm**0.5 * np.array([0.95, 0.96, 0.98]), 0, 1),
            haze_per_m=HAZE_PER_M * max(0.0, look.haze),
        )

    def shade(self, normals: FloatArray) -> FloatArray:
        """Return [..., 3] the light that falls on surfaces with unit `normals` [..., 3] (Lambert plus sky)."""
        up = 0.5 + 0.5 * normals[..., 2:3]
        lambert = np.maximum(normals @ self.sun_direction, 0.0)[..., None]
        return np.asarray(up * self.ambient_up + (1 - up) * self.ambient_down + lambert * self.sun)
