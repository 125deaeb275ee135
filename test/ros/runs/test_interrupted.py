# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A command that is interrupted while its nodes load ends soon, with status 130, and leaves none of them behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def children_of(pid):
    """Return the processes started by one, by /proc."""
    found = []
    for stat in Path('/proc').glob('[0-9]*/stat'):
        try:
            state, parent = stat.read_text().rsplit(')', 1)[1].split()[:2]
        except OSError:
            continue
        if parent == str(pid) and state != 'Z':
            found.append(int(stat.parent.name))
    return found


def wait_for(condition, timeout_s=60.0):
    end = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return value


@pytest.mark.parametrize(('words', 'times'), [(('demo', '--out', 'demo'), 1), (('replay', 'BAG'), 4)])
def test_ctrl_c_while_the_nodes_load(domain, bag, tmp_path, words, times):
    command = subprocess.Popen(
        [sys.executable, '-m', 'vla_driver.cli', *(str(bag) if word == 'BAG' else word for word in words)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # Tests that run in the background of a shell inherit an ignored SIGINT; a user's Ctrl-C is never ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        nodes = wait_for(lambda: children_of(command.pid))
        time.sleep(0.5)
        nodes = children_of(command.pid) or nodes
        for _ in range(times):
            os.killpg(command.pid, signal.SIGINT)
            time.sleep(0.05)
        output, _ = command.communicate(timeout=20.0)
        assert command.returncode == 130, output
        assert 'interrupted' in output
        assert 'Traceback' not in output
        wait_for(lambda: not any(Path(f'/proc/{pid}').exists() for pid in nodes), 10.0)
    finally:
        if command.poll() is None:
            command.kill()
            command.wait()
