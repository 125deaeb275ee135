# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Every knob, declared once: the nodes' parameters, launch arguments and command-line options come from these tables.

A table is a frozen dataclass (`knob.py`): one file for each node (`nodes/`) and for what several share
(`shared.py`, `policy.py`, `pruning.py`, `scenario.py`).  `options.py`, `launch_arguments.py` and
`nodes/parameter_file.py` turn tables into options, launch arguments and config/driver.yaml;
`ros/base/parameters.py` into ROS parameters.
"""
