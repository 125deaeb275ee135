# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Clocks that differ are named, with the offset that puts them right; and the offset does."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.messages import drain, flat, image, push, ticks

from vla_driver.geometry.rig import load_rig
from vla_driver.observation.assemble import NotReady, ObservationAssembler
from vla_driver.types import CAMERA_NAMES, Observation


def moved(ahead_s: float, late_s: float = 0.0, count: int = 30) -> list[tuple[float, str, Any]]:
    """Return (arrival, kind, message): pictures come `late_s` after they were taken, stamped `ahead_s` too late."""
    found = []
    for k, tick in enumerate(ticks(count, 20_000_000)):
        for kind, message in tick:
            if kind in CAMERA_NAMES:
                message = image(k * 100_000_000 + round(ahead_s * 1e9), 10 + k)
            stamp = message.header.stamp
            taken_s = stamp.sec + stamp.nanosec * 1e-9 - (ahead_s if kind in CAMERA_NAMES else 0.0)
            found.append((taken_s + (late_s if kind in CAMERA_NAMES else 0.0), kind, message))
    found.sort(key=lambda item: item[0])
    end_s = max(now_s for now_s, kind, _ in found if kind == 'odom')  # nothing is compared with odometry that has ended
    return [(0.0, *flat([])[0]), *(item for item in found if item[0] <= end_s)]


def play(assembler: ObservationAssembler, messages: list[tuple[float, str, Any]]) -> list[Observation | NotReady]:
    seen = []
    for now_s, kind, message in messages:
        push(assembler, kind, message, now_s)
        seen += drain(assembler, now_s)
    return seen


@pytest.mark.parametrize(('ahead_s', 'words'), [(0.3, '0.30 s ahead'), (7200.0, '7200.00 s ahead'), (-7200, 'behind')])
def test_an_offset_is_named_and_can_be_given(ahead_s: float, words: str):
    assembler = ObservationAssembler(load_rig('sim'))
    seen = play(assembler, moved(ahead_s))
    assert len(seen) >= 25
    for got in seen[1:]:
        assert isinstance(got, NotReady)
        (problem,) = got.problems
        assert words in problem
        assert f'camera_time_offset_s: {-ahead_s:.2f}' in problem
    assert any(words in problem for problem in assembler.problems())
    right = ObservationAssembler(load_rig('sim'), camera_time_offset_s=-ahead_s)
    seen = play(right, moved(ahead_s))
    assert len(seen) >= 29
    assert all(isinstance(got, Observation) for got in seen)
    assert [got.stamp_s for got in seen] == pytest.approx([seen[0].stamp_s + 0.1 * k for k in range(len(seen))])
    assert [got.ego.x_m for got in seen] == pytest.approx([1.0 * k for k in range(len(seen))], abs=1e-3)
    assert right.notes == ()


def test_a_stamp_moved_by_the_offset_is_exact_to_the_nanosecond():
    assembler = ObservationAssembler(load_rig('sim'), camera_time_offset_s=-0.3)
    for now_s, kind, message in moved(0.3, count=3):
        push(assembler, kind, message, now_s)
    ready = assembler.take()
    assert ready is not None
    stamp = ready.message('front').header.stamp
    assert ready.stamp_ns == stamp.sec * 1_000_000_000 + stamp.nanosec - 300_000_000
    assert ready.stamp_ns * 1e-9 == pytest.approx(ready.stamp_s, abs=1e-6)


def test_pictures_that_come_late_are_planned_from_and_said_to_be():
    """A camera pipeline of 0.1 s is usual; one of 0.8 s is worth a word; one of 3 s is no view of the road ahead."""
    usual = ObservationAssembler(load_rig('sim'))
    assert all(isinstance(got, Observation) for got in play(usual, moved(0.0, late_s=0.1)))
    assert usual.notes == ()
    late = ObservationAssembler(load_rig('sim'))
    assert all(isinstance(got, Observation) for got in play(late, moved(0.0, late_s=0.8)))
    (note,) = late.notes
    assert '0.78 s behind' in note  # odometry of 50 Hz that has come by then
    old = ObservationAssembler(load_rig('sim'))
    seen = play(old, moved(0.0, late_s=3.0, count=60))
    assert isinstance(seen[-1], NotReady)
    assert 'behind' in str(seen[-1])


def test_odometry_that_stops_is_no_clock():
    assembler = ObservationAssembler(load_rig('sim'))
    messages = [m for m in moved(0.0) if m[1] != 'odom' or m[0] < moved(0.0)[1][0] + 2.0]
    seen = play(assembler, messages)
    assert isinstance(seen[-1], NotReady)
    assert 'odometry' in str(seen[-1])


def test_a_frozen_camera_is_no_clock():
    """Its pictures fall behind an odometry that goes on: that is no offset that could be given."""
    assembler = ObservationAssembler(load_rig('sim'))
    messages = moved(0.0, count=60)
    frozen = image(1_000_000_000)
    for now_s, kind, message in messages:
        stamp = message.header.stamp
        late = kind == 'front' and (stamp.sec, stamp.nanosec) > (frozen.header.stamp.sec, frozen.header.stamp.nanosec)
        push(assembler, kind, frozen if late else message, now_s)
        drain(assembler, now_s)
    (problem,) = assembler.problems(messages[-1][0])
    assert problem.startswith('camera front: repeats its stamp, last new frame 4.')
    assert not any('clocks' in note for note in assembler.notes)
