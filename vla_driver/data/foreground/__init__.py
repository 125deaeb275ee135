# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Foreground masks, folders of pairs, and the frames that pruners learn from."""
