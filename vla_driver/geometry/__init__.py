# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Planar and spatial geometry: poses, the unicycle, rigs, projection."""
