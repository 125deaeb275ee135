# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The same text is not logged at every tick."""

from vla_driver.ros.base.repeats import Repeats


def test_the_same_text_comes_once_in_a_while_with_a_count():
    now = [0.0]
    repeats = Repeats(30.0, clock=lambda: now[0])
    assert repeats.say('images of 12.5 s') == 'images of 12.5 s'
    for now[0] in (0.1, 10.0, 29.9):
        assert repeats.say(f'images of {now[0]} s') is None
    assert repeats.say('something else') == 'something else'
    now[0] = 30.0
    assert repeats.say('images of 30 s') == 'images of 30 s (and 3 times in the last 30 s)'
    now[0] = 61.0
    assert repeats.say('images of 61 s') == 'images of 61 s'
