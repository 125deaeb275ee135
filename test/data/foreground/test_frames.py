# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Frames of several drives, split by drive."""

from __future__ import annotations

from pathlib import Path

from vla_driver.data.foreground.frames import open_frames


def test_scenes_are_held_out_whole(episodes: Path) -> None:
    training, validation = open_frames([episodes]).split()
    assert len(training) + len(validation) == 40
    assert not set(training.scenes) & set(validation.scenes)
    assert len(set(validation.scenes)) >= 1 and len(validation) % 10 == 0
    assert validation.frame(0).scene in validation.scenes
