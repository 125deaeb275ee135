# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`replay`, `demo` and `drive --ros` end to end: real nodes in their own processes, DDS, and what comes out."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fixtures.domains import next_domain

from vla_driver.bag import schema
from vla_driver.bag.read import BagReader
from vla_driver.bag.write import BagWriter
from vla_driver.cli import main
from vla_driver.geometry.rig import load_rig
from vla_driver.types import CameraFrame, EgoState, Navigation, Observation, TurnCommand

RIG = load_rig('sim')
TICKS, DT_S, START_S = 40, 0.2, 100.0


def ego_at(tick: int) -> EgoState:
    """Drive straight on at 5 m/s."""
    return EgoState(START_S + DT_S * tick, 5.0 * DT_S * tick, 0.0, 0.0, 5.0)


@pytest.fixture(scope='module')
def short_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('bags') / 'short'
    rng = np.random.default_rng(0)
    picture = rng.integers(60, 180, (192, 320, 3), dtype=np.uint8)
    with BagWriter(path, RIG) as bag:
        bag.write_route(START_S, [[60.0, 0.0], [90.0, 0.0]])
        for tick in range(TICKS):
            ego = ego_at(tick)
            frames = {name: CameraFrame(name, ego.stamp_s, picture) for name in RIG.names}
            navigation = Navigation(TurnCommand.FOLLOW, 50.0, np.array([[30.0, 0.0], [60.0, 0.0]]))
            bag.write_observation(Observation(ego.stamp_s, frames, RIG, ego, navigation))
    return path


@pytest.fixture(autouse=True)
def own_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    # One for each test: what a failed test leaves running must not answer the next one.
    monkeypatch.setenv('ROS_DOMAIN_ID', str(next_domain()))


def test_the_demo_writes_everything(short_bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / 'out'
    before = dict(os.environ)
    assert main(['demo', '--bag', str(short_bag), '--policy', 'constant-velocity', '--out', str(out)]) == 0
    assert dict(os.environ) == before
    assert {path.name for path in out.iterdir()} == {'report.html', 'drive.webp', 'plan.mcap', 'metrics.json'}
    metrics = json.loads((out / 'metrics.json').read_text())
    # Every set of images was answered, by the policy; a loaded machine may skip a few.
    assert metrics['images'] == TICKS
    assert metrics['plans'] >= 0.8 * TICKS
    assert metrics['sources'].get('policy', 0) >= 0.8 * TICKS
    assert 0.0 < metrics['camera_to_path_ms']['p50'] < 1000.0
    # Straight on at constant speed is what was driven.
    assert metrics['open_loop']['UniAD']['l2_m']['3s'] < 0.05
    assert (out / 'report.html').stat().st_size < 15e6

    with BagReader(out / 'plan.mcap') as bag:
        assert bag.topics['/plan'] == 'vla_driver/msg/DrivingPlan'
        assert bag.topics['/path'] == 'nav_msgs/msg/Path'
        stamps = [m.header.stamp.sec + 1e-9 * m.header.stamp.nanosec for _, _, m in bag.messages(['/path'])]
    images = {round(ego_at(tick).stamp_s, 6) for tick in range(TICKS)}
    assert len(stamps) == metrics['plans']
    assert {round(stamp, 6) for stamp in stamps} <= images
    page = (out / 'report.html').read_text()
    assert len(re.findall(r'data:image/webp;base64', page)) == metrics['plans']
    assert 'plans at' in capsys.readouterr().out


def test_a_looped_replay_ends_with_ctrl_c_and_reports(short_bag: Path, tmp_path: Path) -> None:
    path = tmp_path / 'figures.json'
    words = ['replay', str(short_bag), '--policy', 'constant-velocity', '--loop', '--rate', '4', '--json', str(path)]
    code = 'import sys; from vla_driver.cli import main; sys.exit(main(sys.argv[1:]))'
    process = subprocess.Popen(
        [sys.executable, '-c', code, *words],
        stderr=subprocess.PIPE,
        text=True,
        # Tests that run in the background of a shell inherit an ignored SIGINT; a user's Ctrl-C is never ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    # The bar counts plans: more than one round has images, however slow the machine is.
    try:
        seen = ''
        while max(map(int, re.findall(r'(\d+) plans', seen)), default=0) <= TICKS:
            letter = process.stderr.read(1)
            assert letter, seen
            seen = (seen + letter)[-400:]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    figures = json.loads(path.read_text())
    # More plans than one round has images: time jumped back, and planning went on.
    assert figures['plans'] > TICKS


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--policy', 'constant-velocity', '--model', 'nano'], 'loads no checkpoint'),
        (['--model', 'no/such/checkpoint'], "checkpoint 'no/such/checkpoint' not found"),
        (['--policy', 'constant-velocity', '--topic', 'odom=/nowhere'], 'no topic /nowhere'),
    ],
)
def test_replay_names_what_is_wrong(
    short_bag: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['replay', str(short_bag), *words]) == 2
    assert message in capsys.readouterr().err


def test_a_bag_without_a_route_cannot_be_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / 'lost'
    with BagWriter(path, RIG) as bag:
        bag.write_odometry(ego_at(0))
        bag.write_camera('front', START_S, np.zeros((192, 320, 3), np.uint8))
    assert main(['replay', str(path), '--policy', 'constant-velocity']) == 2
    assert 'has no route (nav_msgs/Path)' in capsys.readouterr().err


@pytest.fixture
def earlier_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recording of an earlier run, its answers with it; the route came from a publisher that keeps nothing."""
    pytest.importorskip('rclpy')
    from rclpy.serialization import serialize_message

    from vla_driver.geometry import unicycle
    from vla_driver.ros.wire import conversions as convert
    from vla_driver.types import Plan

    store = schema.typestore()
    picture = np.full((192, 320, 3), 90, np.uint8)
    # The route's name is that of a planner's path, too, as in a bag of somebody else's.
    monkeypatch.setattr(schema, 'ROUTE_OUT', schema.Topic('/path', schema.PATH))
    with BagWriter(tmp_path / 'run', RIG) as bag:
        bag.write_route(START_S, [[60.0, 0.0], [90.0, 0.0]])
        for tick in range(TICKS // 2):
            ego = ego_at(tick)
            trajectory = unicycle.integrate(5.0, [0.0] * 20, [0.0] * 20)
            plan = convert.to_driving_plan(Plan(ego.stamp_s, trajectory, ego, 'recorded', ttl_s=1.0))
            kind = 'vla_driver/msg/DrivingPlan'
            bag.write(schema.Topic('/plan', kind), store.deserialize_cdr(serialize_message(plan), kind), ego.stamp_s)
            bag.write_odometry(ego)
            bag.write_turn_command(ego.stamp_s, TurnCommand.FOLLOW, 50.0)
            for name in RIG.names:
                bag.write_camera(name, ego.stamp_s, picture)
    return tmp_path / 'run'


def test_a_replay_of_an_earlier_run_counts_the_present_plans_alone(
    earlier_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'out'
    # At half the pace a busy machine, too, keeps up.
    words = ['replay', str(earlier_run), '--policy', 'constant-velocity', '--rate', '0.5', '--out', str(out)]
    assert main(words) == 2
    assert 'has no route (nav_msgs/Path)' in (said := capsys.readouterr().err)
    assert '--topic route=/path' in said
    assert main([*words, '--topic', 'route=/path']) == 0
    metrics = json.loads((out / 'metrics.json').read_text())
    assert 0.8 * (TICKS // 2) <= metrics['plans'] <= TICKS // 2  # the recorded ones would be as many again
    with BagReader(out / 'plan.mcap') as bag:
        assert all(message.policy != 'recorded' for _, _, message in bag.messages(['/plan']))
        # The planner's own paths, without the recorded route, which has no place under their name.
        paths = [message for _, _, message in bag.messages(['/path'])]
        assert {message.header.frame_id for message in paths} == {'base_link'}
        assert len(paths) == metrics['plans']


def test_the_nodes_drive_as_the_synchronous_core_does(tmp_path: Path) -> None:
    """The same six seconds, once in one process, once with simulator, planner and controller over DDS."""
    words = ['drive', '--policy', 'blind', '--engine', 'onnx', '--threads', '1', '--split', 'val', '--seconds', '6']
    results = []
    for extra in ([], ['--ros']):
        path = tmp_path / f'drive{len(extra)}.json'
        assert main([*words, *extra, '--json', str(path)]) == 0
        results.append(json.loads(path.read_text()))
    alone, nodes = results
    assert alone['duration_s'] == nodes['duration_s'] == 6.0
    assert alone['distance_m'] > 1.0
    # Messages carry 32-bit controls: equal to a millimetre or so.
    assert nodes['distance_m'] == pytest.approx(alone['distance_m'], abs=0.01)
    assert nodes['route_completion'] == pytest.approx(alone['route_completion'], abs=1e-4)
    assert sum(nodes['plans'].values()) == sum(alone['plans'].values()) == 30
    assert nodes['engine'] == alone['engine']  # the planner says it in its diagnostics
    assert (alone['engine']['engine'], alone['engine']['threads']) == ('onnx', 1)


@pytest.mark.parametrize('hz', [10, 20])
def test_the_nodes_drive_behind_carlas_bridge_as_well(hz: int, tmp_path: Path) -> None:
    """Pictures, odometry, route and control in the bridge's names, types and stamps; every tick is answered once."""
    pytest.importorskip('carla_msgs', reason='carla_msgs is not installed')
    words = ['drive', '--policy', 'blind', '--engine', 'onnx', '--threads', '1', '--split', 'val', '--seconds', '4']
    results = []
    for extra in ([], ['--ros', '--carla']):
        path = tmp_path / f'drive{len(extra)}.json'
        assert main([*words, '--plan-hz', f'{hz}', *extra, '--json', str(path)]) == 0
        results.append(json.loads(path.read_text()))
    alone, nodes = results
    assert nodes['duration_s'] == pytest.approx(4.0) == alone['duration_s']
    assert nodes['plans'] == {'policy': 4 * hz}
    assert nodes['distance_m'] == pytest.approx(alone['distance_m'], rel=0.25)  # another car, targets elsewhere
    assert nodes['off_road_events'] == 0


def test_what_carlas_bridge_needs_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['drive', '--carla']) == 2
    assert 'give --ros as well' in capsys.readouterr().err
    assert main(['drive', '--ros', '--carla', '--policy', 'constant-velocity']) == 2
    assert '--plan-hz 5, expected 10 or 20' in capsys.readouterr().err
    assert main(['evaluate', 'closed-loop', '--carla']) == 2
    assert 'give --ros as well' in capsys.readouterr().err


def test_drive_over_dds_names_what_it_cannot_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['drive', '--ros', '--policy', 'expert']) == 2
    assert 'lives inside the simulator' in capsys.readouterr().err
    assert main(['drive', '--ros', '--policy', 'egodriver', '--model', 'localhost:1']) == 2
    assert 'policy egodriver: it asks from inside the simulator' in capsys.readouterr().err
    assert main(['drive', '--ros', '--policy', 'constant-velocity', '--video', 'drive.mp4']) == 2
    assert 'leave out --ros' in capsys.readouterr().err
