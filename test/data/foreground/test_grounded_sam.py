# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Masks of Grounding DINO and SAM; both are the real classes, tiny and random."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from vla_driver.data.foreground.grounded_sam import PHRASES, GroundedSam
from vla_driver.data.foreground.masks import Foreground
from vla_driver.types import InvalidInput


def test_the_words_of_each_phrase_are_found(detector: Path, segmenter: Path) -> None:
    model = GroundedSam(detector, segmenter)
    ids = model._dino_processor.tokenizer(model._text)['input_ids']
    words = [model._dino_processor.tokenizer.decode([ids[i] for i in span]) for span in model._spans]
    assert words == [phrase for phrases in PHRASES.values() for phrase in phrases]


def test_masks_are_the_union_of_outlines_small_on_large(
    detector: Path, segmenter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = GroundedSam(detector, segmenter, threshold=0.05)
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    found = model.detect(image)
    assert found, 'the random detector finds something at such a low threshold'
    boxes = np.stack([box for _, box in found])
    assert (boxes >= 0).all() and (boxes[:, [0, 2]] <= 64).all() and (boxes[:, [1, 3]] <= 48).all()
    outlines = model.segment(image, boxes)
    assert outlines.shape == (len(found), 48, 64) and outlines.dtype == np.bool_
    pair = np.zeros((2, 48, 64), dtype=bool)
    pair[0, 10:40], pair[1, 20:30, 5:15] = True, True
    human_first = [(Foreground.HUMAN, boxes[0]), (Foreground.ROAD, boxes[0])]
    monkeypatch.setattr(model, 'detect', lambda _: human_first)
    monkeypatch.setattr(model, 'segment', lambda *_: pair[::-1])
    mask = model(image)
    assert (mask[20:30, 5:15] == Foreground.HUMAN).all() and mask[10, 0] == Foreground.ROAD and mask[0, 0] == 0
    assert (mask > 0).sum() == 30 * 64


def test_wrong_checkpoints_are_named(detector: Path, segmenter: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"holds a 'sam' model, expected 'grounding-dino'"):
        GroundedSam(segmenter, segmenter)
    with pytest.raises(InvalidInput, match=r'holds no config\.json; give the local folder of a SAM checkpoint'):
        GroundedSam(detector, tmp_path)
    with pytest.raises(InvalidInput, match=r'box threshold 1\.5'):
        GroundedSam(detector, segmenter, threshold=1.5)
    copy = tmp_path / 'copy'
    shutil.copytree(segmenter, copy)
    (copy / 'model.safetensors').unlink()
    with pytest.raises(InvalidInput, match='pickled weights are refused'):
        GroundedSam(detector, copy)
    (copy / 'model.safetensors').write_bytes(b'damaged')
    with pytest.raises(InvalidInput, match=r'model\.safetensors does not load'):
        GroundedSam(detector, copy)
