# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The command's words and arguments are those of `train/usual_view.py`."""

from vla_driver.train.usual_view import __doc__, add_arguments, run  # noqa: F401
