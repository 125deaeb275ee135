# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`convert nuscenes-fg` on a tiny nuScenes folder; Grounding DINO and SAM are the real classes, tiny and random."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vla_driver.cli import main
from vla_driver.data.foreground import Foreground, PairFolder
from vla_driver.data.foreground_pairs import convert_nuscenes
from vla_driver.data.grounded_sam import PHRASES, GroundedSam
from vla_driver.data.nuscenes import CHANNELS, read_samples, rotation_matrix
from vla_driver.observation.decode import encode_jpeg
from vla_driver.types import CAMERA_NAMES, InvalidInput

_SIZE = (64, 48)


def write_nuscenes(folder: Path, samples: int = 2) -> Path:
    """Write a folder as nuScenes has it: key frames, a sweep that is none, and a lidar that is no camera."""
    tables: dict[str, list[dict[str, Any]]] = {
        'scene': [{'token': 'sc', 'name': 'scene-0001'}],
        'sample': [{'token': f's{i}', 'scene_token': 'sc', 'timestamp': i} for i in range(samples)],
        'sensor': [{'token': 'lidar', 'channel': 'LIDAR_TOP', 'modality': 'lidar'}],
        'calibrated_sensor': [
            {'token': 'c-lidar', 'sensor_token': 'lidar', 'translation': [0, 0, 2], 'rotation': [1, 0, 0, 0]}
            | {'camera_intrinsic': []}
        ],
        'sample_data': [],
    }
    rng = np.random.default_rng(0)
    for number, channel in enumerate(CHANNELS):
        tables['sensor'].append({'token': channel, 'channel': channel, 'modality': 'camera'})
        tables['calibrated_sensor'].append(
            {
                'token': f'c-{channel}',
                'sensor_token': channel,
                'translation': [1.5, 0.1 * number, 1.6],
                'rotation': [0.5, -0.5, 0.5, -0.5],  # the optical frame of a camera that looks ahead
                'camera_intrinsic': [[50.0, 0, 32], [0, 50.0, 24], [0, 0, 1]],
            }
        )
        for index in range(samples):
            for key in (True, False):
                name = f'{"samples" if key else "sweeps"}/{channel}/{index}.jpg'
                row = {'token': name, 'sample_token': f's{index}', 'calibrated_sensor_token': f'c-{channel}'}
                row |= {'is_key_frame': key, 'filename': name, 'width': _SIZE[0], 'height': _SIZE[1]}
                tables['sample_data'].append(row)
            (folder / 'samples' / channel).mkdir(parents=True, exist_ok=True)
            picture = np.kron(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
            (folder / f'samples/{channel}/{index}.jpg').write_bytes(encode_jpeg(picture))
    (folder / 'v1.0-mini').mkdir()
    for name, rows in tables.items():
        (folder / f'v1.0-mini/{name}.json').write_text(json.dumps(rows))
    return folder


@pytest.fixture
def nuscenes(tmp_path: Path) -> Path:
    return write_nuscenes(tmp_path / 'nuscenes')


@pytest.fixture(scope='module')
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Grounding DINO of the real class, tiny and random, with a tokenizer that knows the words."""
    from transformers import (
        BertConfig,
        BertTokenizerFast,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )

    folder = tmp_path_factory.mktemp('detector')
    words = sorted({word for phrases in PHRASES.values() for phrase in phrases for word in phrase.split()})
    vocabulary = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', '.', '?', *words]
    (folder / 'vocab.txt').write_text('\n'.join(vocabulary))
    tokenizer = BertTokenizerFast(vocab=str(folder / 'vocab.txt'))
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            image_size=64,
            embed_dim=8,
            depths=[1, 1, 1, 1],
            num_heads=[1, 1, 1, 1],
            window_size=2,
            out_indices=[2, 3, 4],
        ),
        text_config=BertConfig(
            vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        ),
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_queries=12,
        max_text_len=64,
    )
    torch.manual_seed(0)
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    pictures = GroundingDinoImageProcessor(size={'shortest_edge': 64, 'longest_edge': 96})
    GroundingDinoProcessor(pictures, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope='module')
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SAM of the real class, tiny and random."""
    from transformers import (
        SamConfig,
        SamImageProcessor,
        SamMaskDecoderConfig,
        SamModel,
        SamProcessor,
        SamPromptEncoderConfig,
        SamVisionConfig,
    )

    folder = tmp_path_factory.mktemp('segmenter')
    config = SamConfig(
        vision_config=SamVisionConfig(
            hidden_size=16,
            output_channels=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=64,
            patch_size=8,
            window_size=4,
            global_attn_indexes=[0],
            num_pos_feats=8,
            mlp_dim=16,
        ),
        prompt_encoder_config=SamPromptEncoderConfig(
            hidden_size=16, image_size=64, patch_size=8, mask_input_channels=4
        ),
        mask_decoder_config=SamMaskDecoderConfig(
            hidden_size=16, mlp_dim=16, num_attention_heads=2, iou_head_hidden_dim=16, num_hidden_layers=1
        ),
    )
    torch.manual_seed(0)
    SamModel(config).save_pretrained(folder)
    pictures = SamImageProcessor(
        size={'longest_edge': 64},
        pad_size={'height': 64, 'width': 64},
        mask_size={'longest_edge': 16},
        mask_pad_size={'height': 16, 'width': 16},
    )
    SamProcessor(pictures).save_pretrained(folder)
    return folder


def test_tables_become_calibrated_pictures(nuscenes: Path) -> None:
    first, second = read_samples(nuscenes)
    assert (first.token, first.scene, second.token) == ('s0', 'scene-0001', 's1')
    assert set(first.pictures) == set(CAMERA_NAMES)
    front = first.pictures['front']
    assert front.file == 'samples/CAM_FRONT/0.jpg'
    assert (front.camera.width, front.camera.height) == _SIZE
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


def test_a_picture_of_another_size_is_refused(nuscenes: Path, tmp_path: Path) -> None:
    (nuscenes / 'samples/CAM_FRONT/0.jpg').write_bytes(encode_jpeg(np.zeros((10, 10, 3), np.uint8)))
    with pytest.raises(InvalidInput, match='is 10x10, its table says 64x48'):
        convert_nuscenes(nuscenes, read_samples(nuscenes), lambda image: image[..., 0] * 0, tmp_path / 'out')


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
    with pytest.raises(InvalidInput, match='SamModel does not load'):
        GroundedSam(detector, copy)
