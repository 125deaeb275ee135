# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A small model of the native kind on disk, and a recorded drive with semantics, for the evaluation of pruners."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_driver.bag.write import BagWriter
from vla_driver.geometry.rig import load_rig
from vla_driver.sim.scene import Actor, SemanticClass
from vla_driver.types import ANCHOR_CAMERA, CAMERA_NAMES, EgoState, TurnCommand

START_S, SPEED_MPS = 100.0, 8.0


@pytest.fixture(scope='session')
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_config: Callable[..., Any]) -> Path:
    """A random model: 8 tokens in front, 2 in each other camera, 18 in all."""
    import torch

    from vla_driver.model.vla import VlaModel

    torch.manual_seed(0)
    sizes = {name: [128, 64] if name == ANCHOR_CAMERA else [64, 32] for name in CAMERA_NAMES}
    config = tiny_config(image_sizes=sizes, initializer_range=0.2)
    folder = tmp_path_factory.mktemp('models') / 'tiny'
    model = VlaModel(config)
    # Before any training, the plan is an anchor, whatever the language model has read; here it must count.
    torch.nn.init.normal_(model.flow.output.weight, std=0.2)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope='session')
def labelled_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Straight on at 8 m/s for 4.5 s, pictures every 0.5 s; road below the horizon, a car in front from the right."""
    path = tmp_path_factory.mktemp('bags') / 'labelled'
    rig = load_rig('sim')
    rng = np.random.default_rng(0)
    semantic = np.full((192, 320), SemanticClass.SKY, np.uint8)
    semantic[96:] = SemanticClass.ROAD
    with_car = semantic.copy()
    with_car[60:120, 200:280] = SemanticClass.CAR
    far_away = Actor(7, SemanticClass.CAR, 500.0, 0.0, 0.0, 4.5, 1.8, 1.5)
    with BagWriter(path, rig) as bag:
        bag.write_route(START_S, [[60.0, 0.0], [90.0, 0.0]])
        for tick in range(46):
            stamp_s = START_S + 0.1 * tick
            bag.write_odometry(EgoState(stamp_s, SPEED_MPS * 0.1 * tick, 0.0, 0.0, SPEED_MPS))
            bag.write_agents(stamp_s, [far_away])
            if tick % 5 == 0:
                bag.write_turn_command(stamp_s, TurnCommand.FOLLOW, 50.0)
                for camera in rig:
                    blocks = rng.integers(0, 256, (12, 20, 3), dtype=np.uint8)
                    bag.write_camera(camera.name, stamp_s, np.kron(blocks, np.ones((16, 16, 1), np.uint8)))
                    bag.write_semantic(camera.name, stamp_s, with_car if camera.name == 'front' else semantic)
    return path
