# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Which pictures of a bag make a set: the planner's parameters for that, as a command or a report is given them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vla_driver.settings.inputs import InputParameters, missing_policies


@dataclass(frozen=True)
class Matching:
    """missing_cameras: entries as the parameter has them; without any, cameras without a topic are skipped."""

    missing_cameras: tuple[str, ...] = ()
    max_skew_s: float = InputParameters.max_skew_s
    camera_time_offset_s: float = InputParameters.camera_time_offset_s
    what: str = '--missing-cameras'  # how errors call the entries

    def policies(self, cameras: Sequence[str]) -> dict[str, str]:
        """Return camera -> what happens when it has no frame, as far as the entries say it."""
        return missing_policies(self.missing_cameras, cameras, self.what)

    def keywords(self, cameras: Sequence[str]) -> dict[str, Any]:
        """Return the arguments of `BagReader.ready_sets` and `BagReader.observations`; cameras: those of the rig."""
        return {
            'policies': self.policies(cameras),
            'max_skew_s': self.max_skew_s,
            'camera_time_offset_s': self.camera_time_offset_s,
        }
