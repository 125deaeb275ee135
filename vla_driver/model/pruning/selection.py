# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What a pruner kept, camera by camera, as arrays for topics, markers and reports."""

from __future__ import annotations

import numpy as np

from vla_driver.model.pruning.base import KeptTokens
from vla_driver.model.tokens import VisualTokens
from vla_driver.types import CameraSelection, Selection


def make_selection(pruner: str, stamp_s: float, tokens: VisualTokens, kept: KeptTokens, row: int = 0) -> Selection:
    """Return what is kept of one row of a batch."""
    mask = np.zeros(len(tokens.camera), dtype=bool)
    mask[kept.index[row].cpu().numpy()] = True
    scores = None if kept.scores is None else kept.scores[row].float().cpu().numpy()
    camera, lines, columns = (x.cpu().numpy() for x in (tokens.camera, tokens.row, tokens.column))
    cameras = {}
    for number, name in enumerate(tokens.names):
        own = camera == number
        if not own.any():
            continue
        shape = int(lines[own].max()) + 1, int(columns[own].max()) + 1
        cells = lines[own], columns[own]
        grid = np.zeros(shape, dtype=bool)
        grid[cells] = mask[own]
        values = None
        if scores is not None:
            values = np.full(shape, -np.inf, dtype=np.float32)
            values[cells] = scores[own]
        cameras[name] = CameraSelection(grid, values)
    return Selection(pruner, stamp_s, cameras)
