# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What the driver sees, put together: messages in, a validated Observation out."""
