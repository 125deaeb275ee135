# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Front pictures that became no set are counted by the cameras that had no frame for them."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from vla_driver.observation.sync import CameraSync

CAMERAS = ('front', 'left', 'back')


def push(sync: CameraSync, frames: Iterable[tuple[str, float]], arriving: bool = False) -> int:
    """Push (camera, stamp) in the order of the stamps; return how many sets left."""
    ordered = sorted(frames, key=lambda frame: (frame[1], frame[0] == 'front'))
    return sum(sync.push(name, at, None, at if arriving else None) is not None for name, at in ordered)


def at_10_hz(name: str, seconds: float, phase_s: float = 0.0, hz: float = 10.0) -> list[tuple[str, float]]:
    return [(name, 100.0 + phase_s + k / hz) for k in range(round(seconds * hz))]


@pytest.mark.parametrize('left_hz', [10.0, 30.0])
def test_a_camera_that_dies_is_the_reason_alone(left_hz: float) -> None:
    """The others' short buffers lose their frames for the sets that wait; that makes them no reason."""
    sync = CameraSync(CAMERAS)
    frames = at_10_hz('front', 4.0) + at_10_hz('left', 4.0, hz=left_hz) + at_10_hz('back', 1.6)
    sets = push(sync, frames)
    assert sets + sum(sync.status().dropped_for.values()) == 40
    assert dict(sync.status().dropped_for) == {('back',): 24}
    assert sync.lost() == {'camera back: no frame within 0.06 s of one of front': 24}


def test_another_phase_is_told_with_its_size() -> None:
    sync = CameraSync(CAMERAS)
    frames = at_10_hz('front', 4.0, hz=5) + at_10_hz('left', 4.0, 0.07, 5) + at_10_hz('back', 4.0, 0.07, 5)
    assert push(sync, frames) == 0
    ((reason, count),) = sync.lost().items()
    assert count == 20
    assert reason.startswith('cameras left, back: no frame within 0.06 s of one of front (the nearest was 0.070 s away')


def test_pictures_that_are_only_late_are_not_lost() -> None:
    sync = CameraSync(CAMERAS)
    for name in ('front', 'left'):
        sync.push(name, 100.0, None, 50.0)
    assert sync.lost(50.1) == {}
    assert list(sync.lost(51.0).values()) == [1]
    assert sync.push('back', 100.0, None, 51.1) is not None
    assert sync.lost(60.0) == {}


def test_cameras_that_may_be_missing_lose_nothing_and_a_jump_forgets_what_waits() -> None:
    sync = CameraSync(CAMERAS, policies={'back': 'skip'})
    push(sync, at_10_hz('front', 2.0) + at_10_hz('left', 2.0))
    assert sync.lost() == {}
    sync = CameraSync(CAMERAS)
    push(sync, at_10_hz('front', 0.5) + at_10_hz('left', 0.5))
    assert sum(sync.lost().values()) == 5
    sync.reset()
    assert sync.lost() == {}
