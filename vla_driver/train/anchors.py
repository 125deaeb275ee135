# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Fit the flow decoder's normalisation and anchors to the expert's controls."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.cluster.vq import kmeans2
from torch import nn

from vla_driver.model.native.acting.flow import compress
from vla_driver.model.native.vla import VlaModel
from vla_driver.types import InvalidInput

#: k-means on more samples than this only takes longer.
MAX_SAMPLES = 20_000


def fit_anchors(
    model: VlaModel, controls: npt.NDArray[Any], weights: npt.NDArray[Any], *, seed: int, again: bool = False
) -> npt.NDArray[np.float32]:
    """Set control_mean, control_std and the anchors of `model` from controls [n, T, 2]; return the anchors.

    again: of a model that was trained with other anchors; the normalisation stays, for all its heads are used to it,
    and what chooses among anchors starts anew.

    weights [n]: the sampling weights of training.  Anchors are k-means centres of normalised accelerations, straight
    on (arXiv 2411.15139 takes them of positions; controls keep every anchor drivable, and steering is the reflex's).
    """
    action = model.config.action_config
    if controls.ndim != 3 or controls.shape[1:] != (action.horizon, 2):
        raise InvalidInput(f'controls {controls.shape}, expected [n, {action.horizon}, 2]')
    if len(controls) < action.num_anchors:
        raise InvalidInput(f'{len(controls)} ticks are too few for {action.num_anchors} anchors; collect more')
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(controls), size=min(MAX_SAMPLES, len(controls)), p=weights / weights.sum())
    sample = compress(torch.from_numpy(controls[chosen].astype(np.float64)), action.curvature_knee_per_m).numpy()
    if not again:
        # A floor: a data set without any curve must not blow up the smallest one.
        action.control_std = np.maximum(sample.std(axis=(0, 1)), [0.1, 0.05]).tolist()
        action.control_mean = sample.mean(axis=(0, 1)).tolist()
    mean, std = np.array(action.control_mean), np.array(action.control_std)
    normalised = (sample[..., 0] - mean[0]) / std[0]
    # Jitter separates equal samples (standing still), of which k-means++ could otherwise take two as centres.
    normalised += rng.normal(0.0, 1e-4, normalised.shape)
    centres, _ = kmeans2(normalised, action.num_anchors, minit='++', iter=25, rng=rng)
    straight = np.full_like(centres, -mean[1] / std[1])
    anchors = np.stack([centres, straight], axis=-1).astype(np.float32)
    with torch.no_grad():
        model.flow.anchors.copy_(torch.from_numpy(anchors))
        if again:
            for chooser in (model.flow.classifier, model.reflexes.votes):
                last = chooser[-1]
                assert isinstance(last, nn.Linear)
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)
    return anchors
