#!/usr/bin/env bash
# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
#
# Train the shipped checkpoints, models/nano and models/nano-blind, from nothing: some hours on two CPU cores.
# The shipped ones came about in these steps, with detours (models/nano/README.md); at full length the script has not been run
# as a whole.  Folders that exist are continued, so it can be stopped and started again.
# usage: scripts/train_nano.sh [--rehearse] [WORK_DIR]        (default: runs/nano; data and runs go there)
#   --rehearse    every step with as little as shows that it works; the checkpoints go to WORK_DIR/models
set -euo pipefail
cd "$(dirname "$0")/.."
models=models rehearse=
if [ "${1:-}" = --rehearse ]; then
  rehearse=yes
  shift
fi
case ${1:-} in -*) echo "unknown option $1; usage: $0 [--rehearse] [WORK_DIR]" >&2; exit 2 ;; esac
work=${1:-runs/nano}
[ -z "$rehearse" ] || models=$work/models
driver=.venv/bin/vla_driver
mkdir -p "$work"

# An allocator that keeps freed memory saves a quarter of the time (page faults); optional.
for library in /usr/lib/*/libjemalloc.so.2; do
  [ -e "$library" ] || continue
  export LD_PRELOAD=$library MALLOC_CONF=background_thread:false,dirty_decay_ms:-1,muzzy_decay_ms:-1
done

amount() { # WHOLE REHEARSED
  if [ -n "$rehearse" ]; then echo "$2"; else echo "$1"; fi
}

collect() { # NAME EPISODES SEED SECONDS [OPTION...]
  local name=$1 episodes seed=$3 seconds
  episodes=$(amount "$2" 4) seconds=$(amount "$4" 8)
  shift 4
  LP_NUM_THREADS=1 OMP_NUM_THREADS=1 "$driver" train collect --out "$work/data/$name" --episodes "$episodes" --seed "$seed" \
    --seconds "$seconds" "$@"
}

train() { # NAME MINUTES OPTION...
  local out=$work/$1 minutes
  minutes=$(amount "$2" 0.2)
  shift 2
  [ -e "$out/done" ] && return
  if [ -d "$out/state" ]; then set -- "$@" --resume; fi
  "$driver" train policy --out "$out" --minutes "$minutes" "$@"
  touch "$out/done"
}

data=$work/data
frozen=(--freeze-vision --features "$work/features" --threads 2)
# 1. The expert drives, with disturbances; the whole model imitates it.  This is what the encoder learns from.
collect expert 300 0 90
train whole 60 --threads 2 --data "$data/expert" --seed 1 --learning-rate 8e-4
# 2. The encoder is frozen, its features are kept on disk, and the panorama is learned: 8 times as many ticks a second.
train reflex1 7 "${frozen[@]}" --stage reflex --data "$data/expert" --init "$work/whole" --batch 32 --ticks 1 \
  --seed 2 --learning-rate 8e-4
# 3. Four rounds of DAgger: the model drives, the expert says what it would have done.  In the last one, anchors of speed
# are fitted anew to all of it.
all=("$data/expert")
dagger() { # ROUND EPISODES SEED MINUTES [OPTION...]
  local round=$1 episodes=$2 seed=$3 minutes=$4
  shift 4
  collect "dagger$round" "$episodes" "$seed" 65 --model "$work/reflex$round" --learner 0.8
  all+=("$data/dagger$round")
  train "reflex$((round + 1))" "$minutes" "${frozen[@]}" --stage reflex --data "${all[@]}" --init "$work/reflex$round" --batch 32 \
    --ticks 1 --seed "$((round + 2))" --learning-rate 8e-4 "$@"
}
dagger 1 56 21 7
dagger 2 56 31 7
dagger 3 50 41 8
dagger 4 110 51 9 --refit-anchors
# 4. Everything but the encoder together.
train nano 14 "${frozen[@]}" --data "${all[@]}" --init "$work/reflex5" --batch 4 --ticks 3 --seed 22 \
  --learning-rate 4e-4
# 5. The control without eyes.
train blind 4 --data "${all[@]}" --blind --config config/blind.json --seed 1 --learning-rate 8e-4 --batch 16 --ticks 2 \
  --threads 1

"$driver" train export --run "$work/nano" --out "$models/nano"
"$driver" train export --run "$work/blind" --out "$models/nano-blind"
# 6. Which tokens to keep: ReconPruner behind the encoder, and heads that say the same inside it.
if [ ! -e "$work/pruner/done" ]; then
  resume=()
  [ -d "$work/pruner/state" ] && resume=(--resume)
  "$driver" train pruner --data "${all[@]}" --model "$models/nano" --out "$work/pruner" --features "$work/features" --guide 1 \
    --steps "$(amount 1600 8)" --batch 8 --decoder-layers 2 --cell 8 --decoder-steps "$(amount 100 4)" --warmup "$(amount 60 2)" \
    "${resume[@]}"
  touch "$work/pruner/done"
fi
mkdir -p "$models/nano/pruner"
cp "$work/pruner/config.json" "$work/pruner/model.safetensors" "$models/nano/pruner"
for block in 1 2; do
  [ -e "$work/early$block/config.json" ] ||
    "$driver" train early-head --data "${all[@]}" --model "$models/nano" --block "$block" --out "$work/early$block" --steps "$(amount 1000 8)"
  mkdir -p "$models/nano/early$block"
  cp "$work/early$block/config.json" "$work/early$block/model.safetensors" "$models/nano/early$block"
done
