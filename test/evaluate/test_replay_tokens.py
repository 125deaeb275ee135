# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The report of a replay shows kept tokens, experts and others where there are any, and nothing of them otherwise."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from vla_driver.bag.loads import ReceivedLoad
from vla_driver.bag.read import BagReader
from vla_driver.bag.recording import ReceivedPlan, ReceivedTokens, Recording
from vla_driver.evaluate.replay import write_replay_report
from vla_driver.policies.constant_velocity import ConstantVelocityPolicy
from vla_driver.types import CAMERA_NAMES, AgentKind, Forecast

GALLERY = '<h2>Tokens that the model kept</h2>'


def test_kept_tokens_are_shown_for_a_few_ticks(labelled_bag: Path, tmp_path: Path) -> None:
    policy = ConstantVelocityPolicy()
    with BagReader(labelled_bag) as bag:
        plans = [policy.plan(observation) for observation in bag.observations()]
    received = [ReceivedPlan(plan, (), 10.0 + plan.stamp_s, 30.0) for plan in plans]
    plain = Recording(received, images=len(plans))
    figures = write_replay_report(tmp_path / 'plain', labelled_bag, plain, title='plain', film=False)
    assert figures['pruning'] is None
    assert GALLERY not in (tmp_path / 'plain' / 'report.html').read_text(encoding='utf-8')

    kept = {name: np.arange(15).reshape(3, 5) % 2 == 0 for name in CAMERA_NAMES}
    tokens = [ReceivedTokens(plan.stamp_s, 'uniform', 0.5, kept) for plan in plans]
    pruned = dataclasses.replace(plain, tokens=tokens)
    figures = write_replay_report(tmp_path / 'pruned', labelled_bag, pruned, title='pruned', film=False)
    assert figures['pruning'] == {'pruners': {'uniform': 10}, 'ticks': 10, 'tokens_kept': 48.0, 'tokens': 90.0}
    text = (tmp_path / 'pruned' / 'report.html').read_text(encoding='utf-8')
    gallery = text[text.index(GALLERY) : text.index('<h2>How to read this</h2>')]
    assert gallery.count('<img src="data:image/webp') == 6
    assert gallery.count('uniform: 48 of 90 tokens kept') == 6
    assert '<b>48 of 90</b><span>tokens read (uniform)</span>' in text


def test_load_of_experts_is_shown_where_there_is_any(labelled_bag: Path, tmp_path: Path) -> None:
    policy = ConstantVelocityPolicy()
    with BagReader(labelled_bag) as bag:
        plans = [policy.plan(observation) for observation in bag.observations()]
    received = [ReceivedPlan(plan, (), 10.0 + plan.stamp_s, 30.0) for plan in plans]
    plain = Recording(received, images=len(plans))
    figures = write_replay_report(tmp_path / 'plain', labelled_bag, plain, title='plain')
    assert figures['experts'] is None and figures['others'] is None
    text = (tmp_path / 'plain' / 'report.html').read_text(encoding='utf-8')
    assert 'xperts' not in text and "Others' futures" not in text and 'forecasts' not in text

    loads = [ReceivedLoad(plan.stamp_s, {2: np.array([3.0, 1.0, 0.0, 0.0])}) for plan in plans[::2]]
    routed = dataclasses.replace(plain, loads=loads)
    figures = write_replay_report(tmp_path / 'routed', labelled_bag, routed, title='routed')
    assert figures['experts']['reports'] == len(loads)
    text = (tmp_path / 'routed' / 'report.html').read_text(encoding='utf-8')
    assert f'<h2>Load of experts over the drive, 1 is even, {len(loads)} ticks</h2>' in text
    assert '<td>2</td><td>4</td><td>3.00</td><td>0.00</td><td>2</td><td>3.00</td>' in text
    assert '<b>3.00 x</b><span>busiest expert, over an even load</span>' in text
    assert (tmp_path / 'routed' / 'drive.webp').read_bytes() != (tmp_path / 'plain' / 'drive.webp').read_bytes()


def test_others_futures_are_counted(labelled_bag: Path, tmp_path: Path) -> None:
    policy = ConstantVelocityPolicy()
    other = Forecast(
        AgentKind.PERSON, np.array([8.0, 1.0, 0.0]), 1.0, 0.6, 0.6, np.full((20, 2), 8.0), np.zeros(20), 0.9
    )
    with BagReader(labelled_bag) as bag:
        plans = [dataclasses.replace(policy.plan(one), forecasts=(other,)) for one in bag.observations()]
    recording = Recording([ReceivedPlan(plan, (), 10.0 + plan.stamp_s, 30.0) for plan in plans], images=len(plans))
    figures = write_replay_report(tmp_path, labelled_bag, recording, title='others', film=False)
    assert figures['others'] == {'plans': 10, 'mean': 1.0, 'most': 1, 'kinds': {'person': 10}}
    text = (tmp_path / 'report.html').read_text(encoding='utf-8')
    assert '<td>10</td><td>forecasts of a person</td>' in text and 'Outlines with a line ahead' in text
