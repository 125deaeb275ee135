# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Which ROS domain a process belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from vla_driver.types import InvalidInput

_VARIABLE: Final = 'ROS_DOMAIN_ID'
#: Fast DDS's port numbers reach no further.
_HIGHEST: Final = 232


def domain_id(environ: Mapping[str, str]) -> int:
    """Return ROS_DOMAIN_ID of an environment as rcl reads it: 0 where it is absent or empty.

    (`ROS_DOMAIN_ID=${ROS_DOMAIN_ID}` in a compose file sets an empty one.)  Raises InvalidInput for anything but a
    whole number from 0 to 232.
    """
    text = environ.get(_VARIABLE, '')
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and int(text) <= _HIGHEST):
        raise InvalidInput(f'{_VARIABLE} is {text!r}, expected a whole number from 0 to {_HIGHEST}; set or unset it')
    return int(text)
