# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Which way a camera looks, by the parts of its topic's name.

    /cam_front/raw   /CAM_BACK_LEFT/image_rect_compressed   /camera/rear/image_raw   /sensors/CameraFrontLeft/image
    /frontLeft/image   /ring_front_center/image   /camera_front_left_image   /cam_fl/image   /front/left/image

A part of a name counts when it consists of words for a direction, and of words that say no more than "camera" or
"picture".  Numbers say nothing: camera0 is the front one of this vehicle and the left one of that; a mapping names them
(`settings/topics_file.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

#: Word -> direction.
_DIRECTIONS: Final = {
    **dict.fromkeys(('front', 'forward', 'fwd'), 'front'),
    **dict.fromkeys(('back', 'rear', 'backward'), 'back'),
    **dict.fromkeys(('left',), 'left'),
    **dict.fromkeys(('right',), 'right'),
    **dict.fromkeys(('side',), 'side'),
    **dict.fromkeys(('center', 'centre', 'central', 'middle'), 'center'),
}
#: Two letters are one camera; a single letter is one only beside a word for "camera".
_SHORT: Final = {
    **dict.fromkeys(('fl', 'lf'), ('front', 'left')),
    **dict.fromkeys(('fr', 'rf'), ('front', 'right')),
    **dict.fromkeys(('bl', 'lb', 'rl', 'lr'), ('back', 'left')),
    **dict.fromkeys(('br', 'rb', 'rr'), ('back', 'right')),
    'fc': ('front',),
    'bc': ('back',),
    'rc': ('back',),
}
_LETTERS: Final = {'f': ('front',), 'b': ('back',)}
_CAMERA: Final = frozenset(('cam', 'camera', 'cameras'))
_NOISE: Final = _CAMERA | frozenset(
    (
        *('image', 'images', 'img', 'raw', 'rect', 'rectified', 'color', 'colour', 'rgb', 'bgr', 'compressed', 'jpeg'),
        *(
            'jpg',
            'png',
            'picture',
            'video',
            'sensor',
            'sensors',
            'ring',
            'surround',
            'link',
            'frame',
            'optical',
            'view',
        ),
    )
)
#: Pictures of another kind: nothing that a driver sees.
_OTHER_PICTURES: Final = frozenset(
    (
        *('depth', 'disparity', 'infra', 'infrared', 'ir', 'thermal', 'semantic', 'segmentation', 'instance', 'mask'),
        *('label', 'labels', 'overlay', 'annotated', 'debug', 'costmap', 'lidar', 'radar', 'confidence'),
    )
)
_VOCABULARY: Final = '|'.join(sorted({*_DIRECTIONS, *_NOISE}, key=len, reverse=True))


def direction(name: str) -> frozenset[str]:
    """Return which way a camera looks by one part of a name: {'back', 'left'} of `rear_left`; empty if it says none."""
    words = _words(name)
    found: set[str] = set()
    for word in words:
        if word in _DIRECTIONS:
            found.add(_DIRECTIONS[word])
        elif word in _SHORT:
            found.update(_SHORT[word])
        elif word in _LETTERS and _CAMERA.intersection(words):
            found.update(_LETTERS[word])
        elif word not in _NOISE:
            return frozenset()
    return _sensible(found)


def direction_of_topic(topic: str) -> frozenset[str]:
    """Return which way the camera of a picture topic looks; empty if its name does not say so, or says two things."""
    found: set[str] = set()
    for part in topic.split('/'):
        if _OTHER_PICTURES.intersection(_words(part)):
            return frozenset()
        found |= direction(part)
    return _sensible(found)


def same_name(camera: str, topic: str) -> bool:
    """Whether a part of the topic's name is the camera's, as it stands: for cameras that are called otherwise."""
    parts = topic.split('/')
    if any(_OTHER_PICTURES.intersection(_words(part)) for part in parts):
        return False
    return camera.lower() in (_plain(part) for part in parts)


def _plain(part: str) -> str:
    """Return a part of a topic's name without what says "camera": CAM_ROOF, roof_camera -> roof."""
    name = re.sub(r'^(cam|camera)_+', '', part.lower())
    return re.sub(r'_+(cam|camera)$', '', name)


def _words(name: str) -> list[str]:
    """Return the words of a name, in small letters: CameraFrontLeft, cam_front_left, camfrontleft."""
    words: list[str] = []
    for word in re.findall(r'[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+', name):
        words += _parted(word.lower())
    return words


def _parted(word: str) -> Iterable[str]:
    """Return the words that a word without gaps consists of: frontleft -> front, left."""
    if re.fullmatch(f'(?:{_VOCABULARY})+', word) is None:
        return [word]
    return re.findall(_VOCABULARY, word)


def _sensible(found: set[str]) -> frozenset[str]:
    """Return a direction without words that add nothing to it; empty where it contradicts itself."""
    if {'front', 'back'} <= found or {'left', 'right'} <= found:
        return frozenset()
    if found & {'front', 'back'}:
        found = found - {'center', 'side'}
    return frozenset(found)
