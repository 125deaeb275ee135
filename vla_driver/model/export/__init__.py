# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A native checkpoint as ONNX graphs: made with torch (graphs, export), run without it (manifest, session)."""
