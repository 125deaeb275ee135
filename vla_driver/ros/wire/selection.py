# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What a pruner kept, as a message and back as arrays."""

from __future__ import annotations

import array
from typing import TYPE_CHECKING, Any

import numpy as np
from builtin_interfaces.msg import Time

from vla_driver.msg import CameraTokens, TokenSelection
from vla_driver.observation.messages import stamp_seconds
from vla_driver.ros.wire.conversions import BASE_FRAME, to_time
from vla_driver.types import InvalidInput, Selection

if TYPE_CHECKING:
    from vla_driver.bag.recording import ReceivedTokens


def to_token_selection(selection: Selection, stamp: Time | None = None) -> TokenSelection:
    """Return the selection as a message; `stamp` is the anchor image's own stamp where it is at hand."""
    message = TokenSelection()
    message.header.stamp = to_time(selection.stamp_s) if stamp is None else stamp
    message.header.frame_id = BASE_FRAME
    message.pruner = selection.pruner
    message.before, message.after = selection.total, selection.kept
    message.ratio = 1.0 - selection.kept / max(1, selection.total)
    for name, camera in selection.cameras.items():
        tokens = CameraTokens(name=name)
        tokens.rows, tokens.columns = camera.kept.shape
        # Arrays are taken as they are; lists would be checked number by number.
        tokens.kept = array.array('H', np.flatnonzero(camera.kept).astype(np.uint16).tobytes())
        if camera.scores is not None:
            tokens.scores = array.array('f', camera.scores.astype(np.float32).tobytes())
        message.cameras.append(tokens)
    return message


def from_token_selection(message: Any) -> ReceivedTokens:
    """Return the message as arrays; raise InvalidInput for a cell outside its grid."""
    from vla_driver.bag.recording import ReceivedTokens  # a planner only sends

    kept = {}
    for camera in message.cameras:
        grid = np.zeros(int(camera.rows) * int(camera.columns), dtype=bool)
        cells = np.asarray(camera.kept, dtype=np.int64)
        if len(cells) and cells.max() >= len(grid):
            raise InvalidInput(f'tokens: cell {cells.max()} of camera {camera.name}, which has {len(grid)}')
        grid[cells] = True
        kept[camera.name] = grid.reshape(int(camera.rows), int(camera.columns))
    return ReceivedTokens(stamp_seconds(message), message.pruner, float(message.ratio), kept)
