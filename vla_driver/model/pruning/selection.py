# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What a pruner kept, camera by camera, as arrays for topics, markers and reports."""

from __future__ import annotations

from vla_driver.model.pruning.base import KeptTokens
from vla_driver.model.pruning.choosing import selection_of
from vla_driver.model.tokens import VisualTokens
from vla_driver.types import Selection


def make_selection(pruner: str, stamp_s: float, tokens: VisualTokens, kept: KeptTokens, row: int = 0) -> Selection:
    """Return what is kept of one row of a batch."""
    scores = None if kept.scores is None else kept.scores[row].float().cpu().numpy()
    cells = tokens.camera.cpu().numpy(), tokens.row.cpu().numpy(), tokens.column.cpu().numpy()
    return selection_of(pruner, stamp_s, tokens.names, cells, kept.index[row].cpu().numpy(), scores)
