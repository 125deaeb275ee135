# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures as cameras send them: raw, compressed, as a mosaic, as video; and back to files."""
