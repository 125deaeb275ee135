# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Serve pip (`pip install -e .`); colcon builds through CMakeLists.txt.  The metadata is in setup.cfg."""

from setuptools import setup

setup()
