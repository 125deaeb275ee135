# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`demo --all-parts` adds words and pruning to a model that has both, and changes nothing for any other."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from fixtures.models import make_small_model

from vla_driver.commands import demo
from vla_driver.commands.pruning_arguments import pruning_settings
from vla_driver.commands.reasoner_arguments import reasoner_checkpoint


def _parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    return parser.parse_args(['--all-parts', *words])


@pytest.fixture(scope='module')
def speaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with words."""
    folder = tmp_path_factory.mktemp('speaking') / 'small'
    make_small_model(words_config={'grammar': 1}, intent=True).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(('folder', 'pruner'), [('pruner', 'recon'), ('plan', 'plan')])
def test_a_model_with_words_and_a_pruner_shows_both(speaking: Path, tmp_path: Path, folder: str, pruner: str) -> None:
    whole = tmp_path / 'whole'
    whole.mkdir()
    for file in speaking.iterdir():
        (whole / file.name).symlink_to(file)
    args = _parsed('--model', str(whole))
    assert demo.switch_parts_on(args) == []  # no pruner yet
    assert reasoner_checkpoint(args) is None and not pruning_settings(args).active
    (whole / folder).mkdir()
    assert demo.switch_parts_on(args) == ['--reasoner', f'--pruner {pruner}']
    settings = pruning_settings(args)
    assert (settings.pruner, settings.ratio, settings.count) == (pruner, 0.5, None)
    assert reasoner_checkpoint(args) == str(whole)


def test_what_was_asked_for_stays(speaking: Path, tmp_path: Path) -> None:
    whole = tmp_path / 'whole'
    (whole / 'pruner').mkdir(parents=True)
    for file in speaking.iterdir():
        (whole / file.name).symlink_to(file)
    args = _parsed('--model', str(whole), '--pruner', 'uniform', '--prune-ratio', '0.25', '--reasoner')
    assert demo.switch_parts_on(args) == []
    settings = pruning_settings(args)
    assert (settings.pruner, settings.ratio) == ('uniform', 0.25)


@pytest.mark.parametrize('policy', ['blind', 'constant-velocity'])
def test_other_policies_have_no_parts(policy: str) -> None:
    args = _parsed('--policy', policy)
    assert demo.switch_parts_on(args) == []
    assert not args.reasoner


def test_a_model_without_words_is_driven_as_it_is(tmp_path: Path) -> None:
    make_small_model().save_pretrained(tmp_path / 'plain')
    (tmp_path / 'plain' / 'pruner').mkdir()
    args = _parsed('--model', str(tmp_path / 'plain'))
    assert demo.switch_parts_on(args) == []
    assert not args.reasoner and not pruning_settings(args).active
