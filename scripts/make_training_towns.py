#!/usr/bin/env python3
# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Generate training towns of many shapes with Eclipse SUMO's netgenerate (pip install eclipse-sumo==1.28.0).

usage: make_training_towns.py NETGENERATE OUT_DIR [COUNT] [SEED]        (default: 48 towns, seed 0)

Webs, grids and grown towns in turn; arms, rings, spacings, lanes (1 to 3) and signals are drawn.  The shapes of the
test towns are left out: webs of seven arms, and grids two junctions wide.  They are made where they are needed and not
committed; the same arguments give the same towns.  `vla_driver train collect --towns OUT_DIR` drives in them.
"""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
from pathlib import Path

# As in make_towns.sh, which says why.
COMMON = [
    *('--sidewalks.guess', '--sidewalks.guess.max-speed', '20', '--default.sidewalk-width', '2.5'),
    *('--crossings.guess', '--default.speed', '11', '--default.junctions.radius', '7'),
    *('--junctions.corner-detail', '8', '--no-turnarounds', '--tls.layout', 'incoming'),
    *('--output.street-names', 'false', '--no-warnings'),
]


def web(rng: random.Random) -> list[str]:
    """Return the options of a web."""
    options = ['--spider', '--spider.arm-number', str(rng.choice([4, 5, 6, 8])), '--spider.circle-number']
    options += [str(rng.choice([2, 3])), '--spider.space-radius', str(rng.randint(75, 110))]
    return options + (['--spider.omit-center'] if rng.random() < 0.6 else [])


def grid(rng: random.Random) -> list[str]:
    """Return the options of a grid."""
    options = ['--grid', '--grid.x-number', str(rng.randint(3, 4)), '--grid.y-number', str(rng.randint(3, 4))]
    options += ['--grid.x-length', str(rng.randint(90, 170)), '--grid.y-length', str(rng.randint(90, 140))]
    shift = rng.randint(0, 20)
    return [*options, '--grid.attach-length', '80', '--perturb-x', str(shift), '--perturb-y', str(shift)]


def grown(rng: random.Random) -> list[str]:
    """Return the options of a town that grew."""
    options = ['--rand', '--rand.iterations', str(rng.randint(40, 70)), '--rand.bidi-probability', '1']
    options += ['--rand.min-distance', str(rng.randint(75, 95)), '--rand.max-distance', str(rng.randint(140, 180))]
    options += ['--rand.min-angle', str(rng.randint(45, 55))]
    return options + (['--random-lanenumber'] if rng.random() < 0.5 else [])


def main() -> int:
    """Make the towns; return the exit status."""
    if not 3 <= len(sys.argv) <= 5:
        print(__doc__, file=sys.stderr)
        return 2
    binary, folder = sys.argv[1], Path(sys.argv[2])
    count, seed = (int(sys.argv[k]) if len(sys.argv) > k else fallback for k, fallback in ((3, 48), (4, 0)))
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rng = random.Random(f'{seed}-{number}')
        kind = (web, grid, web, grown)[number % 4]
        lanes = rng.choice([1, 1, 2, 2, 2, 3]) if kind is not grown else rng.choice([1, 1, 2])
        lights = (
            ['--tls.guess', '--tls.guess.threshold', str(rng.randint(14, 26))]
            if kind is not grid or rng.random() < 0.3
            else ['--default-junction-type', 'traffic_light']
        )
        options = [*COMMON, '--tls.green.time', str(rng.randint(8, 14)), *kind(rng), *lights, '-L', str(lanes)]
        name = f'town{number:02d}_{kind.__name__}{lanes}'
        plain = folder / f'{name}.net.xml'
        subprocess.run([binary, *options, '--seed', str(rng.randint(1, 9999)), '-o', plain], check=True)
        packed = folder / f'{name}.net.xml.gz'
        packed.write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
        plain.unlink()
        print(f'{packed.name}: {packed.stat().st_size} bytes')
    return 0


if __name__ == '__main__':
    sys.exit(main())
