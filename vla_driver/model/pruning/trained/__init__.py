# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Pruners that are trained: ReconPruner, and the heads for early pruning."""
