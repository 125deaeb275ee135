# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The command's words and arguments are those of `train/pruner.py`."""

from vla_driver.train.pruner import __doc__, add_arguments, run  # noqa: F401
