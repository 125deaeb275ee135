# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The report of a replay shows what was kept, when something was pruned, and nothing of it otherwise."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from vla_driver.bag.read import BagReader
from vla_driver.bag.recording import ReceivedPlan, ReceivedTokens, Recording
from vla_driver.evaluate.replay import write_replay_report
from vla_driver.policies.constant_velocity import ConstantVelocityPolicy
from vla_driver.types import CAMERA_NAMES

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
