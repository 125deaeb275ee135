# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What this package raises on purpose."""

from __future__ import annotations


class VlaDriverError(Exception):
    """Base class of every error this package raises on purpose."""


class InvalidInput(VlaDriverError, ValueError):  # noqa: N818 - reads as a sentence where raised
    """A value from outside was refused; the message names it, what is allowed and what to do."""


class MalformedAnswer(InvalidInput):
    """What a language model wrote is neither a plan nor an intent; `fault` says in a word what is wrong with it."""

    def __init__(self, fault: str, detail: str) -> None:
        super().__init__(f'answer refused ({fault}): {detail}')
        self.fault = fault
