#!/usr/bin/env bash
# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
#
# deepspeed 0.19.8: deepspeed.initialize fails on a model that has a parameter without a dimension (a learned scale or
# temperature, torch.tensor(1.0)), also on one process; torch's own DistributedDataParallel takes it.
#
# The engine sends every parameter from rank 0 as bytes, `p.data.view(torch.uint8)`, and torch refuses that view for 0
# dimensions.  The same parameter in the shape [1] works.
#
# Seen (November 2026, Python 3.11, gloo on a CPU, torch 2.13.0):
#   shape [1]: initialized
#   shape []: RuntimeError: self.dim() cannot be 0 to view Float as Byte (different element sizes)
#   shape [], DistributedDataParallel: initialized
# Fails if one of these changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check setuptools==80.9.0 wheel==0.45.1 2>"$work/pip.txt" ||
  { cat "$work/pip.txt" >&2; exit 1; }
DS_BUILD_OPS=0 "$work/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 deepspeed==0.19.8 \
  2>"$work/pip.txt" || { cat "$work/pip.txt" >&2; exit 1; }
cat >"$work/scalar.py" <<'PY'
import sys

import deepspeed
import deepspeed.ops
import torch
from torch import nn

deepspeed.ops.__compatible_ops__ = {}  # else an all-reduce is compiled first, for minutes
torch.manual_seed(0)


class Scaled(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.ones(shape))

    def forward(self, x):
        return self.scale * self.linear(x)


deepspeed.init_distributed('gloo')
way, shape = sys.argv[1], [1] if sys.argv[2] == '1' else []
model = Scaled(shape)
try:
    if way == 'ddp':
        nn.parallel.DistributedDataParallel(model)
    else:
        optimizer = torch.optim.AdamW(model.parameters())
        deepspeed.initialize(model=model, optimizer=optimizer, config={'train_micro_batch_size_per_gpu': 1})
    print('said: initialized')
except RuntimeError as error:
    print('said: RuntimeError:', str(error).splitlines()[0])
PY
ask() {
  RANK=0 LOCAL_RANK=0 WORLD_SIZE=1 MASTER_ADDR=127.0.0.1 MASTER_PORT=$((20000 + RANDOM % 20000)) DS_ACCELERATOR=cpu \
    "$work/env/bin/python" "$work/scalar.py" "$@" 2>"$work/err.txt" | sed -n 's/^said: //p'
}
one=$(ask engine 1) none=$(ask engine 0) ddp=$(ask ddp 0)
echo "shape [1]: $one"
echo "shape []: $none"
echo "shape [], DistributedDataParallel: $ddp"
[ "$one" = initialized ] && [ "$ddp" = initialized ] && [[ $none == *'self.dim() cannot be 0'* ]]
