#!/usr/bin/env bash
# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
#
# torch 2.13.0: F.grouped_mm in bfloat16 on the CPU compiles and keeps a kernel for every number of rows that a group has.
#
# In a mixture of experts the rows of a group change at every step, so a training run grows by gigabytes and compiles all
# the time.  With groups padded to multiples of 32 rows there are few different numbers, and memory stays flat.
# ONEDNN_PRIMITIVE_CACHE_CAPACITY=32 only slows the growth.
#
# Seen (November 2026, Python 3.11, x86-64 with AVX512-BF16, which the machine needs; one thread, 100 passes with backward):
#   the same row counts: 0 MB
#   new row counts: 126 MB
# Fails if the first line grows beyond 20 MB or the second one falls below 60 MB.
set -euo pipefail
grep -q avx512_bf16 /proc/cpuinfo || { echo 'needs a processor with AVX512-BF16' >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 2>"$work/pip.txt" ||
  { cat "$work/pip.txt" >&2; exit 1; }
cat >"$work/grow.py" <<'PY'
import torch
import torch.nn.functional as F


def resident_mb():
    with open('/proc/self/statm') as f:
        return int(f.read().split()[1]) * 4 // 1024


torch.set_num_threads(1)
torch.manual_seed(0)
rows, experts = 2400, 16
x = torch.randn(rows, 256, dtype=torch.bfloat16, requires_grad=True)
w = torch.randn(experts, 256, 320, dtype=torch.bfloat16, requires_grad=True)
gradient = torch.randn(rows, 320, dtype=torch.bfloat16)


def offsets():
    chosen = torch.randint(experts, (rows,))
    return torch.bincount(chosen, minlength=experts).cumsum(0).to(torch.int32)


same = offsets()
for _ in range(3):
    F.grouped_mm(x, w, offs=same).backward(gradient)
grown = {}
for name, of in (('the same row counts', lambda: same), ('new row counts', offsets)):
    before = resident_mb()
    for _ in range(100):
        F.grouped_mm(x, w, offs=of()).backward(gradient)
    grown[name] = resident_mb() - before
    print(f'{name}: {grown[name]} MB')
raise SystemExit(not (grown['the same row counts'] <= 20 and grown['new row counts'] >= 60))
PY
"$work/env/bin/python" "$work/grow.py"
