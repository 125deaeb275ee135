# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How many visual tokens are kept, and how they are shared among the cameras."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vla_driver.settings.pruning import SCOPES, PruningParameters
from vla_driver.types import InvalidInput


@dataclass(frozen=True)
class TokenBudget:
    """How many of N tokens are kept: K = floor(N (1 - ratio)), FastDriveVLA eq. 9 (arXiv 2507.23318), or `count`.

    ratio: share pruned, 0 <= ratio < 1; count: tokens kept over all cameras; exactly one of the two is given.
    floor: no camera keeps fewer (all it has, where it has fewer), so that none is ever blanked.
    weights: camera name -> weight of its share in scope 'camera' (1 where not named), for example
    {'front': 2.0}; a camera never gets more than it has, what is left goes to the others.
    """

    ratio: float | None = None
    count: int | None = None
    scope: str = PruningParameters.prune_scope
    floor: int = PruningParameters.prune_floor
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.ratio is None) == (self.count is None):
            raise InvalidInput(f'token budget: ratio {self.ratio} and count {self.count}; give exactly one of them')
        if self.ratio is not None and not (math.isfinite(self.ratio) and 0.0 <= self.ratio < 1.0):
            raise InvalidInput(f'token budget: ratio {self.ratio}, the share pruned; allowed: 0 <= ratio < 1')
        if self.count is not None and self.count < 1:
            raise InvalidInput(f'token budget: count {self.count}, the tokens kept; allowed: 1 or more')
        if self.scope not in SCOPES:
            raise InvalidInput(f'token budget: scope {self.scope!r}; allowed: {", ".join(SCOPES)}')
        if self.floor < 1:
            raise InvalidInput(f'token budget: floor {self.floor} tokens a camera; allowed: 1 or more')
        for name, weight in self.weights.items():
            if not (math.isfinite(weight) and weight > 0.0):
                raise InvalidInput(f'token budget: weight {weight} of camera {name!r}; allowed: a positive number')
        if self.weights and self.scope != 'camera':
            raise InvalidInput(
                f'token budget: weights of {", ".join(self.weights)} with scope {self.scope!r}, in which no camera has '
                "a share to be weighed; set the scope to 'camera' (first), or leave the weights out"
            )

    def total(self, tokens: int) -> int:
        """Return how many of `tokens` are kept; raise `InvalidInput` where `count` is more than there are."""
        if self.count is not None:
            if self.count > tokens:
                raise InvalidInput(f'token budget: count {self.count} of {tokens} tokens; allowed: 1 to {tokens}')
            return self.count
        assert self.ratio is not None
        return max(1, math.floor(tokens * (1.0 - self.ratio) + 1e-9))

    def floors(self, sizes: Sequence[int]) -> list[int]:
        """Return the least number kept of each camera that has sizes[c] tokens.

        Raises `InvalidInput` when the floors together exceed the budget.
        """
        floors = [min(self.floor, size) for size in sizes]
        total = self.total(sum(sizes))
        if sum(floors) > total:
            raise InvalidInput(
                f'token budget: {total} of {sum(sizes)} tokens cannot give each of {len(sizes)} cameras its floor of '
                f'{self.floor}; lower the floor or prune less (keep at least {sum(floors)})'
            )
        return floors

    def shares(self, sizes: Sequence[int], names: Sequence[str], left: Sequence[int] | None = None) -> list[int]:
        """Return how many tokens each camera keeps in scope 'camera'; the sum is `total`.

        sizes[c] tokens and names[c] of each camera.  In proportion to size times weight, rounded by largest
        remainder, at least the floor and at most all; left[c]: how many there still are, where some have gone
        already (default: sizes).
        """
        unknown = sorted(set(self.weights) - set(names))
        if unknown:
            raise InvalidInput(f'token budget: weights name {unknown}; the cameras are {", ".join(names)}')
        total, shares = self.total(sum(sizes)), self.floors(sizes)
        most = sizes if left is None else left
        pull = [size * self.weights.get(name, 1.0) for size, name in zip(sizes, names, strict=True)]
        # One token at a time to the camera that is furthest below its due.  That begins with the whole parts of the
        # dues, wherever these fit, so it is a few steps at most.
        whole = sum(pull)
        due = [total * part / whole for part in pull]
        parts = [max(least, min(int(part), size)) for least, part, size in zip(shares, due, most, strict=True)]
        if sum(parts) <= total:
            shares = parts
        for _ in range(total - sum(shares)):
            behind = [due[c] - shares[c] if shares[c] < most[c] else -math.inf for c in range(len(sizes))]
            shares[max(range(len(sizes)), key=behind.__getitem__)] += 1
        return shares

    def least(self, sizes: Sequence[int], names: Sequence[str], left: Sequence[int] | None = None) -> list[int]:
        """Return the least number kept of each camera: its share in scope 'camera', its floor in scope 'global'."""
        return self.shares(sizes, names, left) if self.scope == 'camera' else self.floors(sizes)
