# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Say a thing once, though its figures change."""

from __future__ import annotations

from collections.abc import Iterable

from vla_driver.observation.reasons import without_figures


class Notes:
    """Remembers what was said."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def new(self, texts: Iterable[str]) -> list[str]:
        """Return the texts of which none but for its figures was returned before."""
        found = []
        for text in texts:
            if (key := without_figures(text)) not in self._said:
                self._said.add(key)
                found.append(text)
        return found
