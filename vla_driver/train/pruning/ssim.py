# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Structural similarity of pictures (Wang et al., IEEE TIP 2004, eq. 13), differentiable.

Gaussian window of 11 x 11 with standard deviation 1.5, as in that paper, at every place where it lies wholly
inside the picture; K1 = 0.01, K2 = 0.03; values in 0 to 1.  Which window FastDriveVLA used is not published.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from vla_driver.types import InvalidInput

WINDOW, SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2


@functools.lru_cache(maxsize=64)
def _filter(size: int, device: torch.device) -> Tensor:
    """Return [size - 10, size]: each row is the window at one place.

    A separable filter as two products with band matrices: on the CPU many times quicker, with backward, than
    depthwise convolutions.
    """
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    band = torch.zeros(size - WINDOW + 1, size, dtype=torch.float64)
    for row in range(len(band)):
        band[row, row : row + WINDOW] = weights / weights.sum()
    return band.to(device, torch.float32)


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean SSIM [I] of pictures x, y [I, channels, height, width], float32.

    Raises `InvalidInput` for pictures smaller than the window.
    """
    height, width = x.shape[-2:]
    if height < WINDOW or width < WINDOW:
        raise InvalidInput(f'SSIM of {width}x{height} pictures; its window needs at least {WINDOW}x{WINDOW}')
    # Variances are differences of close numbers: bfloat16 would leave nothing of them.
    with torch.autocast(x.device.type, enabled=False):
        x, y = x.float(), y.float()
        rows, columns = _filter(height, x.device), _filter(width, x.device).T
        maps = torch.stack([x, y, x * x, y * y, x * y])
        mean_x, mean_y, square_x, square_y, product = (rows @ maps @ columns).unbind(0)
        variance_x, variance_y = square_x - mean_x**2, square_y - mean_y**2
        covariance = product - mean_x * mean_y
        similarity = ((2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)) / (
            (mean_x**2 + mean_y**2 + _C1) * (variance_x + variance_y + _C2)
        )
        return similarity.flatten(1).mean(dim=1)
