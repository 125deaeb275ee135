# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Maps that come again and again, while one is being read, or that are none."""

import threading
import time

import pytest

from vla_driver.geometry.opendrive import JunctionMap
from vla_driver.ros.inputs import map_reader
from vla_driver.ros.inputs.map_reader import MapReader


class Reading:
    """Reads maps slowly: one after another, each when it may."""

    def __init__(self, monkeypatch):
        self.begun, self.taken, self.told = [], [], []
        self.go = threading.Semaphore(0)
        monkeypatch.setattr(map_reader, 'JunctionMap', self.read)
        self.reader = MapReader(self.taken.append, self.told.append)

    def read(self, text):
        self.begun.append(text)
        assert self.go.acquire(timeout=20.0)
        return JunctionMap(text) if text.startswith('<broken') else text

    def until(self, condition):
        end = time.monotonic() + 20.0
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.01)


@pytest.fixture
def reading(monkeypatch):
    made = Reading(monkeypatch)
    yield made
    made.go.release(20)


def test_the_same_map_again_is_read_once(reading):
    for _ in range(5):
        reading.reader.put('a')
    reading.go.release()
    reading.until(lambda: reading.taken == ['a'])
    reading.reader.put('a')
    time.sleep(0.1)
    assert reading.begun == ['a']


def test_while_one_is_read_only_the_newest_waits(reading):
    reading.reader.put('a')
    reading.until(lambda: reading.begun == ['a'])
    for text in ('b', 'c', 'c', 'd'):
        reading.reader.put(text)
    assert reading.begun == ['a']
    reading.go.release(2)
    reading.until(lambda: reading.taken == ['a', 'd'])
    assert reading.begun == ['a', 'd']


def test_one_that_is_none_is_told_and_the_next_one_read(reading):
    reading.go.release(2)
    reading.reader.put('<broken')
    reading.until(lambda: len(reading.told) == 1)
    assert 'that are no XML' in str(reading.told[0])
    reading.reader.put('b')
    reading.until(lambda: reading.taken == ['b'])
