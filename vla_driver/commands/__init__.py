# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The commands of `vla_driver`, one module each, loaded when asked for."""
