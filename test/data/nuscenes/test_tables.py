# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The tables of a tiny nuScenes folder become calibrated pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vla_driver.data.nuscenes.tables import read_samples, rotation_matrix
from vla_driver.types import CAMERA_NAMES, InvalidInput


def test_tables_become_calibrated_pictures(nuscenes: Path) -> None:
    first, second = read_samples(nuscenes)
    assert (first.token, first.scene, second.token) == ('s0', 'scene-0001', 's1')
    assert set(first.pictures) == set(CAMERA_NAMES)
    front = first.pictures['front']
    assert front.file == 'samples/CAM_FRONT/0.jpg'
    assert (front.camera.width, front.camera.height) == (64, 48)
    # The optical axis z points ahead (x of base_link), the picture's x to the right (-y).
    np.testing.assert_allclose(front.camera.base_from_camera[:3, :3] @ [0, 0, 1], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(front.camera.base_from_camera[:3, :3] @ [1, 0, 0], [0, -1, 0], atol=1e-12)
    np.testing.assert_allclose(front.camera.base_from_camera[:3, 3], [1.5, 0.1, 1.6])


def test_rotation_matrix() -> None:
    half = np.sqrt(0.5)
    np.testing.assert_allclose(rotation_matrix([half, 0, 0, half]), [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-12)
    with pytest.raises(InvalidInput, match='other than zero'):
        rotation_matrix([0, 0, 0, 0])


def test_bad_folders_and_tables_are_named(nuscenes: Path, tmp_path: Path) -> None:
    def message(folder: Path = nuscenes, version: str | None = None) -> str:
        with pytest.raises(InvalidInput) as error:
            list(read_samples(folder, version))
        return str(error.value)

    assert 'is no folder' in message(tmp_path / 'nowhere')
    assert 'holds 0 folders v1.0-*, among CAM_BACK' in message(nuscenes / 'samples')
    assert 'holds no v1.0-trainval/; it holds samples, v1.0-mini' in message(version='v1.0-trainval')
    tables = nuscenes / 'v1.0-mini'
    (tables / 'sensor.json').rename(tables / 'away')
    assert 'sensor.json: this table is missing' in message()
    (tables / 'sensor.json').write_text('[')
    assert 'sensor.json: no JSON table' in message()
    (tables / 'sensor.json').write_text('[{"token": "x"}]')
    assert "row x has no 'channel'" in message()
    (tables / 'sensor.json').write_text('[]')
    assert 'names an unknown calibrated sensor' in message()
