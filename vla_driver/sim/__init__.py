# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The embedded simulator: SUMO traffic, six drawn cameras, a privileged expert and a scorer."""
