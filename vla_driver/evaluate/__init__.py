# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Measuring: open loop, closed loop, latency; intervals and reports."""
