# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Pruning of visual tokens: budgets, the `Pruner` protocol, and the pruners behind it."""
