# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Open-loop evaluation where odometry jumps or has gaps: such plans are counted by themselves, and why is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures.found import START_NS, Event, FoundBag, odometry, write_events

from vla_driver.cli import main

HALF_WIDTH = '95 % CI, half width'


def evaluate(bag: Path, *more: str) -> tuple[int, dict[str, Any]]:
    """Return the command's exit code and its JSON."""
    file = bag.parent / 'figures.json'
    words = ['evaluate', 'open-loop', str(bag), '--rig', 'nuscenes', '--policy', 'constant-velocity']
    code = main([*words, '--json', str(file), *more])
    return code, json.loads(file.read_text())


def jumping(at_ns: int, x: float, y: float, yaw: float) -> Any:
    """From 5 s on everything lies 107.7 m off, as after a relocalisation."""
    late = at_ns - START_NS > 5e9
    return odometry(at_ns, (x + 100.0 * late, y + 40.0 * late, yaw), (8.0, 0.0, 0.0))


def without_odometry(folder: Path, seconds: float, lost: Callable[[float], bool]) -> Path:
    """Write a drive whose odometry is lost at times (s after the begin)."""

    def kept(event: Event) -> bool:
        return event[1] != '/odom' or not lost((event[0] - START_NS) * 1e-9)

    return write_events(folder, [event for event in FoundBag(seconds=seconds).events() if kept(event)])


def test_a_jump_poisons_no_figure_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = FoundBag(seconds=12.0, moving=jumping).write(tmp_path / 'bag')
    code, figures = evaluate(bag, '--protocol', 'uniad')
    assert code == 0
    assert figures['UniAD']['l2_m']['3s'] == pytest.approx(0.0, abs=0.02)
    assert figures['published']['uniad']['l2_m']['3s'] == pytest.approx(0.0, abs=0.02)
    (told,) = figures['bags']
    assert (told['samples'], told['without_future'], told['across_jump'], told['across_gap']) == (60, 30, 30, 0)
    (jump,) = told['odometry_jumps']
    assert jump['stamp_s'] == pytest.approx(START_NS * 1e-9 + 5.02) and jump['moved_m'] == pytest.approx(107.9, abs=0.1)
    words = 'the odometry jumps by 107.9 m at 1700000005.02 s'
    assert [note for note in told['notes'] if words in note and '30 plans' in note]
    text = capsys.readouterr()
    assert f'  30 plans are not scored, whose 3 s of future go across a jump: {words}' in text.out
    assert f'WARNING: {words}' in text.err


def test_a_plan_from_odometry_that_came_before_a_jump_is_not_scored(tmp_path: Path) -> None:
    """The pictures after the jump overtake its odometry, so that the plan is made on the other side."""
    events = FoundBag(seconds=12.0, moving=jumping).events()
    late = [(at + (150_000_000 if topic == '/odom' else 0), topic, kind, it) for at, topic, kind, it in events]
    _, figures = evaluate(write_events(tmp_path / 'bag', sorted(late, key=lambda event: event[0])))
    assert figures['bags'][0]['across_jump'] == 31
    assert figures['UniAD']['l2_m']['3s'] == pytest.approx(0.0, abs=0.02)


def test_steps_of_a_few_metres_are_jumps(tmp_path: Path) -> None:
    def corrected(at_ns: int, x: float, y: float, yaw: float) -> Any:
        return odometry(at_ns, (x, y + 3.0 * ((at_ns - START_NS) // 4_000_000_000), yaw), (8.0, 0.0, 0.0))

    _, figures = evaluate(FoundBag(seconds=12.0, moving=corrected).write(tmp_path / 'bag'))
    assert figures['UniAD']['l2_m']['3s'] == pytest.approx(0.0, abs=0.02)
    assert [jump['moved_m'] for jump in figures['bags'][0]['odometry_jumps']] == pytest.approx([3.0] * 2, abs=0.05)


def test_a_gap_is_not_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = without_odometry(tmp_path / 'bag', 20.0, lambda at_s: 8.0 < at_s < 9.0)
    _, figures = evaluate(bag)
    (told,) = figures['bags']
    assert (told['without_future'], told['across_gap'], told['across_jump']) == (30, 32, 0)
    assert told['odometry_gaps'] == {'count': 1, 'longest_s': pytest.approx(1.02), 'allowed_s': 0.5}
    text = capsys.readouterr().out
    assert '30 at the ends have no 3 s of future' in text
    assert '32 plans are not scored, whose 3 s of future go across 1 gap of up to 1.02 s' in text
    assert 'where 0.5 s are allowed' in text


def test_sparse_odometry_is_said_not_taken_for_a_short_recording(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = without_odometry(tmp_path / 'bag', 10.0, lambda at_s: at_s % 1.0 > 0.01)
    assert evaluate(bag)[0] == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error:')]
    assert '9 gaps of up to 1.00 s in the odometry, where 0.5 s are allowed' in error
    assert 'no recording goes on' not in error


def test_one_segment_shows_no_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, figures = evaluate(FoundBag(seconds=5.0).write(tmp_path / 'bag'))
    assert figures['segments'] == 1 and figures['UniAD']['l2_m_ci']['3s'] is None
    rows = [line for line in capsys.readouterr().out.splitlines() if HALF_WIDTH in line]
    assert rows and all(row.endswith('too few segments for an interval') for row in rows)
