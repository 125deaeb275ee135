# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Training runs of several processes: started by torchrun, parted by DeepSpeed, experts spread by all-to-all."""
