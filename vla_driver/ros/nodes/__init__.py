# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The lifecycle nodes."""
