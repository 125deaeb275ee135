#!/usr/bin/env bash
# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
#
# Train the shipped checkpoints, models/nano and models/nano-blind, from nothing: about two hours on two CPU cores.
# Folders that exist are continued, so the script can be stopped and started again.
# usage: scripts/train_nano.sh [WORK_DIR]        (default: runs/nano; data and runs go there)
set -euo pipefail
cd "$(dirname "$0")/.."
work=${1:-runs/nano}
driver=.venv/bin/vla_driver
mkdir -p "$work"

# An allocator that keeps freed memory saves a quarter of the time (page faults); optional.
for library in /usr/lib/*/libjemalloc.so.2; do
  [ -e "$library" ] || continue
  export LD_PRELOAD=$library MALLOC_CONF=background_thread:false,dirty_decay_ms:-1,muzzy_decay_ms:-1
done

collect() { # NAME EPISODES SEED [OPTION...]
  local name=$1 episodes=$2 seed=$3
  shift 3
  LP_NUM_THREADS=1 OMP_NUM_THREADS=1 "$driver" train collect --out "$work/data/$name" --episodes "$episodes" --seed "$seed" "$@"
}

train() { # NAME OPTION...
  local out=$work/$1
  shift
  [ -e "$out/done" ] && return
  if [ -d "$out/state" ]; then set -- "$@" --resume; fi
  "$driver" train policy --out "$out" "$@"
  touch "$out/done"
}

data=$work/data
# 1. The expert drives, with disturbances; imitation.
collect expert 173 0 --seconds 90
train nano1 --processes 2 --threads 1 --data "$data/expert" --minutes 38 --seed 1 --learning-rate 8e-4
# 2. Two rounds of DAgger: the model drives, the expert says what it would have done.
collect dagger1 70 1 --seconds 80 --model "$work/nano1" --learner 0.8
train nano2 --processes 2 --threads 1 --data "$data/expert" "$data/dagger1" --init "$work/nano1" --minutes 14 --seed 2 --learning-rate 6e-4
collect dagger2 70 2 --seconds 80 --model "$work/nano2" --learner 0.8
train nano3 --processes 2 --threads 1 --data "$data/expert" "$data/dagger1" "$data/dagger2" --init "$work/nano2" --minutes 17 --seed 3 --learning-rate 6e-4
# 3. The control without eyes.
train blind --data "$data/expert" --blind --minutes 7 --seed 1 --learning-rate 8e-4 --batch 16

"$driver" train export --run "$work/nano3" --out models/nano
"$driver" train export --run "$work/blind" --out models/nano-blind
