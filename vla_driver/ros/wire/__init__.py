# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Messages, topics and quality of service: what goes over the wire."""
