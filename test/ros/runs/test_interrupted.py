# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A command that is interrupted, or ended by SIGTERM, ends soon and in order, and leaves nothing behind."""

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


def shared_memory_of(pid):
    """Return the shared memory that a process owns: it keeps the file open that says so.

    Ports are not its own: whoever has the same number opens them, too, in whatever domain.
    """
    opened = [os.readlink(fd) for fd in Path(f'/proc/{pid}/fd').iterdir()]
    owned = (name for name in opened if name.startswith('/dev/shm/fastrtps_') and '_el' in name)
    return {Path(name.removesuffix('_el')) for name in owned if '_port' not in name}


def test_sigterm_ends_a_replay_that_loops_as_ctrl_c_does(domain, bag, tmp_path):
    """It writes its report, stops its nodes, and takes its shared memory along."""
    words = ('replay', str(bag), '--policy', 'constant-velocity', '--loop', '--verbose', '--out', 'report')
    command = subprocess.Popen(
        [sys.executable, '-m', 'vla_driver.cli', *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said = []
        for line in command.stdout:
            said.append(line)
            if 'all inputs are there' in line:
                break
        assert command.poll() is None, ''.join(said)
        time.sleep(1.0)
        nodes, shared = children_of(command.pid), shared_memory_of(command.pid)
        assert nodes
        assert shared
        for _ in range(2):  # as `timeout` does
            command.send_signal(signal.SIGTERM)
        rest, _ = command.communicate(timeout=60.0)
        assert command.returncode == 0, rest
        assert 'Traceback' not in rest
        assert (tmp_path / 'report' / 'report.html').is_file()
        wait_for(lambda: not any(Path(f'/proc/{pid}').exists() for pid in nodes), 10.0)
        assert not [file for file in shared if file.exists()]
    finally:
        if command.poll() is None:
            command.kill()
            command.wait()
