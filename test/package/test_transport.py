# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The shared-memory profile: set where it helps, never over the user's own, and really in force."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from vla_driver.ros import transport

PROFILE = 'FASTRTPS_DEFAULT_PROFILES_FILE'

IMAGES = """
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


def test_profile_is_set_for_both_generations_of_fast_dds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, 'shared_memory_problem', lambda: None)
    environ: dict[str, str] = {}
    transport.use_shared_memory_profile(environ)
    assert set(environ) == {PROFILE, 'FASTDDS_DEFAULT_PROFILES_FILE'}
    assert Path(environ[PROFILE]).name == 'fastdds_shm.xml'
    assert Path(environ[PROFILE]).is_file()


@pytest.mark.parametrize('variable', transport.PROFILE_VARIABLES)
def test_the_users_own_profile_stays(variable: str) -> None:
    environ = {variable: '/etc/fastdds/fleet.xml'}
    transport.use_shared_memory_profile(environ)
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
def test_large_images_travel_through_the_profiles_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    rclpy = pytest.importorskip('rclpy', reason='needs ROS 2')
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image

    monkeypatch.setenv('ROS_DOMAIN_ID', str(1 + (os.getpid() + 50) % 100))
    for variable in transport.PROFILE_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv(variable, '')  # so that monkeypatch takes away what the next lines set
        monkeypatch.delenv(variable)
    transport.use_shared_memory_profile(os.environ)

    received: list[str] = []
    before = {path.name for path in Path('/dev/shm').glob('fastrtps_*')}
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('viewer', context=context)
    qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
    node.create_subscription(Image, 'image', lambda image: received.append(image.header.frame_id), qos)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)
    camera = subprocess.Popen([sys.executable, '-c', IMAGES])
    try:
        new = [path for path in Path('/dev/shm').glob('fastrtps_*') if path.name not in before]
        segment = max(path.stat().st_size for path in new)
        deadline = time.monotonic() + 40
        while len(received) < 12 and camera.poll() is None and time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.1)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)
        camera.terminate()
        camera.wait(timeout=10)
    assert segment > 128 * 2**20, 'the process has no 128 MB segment: the profile was not read'
    # The reader is best effort, so a loaded machine may lose one; without the profile most are lost.
    assert len(received) >= 11
