# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Advice in the words of the command line: parameters of a node are options here."""

from __future__ import annotations

import re
from typing import Final

#: Parameters of the planner that commands have as options of the same name.
_PARAMETER: Final = re.compile(r'(?<![\w-])(camera_time_offset_s|max_skew_s|missing_cameras)\b(: (?=[-\d]))?')


def in_flags(text: str) -> str:
    """Return a message with parameters as options: `camera_time_offset_s: -0.3` -> `--camera-time-offset-s -0.3`."""
    return _PARAMETER.sub(lambda found: '--' + found[1].replace('_', '-') + (' ' if found[2] else ''), text)
