# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The paired tick benchmark: every variant in every round, the first one being what the others are compared with."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_driver.bag.read import BagReader
from vla_driver.evaluate.cost.tick_time import tick_times
from vla_driver.policies.loading import load_policy
from vla_driver.policies.pruning_settings import PruningSettings
from vla_driver.types import InvalidInput


def test_rows_hold_stages_tokens_and_paired_differences(small_checkpoint: Path, labelled_bag: Path) -> None:
    model = str(small_checkpoint)
    with BagReader(labelled_bag) as bag:
        observation = next(iter(bag.observations()))
    variants = [PruningSettings(), PruningSettings('uniform', 0.5), PruningSettings('fastv:1', 0.6)]
    rounds: list[int] = []
    network = load_policy(model).model
    rows = tick_times(network, observation, variants, model, 3, on_round=lambda: rounds.append(1))
    assert len(rounds) == 3
    assert [(row['pruner'], row['ratio'], row['tokens']) for row in rows] == [
        ('none', 0.0, None),
        ('uniform', 0.5, 9),
        ('fastv:1', 0.6, 7),
    ]
    assert rows[0]['faster_ms'] == 0.0
    assert rows[0]['speedup'] == 1.0
    assert 'pruner' not in rows[0]['stages_ms']
    for row in rows[1:]:
        assert row['stages_ms']['pruner']['p50'] > 0.0
    for row in rows:
        assert 0.0 < row['tick_ms']['p50'] <= row['tick_ms']['p99']
        # The stages are the tick but for the building of the plan; their medians need not add up exactly.
        assert sum(stage['p50'] for stage in row['stages_ms'].values()) < 2.0 * row['tick_ms']['max']
    with pytest.raises(InvalidInput, match='1 rounds'):
        tick_times(network, observation, variants, model, 1)
