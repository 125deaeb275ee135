# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""One tick, from matched inputs to a plan that may be driven; and control, from that plan to steering and pedals."""
