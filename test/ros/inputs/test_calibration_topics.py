# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Where a camera's camera_info is looked for, and which pictures are called rectified, for every transport."""

import pytest

from vla_driver.ros.base.lifecycle import DriverNode
from vla_driver.ros.inputs.calibration_topics import info_topics, picture_topics, rectified_cameras
from vla_driver.ros.wire.transports import picture_topic
from vla_driver.settings.inputs import TRANSPORTS

OURS = ['camera/front/camera_info', 'camera/front/image/camera_info']


@pytest.fixture
def remapped(probe):
    """Return a function that makes a node whose front pictures of one transport come from another topic."""
    nodes = []

    def make(transport, topic):
        rule = f'{picture_topic("front", transport)}:={topic}'
        nodes.append(DriverNode('planner', context=probe.context, cli_args=['--ros-args', '-r', rule]))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()


@pytest.mark.parametrize('transport', TRANSPORTS[1:])
@pytest.mark.parametrize('name', ['image_rect', 'image_raw'])
def test_a_topic_of_every_transport_tells_of_its_calibration(remapped, transport, name):
    """Only one transport is remapped, as somebody does whose camera sends nothing but video."""
    end = '' if transport == 'raw' else f'/{transport}'
    node = remapped(transport, f'/cam/front/{name}{end}')
    assert f'/cam/front/{name}{end}' in picture_topics(node, 'front')
    assert rectified_cameras(node, ('front', 'back')) == (['front'] if name == 'image_rect' else [])
    assert info_topics(node, 'front') == [*OURS, f'/cam/front/{name}/camera_info', '/cam/front/camera_info']
    assert info_topics(node, 'back') == [topic.replace('front', 'back') for topic in OURS]


def test_a_topic_that_does_not_end_in_its_transport_keeps_its_name(remapped):
    node = remapped('foxglove', '/cam/front/compressed')
    assert info_topics(node, 'front') == [*OURS, '/cam/front/compressed/camera_info', '/cam/front/camera_info']
