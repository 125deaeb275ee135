# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The evaluation of words: what is said on recorded ticks, against what the expert reacted to."""
