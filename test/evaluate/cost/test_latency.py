# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The latency bench's pictures cost what real ones cost, and its arithmetic counts what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vla_driver.bag.recording import ReceivedPlan, Recording, spread
from vla_driver.evaluate.cost.latency import (
    SIZE,
    Condition,
    bench_rig,
    conditions_of,
    engine_of,
    figures,
    limit_of,
    procedural_bases,
    road_like_jpeg,
    texture_strength,
    write_frames,
)
from vla_driver.geometry import unicycle
from vla_driver.geometry.rig import load_rig, rig_from_yaml, rig_to_yaml
from vla_driver.observation.decode import decode_compressed
from vla_driver.types import CAMERA_NAMES, EgoState, InvalidInput, Plan


def received(tick: int, latency_ms: float) -> ReceivedPlan:
    stamp = 1000.0 + 0.1 * tick
    trajectory = unicycle.integrate(5.0, np.zeros(20), np.zeros(20))
    timing = {'decode': 10.0, 'total': latency_ms - 2.0}
    plan = Plan(stamp, trajectory, EgoState(stamp, 0.0, 0.0, 0.0, 5.0), 'model', timing_ms=timing)
    return ReceivedPlan(plan, (), stamp + 1e-3 * latency_ms, latency_ms)


def test_a_bench_picture_is_as_large_as_a_real_one() -> None:
    base = procedural_bases()['front'][0]
    strength = texture_strength(base, seed=1)
    data = road_like_jpeg(base, 1, strength)
    assert len(data) / 1000 == pytest.approx(330, rel=0.1)
    assert decode_compressed(data, 'jpeg').shape == (SIZE[1], SIZE[0], 3)
    assert data == road_like_jpeg(base, 1, strength)


def test_every_camera_gets_its_pictures(tmp_path: Path) -> None:
    bases = procedural_bases()
    mean_kb = write_frames(tmp_path, bases, frames=1)
    assert {path.name for path in tmp_path.iterdir()} == {f'{camera}_0.jpg' for camera in CAMERA_NAMES}
    assert 250 < mean_kb < 420
    del bases['back']
    with pytest.raises(InvalidInput, match='no picture of camera back'):
        write_frames(tmp_path, bases, frames=1)


def test_the_bench_rig_can_be_read_back() -> None:
    rig = rig_from_yaml(rig_to_yaml(bench_rig(load_rig('sim'))), 'bench')
    front = rig['front']
    assert (front.width, front.height) == SIZE
    # The same lens: the horizontal angle of view is kept.
    own = load_rig('sim')['front']
    assert front.width / front.intrinsics[0, 0] == pytest.approx(own.width / own.intrinsics[0, 0])


def test_figures_leave_the_warm_up_out_and_count_losses() -> None:
    plans = [received(tick, 500.0 if tick < 30 else 40.0) for tick in range(100)]
    arrived = dict.fromkeys(CAMERA_NAMES, 100) | {'back': 97}
    answer = figures(Recording(plans), ticks=100, frames_received=arrived)
    assert answer['camera_to_path_ms']['max'] == 40.0
    assert answer['plans'] == 100
    assert answer['plans_counted'] == 70
    assert answer['rate_hz'] == pytest.approx(10.0)
    assert answer['images_sent'] == 600
    assert answer['images_lost'] == 3
    assert answer['images_lost_by_camera']['back'] == 3
    assert answer['stages_ms']['publish and receive']['p50'] == pytest.approx(2.0)


def test_a_run_too_short_to_count_is_an_error() -> None:
    with pytest.raises(InvalidInput, match='run it longer'):
        figures(Recording([received(tick, 40.0) for tick in range(20)]), 20, {})
    with pytest.raises(InvalidInput, match='published nothing'):
        figures(Recording([]), 20, {})


def test_spread_is_in_the_values_own_unit() -> None:
    assert spread([]) == {}
    assert spread(list(range(101))) == {'p50': 50.0, 'p90': 90.0, 'p99': 99.0, 'max': 100.0}


def test_a_silent_transport_is_a_finding_where_it_is_compared() -> None:
    answer = figures(Recording([]), 20, dict.fromkeys(CAMERA_NAMES, 3), silence_allowed=True)
    assert answer['rate_hz'] == 0.0 and answer['camera_to_path_ms'] is None
    assert answer['images_lost'] == 6 * 17 and answer['images_sent'] == 120


def test_conditions_are_every_combination() -> None:
    found = conditions_of(['jpeg', 'raw'], [10.0, 20.0], [0, 2], [''], ['auto'])
    assert len(found) == 8 and found[0] == Condition('jpeg', 10.0, 0, '', 'auto')
    assert [one.load for one in found[:2]] == [0, 2]
    assert found[-1].describe() == 'raw at 20 Hz, beside 2 busy processes'
    assert (found[0].transport, found[-1].transport, found[0].shared_memory) == ('compressed', 'raw', True)
    default = Condition('raw-default', 10.0, 1, 'torch', 'float32')
    assert (default.transport, default.shared_memory) == ('raw', False)
    assert default.describe() == 'raw, default transports at 10 Hz, beside 1 busy process, torch, float32'


def test_a_rate_that_is_not_held_has_a_cause() -> None:
    stages = {'wait': {'p50': 70.0}, 'decode': {'p50': 30.0}, 'vision': {'p50': 25.0}, 'total': {'p50': 125.0}}
    row = {'rate_hz': 15.0, 'camera_rate_hz': 20.0, 'stages_ms': stages}
    assert limit_of(row) == 'a set takes the planner 55 ms, most of it decode (30 ms), and comes every 50 ms'
    assert limit_of({**row, 'rate_hz': 19.9}) == ''
    quick = {**stages, 'decode': {'p50': 3.0}}
    assert limit_of({**row, 'stages_ms': quick}).endswith('so the cores were busy with other things')
    assert limit_of({**row, 'stages_ms': {}}) == 'no plan says what its time went into'


def test_which_engine_ran_is_in_the_diagnostics() -> None:
    told = {'planner: plan': {'engine': 'onnx', 'provider': 'CPUExecutionProvider', 'threads': '2'}, 'other': {}}
    found = engine_of(told)
    assert found == {'engine': 'onnx', 'provider': 'CPUExecutionProvider', 'threads': '2', 'precision': None}
    assert set(engine_of({'planner: plan': {}}).values()) == {None}
