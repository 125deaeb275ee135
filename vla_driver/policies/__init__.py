# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Everything that plans, by name; the only place that knows which backends exist."""
