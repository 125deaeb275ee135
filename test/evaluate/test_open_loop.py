# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Open-loop evaluation of a real bag, written here: every figure has an expectation."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_driver.bag.matching import Matching
from vla_driver.bag.read import BagReader
from vla_driver.bag.write import BagWriter
from vla_driver.cli import main
from vla_driver.commands.evaluate.open_loop import PROTOCOL_NAMES
from vla_driver.evaluate import open_loop as evaluation
from vla_driver.evaluate.displacement import summarise
from vla_driver.evaluate.open_loop import AgentTrack, RecordedExpert, evaluate_bag, nearest
from vla_driver.evaluate.published import PROTOCOLS
from vla_driver.evaluate.published import summarise as published_summary
from vla_driver.geometry import unicycle
from vla_driver.geometry.rig import load_rig
from vla_driver.model.qwen.answer import AnswerFault
from vla_driver.policies.constant_velocity import ConstantVelocityPolicy
from vla_driver.sim.world.scene import Actor, SemanticClass
from vla_driver.types import (
    CameraFrame,
    CameraRig,
    EgoState,
    InputNeeds,
    Intent,
    InvalidInput,
    MalformedAnswer,
    Navigation,
    Observation,
    Plan,
    TurnCommand,
)

RIG = load_rig('sim')
#: The car brakes evenly from 8 m/s at 1 m/s2 for 6 s.
START_S, SPEED, BRAKING = 100.0, 8.0, 1.0


def ego_at(seconds: float) -> EgoState:
    x = SPEED * seconds - 0.5 * BRAKING * seconds**2
    return EgoState(START_S + seconds, x, 0.0, 0.0, SPEED - BRAKING * seconds)


@pytest.fixture(scope='module')
def braking_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('bags') / 'braking'
    picture = np.full((192, 320, 3), 120, np.uint8)
    # It begins at 23.35 m; after 3 s the front of the braking car is at 23.2 m, of one that kept 8 m/s at 27.7 m.
    parked = Actor(7, SemanticClass.CAR, 25.6, 0.0, 0.0, 4.5, 1.8, 1.5)
    with BagWriter(path, RIG) as bag:
        bag.write_route(START_S, [[60.0, 0.0], [90.0, 0.0]])
        for tick in range(61):
            ego = ego_at(0.1 * tick)
            bag.write_odometry(ego)
            bag.write_agents(ego.stamp_s, [parked] if tick <= 30 else [])
            braking = unicycle.integrate(ego.speed_mps, np.full(20, -BRAKING), np.zeros(20))
            bag.write_expert(ego.stamp_s, braking)
            if tick % 5 == 0:
                frames = {name: CameraFrame(name, ego.stamp_s, picture) for name in RIG.names}
                navigation = Navigation(TurnCommand.FOLLOW, 50.0, np.array([[30.0, 0.0], [60.0, 0.0]]))
                bag.write_observation(Observation(ego.stamp_s, frames, RIG, ego, navigation))
    return path


def test_constant_velocity_errs_by_what_the_car_braked(braking_bag: Path) -> None:
    result = evaluate_bag(braking_bag, lambda bag: ConstantVelocityPolicy())
    # 13 sets of images every 0.5 s; the last ones have no 3 s of future.
    assert len(result.samples) == 7
    assert result.without_future == 6
    for sample in result.samples:
        expected = 0.5 * BRAKING * np.arange(0.5, 3.1, 0.5) ** 2
        np.testing.assert_allclose(sample.error_m, expected, atol=0.02)


def test_collisions_are_counted_where_agents_were_recorded(braking_bag: Path) -> None:
    first, *others = evaluate_bag(braking_bag, lambda bag: ConstantVelocityPolicy()).samples
    assert first.collides is not None
    # At 2.0 s the front is at 19.7 m, at 2.5 s at 23.7 m.
    np.testing.assert_array_equal(first.collides, [False, False, False, False, True, True])
    assert first.truth_collides is not None
    assert not first.truth_collides.any()
    assert others[0].collides is not None


def test_published_evaluations_count_beside_them(braking_bag: Path) -> None:
    """13 plans every 0.5 s, of which 7 have 3 s of future; the first one meets the parked car at 2.5 s.

    With cells of 0.5 m it does so half a second later: it lacks 0.18 m of overlap in `uniad`, whose boxes begin at the
    next cell, and in `st-p3` the ego is a metre farther back than the others' boxes are.
    """
    result = evaluate_bag(braking_bag, lambda bag: ConstantVelocityPolicy(), protocols=list(PROTOCOLS.values()))
    assert list(result.counted) == ['st-p3', 'uniad', 'bev-planner']
    samples = {name: published_summary(PROTOCOLS[name], plans)['samples'] for name, plans in result.counted.items()}
    assert samples == {'st-p3': 7, 'uniad': 13, 'bev-planner': 7}
    for name, plans in result.counted.items():
        first, last = plans[0], plans[-1]
        np.testing.assert_allclose(first.error_m, 0.5 * BRAKING * np.arange(0.5, 3.1, 0.5) ** 2, atol=0.02)
        assert first.collides is not None
        np.testing.assert_array_equal(first.collides, [False, False, False, False, name == 'bev-planner', True])
        assert first.off_road is None  # the bag does not say where the road ends
        assert not last.recorded.any()


def test_the_command_counts_as_it_is_told(braking_bag: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / 'open.json'
    words = ['evaluate', 'open-loop', str(braking_bag), '--policy', 'constant-velocity', '--json', str(path)]
    assert main([*words, '--protocol', 'uniad', '--protocol', 'bev-planner', '--protocol', 'uniad']) == 0
    published = json.loads(path.read_text())['published']
    assert list(published) == ['uniad', 'bev-planner']
    # Of 13 plans the last six lack 1 to 6 steps of future, which count as no error: at 3 s they all do.
    assert published['uniad']['l2_m']['3s'] == pytest.approx(4.5 * 7 / 13, abs=0.02)
    assert published['bev-planner']['l2_m']['3s'] == pytest.approx(0.5 * 91 / 24, abs=0.02)
    text = capsys.readouterr().out
    assert 'as uniad counts: N valid = 13 of 13 plans, cells of 0.5 m' in text
    assert 'as bev-planner counts: N valid = 7 of 13 plans, cells of 0.1 m' in text
    assert 'no off-road rate: no bag has /ground_truth/road_boundary' in text
    with pytest.raises(SystemExit):
        main([*words, '--protocol', 'vad'])
    assert "invalid choice: 'vad'" in capsys.readouterr().err


def test_the_commands_protocols_are_those_that_there_are() -> None:
    assert tuple(PROTOCOLS) == PROTOCOL_NAMES


def test_a_long_bag_is_scored_while_it_is_read_and_held_for_seconds_only(
    braking_bag: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of a moment give the figures of one that holds the whole drive."""
    whole = evaluate_bag(braking_bag, lambda bag: ConstantVelocityPolicy())
    monkeypatch.setattr(evaluation, '_BATCH_S', 0.0)
    monkeypatch.setattr(evaluation, '_LATE_S', 0.3)
    held: list[tuple[int, int]] = []
    add = evaluation._Scoring.add_odometry

    def watched(scoring: evaluation._Scoring, state: EgoState) -> None:
        add(scoring, state)
        held.append((len(scoring._states), len(scoring._result.samples)))

    monkeypatch.setattr(evaluation._Scoring, 'add_odometry', watched)
    batched = evaluate_bag(braking_bag, lambda bag: ConstantVelocityPolicy())
    # 3.3 s of odometry at 12 Hz, and half a second to the next plan; the last plans are scored at the end.
    assert max(states for states, _ in held) < 50 < len(held)
    assert held[-1][1] >= 5
    assert batched.without_future == whole.without_future
    assert [sample.stamp_s for sample in batched.samples] == [sample.stamp_s for sample in whole.samples]
    for one, other in zip(batched.samples, whole.samples, strict=True):
        np.testing.assert_allclose(one.error_m, other.error_m, atol=1e-9)
        np.testing.assert_array_equal(one.collides, other.collides)


def test_the_recorded_expert_is_almost_exact(braking_bag: Path) -> None:
    result = evaluate_bag(braking_bag, lambda bag: RecordedExpert(list(bag.expert_trajectories())))
    assert summarise(result.samples)['UniAD']['l2_m']['3s'] < 0.05


def test_the_command_writes_both_protocols(braking_bag: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / 'open.json'
    words = ['evaluate', 'open-loop', str(braking_bag), str(braking_bag), '--policy', 'constant-velocity']
    assert main([*words, '--json', str(path)]) == 0
    figures = json.loads(path.read_text())
    assert figures['samples'] == 14
    assert figures['UniAD']['l2_m']['3s'] == pytest.approx(4.5, abs=0.02)
    assert figures['ST-P3/VAD']['l2_m']['3s'] == pytest.approx(0.5 * 91 / 24, abs=0.02)
    assert set(figures['bags'][0]) == {
        'bag', 'samples', 'without_future', 'skipped', 'rejected', 'inputs', 'calibration', 'notes', 'unread',
        'without_camera', 'across_gap', 'across_jump', 'odometry_gaps', 'odometry_jumps',
    }  # fmt: skip
    assert figures['bags'][0]['calibration']['front']['source'] == 'camera_info K'
    text = capsys.readouterr().out
    assert 'L2 (m), UniAD' in text
    assert 'N = 14' in text


def test_a_bag_without_expert_has_no_expert(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match='no /ground_truth/expert_trajectory'):
        RecordedExpert([])


def test_a_bag_without_cameras_names_its_topics(tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / 'blind'
    with BagWriter(path, RIG) as bag:
        for tick in range(20):
            bag.write_odometry(ego_at(0.1 * tick))
    assert main(['evaluate', 'open-loop', str(path), '--policy', 'constant-velocity']) == 2
    errors = capsys.readouterr().err
    assert 'error: ' in errors
    assert '/odom (nav_msgs/msg/Odometry)' in errors


def test_what_is_no_bag_is_named(tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    assert main(['evaluate', 'open-loop', str(tmp_path / 'nothing'), '--policy', 'constant-velocity']) == 2
    assert 'is not a readable bag' in capsys.readouterr().err


@pytest.mark.parametrize('text', ['front', 'front=', '=/topic', 'front=topic'])
def test_a_topic_option_must_be_name_and_topic(braking_bag: Path, text: str, capsys) -> None:  # type: ignore[no-untyped-def]
    words = ['evaluate', 'open-loop', str(braking_bag), '--policy', 'constant-velocity', '--camera-topic', text]
    assert main(words) == 2
    assert 'expected NAME=/TOPIC' in capsys.readouterr().err


def test_nearest_is_the_nearest_within_reach() -> None:
    stamps = [1.0, 1.1, 1.2]
    assert nearest(stamps, 1.12) == 1
    assert nearest(stamps, 0.95) == 0
    assert nearest(stamps, 1.3) is None
    assert nearest([], 1.0) is None


def test_agents_are_known_only_where_they_were_recorded(braking_bag: Path) -> None:
    with BagReader(braking_bag) as bag:
        track = AgentTrack(list(bag.agents()))
    at_first = track.at(START_S)
    assert at_first is not None
    np.testing.assert_allclose(at_first, [[25.6, 0.0, 0.0, 4.5, 1.8]], atol=1e-6)
    assert track.at(START_S + 4.0) is not None
    assert len(track.at(START_S + 4.0)) == 0  # type: ignore[arg-type]
    assert track.at(START_S + 60.0) is None


class Mumbling(ConstantVelocityPolicy):
    """Every second answer is none; pictures smaller than they were sent suffice for it."""

    needs = InputNeeds(image_sizes=dict.fromkeys(RIG.names, (80, 48)))

    def __init__(self) -> None:
        self.shapes: set[tuple[int, ...]] = set()

    def plan(self, observation: Observation, intent: Intent | None = None) -> Plan:
        self.shapes |= {frame.image.shape for frame in observation.frames.values()}
        if round(observation.stamp_s) % 2:
            raise MalformedAnswer(AnswerFault.EMPTY, 'nothing was said')
        return super().plan(observation, intent)


def test_malformed_answers_are_counted_and_pictures_are_decoded_as_in_the_node(braking_bag: Path) -> None:
    policy = Mumbling()
    result = evaluate_bag(braking_bag, lambda bag: policy)
    assert 0 < len(result.samples) < 7
    assert result.skipped[f'no plan: {AnswerFault.EMPTY.value}'] > 0
    assert len(result.samples) + result.without_future + sum(result.skipped.values()) == 13
    assert policy.shapes == {(48, 80, 3)}


def test_open_loop_with_a_pruner(small_checkpoint: Path, braking_bag: Path, tmp_path: Path) -> None:
    words = [
        'evaluate',
        'open-loop',
        str(braking_bag),
        '--model',
        str(small_checkpoint),
        '--json',
        str(tmp_path / 'a'),
    ]
    assert main([*words, '--pruner', 'uniform', '--prune-ratio', '0.6']) == 0
    found = json.loads((tmp_path / 'a').read_text())
    assert (found['pruning']['pruner'], found['pruning']['ratio'], found['samples']) == ('uniform', 0.6, 7)
    assert main([*words, '--policy', 'blind', '--pruner', 'uniform']) == 2


def test_answers_that_are_all_malformed_are_told_and_written(
    braking_bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Silent(ConstantVelocityPolicy):
        def plan(self, observation: Observation, intent: Intent | None = None) -> Plan:
            raise MalformedAnswer(AnswerFault.EMPTY, 'nothing was said')

    from vla_driver.commands.evaluate import open_loop

    monkeypatch.setattr(open_loop, 'make_policy', lambda *args, **settings: Silent())
    words = ['evaluate', 'open-loop', str(braking_bag), '--policy', 'constant-velocity', '--json', str(tmp_path / 'a')]
    assert main(words) == 2
    assert f'no plan: {AnswerFault.EMPTY.value} (13 times)' in capsys.readouterr().err
    found = json.loads((tmp_path / 'a').read_text())
    assert found['samples'] == 0
    assert found['bags'][0]['skipped'] == {f'no plan: {AnswerFault.EMPTY.value}': 13}


def drive(path: Path, sends: Mapping[str, Callable[[int], bool]], x_m: float = 0.0, shift_s: float = 0.0) -> Path:
    """Write 4 s of a drive with pictures at 5 Hz.

    sends: camera -> at which ticks it has a picture; x_m: added to the odometry's place; shift_s: to its stamps.
    """
    picture = np.full((192, 320, 3), 120, np.uint8)
    mounted = CameraRig('drive', tuple(replace(RIG['front'], name=name) for name in sends))
    with BagWriter(path, mounted) as bag:
        bag.write_route(START_S, [[60.0, 0.0], [90.0, 0.0]])
        for tick in range(41):
            ego = ego_at(0.1 * tick)
            object.__setattr__(ego, 'x_m', ego.x_m + x_m)
            object.__setattr__(ego, 'stamp_s', ego.stamp_s + shift_s)
            bag.write_odometry(ego)
            for name, at in sends.items():
                if tick % 2 == 0 and at(tick):
                    bag.write_camera(name, START_S + 0.1 * tick, picture)
    return path


def always(tick: int) -> bool:
    return tick >= 0


ALL_CAMERAS = dict.fromkeys(RIG.names, always)


def open_loop(bag: Path, *words: str) -> int:
    return main(['evaluate', 'open-loop', str(bag), '--policy', 'constant-velocity', '--rig', 'sim', *words])


def test_which_topics_are_used_missing_and_unused_is_told_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = drive(tmp_path / 'bag', {'front': always, 'rear_left': always, 'side': always})
    assert open_loop(bag, '--json', str(tmp_path / 'a.json')) == 0
    text = capsys.readouterr().out
    assert 'front <- /camera/front/image/compressed, back_left <- /camera/rear_left/image/compressed' in text
    assert 'missing: front_left, front_right, back, back_right (no topic found: sets go on without it)' in text
    assert 'pictures that nobody uses: /camera/side/image/compressed' in text
    inputs = json.loads((tmp_path / 'a.json').read_text())['bags'][0]['inputs']
    assert inputs['missing_cameras'] == dict.fromkeys(('front_left', 'front_right', 'back', 'back_right'), 'skip')
    assert inputs['unused_pictures'] == ['/camera/side/image/compressed']


def test_a_topics_file_maps_and_options_go_before_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = drive(tmp_path / 'bag', {'camera0': always, 'camera1': always})
    assert open_loop(bag) == 2
    assert 'no camera topics for' in capsys.readouterr().err
    file = tmp_path / 'topics.yaml'
    file.write_text('cameras: {front: /camera/camera0/image/compressed}\nodom: /odom\n', encoding='utf-8')
    assert open_loop(bag, '--topics', str(file), '--json', str(tmp_path / 'a.json')) == 0
    inputs = json.loads((tmp_path / 'a.json').read_text())['bags'][0]['inputs']
    assert inputs['cameras'] == {'front': '/camera/camera0/image/compressed'}
    assert inputs['unused_pictures'] == ['/camera/camera1/image/compressed']
    option = ['--camera-topic', 'front=/camera/camera1/image/compressed']
    assert open_loop(bag, '--topics', str(file), *option, '--json', str(tmp_path / 'a.json')) == 0
    inputs = json.loads((tmp_path / 'a.json').read_text())['bags'][0]['inputs']
    assert inputs['cameras'] == {'front': '/camera/camera1/image/compressed'}


def test_sets_that_a_dead_camera_cost_are_counted_and_the_options_change_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = drive(tmp_path / 'bag', {**ALL_CAMERAS, 'back': lambda tick: tick < 10})
    assert open_loop(bag, '--json', str(tmp_path / 'a.json')) == 0
    assert '16 sets of images left out: camera back: no frame within 0.06 s of one of front' in capsys.readouterr().out
    (skipped,) = json.loads((tmp_path / 'a.json').read_text())['bags'][0]['skipped'].values()
    assert skipped == 16
    assert open_loop(bag, '--missing-cameras', 'back=skip') == 0
    assert 'left out' not in capsys.readouterr().out
    late = drive(tmp_path / 'late', {'front': always, 'back': lambda tick: tick == 0})
    assert open_loop(late, '--missing-cameras', 'require') == 2
    assert 'camera front_left is required (--missing-cameras), but no topic was found' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['front=skip'], "'front=skip': camera front sets the tick"),
        (['bak=skip'], "'bak=skip', the cameras are: .*did you mean 'back'"),
        (['back=skp'], "'back=skp', allowed: require, skip, black .did you mean 'skip'"),
    ],
)
def test_missing_cameras_is_checked(braking_bag: Path, words: list[str], message: str) -> None:
    with pytest.raises(InvalidInput, match=f'--missing-cameras: {message}'):
        evaluate_bag(braking_bag, lambda bag: ConstantVelocityPolicy(), matching=Matching(tuple(words)))


@pytest.mark.parametrize(
    ('changes', 'words', 'never'),
    [
        (
            {'sends': dict.fromkeys(RIG.names[1:], always) | {'front': lambda tick: False}},
            'there is no front camera',
            '',
        ),
        ({'sends': ALL_CAMERAS, 'x_m': np.nan}, '/odom has 41 messages, all of them refused: odometry: x_m is nan', ''),
        (
            {'sends': ALL_CAMERAS, 'shift_s': -50.0},
            r'odometry: none within .* \(21 times\)',
            'none within.*none within|clocks agree',
        ),
        (
            {
                'sends': ALL_CAMERAS | {'back': lambda tick: tick == 0, 'back_left': lambda tick: tick == 0},
                'shift_s': 9.0,
            },
            'cameras back_left, back: no frame within 0.06 s of one of front .20 times',
            'no pictures',
        ),
    ],
)
def test_a_bag_that_gives_nothing_says_why_once(
    tmp_path: Path, changes: dict[str, Any], words: str, never: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert open_loop(drive(tmp_path / 'bag', **changes)) == 2
    error = capsys.readouterr().err
    assert re.search(words, error), error
    assert not never or not re.search(never, error), error
