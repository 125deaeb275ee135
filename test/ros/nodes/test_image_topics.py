# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Choices per camera, and when a message was sent."""

import time

import pytest

from vla_driver.ros.nodes.image_topics import sent_at
from vla_driver.settings.per_camera import per_camera
from vla_driver.settings.planner import TRANSPORTS
from vla_driver.types import InvalidInput

CAMERAS = ('front', 'back')


def choose(*entries, spared=''):
    return per_camera(entries, CAMERAS, TRANSPORTS, 'image_transport', spared)


def test_one_choice_for_all_or_one_per_camera():
    assert choose('raw') == {'front': 'raw', 'back': 'raw'}
    assert choose('raw', spared='front') == {'back': 'raw'}
    assert choose('back=compressed') == {'back': 'compressed'}
    assert choose('back=compressed', 'front=raw') == {'back': 'compressed', 'front': 'raw'}


@pytest.mark.parametrize(
    ('entries', 'words'),
    [
        (('jpeg',), "'jpeg', allowed: auto, raw, compressed"),
        (('left=raw',), "'left=raw', the cameras are: front, back"),
        (('front=',), 'allowed: auto, raw, compressed'),
        (('raw', 'back=raw'), 'one choice for all, or camera=choice each'),
    ],
)
def test_other_choices_are_refused(entries, words):
    with pytest.raises(InvalidInput, match=words):
        choose(*entries)


@pytest.mark.parametrize(
    ('source_age_s', 'received_age_s', 'age_s'),
    [(0.4, 0.1, 0.4), (-3600.0, 0.1, 0.1), (7200.0, 0.2, 0.2), (None, None, 0.0)],
)
def test_age_counts_from_publication_unless_the_clocks_disagree(source_age_s, received_age_s, age_s):
    now = time.time()
    info = {
        name: round((now - age) * 1e9)
        for name, age in (('source_timestamp', source_age_s), ('received_timestamp', received_age_s))
        if age is not None
    }
    sent = sent_at(info)
    assert age_s - 0.01 < time.monotonic() - sent < age_s + (time.time() - now) + 0.01
