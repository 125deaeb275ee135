# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What is taken of a CameraInfo, and what is refused and why."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from vla_driver.geometry.camera_info import read_camera_info, rig_from_camera_infos
from vla_driver.geometry.rig import load_rig, mount
from vla_driver.types import InvalidInput

K = (500, 0, 160, 0, 510, 96, 0, 0, 1)
HERE = mount([1.5, 0.2, 1.6], 10.0)


def _info(k=K, width=320, height=192, d=(0,) * 5, model='plumb_bob', **rest) -> SimpleNamespace:
    numbers = {'k': np.array(k, dtype=float), 'd': np.array(d, dtype=float)}
    return SimpleNamespace(**numbers, width=width, height=height, distortion_model=model, **rest)


def test_camera_info_gives_k_and_size_and_the_file_the_mounting():
    rig = load_rig('sim')
    got = rig_from_camera_infos({'back': _info(width=640, height=384)}, rig)
    assert (got['back'].width, got['back'].height) == (640, 384)
    assert got['back'].intrinsics.ravel() == pytest.approx(K)
    assert got['back'].base_from_camera == pytest.approx(rig['back'].base_from_camera)
    assert got['front'] is rig['front']


def test_rectified_pictures_have_the_intrinsics_of_p():
    """image_proc publishes image_rect beside the raw camera's CameraInfo, distortion and all."""
    p = np.array([480, 0, 158, 0, 0, 490, 97, 0, 0, 0, 1, 0], dtype=float)
    info = _info(d=(-0.3, 0.1, 0, 0, 0), p=p)
    got = read_camera_info(info, 'front', HERE, rectified=True)
    assert got.model.intrinsics.ravel() == pytest.approx([480, 0, 158, 0, 490, 97, 0, 0, 1])
    assert (got.lens, got.matrix) == (None, 'P')
    raw = read_camera_info(info, 'front', HERE)
    assert raw.lens is not None
    assert raw.lens.model == 'plumb_bob'
    assert raw.matrix == 'K'


def test_a_stereo_camera_is_turned_by_r():
    """R takes rays of the camera to those of the rectified picture: what lay ahead of the camera lies at R z."""
    turn = mount([0, 0, 0], 3.0)[:3, :3] @ mount([0, 0, 0], 0.0)[:3, :3].T
    p = np.array([480, 0, 158, -60, 0, 490, 97, 0, 0, 0, 1, 0], dtype=float)
    got = read_camera_info(_info(p=p, r=turn.ravel()), 'front', HERE, rectified=True)
    ray = np.array([0.1, -0.2, 1.0])
    assert got.model.base_from_camera[:3, :3] @ (turn @ ray) == pytest.approx(HERE[:3, :3] @ ray)
    assert got.model.base_from_camera[:3, 3] == pytest.approx(HERE[:3, 3])
    raw = read_camera_info(_info(p=p, r=turn.ravel()), 'front', HERE)
    assert raw.model.base_from_camera == pytest.approx(HERE)


def test_without_p_a_rectified_picture_has_k_if_nothing_was_distorted():
    got = read_camera_info(_info(p=np.zeros(12)), 'front', HERE, rectified=True)
    assert (got.matrix, got.model.intrinsics[0, 0]) == ('K', 500.0)
    with pytest.raises(InvalidInput, match='P is all zeros'):
        read_camera_info(_info(p=np.zeros(12), d=(-0.3, 0.1, 0, 0, 0)), 'front', HERE, rectified=True)


def test_binning_and_region_of_interest_are_applied():
    roi = SimpleNamespace(x_offset=20, y_offset=10, width=280, height=160)
    got = read_camera_info(_info(roi=roi, binning_x=2, binning_y=2), 'front', HERE).model
    assert (got.width, got.height) == (140, 80)
    assert got.intrinsics.ravel() == pytest.approx([250, 0, 70, 0, 255, 43, 0, 0, 1])
    bent = read_camera_info(_info(roi=roi, binning_x=2, binning_y=2, d=(-0.3, 0.1, 0, 0, 0)), 'front', HERE)
    assert bent.lens is not None
    assert (bent.lens.width, bent.lens.height) == (140, 80)
    # Half a pixel more: the K of a measured lens counts from the middle of the first pixel.
    assert bent.lens.matrix.ravel() == pytest.approx([250, 0, 70.25, 0, 255, 43.25, 0, 0, 1])


@pytest.mark.parametrize(
    ('info', 'model'),
    [
        (_info(d=(-0.3, 0.1, 0.001, 0)), 'plumb_bob'),
        (_info(d=(-0.3, 0.1, 0.001, 0, 0.02)), 'plumb_bob'),
        (_info(d=(-0.3, 0.1, 0.001, 0, 0.02, 0, 0, 0)), 'plumb_bob'),
        (_info(d=(-0.3, 0.1, 0.001, 0), model='radtan'), 'plumb_bob'),
        (_info(d=(0.5, -0.2, 0, 0, 0.01, 0.8, -0.1, 0.02), model='rational_polynomial'), 'rational_polynomial'),
        (_info(d=(-0.3, 0.1, 0, 0, 0, 0, 0, 0, 0.01, 0, 0, 0), model='rational_polynomial'), 'rational_polynomial'),
        (_info(d=(-0.3, *[0] * 11, 0.01, 0.02), model='rational_polynomial'), 'rational_polynomial'),
        (_info(k=(150, 0, 160, 0, 150, 96, 0, 0, 1), d=(-0.02, 0.001, 0, 0), model='equidistant'), 'equidistant'),
        (_info(d=(0,) * 5, model='equidistant'), 'equidistant'),
        (_info(d=(), model='fisheye'), 'equidistant'),
        (_info(d=()), None),
        (_info(d=(0,) * 8, model='rational_polynomial'), None),
        (_info(d=(), model=''), None),
        (_info(d=(0,) * 5, model='none'), None),
        (_info(d=(1e-5, 0, 0, 0, 0)), None),  # moves nothing by a tenth of a pixel
    ],
)
def test_distortion_models_are_read(info: SimpleNamespace, model: str | None):
    lens = read_camera_info(info, 'front', HERE).lens
    assert (None if lens is None else lens.model) == model


@pytest.mark.parametrize(
    ('info', 'words'),
    [
        (_info(k=(0,) * 9), 'K is .* not calibrated'),
        (_info(k=(500, 0, 160, 0, 510, 96, 0, 0, 2)), 'expected'),
        (_info(k=(500, 0, 160, 3, 510, 96, 0, 0, 1)), 'expected'),
        (_info(k=(-500, 0, 160, 0, 510, 96, 0, 0, 1)), 'focal'),
        (_info(k=(math.nan, 0, 160, 0, 510, 96, 0, 0, 1)), 'finite'),
        (_info(k=(500, 0, 160)), 'not calibrated'),
        (_info(k=(1, 0, 160, 0, 1, 96, 0, 0, 1)), 'focal lengths 1 and 1 for 320x192 pixels, a field of view of'),
        (_info(k=(1, 0, 0, 0, 1, 0, 0, 0, 1)), 'a field of view of 179'),
        (_info(k=(1, 0, 160, 0, 1, 96, 0, 0, 1), model='equidistant'), 'field of view'),
        (_info(k=(5e-321, 0, 160, 0, 5e-321, 96, 0, 0, 1)), 'field of view'),  # integers, serialised bit by bit
        (_info(k=(9000, 0, 160, 0, 9000, 96, 0, 0, 1)), 'field of view of 2.04'),
        (
            _info(k=(500, 0, 816, 0, 510, 96, 0, 0, 1)),
            r'principal point at \(816, 96\), outside the picture of 320x192',
        ),
        (_info(k=(500, 0, 160, 0, 510, -1, 0, 0, 1)), 'principal point'),
        (_info(width=0), '0x192'),
        (_info(height=0), '320x0'),
        (_info(d=(math.nan,) * 5), 'D is .* finite'),
        (_info(d=(math.inf, 0, 0, 0), model='equidistant'), 'D is .* finite'),
        (_info(d=(-0.3, 0.1, 0)), 'D has 3 numbers'),
        (_info(d=(-0.3, 0.1, 0, 0, 0, 0.2, 0.1, 0)), 'plumb_bob has 4 or 5'),
        (_info(d=(-0.3, 0.1, 0, 0, 0, 0.2), model='rational_polynomial'), 'D has 6 numbers'),
        (_info(d=(-0.3, 0.1, 0, 0, 0.2), model='equidistant'), 'equidistant has 4'),
        (_info(d=(-0.3, 0.1, 0, 0, 0), model=''), 'name the model'),
        (_info(d=(-0.3, 0.1, 0, 0), model='kannala_brandt'), "'kannala_brandt' is not known here, allowed: plumb_bob"),
        (_info(d=(0.5, 0.9), model='double_sphere'), "'double_sphere' is not known"),
        (_info(model='omnidirectional'), "'omnidirectional' is not known"),
        (_info(d=(900.0, 0, 0, 0, 0)), 'folds over itself'),
        (_info(roi=SimpleNamespace(x_offset=200, y_offset=0, width=200, height=100)), 'roi of 200x100'),
        (
            _info(roi=SimpleNamespace(x_offset=200, y_offset=0, width=100, height=100), d=(-0.3, 0, 0, 0)),
            'region of interest of 100x100 does not hold',
        ),
    ],
)
def test_impossible_calibrations_are_refused(info: SimpleNamespace, words: str):
    with pytest.raises(InvalidInput, match=words) as caught:
        read_camera_info(info, 'front', HERE)
    assert str(caught.value).startswith('camera front: CameraInfo: ')


@pytest.mark.parametrize('r', [np.full(9, 0.5), np.full(9, math.nan), np.diag([1.0, 1.0, -1.0]).ravel(), np.ones(4)])
def test_what_is_no_rotation_is_refused(r: np.ndarray):
    p = np.array([480, 0, 158, 0, 0, 490, 97, 0, 0, 0, 1, 0], dtype=float)
    with pytest.raises(InvalidInput, match=r'R is .* expected a rotation'):
        read_camera_info(_info(p=p, r=r), 'front', HERE, rectified=True)


def test_a_camera_that_is_not_mounted_is_refused():
    with pytest.raises(InvalidInput, match='roof'):
        rig_from_camera_infos({'roof': _info()}, load_rig('sim'))
