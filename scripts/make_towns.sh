#!/bin/sh
# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
# Author the simulator's towns with Eclipse SUMO's netgenerate (pip install eclipse-sumo==1.28.0; needed here only:
# the networks are committed, and libsumo alone drives them).
# usage: scripts/make_towns.sh BIN_DIR_OF_ECLIPSE_SUMO [OUT_DIR]
set -eu
bin=$1
out=${2:-"$(dirname "$0")/../vla_driver/sim/world/towns"}
mkdir -p "$out"

# Split-phase signals (--tls.layout incoming): one approach is green at a time, so that a left turn meets no
# oncoming traffic; pedestrians still cross the turning lanes.
common="--sidewalks.guess --sidewalks.guess.max-speed 20 --default.sidewalk-width 2.5 --crossings.guess
  --default.speed 11 --default.junctions.radius 7 --junctions.corner-detail 8 --no-turnarounds
  --tls.layout incoming --tls.green.time 9 --output.street-names false --no-warnings"

town() { # NAME OPTION...
  name=$1; shift
  # shellcheck disable=SC2086
  "$bin/netgenerate" $common "$@" -o "$out/$name.net.xml" >/dev/null
  gzip -9 -n -f "$out/$name.net.xml"
  echo "$name: $(wc -c <"$out/$name.net.xml.gz") bytes"
}

lights="--default-junction-type traffic_light"
# training
town train_grid --grid --grid.number 4 --grid.length 120 --grid.attach-length 80 -L 1 $lights --seed 3
town train_blocks --grid --grid.x-number 4 --grid.y-number 3 --grid.x-length 160 --grid.y-length 100 --grid.attach-length 70 -L 2 $lights --perturb-x 12 --perturb-y 12 --seed 5
town train_web --spider --spider.arm-number 5 --spider.circle-number 3 --spider.space-radius 95 -L 1 --tls.guess --tls.guess.threshold 20 --seed 7
town train_rand --rand --rand.iterations 60 --rand.min-distance 80 --rand.max-distance 180 --rand.min-angle 50 --rand.bidi-probability 1 -L 1 --tls.guess --tls.guess.threshold 25 --seed 11
town train_sprawl --rand --rand.iterations 70 --rand.min-distance 90 --rand.max-distance 160 --rand.min-angle 45 --rand.bidi-probability 1 --random-lanenumber -L 2 --tls.guess --tls.guess.threshold 25 --seed 19
# validation
town val_rand --rand --rand.iterations 60 --rand.min-distance 90 --rand.max-distance 170 --rand.min-angle 50 --rand.bidi-probability 1 -L 1 --tls.guess --tls.guess.threshold 25 --seed 23
# test: shapes that training never shows
town test_web --spider --spider.arm-number 7 --spider.circle-number 3 --spider.space-radius 85 --spider.omit-center -L 2 --tls.guess --tls.guess.threshold 20 --seed 29
town test_ladder --grid --grid.x-number 2 --grid.y-number 6 --grid.x-length 180 --grid.y-length 95 --grid.attach-length 90 -L 1 $lights --perturb-x 18 --perturb-y 14 --seed 31
