# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a calibration is the one known already, and whether a picture fits it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from vla_driver.types import CameraModel, Image, InvalidInput

#: A picture's proportions may differ from its calibration's by this share (scaled decoding rounds up).
_ASPECT_TOLERANCE: Final = 0.02


def same_calibration(a: Any, b: Any) -> bool:
    """Whether two sensor_msgs/CameraInfo tell the same: size, matrix, distortion and projection."""
    numbers = ((getattr(a, name, ()), getattr(b, name, ())) for name in 'kdp')
    return (a.width, a.height) == (b.width, b.height) and all(np.array_equal(*pair) for pair in numbers)


def check_aspect(image: Image, message: Any, camera: CameraModel) -> None:
    """Refuse a picture whose proportions are not its calibration's: its rays would point elsewhere."""
    height, width = image.shape[:2]
    if hasattr(message, 'step'):  # raw; a packet of video may leave its size unfilled
        width, height = int(message.width), int(message.height)
    # One pixel of rounding is allowed for on small pictures.
    tolerance = _ASPECT_TOLERANCE + 1.0 / min(width, height)
    if abs(width * camera.height / (height * camera.width) - 1.0) > tolerance:
        raise InvalidInput(
            f'picture of {width}x{height}, but the camera is calibrated for {camera.width}x{camera.height} (other '
            'proportions); publish its camera_info or give the rig file that fits'
        )
