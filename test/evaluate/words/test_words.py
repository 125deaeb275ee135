# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`vla_driver evaluate words` from episodes to figures and a page."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from vla_driver.cli import main
from vla_driver.data.episode_ticks import EpisodeTicks
from vla_driver.data.reasons import Reason
from vla_driver.evaluate.words.drives import record_episodes
from vla_driver.evaluate.words.ticks import _observations, open_drives, speak_through, truth_of
from vla_driver.model.native.loading import load_model
from vla_driver.model.native.vla import VlaModel
from vla_driver.policies.native_reasoner import NativeReasoner
from vla_driver.sim.world.scenario import Scenario
from vla_driver.types import CAMERA_NAMES, HazardKind, MetaAction


def test_the_truth_is_what_can_be_seen() -> None:
    person = Reason(MetaAction.STOP, HazardKind.PERSON, 'back', 7.0, 0.0)
    assert truth_of(person, np.inf, 5.0, CAMERA_NAMES).meaning == (MetaAction.STOP, HazardKind.PERSON, 'back')
    assert truth_of(person, np.inf, 5.0, ('front',)).meaning == (MetaAction.STOP, HazardKind.NONE, '')
    hidden = Reason(MetaAction.STOP, HazardKind.PERSON, '', 7.0, 0.0)
    assert truth_of(hidden, np.inf, 5.0, CAMERA_NAMES).hazard is HazardKind.NONE
    ahead = Reason(MetaAction.SLOW_DOWN, HazardKind.VEHICLE_AHEAD, 'front', 7.0, 0.0)
    assert truth_of(ahead, 0.0, 5.0, CAMERA_NAMES).why == 'stopped'


def test_controls_change_pictures_alone(reasoned_episodes: Path) -> None:
    drives = open_drives(sorted(reasoned_episodes.glob('*.npz')))
    seen = {name: list(_observations(drives, 0, name)) for name in ('model', 'black', 'other')}
    for own, black, other in zip(*seen.values(), strict=True):
        assert own.ego == black.ego == other.ego
        assert own.missing == black.missing == other.missing
        for name, frame in own.frames.items():
            assert not black.frames[name].image.any() and not black.frames[name].blank
            if own.stamp_s != 0.5:  # the second tick lacks a camera
                assert not np.array_equal(frame.image, other.frames[name].image)


def test_a_reasoner_goes_through_drives(reasoned_episodes: Path, speaking_checkpoint: Path) -> None:
    drives = open_drives(sorted(reasoned_episodes.glob('*.npz')))
    reasoner, gated = (NativeReasoner(load_model(speaking_checkpoint), ask_above=level) for level in (0.3, 0.0))
    spoken = speak_through(reasoner, drives, 'model', gated)
    assert [(one.drive, one.tick) for one in spoken] == [(d, t) for d in range(3) for t in range(8)]
    # A gate that always asks says what is said where every tick is thought about.
    assert all(one.asked and one.held == one.said for one in spoken)
    again = speak_through(reasoner, drives[:1])
    assert [one.said for one in again] == [one.said for one in spoken[:8]]
    assert spoken[9].truth.camera != 'back'  # drive 1, tick 1: the camera that shows the hazard is missing


def test_the_command_writes_figures_and_a_page(
    reasoned_episodes: Path, speaking_checkpoint: Path, episode_model: Callable[..., VlaModel], tmp_path: Path
) -> None:
    blind = tmp_path / 'blind'
    episode_model(auxiliary=False, blind=True, words_config={'grammar': 1}).save_pretrained(blind)
    words = ['evaluate', 'words', '--data', reasoned_episodes, '--checkpoint', speaking_checkpoint, '--blind', blind]
    out = ['--json', tmp_path / 'words.json', '--report', tmp_path / 'report', '--device', 'cpu']
    assert main([str(word) for word in (*words, *out)]) == 0
    found = json.loads((tmp_path / 'words.json').read_text())
    assert list(found['accuracy']) == ['model', 'black', 'other', 'blind', 'majority']
    assert all(figures['ticks'] == 24 for figures in found['accuracy'].values())
    assert found['decoding']['passes_ratio'] <= 0.5
    assert 0 < found['gate']['asked_share'] <= 1
    page = (tmp_path / 'report' / 'report.html').read_text()
    assert page.count('<figure') == 20
    assert 'was to be said' in page and 'km/h.' in page


def test_what_cannot_be_evaluated_is_said(
    episodes: Path,
    reasoned_episodes: Path,
    speaking_checkpoint: Path,
    native_checkpoint: Path,
    one_error: Callable[[Sequence[str]], str],
) -> None:
    command = ['evaluate', 'words', '--device', 'cpu', '--data']
    old = [*command, str(episodes), '--checkpoint', str(speaking_checkpoint)]
    assert 'none of 4 episodes says what the expert reacted to' in one_error(old)
    mute = [*command, str(reasoned_episodes), '--checkpoint', str(native_checkpoint)]
    assert 'has no words' in one_error(mute)
    sees = [*command, str(reasoned_episodes), '--checkpoint', str(speaking_checkpoint)]
    assert 'it is no control' in one_error([*sees, '--blind', str(speaking_checkpoint)])


@pytest.mark.gl
def test_drives_are_recorded_once(tmp_path: Path) -> None:
    drive = Scenario('val_rand', 2_000_000, 200.0)
    first = record_episodes([drive], tmp_path, seconds=2.0, jobs=1)
    stamp = first[0].stat().st_mtime_ns
    assert len(EpisodeTicks(first[0])) == 4
    assert EpisodeTicks(first[0]).has_reasons
    done: list[int] = []
    again = record_episodes([drive], tmp_path, seconds=2.0, jobs=1, on_done=lambda: done.append(1))
    assert again == first
    assert again[0].stat().st_mtime_ns == stamp
    assert done == [1]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith('.')] == []
