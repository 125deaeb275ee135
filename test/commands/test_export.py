# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vla_driver.cli import main
from vla_driver.model.export.export import export_checkpoint
from vla_driver.model.native.vla import VlaModel
from vla_driver.policies.loading import load_policy
from vla_driver.types import InvalidInput, Observation


@pytest.mark.usefixtures('float32')
def test_a_blind_checkpoint_is_exported_and_drives(
    small_model: Callable[..., VlaModel],
    observe: Callable[..., Observation],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import numpy as np

    folder = tmp_path / 'blind'
    small_model(blind=True).save_pretrained(folder)
    assert main(['export', str(folder)]) == 0
    said = capsys.readouterr().out
    assert f'{folder / "graphs"}: 1 graphs of opset 20' in said
    assert 'allowed where they drive: 0.001 m in float32' in said
    graphs, native = (load_policy(folder, engine=engine, threads=1) for engine in ('onnx', 'torch'))
    assert (graphs.engine.engine, native.engine.engine) == ('onnx', 'torch')
    for index in range(3):
        seen = observe(index)
        here, there = (policy.plan(seen).trajectory.positions_m for policy in (graphs, native))
        np.testing.assert_allclose(here, there, atol=1e-4)
    with pytest.raises(InvalidInput, match='the blind control has no visual tokens'):
        load_policy(folder, pruner='recon', engine='onnx')


def test_what_is_no_native_checkpoint_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, graphs_made: Path
) -> None:
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full' / 'photos').write_text('')
    with pytest.raises(InvalidInput, match='is not empty and holds other things than graphs'):
        export_checkpoint(graphs_made, tmp_path / 'full')
    assert main(['export', 'nanoo']) == 2
    assert 'nanoo' in capsys.readouterr().err
