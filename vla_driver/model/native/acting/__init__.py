# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What is done with what was read: the vehicle's trajectory and the others', by a flow of controls."""
