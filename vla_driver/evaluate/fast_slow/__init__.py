# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What the slow half is worth in closed loop, and what it costs the fast one."""
