# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A raw picture that was shrunk as it came, in place of its sensor_msgs/Image.

The message's own bytes lie in a buffer that the next one overwrites (`ros.wire.image_taker`), so what the model needs
of them is made at once.  The rest of the message stays as it was sent: whoever compares sizes sees the camera's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vla_driver.types import Image, InvalidInput


@dataclass(frozen=True)
class ReceivedImage:
    """The fields of a sensor_msgs/Image, and what its picture gave.

    header, height, width, encoding, is_bigendian, step: as in the message.
    data: bytes [N] that are still to be decoded (a JPEG in a raw message), else none.
    picture: RGB, no smaller than the model needs; None where `data` or `problem` is there instead.
    problem: why there is no picture, '' if there is one.
    """

    header: Any
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: npt.NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8), repr=False, compare=False)
    picture: Image | None = field(default=None, repr=False, compare=False)
    problem: str = ''

    def result(self) -> Image | None:
        """Return the picture; None where `data` is to be decoded.  Raises InvalidInput where there is a problem."""
        if self.problem:
            raise InvalidInput(self.problem)
        return self.picture
