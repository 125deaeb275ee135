#!/usr/bin/env python3
# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Copy a bag and add a route to the copy: where the car has driven, a point every 25 m.

Most recordings hold no route, and without one nothing can be planned.  The way is that of base_link, as the driver
reads the odometry.  Everything else is copied as it is; of a ROS 1 bag the copy is one of ROS 2.

usage: .venv/bin/python scripts/add_route.py BAG OUT [--odometry /odom]
"""

from __future__ import annotations

import argparse
import math
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys.store import Typestore

from vla_driver.bag import schema
from vla_driver.bag.mounted import first_messages
from vla_driver.bag.read import BagReader
from vla_driver.bag.topics import describe
from vla_driver.geometry.rig import rig_to_yaml
from vla_driver.observation.messages import frame_of
from vla_driver.observation.route import SPACING_M
from vla_driver.types import EgoState, InvalidInput, VlaDriverError


def add_route(source: Path, target: Path, odometry: str = schema.ODOMETRY_TOPIC) -> tuple[int, int]:
    """Write the copy; return how many points its route has, and how much odometry could not be used.

    Raises InvalidInput for what cannot serve.
    """
    if target.exists():
        raise InvalidInput(f'{target} exists already; give another name, or remove it')
    with BagReader(source, topics={'odom': odometry}) as bag:
        if bag.topics.get(odometry) != schema.ODOMETRY:
            raise InvalidInput(f'no nav_msgs/Odometry on {odometry}; the bag has: {describe(bag.topics)}')
        if schema.ROUTE_TOPIC in bag.topics:
            raise InvalidInput(f'the bag has a topic {schema.ROUTE_TOPIC} already')
        route = _route(bag, odometry)
        writer = Writer(target, version=9, storage_plugin=StoragePlugin.MCAP)
        with suppress(InvalidInput):  # most bags do not say where their cameras are mounted
            writer.set_custom_data(schema.RIG_KEY, rig_to_yaml(bag.rig()))
        with writer as out:
            _copy(bag, out, route)
        return len(route.poses), bag.rejected.get('odometry', 0)


def _route(bag: BagReader, odometry: str) -> Any:
    """Return the driven way as a nav_msgs/Path."""
    frame = next((frame_of(message) for message in first_messages(bag, [odometry]).values()), '')
    states = list(bag.odometry())
    if not states:
        bag.track()  # says why
    points, last = list[EgoState](), np.full(2, np.inf)
    for ego in states:
        here = np.array([ego.x_m, ego.y_m])
        if np.hypot(*(here - last)) >= SPACING_M:
            points.append(ego)
            last = here
    store = schema.typestore()
    poses = [_stamped(store, ego, frame) for ego in (*points, states[-1])]
    return store.types[schema.PATH](header=poses[0].header, poses=poses)


def _stamped(store: Typestore, ego: EgoState, frame: str) -> Any:
    """Return a geometry_msgs/PoseStamped."""
    new = store.types
    sec, nanosec = divmod(round(ego.stamp_s * 1e9), 1_000_000_000)
    stamp = new['builtin_interfaces/msg/Time'](sec=sec, nanosec=nanosec)
    pose = new['geometry_msgs/msg/Pose'](
        position=new['geometry_msgs/msg/Point'](x=ego.x_m, y=ego.y_m, z=0.0),
        orientation=new['geometry_msgs/msg/Quaternion'](
            x=0.0, y=0.0, z=math.sin(ego.yaw_rad / 2), w=math.cos(ego.yaw_rad / 2)
        ),
    )
    header = new['std_msgs/msg/Header'](stamp=stamp, frame_id=frame)
    return new['geometry_msgs/msg/PoseStamped'](header=header, pose=pose)


def _copy(bag: BagReader, out: Writer, route: Any) -> None:
    """Write the route, latched and before all others, and whatever the bag holds."""
    store = schema.typestore()
    qos = schema.Topic(schema.ROUTE_TOPIC, schema.PATH, depth=1, latched=True).qos
    added = out.add_connection(schema.ROUTE_TOPIC, schema.PATH, typestore=store, offered_qos_profiles=[qos])
    out.write(added, bag.start_ns, store.serialize_cdr(route, schema.PATH))
    copies = {}
    for connection in bag.connections:
        text, digest = bag.definition(connection)
        copies[connection.id] = out.add_connection(
            connection.topic,
            connection.msgtype,
            msgdef=text,
            rihs01=digest,
            offered_qos_profiles=getattr(connection.ext, 'offered_qos_profiles', ()),
        )
    for connection, logged_ns, data in bag.raw_messages():
        out.write(copies[connection.id], logged_ns, data)


def main() -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description='Copy a bag and add a route along the driven way to the copy.')
    parser.add_argument('source', type=Path, metavar='BAG', help='a rosbag2 folder, .mcap, .db3 or ROS 1 .bag file')
    parser.add_argument('target', type=Path, metavar='OUT', help='folder of the copy; must not exist yet')
    parser.add_argument('--odometry', default=schema.ODOMETRY_TOPIC, metavar='TOPIC', help='default: %(default)s')
    args = parser.parse_args()
    try:
        points, rejected = add_route(args.source, args.target, args.odometry)
    except VlaDriverError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    if rejected:
        print(f'warning: {rejected} messages on {args.odometry} cannot be used and are left out', file=sys.stderr)
    print(f'{args.target}: a copy with {points} points on {schema.ROUTE_TOPIC}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
