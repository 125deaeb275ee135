# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""From a plan to the road: route, guard, fallback, control."""
