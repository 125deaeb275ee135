#!/usr/bin/env bash
# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
#
# Train models/nano-line from models/nano: a model for drivers of whom no junction is announced.  Under an hour on two
# CPU cores.  Folders that exist are continued, so it can be stopped and started again.
# usage: scripts/train_nano_line.sh [--rehearse] [WORK_DIR]        (default: runs/nano-line; data and runs go there)
#   --rehearse    every step with as little as shows that it works; the checkpoint goes to WORK_DIR/models
set -euo pipefail
cd "$(dirname "$0")/.."
models=models rehearse=
if [ "${1:-}" = --rehearse ]; then
  rehearse=yes
  shift
fi
case ${1:-} in -*) echo "unknown option $1; usage: $0 [--rehearse] [WORK_DIR]" >&2; exit 2 ;; esac
work=${1:-runs/nano-line}
[ -z "$rehearse" ] || models=$work/models
driver=.venv/bin/vla_driver data=$work/data towns=$work/towns
mkdir -p "$work"

amount() { # WHOLE REHEARSED
  if [ -n "$rehearse" ]; then echo "$2"; else echo "$1"; fi
}

collect() { # NAME EPISODES SEED OPTION...
  local name=$1 episodes seed=$3
  episodes=$(amount "$2" 4)
  shift 3
  LP_NUM_THREADS=1 OMP_NUM_THREADS=1 "$driver" train collect --out "$data/$name" --episodes "$episodes" --seed "$seed" \
    --seconds "$(amount 60 8)" "$@"
}

train() { # NAME OPTION...
  local out=$work/$1
  shift
  [ -e "$out/done" ] && return
  if [ -d "$out/state" ]; then set -- "$@" --resume; fi
  "$driver" train policy --data "$data/expert" "$data/dagger" --out "$out" --minutes "$(amount 14 0.2)" --threads 2 \
    --freeze-vision --features "$work/features" --ticks 4 --line-share 0.5 "$@"
  touch "$out/done"
}

# Towns of many shapes, by SUMO's generator (a package of its own, for this alone).
if [ ! -e "$towns/done" ]; then
  generator=${NETGENERATE:-$work/sumo/bin/netgenerate}
  if [ ! -x "$generator" ]; then
    python3 -m venv "$work/sumo"
    "$work/sumo/bin/pip" install --quiet eclipse-sumo==1.28.0
  fi
  .venv/bin/python scripts/make_training_towns.py "$generator" "$towns" "$(amount 32 4)"
  touch "$towns/done"
fi
# The expert drives; then nano does, and the expert says what it would have done.
collect expert 116 5001 --density 0 8 --people 0 6
collect dagger 200 6001 --density 0 10 --people 0 8 --towns "$towns" --model nano --learner 0.6
# First answers on the frozen encoder, then what adds to them; half of the clips are told by the line of the way.
train reflex --init nano --stage reflex --batch 12 --learning-rate 5e-4 --seed 31
train policy --init "$work/reflex" --stage policy --freeze-reflex --batch 5 --learning-rate 2e-4 --seed 32
"$driver" train export --run "$work/policy" --out "$models/nano-line" --replace
