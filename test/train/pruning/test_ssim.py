# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""SSIM is what its paper says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vla_driver.train.pruning.ssim import ssim
from vla_driver.types import InvalidInput


def test_ssim_is_the_direct_formula() -> None:
    """Wang et al. 2004, written out window by window."""
    generator = np.random.default_rng(0)
    x, y = generator.random((2, 2, 14, 17))
    y = 0.7 * x + 0.3 * y
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for channel in range(2):
        for top in range(4):
            for left in range(7):
                a, b = (z[channel, top : top + 11, left : left + 11] for z in (x, y))
                mean_a, mean_b = (window * a).sum(), (window * b).sum()
                var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
                cov = (window * (a - mean_a) * (b - mean_b)).sum()
                values.append(
                    (2 * mean_a * mean_b + 0.01**2)
                    * (2 * cov + 0.03**2)
                    / ((mean_a**2 + mean_b**2 + 0.01**2) * (var_a + var_b + 0.03**2))
                )
    pictures = [torch.from_numpy(z).float().unsqueeze(0) for z in (x, y)]
    assert float(ssim(*pictures)[0]) == pytest.approx(np.mean(values), abs=1e-5)
    assert float(ssim(pictures[0], pictures[0])[0]) == pytest.approx(1.0, abs=1e-6)
    with pytest.raises(InvalidInput, match='SSIM of 17x10 pictures'):
        ssim(pictures[0][..., :10, :], pictures[1][..., :10, :])
