#!/usr/bin/env bash
# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
#
# Train the shipped checkpoints, models/nano and models/nano-blind, from nothing: some hours on two CPU cores.
# The shipped ones came about in these steps, with detours (models/nano/README.md); at full length the script has not been
# run as a whole.  Folders that exist are continued, so it can be stopped and started again.
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
  LP_NUM_THREADS=1 OMP_NUM_THREADS=1 "$driver" train collect --out "$work/data/$name" --episodes "$episodes" \
    --seed "$seed" --seconds "$seconds" "$@"
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

data=$work/data towns=$work/towns
frozen=(--freeze-vision --features "$work/features" --threads 2)
# 0. Towns of many shapes, by SUMO's generator (a package of its own, for this alone).
if [ ! -e "$towns/done" ]; then
  generator=${NETGENERATE:-$work/sumo/bin/netgenerate}
  if [ ! -x "$generator" ]; then
    python3 -m venv "$work/sumo"
    "$work/sumo/bin/pip" install --quiet eclipse-sumo==1.28.0
  fi
  .venv/bin/python scripts/make_training_towns.py "$generator" "$towns" "$(amount 48 4)"
  touch "$towns/done"
fi
# 1. The expert drives, with disturbances, in light and dense traffic; the encoder learns depth, classes and the scene.
collect expert 354 1 70 --towns "$towns" --density 4 14 --people 2 12
train vision 60 --stage vision --threads 2 --data "$data/expert" --batch 16 --ticks 1 --seed 1 --learning-rate 8e-4
# 2. The encoder is frozen and its features are kept on disk.  From the kept tokens alone, and from what it remembers,
# the model learns first answers: how to steer, and whether to go.  config/nano.json names the parts.  At first with
# pruning in the loop: what is left of the tokens must lead to what all of them lead to.
all=("$data/expert")
pruned=(--prune random divprune)
reflex() { # NAME MINUTES FROM SEED [OPTION...]
  local name=$1 minutes=$2 from=$3 seed=$4
  shift 4
  train "$name" "$minutes" "${frozen[@]}" --stage reflex --data "${all[@]}" --init "$work/$from" --batch 12 --ticks 4 \
    --seed "$seed" --learning-rate 7e-4 "$@"
}
# 3. Then language model, experts, intents and everybody's future together add to them; later, the first answers stay.
policy() { # NAME MINUTES FROM SEED [OPTION...]
  local name=$1 minutes=$2 from=$3 seed=$4
  shift 4
  train "$name" "$minutes" "${frozen[@]}" --stage policy --data "${all[@]}" --init "$work/$from" --batch 5 --ticks 4 \
    --seed "$seed" --learning-rate 4e-4 "$@"
}
# 4. Rounds of DAgger between them: the model drives, the expert says what it would have done.
dagger() { # NAME MODEL EPISODES SEED SECONDS LEARNER [OPTION...]
  local name=$1 model=$2 episodes=$3 seed=$4 seconds=$5 learner=$6
  shift 6
  collect "$name" "$episodes" "$seed" "$seconds" --model "$work/$model" --learner "$learner" "$@"
  all+=("$data/$name")
}
queues=(--towns "$towns" --density 7 18 --people 4 14)
reflex reflex1 8 vision 2 "${pruned[@]}" --config config/nano.json --refit-anchors
dagger queues1 reflex1 60 201 70 0.85 "${queues[@]}"
reflex reflex2 6 reflex1 3 "${pruned[@]}"
dagger queues2 reflex2 64 301 70 0.85 "${queues[@]}"
reflex reflex3 12 reflex2 4 "${pruned[@]}"
policy policy1 32 reflex3 11 "${pruned[@]}"
dagger queues3 policy1 96 401 70 0.85 "${queues[@]}"
reflex reflex4 14 policy1 12 "${pruned[@]}"
reflex reflex5 12 reflex4 15
policy policy2 30 reflex5 16 --freeze-reflex
dagger queues4 policy2 128 501 70 0.85 "${queues[@]}"
reflex reflex6 13 policy2 17
policy policy3 18 reflex6 18 --freeze-reflex
dagger mixed policy3 130 601 70 0.85 --towns "$towns" --density 3 16 --people 2 12
reflex reflex7 12 policy3 19
dagger turns1 policy3 160 701 50 0.9 --towns "$towns" --density 0 6 --people 0 6
dagger turns2 policy3 160 801 50 0.9 --density 0 8 --people 0 6
reflex reflex8 16 reflex7 20
collect gentle 91 901 60 --towns "$towns" --density 0 10 --people 0 8
all+=("$data/gentle")
policy nano 18 reflex8 21 --freeze-reflex
# 5. Which tokens are foreground: ReconPruner, on the frozen encoder.
if [ ! -e "$work/pruner/done" ]; then
  resume=()
  [ -d "$work/pruner/state" ] && resume=(--resume)
  "$driver" train pruner --data "${all[@]:0:5}" --model "$work/nano" --out "$work/pruner" \
    --features "$work/features" --guide 1 --steps "$(amount 1600 8)" --batch 8 --decoder-layers 2 --cell 8 \
    --decoder-steps "$(amount 100 4)" --warmup "$(amount 60 2)" --threads 1 "${resume[@]}"
  touch "$work/pruner/done"
fi
# 6. The control without eyes.
train blind 4 --data "${all[@]}" --blind --config config/blind.json --seed 1 --learning-rate 8e-4 --batch 16 --ticks 2 \
  --threads 1

"$driver" train export --run "$work/nano" --out "$models/nano" --replace
"$driver" train export --run "$work/blind" --out "$models/nano-blind" --replace
# 7. Which tokens the plan needs: PlanPruner.  And heads that say inside the encoder what ReconPruner says behind it.
shipped() { # FOLDER NAME
  mkdir -p "$models/nano/$2"
  cp "$work/$1/config.json" "$work/$1/model.safetensors" "$models/nano/$2"
}
[ -e "$work/plan/config.json" ] ||
  "$driver" train plan-pruner --data "${all[@]}" --model "$work/nano" --out "$work/plan" --features "$work/features"
shipped plan plan
shipped pruner pruner
for block in 1 2; do
  [ -e "$work/early$block/config.json" ] ||
    "$driver" train early-head --data "${all[@]:0:5}" --model "$work/nano" --teacher "$work/pruner" --block "$block" \
      --out "$work/early$block" --steps "$(amount 1000 8)" --threads 1
  shipped "early$block" "early$block"
done
