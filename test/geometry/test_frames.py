# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The tree of frames: chains up and down, and what is refused."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from vla_driver.geometry.frames import FrameTree
from vla_driver.geometry.rig import mount
from vla_driver.types import InvalidInput


def _moved(x: float = 0.0, y: float = 0.0, z: float = 0.0, yaw: float = 0.0) -> np.ndarray:
    pose = np.eye(4)
    pose[:2, :2] = [[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]]
    pose[:3, 3] = x, y, z
    return pose


def _entry(parent: str, child: str, xyz=(0.0, 0.0, 0.0), q=(0.0, 0.0, 0.0, 1.0)) -> SimpleNamespace:
    return SimpleNamespace(
        header=SimpleNamespace(frame_id=parent),
        child_frame_id=child,
        transform=SimpleNamespace(
            translation=SimpleNamespace(**dict(zip('xyz', xyz, strict=True))),
            rotation=SimpleNamespace(**dict(zip('xyzw', q, strict=True))),
        ),
    )


def _tree(*edges: tuple[str, str, np.ndarray]) -> FrameTree:
    tree = FrameTree()
    for parent, child, pose in edges:
        tree.add(parent, child, pose)
    return tree


def test_chains_go_up_and_down():
    tree = _tree(
        ('base_link', 'kit', _moved(1.0, yaw=math.pi / 2)),
        ('kit', 'camera', _moved(0.5, z=1.0)),
        ('base_link', 'gnss', _moved(-1.0)),
    )
    assert tree.lookup('base_link', 'camera')[:3, 3] == pytest.approx([1.0, 0.5, 1.0])
    assert tree.lookup('gnss', 'camera')[:3, 3] == pytest.approx([2.0, 0.5, 1.0])
    there, back = tree.lookup('camera', 'gnss'), tree.lookup('gnss', 'camera')
    assert there @ back == pytest.approx(np.eye(4), abs=1e-12)
    assert tree.lookup('kit', 'kit') == pytest.approx(np.eye(4))


def test_a_message_has_the_pose_of_its_quaternion():
    tree = FrameTree()
    # base_link -> optical frame of a camera that looks ahead: roll -90, yaw -90 degrees.
    assert tree.add_message(
        SimpleNamespace(transforms=[_entry('/base_link', '/front', (1.5, 0, 1.6), (-0.5, 0.5, -0.5, 0.5))])
    )
    assert tree.lookup('base_link', 'front') == pytest.approx(mount([1.5, 0, 1.6], 0.0), abs=1e-12)


def test_unknown_and_unconnected_frames_are_named():
    tree = _tree(('base_link', 'front', _moved()), ('rig', 'back', _moved()))
    with pytest.raises(InvalidInput, match="'left' is not in the tf tree; there are: back, base_link, front, rig"):
        tree.lookup('base_link', 'left')
    with pytest.raises(InvalidInput, match="'back' is not connected to 'base_link': it hangs on 'rig'"):
        tree.lookup('base_link', 'back')
    assert not tree.connected('base_link', 'back')
    with pytest.raises(InvalidInput, match='there are: none'):
        FrameTree().lookup('a', 'b')


@pytest.mark.parametrize(
    ('entry', 'words'),
    [
        (_entry('base_link', 'front', q=(0, 0, 0, 0)), 'length 0, expected 1'),
        (_entry('base_link', 'front', q=(math.nan, 0, 0, 1)), 'nan'),
        (_entry('base_link', 'front', q=(0, 0, 1, 1)), 'length 1.41'),
        (_entry('base_link', 'front', xyz=(math.inf, 0, 0)), 'finite metres'),
        (_entry('', 'front'), 'different names'),
        (_entry('front', 'front'), 'different names'),
        (_entry('leaf', 'base_link'), 'circle'),
    ],
)
def test_bad_transforms_are_left_out_and_said(entry: SimpleNamespace, words: str):
    tree = _tree(('base_link', 'kit', _moved()), ('kit', 'leaf', _moved()))
    good = _entry('kit', 'camera')
    assert tree.add_message(SimpleNamespace(transforms=[entry, good]))
    assert tree.connected('base_link', 'camera')
    assert len(tree.problems) == 1
    assert words in tree.problems[0]


def test_what_is_no_rotation_is_refused():
    tree = FrameTree()
    for pose in (np.diag([1.0, 1.0, -1.0, 1.0]), 2.0 * np.eye(4), np.full((4, 4), np.nan), np.eye(3)):
        with pytest.raises(InvalidInput, match='transform a -> b'):
            tree.add('a', 'b', pose)


def test_the_newest_parent_counts_and_is_said():
    tree = _tree(('base_link', 'camera', _moved(1.0)), ('base_link', 'kit', _moved()), ('kit', 'camera', _moved(2.0)))
    assert tree.lookup('base_link', 'camera')[0, 3] == 2.0
    assert tree.problems == ('frame camera has two parents, base_link and kit; kit is taken',)


def test_what_is_static_is_not_overruled_by_tf():
    tree = _tree(('base_link', 'camera', _moved(1.0)))
    assert not tree.add('odom', 'camera', _moved(7.0), static=False)
    assert tree.lookup('base_link', 'camera')[0, 3] == 1.0
    assert 'base_link is taken' in tree.problems[0]


def test_joints_on_tf_count_while_they_stay():
    tree = FrameTree()
    assert tree.add('base_link', 'camera', _moved(1.0), static=False)
    assert not tree.add('base_link', 'camera', _moved(1.0), static=False)
    assert tree.lookup('base_link', 'camera')[0, 3] == 1.0
    tree.add('base_link', 'camera', _moved(1.0, yaw=0.2), static=False)
    tree.add('base_link', 'camera', _moved(1.0, yaw=0.2), static=False)
    with pytest.raises(InvalidInput, match="'camera' moves against 'base_link'"):
        tree.lookup('base_link', 'camera')


def test_the_base_is_the_frame_that_the_cameras_hang_on():
    assert _tree(('base_link', 'a', _moved()), ('base_footprint', 'base_link', _moved())).base(['a']) == 'base_link'
    assert _tree(('base_footprint', 'a', _moved()), ('x', 'base_link', _moved())).base(['a']) == 'base_footprint'
    assert _tree(('hero', 'a', _moved())).base(['a'], ['/hero']) == 'hero'
    with pytest.raises(InvalidInput, match='no base_link or base_footprint; there are: a, hero'):
        _tree(('hero', 'a', _moved())).base(['a'])
