# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What pruners learn: ReconPruner, heads for early pruning, and what stands where a token was dropped."""
