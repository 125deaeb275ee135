# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Cameras in a tf tree: optical frames, bodies of cameras, and the frames that are meant."""

from __future__ import annotations

import numpy as np
import pytest

from vla_driver.geometry.frames import FrameTree
from vla_driver.geometry.mounting import mounting
from vla_driver.geometry.rig import BODY_FROM_OPTICAL, mount
from vla_driver.types import FloatArray, InvalidInput

#: base_from_camera of a camera that looks to the left and a little down.
HERE = mount([1.2, 0.5, 1.6], 90.0, 10.0)


def _turned(rotation: FloatArray) -> FloatArray:
    pose = np.eye(4)
    pose[:3, :3] = rotation
    return pose


BODY = HERE @ _turned(BODY_FROM_OPTICAL.T)
OPTICAL = _turned(BODY_FROM_OPTICAL)


def _tree(*edges: tuple[str, str, FloatArray]) -> FrameTree:
    tree = FrameTree()
    for edge in edges:
        tree.add(*edge)
    return tree


def test_an_optical_frame_is_taken_as_it_is():
    found = mounting(_tree(('base_link', 'left', HERE)), 'base_link', '/left')
    assert found.base_from_camera == pytest.approx(HERE)
    assert (found.frame, found.note) == ('left', '')


@pytest.mark.parametrize(
    ('named', 'optical'),
    [
        ('left_link', 'left_optical_frame'),
        ('left_link', 'left_link_optical'),
        ('left_frame', 'left_optical_frame'),
        ('camera0/camera_link', 'camera0/camera_optical_link'),  # Autoware
        ('left', 'left_optical_frame'),
        ('left_link', 'any_optical'),  # the only one below
    ],
)
def test_where_a_picture_names_the_body_its_optical_frame_is_taken_and_said(named: str, optical: str):
    found = mounting(_tree(('base_link', named, BODY), (named, optical, OPTICAL)), 'base_link', named)
    assert found.base_from_camera == pytest.approx(HERE)
    assert found.frame == optical
    assert f'frame {named} is no optical frame (its z points up): {optical} is taken' in found.note


def test_of_several_sensors_below_a_body_that_of_colour_is_meant():
    """A RealSense: camera_link with colour, depth and two infrared sensors, each with its frame and optical frame."""
    edges = [('base_link', 'camera_link', BODY)]
    for sensor in ('color', 'depth', 'infra1', 'infra2'):
        edges += [('camera_link', f'camera_{sensor}_frame', np.eye(4))]
        edges += [(f'camera_{sensor}_frame', f'camera_{sensor}_optical_frame', OPTICAL)]
    found = mounting(_tree(*edges), 'base_link', 'camera_link')
    assert found.frame == 'camera_color_optical_frame'
    assert found.base_from_camera == pytest.approx(HERE)


def test_a_body_without_an_optical_frame_looks_along_x_and_that_is_said():
    found = mounting(_tree(('base_link', 'left', BODY)), 'base_link', 'left')
    assert found.base_from_camera == pytest.approx(HERE)
    assert 'its x axis is taken for the viewing direction' in found.note


def test_an_optical_frame_that_was_never_turned_is_a_body():
    """static_transform_publisher without a rotation: z of an "optical" frame points to the sky."""
    found = mounting(_tree(('base_link', 'left_optical_frame', BODY)), 'base_link', 'left_optical_frame')
    assert found.base_from_camera == pytest.approx(HERE)
    assert 'z points up' in found.note


def test_an_optical_frame_may_look_down():
    down = mount([0.0, 0.0, 2.0], 0.0, 80.0)
    found = mounting(_tree(('base_link', 'down_optical_frame', down)), 'base_link', 'down_optical_frame')
    assert found.base_from_camera == pytest.approx(down)
    assert found.note == ''


def test_what_is_not_connected_or_not_named_is_refused():
    with pytest.raises(InvalidInput, match="'left' is not in the tf tree; there are: base_link, front"):
        mounting(_tree(('base_link', 'front', HERE)), 'base_link', 'left')
    with pytest.raises(InvalidInput, match='name no frame'):
        mounting(_tree(('base_link', 'front', HERE)), 'base_link', '')
