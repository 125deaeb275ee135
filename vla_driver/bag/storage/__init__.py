# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The storage files of a bag, whole or not: found, opened, merged by log time, typed.  Free of ROS and of observation.

Everything that reads a bag goes through `bagfiles.BagFiles`, so that playing, open loop and training see the same.
"""
