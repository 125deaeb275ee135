# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Collecting: a real drive becomes an episode with the expert's answers and dense labels."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vla_driver.data.collection import CollectionRun, Disturbance, Recipe, collect, collect_episode
from vla_driver.data.episode import decode_picture, open_episode
from vla_driver.planning.control import ControlCommand
from vla_driver.sim.simulation import Simulation
from vla_driver.sim.world.scenario import Scenario
from vla_driver.types import InvalidInput


@pytest.mark.gl
def test_an_episode_holds_pictures_labels_and_answers(tmp_path):
    summary = collect_episode(Recipe(Scenario('train_grid', 8), tmp_path / 'episode.npz', seconds=6.0))
    episode = open_episode(tmp_path / 'episode.npz')
    assert summary['ticks'] == len(episode['stamp']) >= 8
    np.testing.assert_allclose(np.diff(episode['stamp']), 0.5, atol=1e-6)
    picture = decode_picture(episode, 0, 1)
    assert picture is not None and picture.shape == (192, 320, 3) and picture.std() > 10.0
    # Road below, sky above; the expert's plan goes on along the road.
    assert (episode['label_front'][0, -8:] == 1).mean() > 0.3
    assert (episode['label_front'][0, :8] == 8).mean() > 0.05
    assert np.isfinite(episode['expert_positions']).all()
    assert np.abs(episode['expert_curvature']).max() <= 0.25


@pytest.mark.gl
def test_a_learner_drives_with_its_graphs_and_the_summary_names_them(tmp_path):
    run = CollectionRun(tmp_path, episodes=1, seconds=3.0, jobs=1, model='nano', learner=1.0, engine='onnx')
    assert collect(run) >= 4
    (line,) = (tmp_path / 'collected.jsonl').read_text().splitlines()
    engine = json.loads(line)['engine']
    assert (engine['engine'], engine['threads']) == ('onnx', 1)


def _wait_for(condition, seconds=60.0):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.1)
    assert condition()


@pytest.mark.gl
def test_workers_do_not_outlive_a_killed_collection(tmp_path):
    program = (
        'from pathlib import Path; from vla_driver.data.collection import CollectionRun, collect\n'
        f'run = CollectionRun(Path({str(tmp_path)!r}), episodes=500, seconds=1.0, jobs=1)\n'
        "if __name__ == '__main__': collect(run)\n"
    )
    with subprocess.Popen([sys.executable, '-c', program], stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(lambda: any(tmp_path.glob('*.npz')) or process.poll() is not None)
            children = Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()
        finally:
            process.kill()
    assert children
    _wait_for(lambda: not any(os.path.exists(f'/proc/{child}') for child in children))


def test_disturbances_push_the_ego_and_can_be_repeated():
    def drive(seed):
        with Simulation(Scenario('train_grid', 8), render=False) as simulation:
            simulation.disturb(speed_mps=6.0)
            disturbance = Disturbance(np.random.default_rng(seed))
            for _ in range(80):
                simulation.step(disturbance.apply(simulation, ControlCommand(0.0, 0.5)))
            return simulation.ego.pose

    first, again, other = drive(1), drive(1), drive(2)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.05


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        ({'split': 'test'}, 'nothing is trained on the test towns'),
        ({'learner': 1.5}, 'between 0 and 1'),
        ({'jobs': 0}, 'jobs is 0'),
    ],
)
def test_refuses_test_towns_and_bad_shares(tmp_path, options, said):
    with pytest.raises(InvalidInput, match=said):
        collect(CollectionRun(tmp_path, **options))


def test_towns_of_a_folder_and_traffic_of_every_drive(tmp_path):
    from vla_driver.sim.world.scenario import scenarios, with_traffic

    for name in ('b', 'a'):
        (tmp_path / f'{name}.net.xml.gz').touch()
    drives = with_traffic(scenarios('train', 3, networks=tmp_path), (4.0, 12.0), (5.0, 5.0))
    assert [drive.town for drive in drives] == [str(tmp_path / f'{name}.net.xml.gz') for name in ('a', 'b', 'a')]
    assert len({drive.density_per_km for drive in drives}) == 3
    assert all(4.0 <= drive.density_per_km <= 12.0 and drive.people_per_km == 5.0 for drive in drives)


def test_refuses_folders_without_networks_and_bounds_that_are_none(tmp_path):
    with pytest.raises(InvalidInput, match='no networks'):
        collect(CollectionRun(tmp_path, towns=tmp_path))
    with pytest.raises(InvalidInput, match='density from 9 to 3'):
        collect(CollectionRun(tmp_path, density=(9.0, 3.0)))
