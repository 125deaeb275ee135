# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Knobs of the bag player."""

from __future__ import annotations

from dataclasses import dataclass

from vla_driver.settings.knob import parameter
from vla_driver.settings.shared import NodeParameters


@dataclass(frozen=True)
class BagPlayerParameters(NodeParameters):
    """What is played and how."""

    bag: str = parameter('', 'the recording: a rosbag2 folder, or an .mcap or .db3 file', launch=True, metavar='BAG')
    rate: float = parameter(1.0, 'speed; 2.0 plays twice as fast', low=0.01, high=100.0, launch=True)
    loop: bool = parameter(False, 'start over at the end; recorded time jumps back then', launch=True)
    clock_hz: float = parameter(
        0.0,
        'publish the log time on /clock this often',
        low=0.0,
        high=1000.0,
        unset='not at all',
        launch=True,
    )
    start_offset_s: float = parameter(0.0, 'begin this far into the bag', low=0.0, launch=True)
    duration_s: float = parameter(0.0, 'play this much', low=0.0, unset='to the end')
    topics: tuple[str, ...] = parameter(('',), 'play only these topics', unset='all')
    include: tuple[str, ...] = parameter(
        ('',), 'play these topics, too, though running nodes publish them', unset='none', launch=True
    )
    exclude: tuple[str, ...] = parameter(('',), 'leave out topics that begin with one of these', unset='none')
    restamp: bool = parameter(False, 'header stamps: the present time instead of the recorded one')
    wait_for_subscribers: tuple[str, ...] = parameter(
        ('',),
        'start when each of these topics has a subscriber',
        unset='at once, or (`wait_for_images`) when some images have one',
        launch='wait_for',
    )
    wait_for_images: bool = parameter(
        False, 'start when some topic with images has a subscriber (unless `wait_for_subscribers` names topics)'
    )
    wait_s: float = parameter(
        20.0,
        'give up waiting for subscribers after this long; a planner subscribes to nothing while it loads',
        low=0.0,
        launch=True,
    )
    exit_at_end: bool = parameter(True, 'end the process when everything has been played')
