# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Message types: those that a bag brings along, one by one, and ours for the rest.

Each type has a store of its own, so that one that is missing, broken or foreign costs no other topic.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from rosbags.interfaces import Connection, MessageDefinition, MessageDefinitionFormat, Nodetype
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from vla_driver.bag.storage.notes import Notes
from vla_driver.types import InvalidInput

#: What reading bytes that are no message of the type ends in.
UNREADABLE: Final = (
    SerdeError,
    TypesysError,
    KeyError,
    IndexError,
    ValueError,
    AssertionError,
    MemoryError,
    struct.error,
)

_HEADER: Final = 'std_msgs/msg/Header'
#: Between the parts of a definition in IDL.
_RULE: Final = '=' * 80 + '\n'
#: Names of the same eight bits.
_SAME: Final = {'byte': 'uint8', 'octet': 'uint8', 'char': 'uint8'}

_Types = dict[str, Any]


class Definitions:
    """The types of a bag.  default: the store for types that the bag does not define, or defines as it does."""

    def __init__(self, default: Typestore, notes: Notes) -> None:
        self._default, self._notes = default, notes
        self._stores: dict[tuple[str, MessageDefinition], Typestore] = {}
        self._differing: dict[tuple[str, MessageDefinition], bool] = {}
        self._ros1: dict[tuple[str, MessageDefinition], Typestore] = {}

    def store(self, connection: Connection) -> Typestore:
        """Return the store that reads a topic's messages (in CDR); raise InvalidInput where nobody knows the type."""
        key = (connection.msgtype, connection.msgdef)
        if key not in self._stores:
            self._stores[key] = self._find(connection)
        return self._stores[key]

    def differs(self, connection: Connection) -> bool:
        """Whether the bag defines a type that we know in another way: its bytes mean something else."""
        key = (connection.msgtype, connection.msgdef)
        if key not in self._differing:
            types = self._embedded(connection)
            known = connection.msgtype in self._default.fielddefs
            self._differing[key] = bool(known and types and not self._agrees(types, connection.msgtype))
        return self._differing[key]

    def known(self, connection: Connection) -> bool:
        """Whether messages of the topic can be read."""
        return connection.msgtype in self._default.fielddefs or bool(self._embedded(connection))

    def described(self, msgtype: str) -> MessageDefinition | None:
        """Return our own definition of a type, None without any."""
        if msgtype not in self._default.fielddefs:
            return None
        return MessageDefinition(MessageDefinitionFormat.MSG, self._default.generate_msgdef(msgtype, ros_version=2)[0])

    def from_ros1(self, connection: Connection, data: bytes) -> bytes:
        """Return a message of ROS 1 in CDR; raises one of UNREADABLE for what is none."""
        key = (connection.msgtype, connection.msgdef)
        if key not in self._ros1:
            types = self._embedded(connection)
            store = self._default
            if types:
                store = get_typestore(Stores.EMPTY)
                store.register(types)
            self._ros1[key] = store
        return bytes(self._ros1[key].ros1_to_cdr(data, connection.msgtype))

    def _find(self, connection: Connection) -> Typestore:
        types, msgtype = self._embedded(connection), connection.msgtype
        if types and not (msgtype in self._default.fielddefs and self._agrees(types, msgtype)):
            store = get_typestore(Stores.EMPTY)
            try:
                store.register({**self._missing(types), **types})
                store.get_msgdef(msgtype)
            except UNREADABLE as error:
                self._notes.add(f'the definition of {msgtype} in the bag cannot be used ({error})')
            else:
                return store
        if msgtype in self._default.fielddefs:
            return self._default
        raise InvalidInput(
            f'topic {connection.topic}: the bag does not define its type {msgtype}, and it is none of ROS 2 '
            'Jazzy or of this package; record it as mcap, which keeps definitions, or leave the topic out'
        )

    def _missing(self, types: _Types) -> _Types:
        """Return what the bag's types are made of but leave undefined, as far as we know it."""
        found: _Types = {}
        todo = list(types.values())
        while todo:
            for _, field in todo.pop()[1]:
                name = _named(field)
                if name and name not in types and name not in found and name in self._default.fielddefs:
                    found[name] = self._default.fielddefs[name]
                    todo.append(found[name])
        return found

    def _embedded(self, connection: Connection) -> _Types:
        """Return the types that the bag defines for a topic; {} where there are none, or none that can be read."""
        form, text = connection.msgdef
        types: _Types = {}
        try:
            if form is MessageDefinitionFormat.MSG:
                types = dict(get_types_from_msg(text, connection.msgtype))
            elif form is MessageDefinitionFormat.IDL:
                parts = text.split(_RULE)[1:] if text.startswith(f'{_RULE}IDL: ') else [f'\n{text}']
                for part in parts:
                    types.update(get_types_from_idl(part.partition('\n')[2]))
        except (*UNREADABLE, RecursionError) as error:
            self._notes.add(f'the definition of {connection.msgtype} in the bag cannot be read ({brief(error)})')
            return {}
        if connection.msgtype not in types:
            return {}
        if _HEADER in types:
            # ROS 1 counted messages in the header; neither CDR nor rosbags' conversion to it has the number.
            constants, fields = types[_HEADER]
            types[_HEADER] = (constants, [field for field in fields if field[0] != 'seq'])
        return types

    def _agrees(self, types: _Types, msgtype: str) -> bool:
        """Whether the bag's definition of a type is laid out as ours, through all it is made of."""
        done, todo = set[str](), [msgtype]
        while todo:
            name = todo.pop()
            if name in done or name not in types:
                continue
            done.add(name)
            if name not in self._default.fielddefs:
                return False
            theirs, ours = (
                [(field.lower().rstrip('_'), _layout(kind)) for field, kind in side[1]]
                for side in (types[name], self._default.fielddefs[name])
            )
            if theirs != ours:
                return False
            todo += [inner for _, kind in types[name][1] if (inner := _named(kind))]
        return True


def _named(kind: Any) -> str:
    """Return the message type that a field is of, '' for a basic one."""
    node, content = kind
    if node == Nodetype.NAME:
        return str(content)
    return _named(content[0]) if node in (Nodetype.ARRAY, Nodetype.SEQUENCE) else ''


def _layout(kind: Any) -> Any:
    """Return what decides how a field lies in a message: bounds of strings and sequences do not."""
    node, content = kind
    if node == Nodetype.BASE:
        return _SAME.get(content[0], content[0])
    if node == Nodetype.ARRAY:
        return 'array', _layout(content[0]), content[1]
    if node == Nodetype.SEQUENCE:
        return 'sequence', _layout(content[0])
    return str(content)


def brief(error: BaseException) -> str:
    """Return an error's first line."""
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
