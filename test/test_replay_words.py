# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`replay` of bags that give fewer plans than pictures: counts, reasons and status, with real nodes over DDS."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fixtures.domains import next_domain

from vla_driver.bag import schema
from vla_driver.bag.read import BagReader
from vla_driver.bag.write import BagWriter
from vla_driver.cli import main
from vla_driver.geometry.rig import load_rig
from vla_driver.types import EgoState, InvalidInput

if TYPE_CHECKING:
    from vla_driver.ros.runs.processes import NodeProcess, NodeProcesses

RIG = load_rig('sim')
TICKS, DT_S, START_S = 24, 0.1, 100.0


@pytest.fixture(autouse=True)
def own_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip('rclpy')
    monkeypatch.setenv('ROS_DOMAIN_ID', str(next_domain()))


def write(path: Path, *, ego: Callable[[EgoState], None] = id, stop: int = TICKS, torn: bool = False) -> Path:
    """Write 2.4 s; ego: changes the odometry; stop: ticks until the back camera dies; torn: pictures are no JPEGs."""
    picture = np.full((192, 320, 3), 120, np.uint8)
    with BagWriter(path, RIG) as bag:
        bag.write_route(START_S, [[60.0, 0.0], [90.0, 0.0]])
        for tick in range(TICKS):
            state = EgoState(START_S + DT_S * tick, 5.0 * DT_S * tick, 0.0, 0.0, 5.0)
            ego(state)
            bag.write_odometry(state)
            for name in RIG.names:
                if name == 'back' and tick >= stop:
                    continue
                if torn:
                    header = bag._header(START_S + DT_S * tick, 'camera')
                    data = np.arange(200, dtype=np.uint8)
                    image = bag._new(schema.COMPRESSED_IMAGE, header=header, format='jpeg', data=data)
                    bag.write(schema.image_topic(name), image, START_S + DT_S * tick)
                else:
                    bag.write_camera(name, START_S + DT_S * tick, picture)
    return path


def replay(bag: Path, out: Path, *words: str) -> int:
    return main(['replay', str(bag), '--policy', 'constant-velocity', '--out', str(out), *words])


def test_pictures_that_nobody_can_read_end_with_1_and_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'out'
    # At half the pace: a busy machine must not make a newer set replace one of these.
    assert replay(write(tmp_path / 'bag', torn=True), out, '--rate', '0.5') == 1
    said = capsys.readouterr()
    assert f'{TICKS} sets of pictures: {TICKS} not ready' in said.out
    error = said.err.splitlines()[-1]
    assert error.startswith("error: no plan is the policy's own: cameras front_left, front, front_right, back_left, ")
    assert f'({TICKS} times)' in error
    assert {path.name for path in out.iterdir()} == {'report.html', 'plan.mcap', 'metrics.json'}
    metrics = json.loads((out / 'metrics.json').read_text())
    assert metrics['sources'].keys() == {'stop'}
    assert (metrics['sets']['sets'], metrics['sets']['not_ready'], metrics['sets']['policy']) == (TICKS, TICKS, 0)
    assert next(iter(metrics['not_planned'].values())) == TICKS
    assert set(metrics['inputs']['cameras']) == set(RIG.names)
    page = (out / 'report.html').read_text(encoding='utf-8')
    assert f'{TICKS} sets of pictures: {TICKS} not ready' in page
    assert 'front &lt;- /camera/front/image/compressed' in page
    # The same cause has the same words in open loop.
    assert main(['evaluate', 'open-loop', str(tmp_path / 'bag'), '--policy', 'constant-velocity']) == 2
    reason = capsys.readouterr().err.splitlines()[-1].partition('gives no observation: ')[2]
    assert reason.endswith(f'({TICKS} times)')
    assert reason in error


def test_a_camera_that_dies_costs_sets_that_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / 'out'
    assert replay(write(tmp_path / 'bag', stop=10), out) == 0
    text = capsys.readouterr().out
    assert '14 x camera back: no frame within 0.06 s of one of front' in text
    metrics = json.loads((out / 'metrics.json').read_text())
    assert (metrics['sets']['sets'], metrics['sets']['not_matched']) == (10, 14)
    assert 8 <= metrics['plans'] <= 10
    assert 'no frame within 0.06 s' in (out / 'report.html').read_text(encoding='utf-8')


def test_options_reach_the_planner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bag = write(tmp_path / 'bag')
    started: list[dict[str, Any]] = []

    def start(self: NodeProcesses, node: str, parameters: dict[str, Any], **others: Any) -> NodeProcess:
        started.append(parameters)
        raise InvalidInput('enough')

    from vla_driver.ros.runs import processes

    monkeypatch.setattr(processes.NodeProcesses, 'start', start)
    assert replay(bag, tmp_path / 'out', '--missing-cameras', 'back=skip', '--max-skew-s', '0.08') == 2
    assert replay(bag, tmp_path / 'out') == 2
    assert [entry['missing_cameras'] for entry in started] == [['back=skip'], ['require']]
    assert [entry['max_skew_s'] for entry in started] == [0.08, 0.06]


def test_without_any_plan_the_cause_is_that_of_the_time_while_it_played(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second after the end all inputs are silent, which is no cause."""

    def nowhere(state: EgoState) -> None:
        object.__setattr__(state, 'x_m', math.nan)

    out = tmp_path / 'out'
    assert replay(write(tmp_path / 'bag', ego=nowhere), out) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r'odometry: none that can be used.*x_m is nan.* \(\d+ times\)', error)
    assert error.count('x_m is nan') == 1
    assert 'last frame' not in error
    with BagReader(out / 'plan.mcap') as bag:
        assert list(bag.messages()) == []
    assert 'no plan was published' in (out / 'report.html').read_text(encoding='utf-8')
