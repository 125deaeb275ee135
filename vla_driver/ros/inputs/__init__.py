# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What planner and reasoner hear: cameras and their calibration, odometry, a route and a map."""
