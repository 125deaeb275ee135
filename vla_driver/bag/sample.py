# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The bag that comes with the package."""

from __future__ import annotations

from pathlib import Path

from vla_driver.resources import resource


def sample_bag_path() -> Path:
    """Return the sample bag: a short drive of the expert through a test town.  Raises InvalidInput if it is absent."""
    return resource('data', 'sample_bag')
