# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Six surround cameras of a SUMO town, drawn with moderngl on EGL."""
