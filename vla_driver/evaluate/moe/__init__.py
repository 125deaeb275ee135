# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A mixture of experts against the dense model that it grew from."""
