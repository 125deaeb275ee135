# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning by rewards: plans rolled forward in recorded scenes and judged."""
