# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Greedy choices of tokens that differ from one another: farthest points, and the likeliest set of a DPP.

Each step depends on the one before, so a row of the batch is chosen in a loop of few small operations.  On the CPU
they are numpy's, a third as dear to call as torch's; elsewhere torch's, on the device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

#: A token whose gain has fallen to this share of its own quality adds nothing but rounding errors.
EXHAUSTED = 1e-6


def cosine(features: Tensor, others: Tensor | None = None) -> Tensor:
    """Return the cosine similarity [B, N, M] of features [B, N, D] and others [B, M, D] (default: the same).

    In float32 whatever autocast says.
    """
    with torch.autocast(features.device.type, enabled=False):
        unit = F.normalize(features.float(), dim=-1)
        other = unit if others is None else F.normalize(others.float(), dim=-1)
        return unit @ other.transpose(1, 2)


def arrays(x: Tensor) -> tuple[Any, Any]:
    """Return (numpy, x as an array) on the CPU, (torch, x) elsewhere; what is used here is named alike."""
    return (np, x.detach().numpy()) if x.device.type == 'cpu' else (torch, x)


class Quota:
    """Keeps a greedy choice of `total` tokens from leaving a camera below its least count.

    As soon as the picks left are all owed, cameras that have their least count are closed.
    """

    def __init__(self, camera: Sequence[int], least: Sequence[int], total: int):
        """camera[i]: of token i."""
        self._camera, self._need = camera, list(least)
        self._owed, self._left = sum(least), total
        self._open = set(range(len(least)))

    def take(self, token: int) -> list[int]:
        """Note that a token is chosen; return the tokens that may not be chosen any more."""
        own = self._camera[token]
        self._left -= 1
        if self._need[own]:
            self._need[own] -= 1
            self._owed -= 1
        if self._left > self._owed or not self._left:
            return []
        closing = {camera for camera in self._open if not self._need[camera]}
        self._open -= closing
        return [number for number, camera in enumerate(self._camera) if camera in closing] if closing else []


def farthest_points(
    distance: Tensor, camera: Sequence[int], least: Sequence[int], total: int, first: Sequence[int] = ()
) -> list[int]:
    """Return `total` of N tokens: the most isolated one, then always the one farthest from all chosen ones.

    distance [N, N]; of equal distances the first token wins.  DivPrune (arXiv 2503.02175, algorithm 1) computes the
    least distance to the chosen set anew in every step, O(K^2 N); a running minimum gives the same in O(K N).
    first: tokens that are chosen before any by distance, in this order, as far as the cameras' least counts allow.
    """
    apart = distance.clone().fill_diagonal_(torch.inf)
    lib, apart = arrays(apart)
    quota, chosen = Quota(camera, least, total), []
    nearest = lib.amin(apart, 0) if len(apart) > 1 else apart[0]
    waiting = list(reversed(first))
    for step in range(total):
        token = waiting.pop() if waiting else int(nearest.argmax())
        chosen.append(token)
        if step == 0:
            nearest = lib.clip(apart[token], None, math.inf)  # a copy
        else:
            lib.minimum(nearest, apart[token], out=nearest)
        nearest[token] = -math.inf
        closed = quota.take(token)
        if closed:
            nearest[closed] = -math.inf
            waiting = [one for one in waiting if one not in closed]
    return chosen


def likeliest_set(kernel: Tensor, camera: Sequence[int], least: Sequence[int], total: int) -> list[int]:
    """Return `total` of N tokens by the fast greedy MAP of a DPP (Chen et al., arXiv 1709.05135, algorithm 1).

    kernel [N, N], positive semi-definite.  Each step takes the token of largest gain in the log determinant, by an
    incremental Cholesky factor.  When the kernel's rank is exhausted, the rest are taken in order of what is left.
    """
    lib, kernel = arrays(kernel)
    quota, chosen = Quota(camera, least, total), []
    gain = lib.diagonal(kernel) * 1.0
    least_gain = EXHAUSTED * gain
    factor = lib.zeros_like(kernel[:, :total])  # row n: what the steps so far explain of token n
    for step in range(total):
        token = int(gain.argmax())
        chosen.append(token)
        if gain[token] > least_gain[token]:
            done = factor[:, :step]
            row = (kernel[token] - done @ done[token]) / math.sqrt(gain[token])
            factor[:, step] = row
            gain -= row * row
        gain[token] = -math.inf
        closed = quota.take(token)
        if closed:
            gain[closed] = -math.inf
    return chosen
