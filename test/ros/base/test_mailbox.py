# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The newest item wins, nobody waits for ever."""

import threading
import time

from vla_driver.ros.base.mailbox import Mailbox


def test_the_newest_item_wins_and_the_others_are_counted():
    box = Mailbox[int]()
    assert [box.put(k) for k in range(5)] == [None, 0, 1, 2, 3]
    assert box.take(0.0) == 4
    assert box.replaced == 4
    assert box.take(0.01) is None


def test_a_waiting_worker_is_woken_by_put_and_by_close():
    box = Mailbox[str]()
    taken = []

    def work():
        while (item := box.take()) is not None:
            taken.append(item)

    worker = threading.Thread(target=work)
    worker.start()
    box.put('first')
    deadline = time.monotonic() + 2.0
    while not taken and time.monotonic() < deadline:
        time.sleep(0.001)
    box.close()
    worker.join(timeout=2.0)
    assert not worker.is_alive()
    assert taken == ['first']
    assert box.put('late') == 'late'
    assert box.take(0.0) is None


def test_clear_drops_what_waits():
    box = Mailbox[int]()
    box.put(1)
    assert box.clear() == 1
    assert box.clear() is None
    assert box.take(0.0) is None
    assert box.replaced == 0
