#!/usr/bin/env python3
# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Copy a bag and add a route to the copy: where the car has driven, a point every 25 m.

Most recordings hold no route, and without one nothing can be planned.  Everything else is copied as it is.

usage: .venv/bin/python scripts/add_route.py BAG OUT [--odometry /odom]
"""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer

from vla_driver.bag import schema
from vla_driver.bag.read import BagReader
from vla_driver.bag.topics import describe
from vla_driver.geometry.rig import rig_to_yaml
from vla_driver.observation.messages import read_odometry
from vla_driver.observation.route import SPACING_M
from vla_driver.types import InvalidInput, VlaDriverError


def add_route(source: Path, target: Path, odometry: str = schema.ODOMETRY_TOPIC) -> int:
    """Write the copy and return how many points its route has; raise InvalidInput for what cannot serve."""
    if target.exists():
        raise InvalidInput(f'{target} exists already; give another name, or remove it')
    if source.suffix == '.bag':
        raise InvalidInput(f'{source} is a ROS 1 bag; convert it first: rosbags-convert --src BAG --dst OUT')
    store, last = schema.typestore(), np.full(2, np.inf)
    poses: list[Any] = []
    with BagReader(source) as bag:
        if bag.topics.get(odometry) != schema.ODOMETRY:
            raise InvalidInput(f'no nav_msgs/Odometry on {odometry}; the bag has: {describe(bag.topics)}')
        if schema.ROUTE_TOPIC in bag.topics:
            raise InvalidInput(f'the bag has a topic {schema.ROUTE_TOPIC} already')
        stamped, path = (store.types[name] for name in ('geometry_msgs/msg/PoseStamped', schema.PATH))
        message: Any = None
        start_ns = None
        for _, logged_ns, message in bag.messages([odometry]):
            start_ns = logged_ns if start_ns is None else start_ns
            ego = read_odometry(message)
            here = np.array([ego.x_m, ego.y_m])
            if not np.hypot(*(here - last)) < SPACING_M:
                poses.append(stamped(header=message.header, pose=message.pose.pose))
                last = here
        if message is None or start_ns is None:
            raise InvalidInput(f'no message on {odometry}')
        poses.append(stamped(header=message.header, pose=message.pose.pose))
        route = path(header=poses[0].header, poses=poses)
        writer = Writer(target, version=9, storage_plugin=StoragePlugin.MCAP)
        with suppress(InvalidInput):  # most bags do not say where their cameras are mounted
            writer.set_custom_data(schema.RIG_KEY, rig_to_yaml(bag.rig()))
        with writer as out:
            qos = schema.Topic(schema.ROUTE_TOPIC, schema.PATH, depth=1, latched=True).qos
            added = out.add_connection(schema.ROUTE_TOPIC, schema.PATH, typestore=store, offered_qos_profiles=[qos])
            out.write(added, start_ns, store.serialize_cdr(route, schema.PATH))
            copies = {
                c.id: out.add_connection(
                    c.topic,
                    c.msgtype,
                    msgdef=c.msgdef.data,
                    rihs01=c.digest or bag.type_hash(c),
                    offered_qos_profiles=getattr(c.ext, 'offered_qos_profiles', ()),
                )
                for c in bag.connections
            }
            for connection, logged_ns, data in bag.raw_messages():
                out.write(copies[connection.id], logged_ns, data)
    return len(poses)


def main() -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description='Copy a bag and add a route along the driven way to the copy.')
    parser.add_argument('source', type=Path, metavar='BAG', help='a rosbag2 folder, .mcap or .db3 file')
    parser.add_argument('target', type=Path, metavar='OUT', help='folder of the copy; must not exist yet')
    parser.add_argument('--odometry', default=schema.ODOMETRY_TOPIC, metavar='TOPIC', help='default: %(default)s')
    args = parser.parse_args()
    try:
        points = add_route(args.source, args.target, args.odometry)
    except VlaDriverError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(f'{args.target}: a copy with {points} points on {schema.ROUTE_TOPIC}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
