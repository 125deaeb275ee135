# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What of a recording is played: bags of ROS 1, cut-off ones, topics whose messages are other ones here."""

from pathlib import Path

import pytest
from geometry_msgs.msg import PoseStamped
from mcap.writer import Writer as McapWriter
from nav_msgs.msg import Odometry
from rclpy.serialization import deserialize_message
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.typesys import Stores, get_typestore

from vla_driver.bag import schema
from vla_driver.ros.nodes import playback
from vla_driver.ros.nodes.playback import Bag
from vla_driver.ros.wire import qos
from vla_driver.types import InvalidInput


def write_ros1(path: Path) -> Path:
    """Write a latched pose and markers as ROS 1 does: a number in each header."""
    store = get_typestore(Stores.ROS1_NOETIC)
    new = store.types

    def header(number: int):
        stamp = new['builtin_interfaces/msg/Time'](sec=100, nanosec=number)
        return new['std_msgs/msg/Header'](seq=number, stamp=stamp, frame_id='map')

    def pose(x: float):
        point = new['geometry_msgs/msg/Point'](x=x, y=0.0, z=0.0)
        return new['geometry_msgs/msg/Pose'](
            position=point, orientation=new['geometry_msgs/msg/Quaternion'](x=0.0, y=0.0, z=0.0, w=1.0)
        )

    with Ros1Writer(path) as writer:
        latched = writer.add_connection('goal', 'geometry_msgs/msg/PoseStamped', typestore=store, latching=1)
        markers = writer.add_connection('/markers', schema.MARKERS, typestore=store)
        message = new['geometry_msgs/msg/PoseStamped'](header=header(7), pose=pose(5.0))
        writer.write(latched, 100, bytes(store.serialize_ros1(message, 'geometry_msgs/msg/PoseStamped')))
        writer.write(markers, 101, bytes(4))
    return path


def test_messages_of_ros1_are_played_as_those_of_ros2(tmp_path):
    with Bag(write_ros1(tmp_path / 'x.bag')) as bag:
        assert set(bag.channels) == {'/goal'}
        assert bag.channels['/goal'].latched
        assert 'another definition of visualization_msgs/msg/MarkerArray' in bag.skipped['/markers']
        (letter,) = bag.letters(bag.channels)
    message = deserialize_message(letter.data, PoseStamped)
    assert (message.header.stamp.sec, message.header.stamp.nanosec, message.header.frame_id) == (100, 7, 'map')
    assert (message.pose.position.x, message.pose.orientation.w) == (5.0, 1.0)


def test_what_of_a_bag_is_not_played_is_said(bag, tmp_path):
    (file,) = bag.glob('*.mcap')
    cut = tmp_path / 'cut.mcap'
    cut.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    said = []
    with Bag(cut, said.append) as opened:
        assert said == [f'bag {cut}: {note}' for note in opened.unread]
        assert 'the recording ends after' in said[0]
        letters = list(opened.letters({'/odom': opened.channels['/odom']}))
        assert letters[-1].log_time_ns <= opened.start_ns + opened.duration_s * 1e9 + 1
    assert 5 < len(letters) < 20
    assert deserialize_message(letters[-1].data, Odometry).header.frame_id == 'odom'


def test_topics_that_are_told_once_are_kept_for_late_comers_whatever_the_bag_says(tmp_path):
    """A metadata.yaml whose qualities of service were emptied."""
    store = schema.typestore()
    with (tmp_path / 'x.mcap').open('wb') as stream:
        writer = McapWriter(stream)
        writer.start(profile='ros2')
        for topic, msgtype in (('/my/route', schema.PATH), ('/robot_description', 'std_msgs/msg/String')):
            text = store.generate_msgdef(msgtype, ros_version=2)[0]
            kind = writer.register_schema(msgtype, 'ros2msg', text.encode())
            writer.add_message(writer.register_channel(topic, 'cdr', kind), 5, b'\0\1\0\0' + bytes(40), 5)
        own = writer.register_schema(schema.MARKERS, 'ros2msg', b'int32 count')
        writer.add_message(writer.register_channel('/own', 'cdr', own), 6, b'\0\1\0\0\3\0\0\0', 6)
        status = writer.register_schema('Status', 'jsonschema', b'{}')
        writer.add_message(writer.register_channel('/status', 'json', status), 7, b'{}', 7)
        writer.finish()
    with Bag(tmp_path / 'x.mcap') as bag:
        assert all(channel.profile.durability == qos.LATCHED.durability for channel in bag.channels.values())
        assert {'/my/route'} <= set(bag.channels)
        assert 'another definition' in bag.skipped['/own']
        assert 'its messages are json' in bag.skipped['/status']


def test_what_several_nodes_told_once_is_all_kept(tmp_path, monkeypatch):
    """Each broadcaster has sent its own part; of a route, or of one's own latched topic, the last message counts."""
    store = schema.typestore()
    with (tmp_path / 'x.mcap').open('wb') as stream:
        writer = McapWriter(stream)
        writer.start(profile='ros2')
        for topic in ('/robot/tf_static', '/route'):
            text = store.generate_msgdef(schema.PATH, ros_version=2)[0]
            kind = writer.register_schema(schema.PATH, 'ros2msg', text.encode())
            channel = writer.register_channel(topic, 'cdr', kind)
            for k in range(4):
                writer.add_message(channel, k + 1, bytes([0, 1, 0, 0, k]) + bytes(40), k + 1)
        writer.finish()

    def played(start_ns):
        with Bag(tmp_path / 'x.mcap') as bag:
            letters = list(bag.letters(bag.channels, start_ns * 1e-9))
            depths = {topic: channel.profile.depth for topic, channel in bag.channels.items()}
        return depths, {topic: [one.data[4] for one in letters if one.channel.topic == topic] for topic in depths}

    depths, numbers = played(0)
    assert depths['/robot/tf_static'] == 4
    assert numbers == {'/robot/tf_static': [0, 1, 2, 3], '/route': [0, 1, 2, 3]}
    depths, numbers = played(2)
    assert numbers == {'/robot/tf_static': [0, 1, 2, 3], '/route': [1, 2, 3]}
    monkeypatch.setattr(playback, '_MOST_KEPT', 2)
    depths, numbers = played(3)
    assert depths['/robot/tf_static'] == 2
    assert numbers == {'/robot/tf_static': [1, 2, 3], '/route': [2, 3]}


def test_what_was_logged_at_time_0_is_played_at_once(tmp_path):
    """Some converters log /tf_static so; nobody waits for 54 years."""
    begin_ns, said = 1_700_000_000_000_000_000, []
    store = schema.typestore()
    text = store.generate_msgdef(schema.PATH, ros_version=2)[0]
    with (tmp_path / 'x.mcap').open('wb') as stream:
        writer = McapWriter(stream)
        writer.start(profile='ros2')
        kind = writer.register_schema(schema.PATH, 'ros2msg', text.encode())
        early, later = (writer.register_channel(topic, 'cdr', kind) for topic in ('/robot/tf_static', '/route'))
        for channel, log_ns in ((early, 0), (later, begin_ns), (later, begin_ns + 2_000_000_000)):
            writer.add_message(channel, log_ns, b'\0\1\0\0' + bytes(40), log_ns)
        writer.finish()
    with Bag(tmp_path / 'x.mcap', said.append) as bag:
        assert (bag.start_ns, bag.duration_s) == (begin_ns, 2.0)
        for offset_s in (0.0, 1.0):
            letters = list(bag.letters(bag.channels, offset_s))
            times = [(one.channel.topic, (one.log_time_ns - begin_ns) * 1e-9) for one in letters]
            assert times == [('/robot/tf_static', offset_s), ('/route', offset_s), ('/route', 2.0)]
    assert 'messages on /robot/tf_static (1) were logged up to 472222 h before all others' in said[0]


@pytest.mark.parametrize('content', [b'', b'words'])
def test_what_is_no_bag_is_refused(tmp_path, content):
    (tmp_path / 'x.mcap').write_bytes(content)
    with pytest.raises(InvalidInput, match='is not a readable bag'):
        Bag(tmp_path / 'x.mcap')
