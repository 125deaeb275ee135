# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A nuScenes folder: its key frames, whole scenes, where its roads end, and bags made of them."""
