# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The shared-memory profile: set where it helps, never over the user's own, and really in force."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from fixtures.domains import next_domain

from vla_driver.resources import resource
from vla_driver.ros.wire import transport

PROFILE = 'FASTRTPS_DEFAULT_PROFILES_FILE'

CAMERA = """
import array, time, rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

rclpy.init()
node = rclpy.create_node('camera')
qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
publisher = node.create_publisher(Image, 'image', qos)
image = Image(height=900, width=1600, step=4800, encoding='bgr8', data=array.array('B', bytes(4_320_000)))
deadline = time.monotonic() + 30
while publisher.get_subscription_count() == 0 and time.monotonic() < deadline:
    time.sleep(0.02)
time.sleep(0.5)
for number in range(12):
    image.header.frame_id = str(number)
    publisher.publish(image)
    time.sleep(0.1)
time.sleep(1.0)
"""


# Fast DDS reads the profile once per process, so the viewer must be a process of its own as well.  Its segments are
# fastrtps_* with Jazzy, fastdds_* with Kilted.
VIEWER = """
import json, os, pathlib, time, rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from vla_driver.ros.wire.transport import use_shared_memory_profile

use_shared_memory_profile(os.environ, sends_pictures=not SMALL)
before = set(pathlib.Path('/dev/shm').glob('fast*_*'))
rclpy.init()
node = rclpy.create_node('viewer')
received = []
qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
node.create_subscription(Image, 'image', lambda image: received.append(image.header.frame_id), qos)
segment = max(path.stat().st_size for path in set(pathlib.Path('/dev/shm').glob('fast*_*')) - before)
print(segment, flush=True)
deadline = time.monotonic() + 30
while len(received) < 12 and time.monotonic() < deadline and not (received and received[-1] == '11'):
    rclpy.spin_once(node, timeout_sec=0.1)
print(json.dumps(received))
"""


def test_profile_is_set_for_both_generations_of_fast_dds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, 'shared_memory_problem', lambda: None)
    environ: dict[str, str] = {}
    transport.use_shared_memory_profile(environ)
    assert set(environ) == {PROFILE, 'FASTDDS_DEFAULT_PROFILES_FILE'}
    assert Path(environ[PROFILE]).name == 'fastdds_shm.xml'
    assert Path(environ[PROFILE]).is_file()


def test_a_process_that_sends_no_pictures_takes_less_whatever_its_parent_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, 'shared_memory_problem', lambda: None)
    environ: dict[str, str] = {}
    for sends_pictures, name in (
        (True, 'fastdds_shm.xml'),
        (False, 'fastdds_shm_small.xml'),
        (True, 'fastdds_shm.xml'),
    ):
        transport.use_shared_memory_profile(environ, sends_pictures=sends_pictures)
        assert {Path(environ[variable]).name for variable in transport.PROFILE_VARIABLES} == {name}
    large, small = (
        [
            (node.tag, (node.text or '').strip(), node.attrib)
            for node in ElementTree.parse(resource('config', name)).iter()
        ]
        for name in ('fastdds_shm.xml', 'fastdds_shm_small.xml')
    )
    differing = [(a, b) for a, b in zip(large, small, strict=True) if a != b]
    assert [a[0].rpartition('}')[2] for a, _ in differing] == ['segment_size'] and int(differing[0][1][1]) < 0.1 * int(
        differing[0][0][1]
    )


@pytest.mark.parametrize('sends_pictures', [True, False])
@pytest.mark.parametrize('variable', transport.PROFILE_VARIABLES)
def test_the_users_own_profile_stays(variable: str, sends_pictures: bool) -> None:
    environ = {variable: '/etc/fastdds/fleet.xml'}
    transport.use_shared_memory_profile(environ, sends_pictures=sends_pictures)
    assert environ == {variable: '/etc/fastdds/fleet.xml'}


def test_too_little_shared_memory_is_told_and_nothing_is_set(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Docker gives a container 64 MB.
    monkeypatch.setattr(os, 'statvfs', lambda _: SimpleNamespace(f_bavail=16384, f_frsize=4096))
    environ: dict[str, str] = {}
    with caplog.at_level(logging.WARNING):
        transport.use_shared_memory_profile(environ)
    assert environ == {}
    assert '67 MB free' in caplog.text
    assert '--shm-size' in caplog.text


def test_a_machine_without_shared_memory_is_told(tmp_path: Path) -> None:
    problem = transport.shared_memory_problem(tmp_path / 'absent')
    assert problem is not None
    assert 'No such file' in problem


@pytest.mark.skipif(transport.shared_memory_problem() is not None, reason=str(transport.shared_memory_problem()))
@pytest.mark.parametrize('small', [False, True])
def test_large_images_travel_through_the_profiles_shared_memory(small: bool) -> None:
    pytest.importorskip('rclpy', reason='needs ROS 2')
    environment = {k: v for k, v in os.environ.items() if k not in transport.PROFILE_VARIABLES}
    environment['ROS_DOMAIN_ID'] = str(next_domain())
    viewer = subprocess.Popen(
        [sys.executable, '-c', f'SMALL = {small}\n{VIEWER}'], env=environment, stdout=subprocess.PIPE, text=True
    )
    transport.use_shared_memory_profile(environment)
    processes = [viewer]
    try:
        assert viewer.stdout is not None
        segment_bytes = int(viewer.stdout.readline())  # before there is a camera, whose own may be larger
        processes.append(subprocess.Popen([sys.executable, '-c', CAMERA], env=environment))
        output, _ = viewer.communicate(timeout=60)
    finally:
        for process in processes:
            process.kill()
            process.wait(timeout=10)
    received = json.loads(output.splitlines()[-1])
    size = 8 * 2**20 if small else 128 * 2**20  # of the viewer's own, which holds no picture
    assert size < segment_bytes < 1.2 * size, 'the profile was not read'
    # Best effort, so a loaded machine may lose one; without the profile most are lost.
    assert len(received) >= 11
