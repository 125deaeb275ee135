# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Six cameras for the latency bench: pictures from files, published at a fixed rate from a process of its own.

    python -m vla_driver.ros.runs.image_source --frames DIR --rig sim --transport compressed --rate 10 --seconds 60

Every tick's stamp is the moment its front image is handed to DDS, before the other five, so that a path's
latency is its time of reception minus its stamp.  The car stands still in the odometry; the planner neither knows
nor minds.  At the end one line of JSON says what was sent and how far behind schedule the worst tick was.
"""

from __future__ import annotations

import argparse
import array
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMessage
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from vla_driver.geometry.rig import load_rig
from vla_driver.msg import TurnCommand as TurnCommandMessage
from vla_driver.observation.decode import decode_compressed
from vla_driver.ros.wire import conversions as convert
from vla_driver.ros.wire import qos
from vla_driver.settings.options import add_options
from vla_driver.settings.shared import RigParameters
from vla_driver.types import ANCHOR_CAMERA, CameraRig, EgoState, InvalidInput, TurnCommand

_PATIENCE_S = 30.0


def load_frames(folder: Path, camera: str) -> list[bytes]:
    """Return the JPEG files DIR/<camera>_<k>.jpg in order; raise InvalidInput if there are none."""
    files = sorted(folder.glob(f'{camera}_[0-9]*.jpg'))
    if not files:
        raise InvalidInput(f'no pictures {folder}/{camera}_<number>.jpg')
    return [file.read_bytes() for file in files]


def messages_of(frames: list[bytes], transport: str) -> list[Any]:
    """Return one message per picture, made once: a tick only changes the stamp."""
    messages: list[Any] = []
    for data in frames:
        if transport == 'compressed':
            messages.append(CompressedImage(format='jpeg', data=array.array('B', data)))
        else:
            rgb = decode_compressed(data, 'jpeg')
            height, width = rgb.shape[:2]
            bgr = np.ascontiguousarray(rgb[:, :, ::-1])
            messages.append(
                Image(height=height, width=width, encoding='bgr8', step=3 * width, data=array.array('B', bgr.tobytes()))
            )
    return messages


def publish(rig: CameraRig, frames: Path, transport: str, rate_hz: float, seconds: float) -> dict[str, float]:
    """Publish for `seconds` once all six cameras have a listener; return counts and the worst delay."""
    node = rclpy.create_node('image_source')
    kind, suffix = (CompressedImage, '/compressed') if transport == 'compressed' else (Image, '')
    names = [ANCHOR_CAMERA, *(name for name in rig.names if name != ANCHOR_CAMERA)]
    pictures = {name: messages_of(load_frames(frames, name), transport) for name in names}
    sensor = qos.SENSOR_PUBLICATION
    outlets = {name: node.create_publisher(kind, f'camera/{name}/image{suffix}', sensor) for name in names}
    infos = {name: node.create_publisher(CameraInfo, f'camera/{name}/camera_info', sensor) for name in names}
    odometry = node.create_publisher(Odometry, 'odom', qos.RELIABLE)
    route = node.create_publisher(PathMessage, 'route', qos.LATCHED)
    turn = node.create_publisher(TurnCommandMessage, 'turn_command', qos.RELIABLE)
    route.publish(convert.to_route(np.array([[30.0, 0.0], [60.0, 0.0]]), convert.to_time(time.time())))

    deadline = time.monotonic() + _PATIENCE_S
    while any(outlet.get_subscription_count() == 0 for outlet in (*outlets.values(), odometry)):
        if time.monotonic() > deadline:
            raise InvalidInput(f'nobody listens to the six cameras within {_PATIENCE_S:.0f} s')
        time.sleep(0.02)
    time.sleep(1.0)  # the listeners may find us later than we found them; nothing may be lost to that

    ticks, worst_s = round(seconds * rate_hz), 0.0
    began = time.monotonic() + 0.1
    for tick in range(ticks):
        due = began + tick / rate_hz
        time.sleep(max(0.0, due - time.monotonic()))
        worst_s = max(worst_s, time.monotonic() - due)
        stamp = convert.from_nanoseconds(time.time_ns())
        for k, name in enumerate(names):
            message = pictures[name][tick % len(pictures[name])]
            message.header.stamp = stamp
            message.header.frame_id = f'{name}_optical_frame'
            outlets[name].publish(message)
            infos[name].publish(convert.to_camera_info(rig[name], stamp))
            if k == 0:
                ego = EgoState(stamp.sec + 1e-9 * stamp.nanosec, 0.0, 0.0, 0.0, 5.0)
                odometry.publish(convert.to_odometry(ego, stamp))
                turn.publish(convert.to_turn_command(TurnCommand.FOLLOW, 60.0, stamp))
    time.sleep(0.5)  # let the last tick arrive before the publishers go
    node.destroy_node()
    return {'ticks': ticks, 'seconds': time.monotonic() - began, 'latest_ms': 1e3 * worst_s}


def main() -> int:
    """Run the source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--frames', type=Path, required=True, help='folder with <camera>_<k>.jpg')
    add_options(parser, RigParameters, 'rig')
    parser.add_argument('--transport', choices=('compressed', 'raw'), default='compressed')
    parser.add_argument('--rate', type=float, default=10.0, help='ticks per second')
    parser.add_argument('--seconds', type=float, default=60.0)
    args = parser.parse_args()
    if not (args.rate > 0 and args.seconds > 0):
        print('error: --rate and --seconds must be positive', file=sys.stderr)
        return 2
    rclpy.init(args=[])
    try:
        print(json.dumps(publish(load_rig(args.rig), args.frames, args.transport, args.rate, args.seconds)), flush=True)
    except InvalidInput as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
