# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How alike two meta-actions are."""

from __future__ import annotations

from typing import Final

from vla_driver.types import MetaAction

#: Which words come near each other: who comes to a stand slows down as well, and who waits has stopped.
_NEAR: Final = frozenset(
    frozenset(pair)
    for pair in (
        (MetaAction.KEEP, MetaAction.SPEED_UP),
        (MetaAction.KEEP, MetaAction.SLOW_DOWN),
        (MetaAction.SLOW_DOWN, MetaAction.STOP),
        (MetaAction.STOP, MetaAction.WAIT),
        (MetaAction.START, MetaAction.SPEED_UP),
        (MetaAction.START, MetaAction.KEEP),
    )
)


def agreement(planned: MetaAction, wanted: MetaAction) -> float:
    """Return how well what is planned does what was wanted: 1 the same, 0.5 something near it, else 0."""
    if planned is wanted:
        return 1.0
    return 0.5 if frozenset((planned, wanted)) in _NEAR else 0.0
