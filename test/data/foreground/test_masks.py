# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Foreground masks, and folders of pairs written and read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vla_driver.data.foreground.frames import open_frames
from vla_driver.data.foreground.masks import (
    Foreground,
    PairFolder,
    PairRecord,
    PairWriter,
    mask_of_semantic,
    read_lines,
    shares,
)
from vla_driver.observation.decode import encode_jpeg
from vla_driver.sim.world.scene import SemanticClass
from vla_driver.types import InvalidInput


def test_mask_classes_of_a_hand_made_label_map() -> None:
    kinds = SemanticClass
    label = np.array(
        [
            [kinds.SKY, kinds.BUILDING, kinds.VEGETATION, kinds.POLE, kinds.UNLABELED],
            [kinds.TRAFFIC_LIGHT, kinds.TRAFFIC_SIGN, kinds.BARRIER, kinds.SIDEWALK, kinds.TERRAIN],
            [kinds.CAR, kinds.TRUCK, kinds.BICYCLE, kinds.PEDESTRIAN, kinds.CROSSWALK],
            [kinds.ROAD, kinds.LANE_MARKING, kinds.ROAD, kinds.ROAD, kinds.ROAD],
        ],
        dtype=np.uint8,
    )
    assert mask_of_semantic(label).tolist() == [[0, 0, 0, 0, 0], [4, 4, 5, 0, 0], [3, 3, 3, 1, 2], [2, 2, 2, 2, 2]]
    assert mask_of_semantic(label).dtype == np.uint8


def test_shares_count_pixels_and_leave_out_road() -> None:
    mask = np.zeros((4, 8), dtype=np.uint8)
    mask[:, :4] = Foreground.ROAD
    mask[0, 0] = Foreground.HUMAN
    foreground, objects = shares(mask, width=2, height=1)
    assert foreground.tolist() == [[1.0, 0.0]]
    assert objects.tolist() == [[1 / 16, 0.0]]
    fine = shares(mask, width=16, height=8)
    assert fine.shape == (2, 8, 16)
    assert fine[1].sum() == 4 and fine[1, :2, :2].all()


def _record(name: str) -> PairRecord:
    return PairRecord(f'{name}.jpg', f'masks/{name}.png', 8, 4, np.eye(3).tolist(), np.eye(4).tolist(), 0.5)


def test_pairs_round_trip_and_continue_after_an_interruption(tmp_path: Path) -> None:
    out = tmp_path / 'pairs'
    writer = PairWriter(out, source='test', images='..', settings={'a': 1})
    image = np.full((4, 8, 3), 90, dtype=np.uint8)
    (tmp_path / 'front.jpg').write_bytes(encode_jpeg(image))
    mask = np.arange(32, dtype=np.uint8).reshape(4, 8) % 6
    assert writer.write_mask('front', mask) == 'masks/front.png'
    writer.add('one', 'scene', {'front': _record('front')})
    with (out / 'frames.jsonl').open('a') as stream:
        stream.write('{"id": "two", "sc')  # the machine went off here
    again = PairWriter(out, source='test', images='..', settings={'a': 1})
    assert again.done == {'one'}
    again.add('three', 'scene', {'front': _record('front')})
    assert [line['id'] for line in read_lines(out)] == ['one', 'three']
    folder = PairFolder(out)
    frame = folder.frame(0)
    assert folder.scenes == ['scene', 'scene'] and frame.id == 'one'
    assert np.array_equal(frame.views['front'].mask, mask)
    assert np.abs(frame.views['front'].image.astype(int) - 90).max() <= 2
    with pytest.raises(InvalidInput, match='begun with other settings'):
        PairWriter(out, source='test', images='..', settings={'a': 2})
    (out / 'masks/front.png').unlink()
    with pytest.raises(InvalidInput, match='the mask of front in one is missing'):
        folder.frame(0)


def test_bad_pair_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match='is no folder'):
        open_frames([tmp_path / 'nowhere'])
    with pytest.raises(InvalidInput, match='no episodes'):
        open_frames([tmp_path])
    (tmp_path / 'index.json').write_text('{"format": "vla_driver.foreground", "version": 9}')
    with pytest.raises(InvalidInput, match=r'expected format .* version 1'):
        open_frames([tmp_path])
    with pytest.raises(InvalidInput, match=r'expected format .* version 1'):
        PairWriter(tmp_path, source='test', images='.')
    full = tmp_path / 'full'
    full.mkdir()
    (full / 'notes.txt').write_text('mine')
    with pytest.raises(InvalidInput, match='not empty'):
        PairWriter(full, source='test', images='.')
    PairWriter(tmp_path / 'none', source='test', images='.')
    with pytest.raises(InvalidInput, match='holds no pairs yet'):
        open_frames([tmp_path / 'none'])
