# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Which tokens stay, by their scores and a budget, and what that looks like camera by camera: numpy, free of torch.

Shapes: N tokens, K of them kept.  The rules stand here alone; base.py and selection.py apply them to tensors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.types import CameraSelection, Selection


def camera_sizes(camera: npt.NDArray[np.integer], cameras: int) -> list[int]:
    """Return how many of the tokens, of cameras camera [N], each of `cameras` cameras has."""
    return [int(size) for size in np.bincount(camera, minlength=cameras)]


def ranked(scores: npt.NDArray[np.floating], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Return scores [..., N] in float32, those of tokens that are not valid below all others (-inf stays below them).

    A missing camera has nothing to show; it keeps its floor and no more while others have tokens left.
    """
    scores = scores.astype(np.float32)
    return np.where(valid, scores, np.minimum(scores, np.finfo(np.float32).min))


def best_within(
    scores: npt.NDArray[np.float32],
    camera: npt.NDArray[np.integer],
    names: Sequence[str],
    budget: TokenBudget,
    left: Sequence[int] | None = None,
) -> npt.NDArray[np.int64]:
    """Return the indices [B, K], ascending, of the tokens of highest score [B, N] within the budget.

    camera [N]: numbers into `names`; of equal scores the first one stays; -inf: already gone.  left: how many of each
    camera's tokens are not gone (default: all).  Raises `InvalidInput` for a budget that the tokens cannot satisfy.
    """
    quotas = budget.least(camera_sizes(camera, len(names)), names, left)
    total = budget.total(len(camera))
    return np.stack([_best_of_row(row, camera, quotas, total) for row in scores])


class Chooser:
    """`keep_best` for tick after tick of the same cameras and budget: what is the same is worked out once.

    camera [N]: numbers into `names`.  Raises `InvalidInput` for a budget that the tokens cannot satisfy.
    """

    def __init__(self, camera: npt.NDArray[np.integer], names: Sequence[str], budget: TokenBudget) -> None:
        self._camera = camera
        #: The least number of tokens that each camera keeps.
        self.quotas = budget.least(camera_sizes(camera, len(names)), names)
        self.total = budget.total(len(camera))

    def __call__(self, scores: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Return the indices [K], ascending, of the tokens of highest score [N] that stay; see `keep_best`."""
        return _best_of_row(ranked(scores, valid), self._camera, self.quotas, self.total)


def keep_best(
    scores: npt.NDArray[np.float32],
    camera: npt.NDArray[np.integer],
    names: Sequence[str],
    valid: npt.NDArray[np.bool_],
    budget: TokenBudget,
) -> npt.NDArray[np.int64]:
    """Return the indices [K], ascending, of the tokens of highest score [N] that stay, those not valid [N] last."""
    return best_within(ranked(scores, valid)[np.newaxis], camera, names, budget)[0]


def _best_of_row(
    scores: npt.NDArray[np.float32], camera: npt.NDArray[np.integer], quotas: Sequence[int], total: int
) -> npt.NDArray[np.int64]:
    order = np.argsort(-scores, kind='stable')
    of_camera = camera[order]
    # Within the one order, the first of each camera are its best: they go before all others.
    reserved = np.zeros(len(order), dtype=bool)
    for number, quota in enumerate(quotas):
        reserved[np.flatnonzero(of_camera == number)[:quota]] = True
    return np.sort(np.concatenate([order[reserved], order[~reserved]])[:total])


def nearest_set(
    gram: npt.NDArray[np.floating], camera: npt.NDArray[np.integer], least: Sequence[int], total: int
) -> npt.NDArray[np.int64]:
    """Return `total` of N tokens, ascending, whose sum is nearest the sum of all: greedily, from the nearer end.

    gram [N, N]: inner products of what the tokens contribute; camera [N]: numbers into `least`, the least number that
    each camera keeps.  E(dropped) = sum of gram over pairs of dropped tokens.  Of equal tokens (those that contribute
    nothing), which ones stay is spread evenly over their numbers.
    """
    count = len(camera)
    spare = np.bincount(camera, minlength=len(least)) - np.asarray(least)
    own = np.diagonal(gram).astype(np.float64)
    # The fractional parts of multiples of the golden ratio: neighbours far apart, any few of them evenly spread.
    even = 1e-9 * max(float(own.max(initial=0.0)), 1e-9) * (np.arange(count) * 0.6180339887498949 % 1.0)
    keep = np.zeros(count, dtype=bool) if 3 * total < count else np.ones(count, dtype=bool)
    if keep.any():
        with_dropped = own + even
        for _ in range(count - total):
            token = int(with_dropped.argmin())
            keep[token], with_dropped[token] = False, np.inf
            with_dropped += 2.0 * gram[token]
            spare[camera[token]] -= 1
            if not spare[camera[token]]:
                with_dropped[keep & (camera == camera[token])] = np.inf
    else:
        gain = 2.0 * gram.sum(axis=1, dtype=np.float64) - own + even
        owed = np.array(least)
        for picked in range(total):
            if int(owed.sum()) >= total - picked:
                gain[(owed <= 0)[camera]] = -np.inf
            token = int(gain.argmax())
            keep[token], gain[token] = True, -np.inf
            gain -= 2.0 * gram[token]
            owed[camera[token]] = max(0, owed[camera[token]] - 1)
    return np.flatnonzero(keep)


def selection_of(
    pruner: str,
    stamp_s: float,
    names: Sequence[str],
    cells: tuple[npt.NDArray[np.integer], npt.NDArray[np.integer], npt.NDArray[np.integer]],
    index: npt.NDArray[np.integer],
    scores: npt.NDArray[np.float32] | None = None,
) -> Selection:
    """Return what is kept of one tick as a picture per camera.

    cells: camera [N] (numbers into `names`), row [N] and column [N] of every token; index [K]: those kept; scores [N]
    where the pruner has any.
    """
    camera, rows, columns = cells
    mask = np.zeros(len(camera), dtype=bool)
    mask[index] = True
    cameras = {}
    for number, name in enumerate(names):
        own = camera == number
        if not own.any():
            continue
        shape = int(rows[own].max()) + 1, int(columns[own].max()) + 1
        places = rows[own], columns[own]
        grid = np.zeros(shape, dtype=bool)
        grid[places] = mask[own]
        values = None
        if scores is not None:
            values = np.full(shape, -np.inf, dtype=np.float32)
            values[places] = scores[own]
        cameras[name] = CameraSelection(grid, values)
    return Selection(pruner, stamp_s, cameras)
