# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Names under which other vehicles and data sets have their cameras, and names that say nothing."""

from __future__ import annotations

import pytest

from vla_driver.bag import schema
from vla_driver.bag.inventory import inventory, inventory_lines
from vla_driver.bag.topics import ARGUMENTS, find_inputs, require_inputs
from vla_driver.types import CAMERA_NAMES, InvalidInput

RAW, JPEG = schema.IMAGE, schema.COMPRESSED_IMAGE
ALL = ('front', 'front_left', 'front_right', 'back', 'back_left', 'back_right')


def names(pattern: str, *words: str) -> dict[str, str]:
    """Return camera -> topic, words in the order of ALL."""
    return dict(zip(ALL, (pattern.format(word) for word in words), strict=False))


@pytest.mark.parametrize(
    'expected',
    [
        names('/camera/{}/image', 'front', 'front_left', 'front_right', 'rear', 'rear_left', 'rear_right'),
        names('/{}/image', 'FrontCenter', 'FrontLeft', 'FrontRight', 'Rear', 'RearLeft', 'RearRight'),
        names('/{}/image', 'front', 'frontLeft', 'frontRight', 'back', 'backLeft', 'backRight'),
        names('/{}', 'CameraFront', 'CameraFrontLeft', 'CameraFrontRight', 'CameraBack', 'CameraBackLeft'),
        names('/{}', 'camFront', 'camFrontLeft', 'camFrontRight', 'camBack', 'camBackLeft', 'camBackRight'),
        names('/CAM_{}/image_rect_compressed', 'FRONT', 'FRONT_LEFT', 'FRONT_RIGHT', 'BACK', 'BACK_LEFT', 'BACK_RIGHT'),
        names('/camera_{}_image', 'front', 'front_left', 'front_right', 'rear', 'rear_left', 'rear_right'),
        names('/{}/image_raw', 'front_center', 'left_front', 'right_front', 'rear_center', 'left_rear', 'right_rear'),
        names('/v/{}/image_raw', 'front', 'front/left', 'front/right', 'rear', 'rear/left', 'rear/right'),
        names('/{}_camera/image', 'frontcenter', 'frontleft', 'frontright', 'rear', 'rearleft', 'rearright'),
        names('/cam_{}/image', 'f', 'fl', 'fr', 'b', 'bl', 'br'),
        names('/cam_{}/image', 'fc', 'lf', 'rf', 'rc', 'rl', 'rr'),
        names('/sensors/{}Camera/image', 'Forward', 'FL', 'FR', 'Backward', 'RL', 'RR'),
    ],
    ids=lambda expected: next(iter(expected.values())),
)
def test_names_of_others_are_known(expected: dict[str, str]) -> None:
    found = find_inputs(dict.fromkeys(expected.values(), JPEG), CAMERA_NAMES)
    assert dict(found.cameras) == expected
    assert found.unused == ()
    assert set(found.missing) == set(ALL) - set(expected)


def test_seven_ring_cameras_serve_five_and_the_others_are_named() -> None:
    topics = [
        f'/ring_{word}/image' for word in ('front_center', 'front_left', 'front_right', 'rear_left', 'rear_right')
    ]
    sides = ['/ring_side_left/image', '/ring_side_right/image']
    stereo = ['/stereo_front_left/image', '/stereo_front_right/image']
    found = find_inputs(dict.fromkeys(topics + sides + stereo, JPEG), CAMERA_NAMES)
    assert (
        found.cameras
        == dict(zip(('front', 'front_left', 'front_right', 'back_left', 'back_right'), topics, strict=True)) | {}
    )
    assert found.missing == ('back',)
    assert found.unused == tuple(sorted(sides + stereo))


@pytest.mark.parametrize(
    'topic',
    [
        '/camera0/image',
        '/cam_1/image',
        '/f/image',
        '/camera/side/image',
        '/traffic_light/image',
        '/front_wide/image',
        '/stereo/left/image',
        '/front/depth/image_rect_raw',
        '/front/aligned_depth_to_color/image_raw',
        '/front/infra1/image_rect_raw',
        '/front/image_raw/compressedDepth',
        '/front/segmentation/image',
        '/front/rear/image',
    ],
)
def test_what_says_no_camera_is_not_taken_but_named(topic: str) -> None:
    found = find_inputs({topic: JPEG, '/back/image': RAW}, CAMERA_NAMES)
    assert dict(found.cameras) == {'back': '/back/image'}
    assert found.unused == (topic,)


def test_two_topics_for_one_camera_are_asked_for_with_the_option() -> None:
    topics = {'/front/image': RAW, '/rear/image': RAW, '/back/image': RAW}
    with pytest.raises(
        InvalidInput, match=r'back: several topics fit: /back/image, /rear/image; .*--camera-topic back='
    ):
        find_inputs(topics, CAMERA_NAMES)
    with pytest.raises(InvalidInput, match='as camera_topics:=back=/back/image'):
        find_inputs(topics, CAMERA_NAMES, naming=ARGUMENTS)
    # What was given to one camera is not found for another.
    found = find_inputs(topics, CAMERA_NAMES, {'back_left': '/rear/image'})
    assert dict(found.cameras) == {'front': '/front/image', 'back_left': '/rear/image', 'back': '/back/image'}
    with pytest.raises(InvalidInput, match='cameras front and back are both on /rear/image'):
        find_inputs(topics, CAMERA_NAMES, {'front': '/rear/image', 'back': '/rear/image'})
    with pytest.raises(InvalidInput, match='or all in a file: --topics FILE'):
        find_inputs({'/camera0/image': RAW}, CAMERA_NAMES)
    with pytest.raises(InvalidInput, match=r"'bakc' .did you mean 'back'"):
        find_inputs(topics, CAMERA_NAMES, {'bakc': '/rear/image'})


def test_cameras_of_other_names_are_found_as_they_stand() -> None:
    found = find_inputs({'/cam_roof/image': RAW, '/FRONT/image': RAW}, ('front', 'roof'))
    assert dict(found.cameras) == {'front': '/FRONT/image', 'roof': '/cam_roof/image'}


@pytest.mark.parametrize(
    ('leave_out', 'words'),
    [
        (
            'front',
            'no front camera, which sets the tick .found: back <- /rear/image.; name it: --camera-topic front=/TOPIC; '
            'pictures that nobody uses: /camera0/image',
        ),
        ('odom', 'has no odometry .*--topic odom=/TOPIC'),
        ('route', 'has no route .*--topic route=/TOPIC'),
    ],
)
def test_what_nothing_can_be_planned_without_is_named_with_its_option(leave_out: str, words: str) -> None:
    topics = {'/front/image': RAW, '/rear/image': RAW, '/camera0/image': RAW}
    topics |= {'/my/odom': schema.ODOMETRY, '/my/route': schema.PATH}
    topics = {name: kind for name, kind in topics.items() if leave_out not in name}
    with pytest.raises(InvalidInput, match=words):
        require_inputs(find_inputs(topics, CAMERA_NAMES), topics, 'bag', {})


def test_the_inventory_leaves_nothing_out() -> None:
    topics = {'/front/image': RAW, '/rear/image': RAW, '/side/image': JPEG, '/odom': schema.ODOMETRY}
    found = inventory(find_inputs(topics, ('front', 'back', 'back_left', 'roof')), {'roof': 'require'})
    assert found['cameras'] == {'front': '/front/image', 'back': '/rear/image'}
    assert found['missing_cameras'] == {'back_left': 'skip', 'roof': 'require'}
    assert found['unused_pictures'] == ['/side/image']
    assert inventory(find_inputs({'/rear/image': RAW}, ('front', 'back')))['missing_cameras'] == {'front': 'require'}
    text = '\n'.join(inventory_lines(found))
    for words in ('front <- /front/image, back <- /rear/image', 'missing: back_left', 'missing: roof', '/side/image'):
        assert words in text
    assert 'odom <- /odom, route <- none, turn_command <- none ("follow the road"' in text
