# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Nodes as processes, started, watched and recorded by commands."""
