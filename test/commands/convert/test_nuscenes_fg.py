# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`convert nuscenes-fg` on a tiny nuScenes folder, with tiny models of the real classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_driver.cli import main
from vla_driver.data.foreground.masks import PairFolder
from vla_driver.types import CAMERA_NAMES


def test_converts_continues_and_names_what_is_missing(
    nuscenes: Path, detector: Path, segmenter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'fg'
    words = ['convert', 'nuscenes-fg', str(nuscenes), '--detector', str(detector), '--segmenter', str(segmenter)]
    words += ['--out', str(out), '--box-threshold', '0.05', '--device', 'cpu']
    lost = nuscenes / 'samples/CAM_BACK/1.jpg'
    lost.rename(tmp_path / 'lost.jpg')
    assert main(words) == 2
    assert 'the picture of back in sample s1 is missing' in capsys.readouterr().err
    (tmp_path / 'lost.jpg').rename(lost)
    before = (out / 'masks/s0/front.png').stat().st_mtime_ns
    assert main(words) == 0
    assert '1 key frames added, 2 in all' in capsys.readouterr().out
    assert (out / 'masks/s0/front.png').stat().st_mtime_ns == before  # not made again
    pairs = PairFolder(out)
    assert pairs.scenes == ['scene-0001'] * 2
    frame = pairs.frame(1)
    assert set(frame.views) == set(CAMERA_NAMES)
    assert frame.views['front'].mask.shape == (48, 64) and frame.views['front'].mask.max() <= 5
    assert main([*words[:-4], '--box-threshold', '0.4']) == 2
    assert 'begun with other settings (settings differ' in capsys.readouterr().err


def test_a_limit_below_one_is_refused(nuscenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        'convert',
        'nuscenes-fg',
        str(nuscenes),
        '--detector',
        'd',
        '--segmenter',
        's',
        '--out',
        str(tmp_path / 'x'),
    ]
    assert main([*words, '--limit', '0']) == 2
    assert '--limit 0, expected 1 or more' in capsys.readouterr().err
