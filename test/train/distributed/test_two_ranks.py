# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Two processes over gloo, with ZeRO and with experts that are spread, train what one process trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fixtures import two_ranks
from fixtures.two_ranks import HALF, STEPS, go_on, make
from safetensors.torch import load_file

from vla_driver.model.native.loading import load_model
from vla_driver.train.distributed.crew import Crew
from vla_driver.train.distributed.traffic import Scale

pytest.importorskip('deepspeed', reason='the extra `distributed` is not installed')
EXPERTS: dict[str, Any] = {'num_experts': 4, 'experts_per_token': 2, 'expert_size': 16, 'shared_size': 16}


@pytest.fixture(scope='module')
def run(tmp_path_factory: pytest.TempPathFactory, episodes: Path, small_model_file: Path) -> dict[str, Any]:
    """What one process and two found; the folder of it all is under 'folder'."""
    folder = tmp_path_factory.mktemp('two_ranks')
    settings = json.loads(small_model_file.read_text())
    settings['language_config'] |= EXPERTS
    (folder / 'config.json').write_text(json.dumps(settings))
    (folder / 'episodes').symlink_to(episodes)
    with pytest.MonkeyPatch.context() as patch:
        # In bfloat16 the order of sums shows in the third digit.
        patch.setenv('VLA_DRIVER_PRECISION', 'float32')
        one = go_on(make(folder, Crew()), folder, STEPS, folder / 'one')
        again = make(folder, Crew())
        command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']
        done = subprocess.run(
            [*command, two_ranks.__file__, str(folder)],
            env=os.environ | {'OMP_NUM_THREADS': '1'},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        again.load(folder / 'two')
        back = go_on(again, folder, STEPS)
    found = json.loads((folder / 'found.json').read_text())
    return found | {'one': one, 'back': back, 'folder': folder, 'model': again.model}


def test_two_processes_have_the_losses_of_one(run: dict[str, Any]) -> None:
    """Within 1e-3 over 20 steps, whose losses differ among each other by much more; so have the gradients' norms."""
    assert len(run['one']) == len(run['whole']) == STEPS
    for one, two in list(zip(run['one'], run['whole'], strict=True))[1:]:
        assert two['loss'] == pytest.approx(one['loss'], abs=1e-3)
        assert two['grad_norm'] == pytest.approx(one['grad_norm'], rel=1e-3)
        assert two['load_max'] == pytest.approx(one['load_max'])
    losses = [row['loss'] for row in run['one']]
    assert max(losses) - min(losses) > 0.5


def test_tokens_go_to_their_experts_and_back(run: dict[str, Any]) -> None:
    """By all-to-all: counts and tokens out, answers back, and the gradients of both; each holds half of the experts."""
    assert run['calls']['all_to_all_single'] == 5
    assert run['held'] and all(shape[0] == 2 for shape in run['held'].values())


def test_traffic_is_as_foretold(run: dict[str, Any]) -> None:
    """What a process puts into the exchanges of one step, against the formulas of docs/scaling.md."""
    model, language = run['model'], run['model'].config.language_config
    optimised = load_file(run['folder'] / 'two' / 'state' / 'state.safetensors')
    names = {name.removeprefix('optimizer.exp_avg.') for name in optimised if name.startswith('optimizer.exp_avg.')}
    sizes = {name: p.numel() for name, p in model.named_parameters() if name in names}
    experts = sum(size for name, size in sizes.items() if '.experts.' in name)
    scale = Scale(
        dense=sum(sizes.values()) - experts,
        experts=experts,
        processes=2,
        expert_parallel=2,
        tokens=run['tokens'],
        width=language.hidden_size,
        k=language.experts_per_token,
    )
    sent = run['megabytes']
    # What comes back as a gradient is what went out, but what others sent here is another number of tokens.
    assert sent['all_to_all_single'] == pytest.approx(scale.dispatch_mb, rel=0.3)
    reduced = sum(sent.get(name, 0.0) for name in ('reduce', 'all_reduce', 'reduce_scatter_tensor'))
    assert reduced == pytest.approx(scale.gradients_mb, rel=0.02)
    gathered = sum(sent.get(name, 0.0) for name in ('all_gather', 'all_gather_into_tensor'))
    assert gathered == pytest.approx(scale.weights_mb, rel=0.02)


def test_a_run_of_two_goes_on_in_one(run: dict[str, Any]) -> None:
    for one, back in zip(run['one'][HALF:], run['back'], strict=True):
        assert back['loss'] == pytest.approx(one['loss'], abs=1e-3)


def test_a_run_of_one_goes_on_in_two(run: dict[str, Any]) -> None:
    """With stage 2 of ZeRO, and what it saves is whole."""
    for one, two in zip(run['one'][HALF:], run['resumed'], strict=True):
        assert two['loss'] == pytest.approx(one['loss'], abs=1e-3)
    assert load_model(run['folder'] / 'two-of-one').config.language_config.num_experts == 4


def test_what_two_save_is_what_one_saves(run: dict[str, Any]) -> None:
    """Weights, averages and moments, whole and under the same names."""
    one, two = (load_file(run['folder'] / name / 'state' / 'state.safetensors') for name in ('one', 'two'))
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert two[name].shape == value.shape and two[name].dtype == value.dtype, name
        assert (two[name] - value).abs().max() <= 1e-4 * (1.0 + value.abs().max()), name
