# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Grids of patches, gathered into windows."""

from __future__ import annotations

import torch
from torch import Tensor


def windows(grid: Tensor, window: tuple[int, int]) -> Tensor:
    """Gather [I, rows, columns, d] into windows [I, rows / h, columns / w, h * w * d].

    A grid that does not divide is continued by repeating its last row or column.
    """
    height, width = window
    row_pad, column_pad = -grid.shape[1] % height, -grid.shape[2] % width
    if row_pad:
        grid = torch.cat([grid, grid[:, -1:].expand(-1, row_pad, -1, -1)], dim=1)
    if column_pad:
        grid = torch.cat([grid, grid[:, :, -1:].expand(-1, -1, column_pad, -1)], dim=2)
    count, rows, columns, d = grid.shape
    cells = grid.reshape(count, rows // height, height, columns // width, width, d)
    return cells.permute(0, 1, 3, 2, 4, 5).reshape(count, rows // height, columns // width, height * width * d)
