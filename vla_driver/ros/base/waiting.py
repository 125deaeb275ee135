# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Why does nothing come?  What a node waits for, and what its topics look like in the graph, in words.

For each missing input: on which topics it is listened for, who publishes on them and why that cannot be received
(another type, another quality of service), and which topics of the right type there are instead.
"""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from rclpy.subscription import Subscription

#: How often it is said, at most.
PERIOD_S: Final = 5.0
#: Discovery and the first messages take their time.
_GRACE_S: Final = 2.0
_MOST_TOPICS: Final = 3
#: Words of problems (observation/problems.py, observation/sync.py, controller) that say that nothing comes.
_SILENT: Final = re.compile(r'\b(no frame|none received|last frame|last one|silent)\b')
_RELIABILITY: Final = {ReliabilityPolicy.RELIABLE: 'reliable', ReliabilityPolicy.BEST_EFFORT: 'best effort'}
_DURABILITY: Final = {DurabilityPolicy.TRANSIENT_LOCAL: 'transient local', DurabilityPolicy.VOLATILE: 'volatile'}


@dataclass(frozen=True)
class Listened:
    """A topic that is listened to.  topic: its full name; type: such as nav_msgs/msg/Path."""

    topic: str
    type: str
    profile: QoSProfile


@dataclass(frozen=True)
class Offer:
    """A publisher in the graph.  node: its full name; type: as in `Listened`."""

    node: str
    type: str
    profile: QoSProfile


def quality(profile: QoSProfile) -> str:
    """Return reliability and durability in words."""
    words = (_RELIABILITY.get(profile.reliability, ''), _DURABILITY.get(profile.durability, ''))
    return ', '.join(word for word in words if word) or 'of unknown quality of service'


def mismatch(listened: Listened, offer: Offer) -> str:
    """Return why what a publisher offers cannot be received; '' if it can."""
    if offer.type != listened.type:
        return f'{offer.node} publishes {offer.type}, wanted is {listened.type}'
    verdict, _ = qos_check_compatible(offer.profile, listened.profile)
    if verdict != QoSCompatibility.ERROR:
        return ''
    return f'{offer.node} publishes it {quality(offer.profile)}, wanted is {quality(listened.profile)}'


def nearest(listened: Sequence[Listened], published: Mapping[str, Sequence[str]], name: str) -> tuple[str, ...]:
    """Return the published topics that have the type of one that is listened to, most alike first.

    published: topic -> its types; name: of the input, such as 'camera back', whose words weigh as well.
    """
    types, own = {one.type for one in listened}, {one.topic for one in listened}
    words = [word for word in name.lower().replace('_', ' ').split() if word != 'camera']

    def likeness(topic: str) -> float:
        alike = max(difflib.SequenceMatcher(None, one.topic.lower(), topic.lower()).ratio() for one in listened)
        return alike + sum(word in topic.lower() for word in words)

    fitting = [topic for topic, kinds in published.items() if topic not in own and types & set(kinds)]
    return tuple(sorted(fitting, key=lambda topic: (-likeness(topic), topic))[:_MOST_TOPICS])


def explain(
    name: str,
    listened: Sequence[Listened],
    offers: Mapping[str, Sequence[Offer]],
    published: Mapping[str, Sequence[str]],
) -> str:
    """Return what the graph says about one input that does not come.

    offers: topic -> its publishers; published: as in `nearest`.
    """
    reachable = [
        _kept_or_not(one, offer, listened)
        for one in listened
        for offer in offers.get(one.topic, ())
        if not mismatch(one, offer)
    ]
    if reachable:
        return '; '.join(dict.fromkeys(reachable))
    reasons = [
        f'{one.topic}: {why}'
        for one in listened
        for offer in offers.get(one.topic, ())
        if (why := mismatch(one, offer))
    ]
    if reasons:
        return f'not received: {"; ".join(dict.fromkeys(reasons))}'
    topics = ' and '.join(dict.fromkeys(one.topic for one in listened))
    types = ' or '.join(dict.fromkeys(one.type.rpartition('/')[2] for one in listened))
    others = nearest(listened, published, name)
    there = f'there is {", ".join(others)}' if others else f'there is no other topic of {types} either'
    return f'nobody publishes on {topics}; {there}'


def _kept_or_not(one: Listened, offer: Offer, listened: Sequence[Listened]) -> str:
    """Return what to ask of a publisher that can be heard, and what is lost if it keeps nothing."""
    latched = [other for other in listened if other.topic == one.topic and mismatch(other, offer)]
    if latched and offer.profile.durability == DurabilityPolicy.VOLATILE:
        return (
            f'{offer.node} publishes {one.topic} {quality(offer.profile)}: what it sent before this node came is lost; '
            'let it send again, or publish transient local'
        )
    return f'{one.topic} has a publisher, {offer.node}; does it send? ros2 topic hz {one.topic}'


def waiting_text(problems: Iterable[tuple[str, str]], about: Mapping[str, str]) -> str:
    """Return the whole message.  problems: (input, what is wrong with it); about: input -> `explain`."""
    listed = list(problems)
    alike: dict[str, list[str]] = {}  # why -> inputs
    for name, why in listed:
        alike.setdefault(why, []).append(name)
    first = ', '.join(f'{_joined(names)} ({why})' if why else ', '.join(names) for why, names in alike.items())
    lines = [f'  {name}: {about[name]}' for name in dict.fromkeys(name for name, _ in listed) if about.get(name)]
    return '\n'.join([f'waiting for: {first}', *lines])


def _joined(names: Sequence[str]) -> str:
    """Return names as a list in which cameras stand together."""
    cameras = [name.removeprefix('camera ') for name in names if name.startswith('camera ')]
    others = [name for name in names if not name.startswith('camera ')]
    if len(cameras) < 2:
        return ', '.join(names)
    return ', '.join([f'cameras {", ".join(cameras)}', *others])


class WaitingLog:
    """Says every `PERIOD_S`, while a node waits, for what; and once that all is there."""

    def __init__(
        self,
        describe: Callable[[Mapping[str, Sequence[Subscription]]], Mapping[str, str]],
        working: str = 'planning',
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._describe, self._working, self._clock = describe, working, clock
        self._next_s = clock() + _GRACE_S
        self._ready_said = False

    def look(
        self, problems: Sequence[str], inputs: Mapping[str, Sequence[Subscription]], planning: bool
    ) -> tuple[bool, str] | None:
        """Return (whether it waits, what to log), None for nothing now.

        problems: such as 'camera back: no frame yet'; inputs: input -> its subscriptions; planning: whether what the
        node makes of its inputs is coming.
        """
        now_s = self._clock()
        if not problems and planning:
            self._next_s = now_s + _GRACE_S  # what is missing for a moment is no news
            if self._ready_said:
                return None
            self._ready_said = True
            return False, f'all inputs are there; {self._working}'
        if now_s < self._next_s or not problems:
            return None
        self._next_s, self._ready_said = now_s + PERIOD_S, False
        split = [split_problem(problem, inputs) for problem in problems]
        # Of what has come and cannot be used, the graph knows nothing.
        missing = {name: inputs[name] for name, why in split if name in inputs and _SILENT.search(why)}
        return True, waiting_text(split, self._describe(missing))


def split_problem(problem: str, inputs: Iterable[str]) -> tuple[str, str]:
    """Return the input that a problem is about, and the rest of its words; all of them where it is about none."""
    for name in sorted(inputs, key=len, reverse=True):
        if problem.startswith(name):
            rest = problem.removeprefix(name).lstrip(': ')
            return name, rest[1:-1] if rest.startswith('(') and rest.endswith(')') else rest
    return problem, ''


def type_name(message_type: type) -> str:
    """Return a message type's name in the graph."""
    return f'{message_type.__module__.split(".")[0]}/msg/{message_type.__name__}'


def listened_by(subscription: Subscription) -> Listened:
    """Return what a subscription wants."""
    return Listened(subscription.topic_name, type_name(subscription.msg_type), subscription.qos_profile)


def offers_of(node: Node, topic: str) -> list[Offer]:
    """Return the publishers of a topic, but for the node's own."""
    own = node.get_fully_qualified_name()
    found = []
    for one in node.get_publishers_info_by_topic(topic):
        name = f'{one.node_namespace.rstrip("/")}/{one.node_name}'
        if 'UNKNOWN' in one.node_name:  # a publisher is discovered before its node
            name = 'a node'
        if name != own:
            found.append(Offer(name, one.topic_type, one.qos_profile))
    return found


def describe_inputs(node: Node, inputs: Mapping[str, Sequence[Subscription]]) -> dict[str, str]:
    """Return input -> what the graph says about it now."""
    wanted = {name: [listened_by(one) for one in listeners] for name, listeners in inputs.items() if listeners}
    published = {
        topic: kinds
        for topic, kinds in node.get_topic_names_and_types()
        if any(set(kinds) & {one.type for one in listened} for listened in wanted.values()) and offers_of(node, topic)
    }
    return {
        name: explain(name, listened, {one.topic: offers_of(node, one.topic) for one in listened}, published)
        for name, listened in wanted.items()
    }
