# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The words of the slow half: vocabulary, grammar, the way from a prefix to a sentence, and its training."""
