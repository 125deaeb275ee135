# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What every node rests on: a lifecycle, parameters, a process of its own, words about what is missing."""
