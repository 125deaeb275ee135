# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""One table of knobs for each node, and the parameter file that is made of all."""
