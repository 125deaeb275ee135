# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Take raw pictures from the middleware without rclpy's copies.

rclpy makes a Python message of every sensor_msgs/Image: a new C message, its bytes, an array of them.  For a picture
of 4.3 MB that is most of what receiving costs.  `ImageTaker` lets rcl fill one C message, again and again, and lends
it out: whoever reads it makes what is needed at once (`observation.receive`).

Nothing is taken for granted.  The functions come from the very libraries that rclpy has loaded, the C message from
rclpy's own conversion, and its layout is compared with messages that rclpy has converted before anything is taken.
Where any of it is otherwise, `TakeUnavailableError` says what, and rclpy receives as always.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
from rclpy.impl.implementation_singleton import rclpy_implementation
from sensor_msgs.msg import Image

from vla_driver.types import VlaDriverError

T = TypeVar('T')

#: rcl's codes (rcl/types.h): taken; nothing was there to be taken.
_OK: Final = 0
_NOTHING_TAKEN: Final = 401
#: A message's info begins with two times in nanoseconds (rmw/types.h); what follows differs, and has room here.
_INFO_WORDS: Final = 64


class TakeUnavailableError(VlaDriverError):
    """Why pictures cannot be taken this way here."""


class TakeFailedError(VlaDriverError):
    """The middleware refused to hand over a message."""


class _Sequence(ctypes.Structure):
    """rosidl's String and sequence of uint8."""

    _fields_ = (('data', ctypes.c_void_p), ('size', ctypes.c_size_t), ('capacity', ctypes.c_size_t))


class _Image(ctypes.Structure):
    """sensor_msgs__msg__Image."""

    _fields_ = (
        ('sec', ctypes.c_int32),
        ('nanosec', ctypes.c_uint32),
        ('frame_id', _Sequence),
        ('height', ctypes.c_uint32),
        ('width', ctypes.c_uint32),
        ('encoding', _Sequence),
        ('is_bigendian', ctypes.c_uint8),
        ('step', ctypes.c_uint32),
        ('data', _Sequence),
    )


@dataclass(frozen=True)
class Stamp:
    """builtin_interfaces/Time."""

    sec: int
    nanosec: int


@dataclass(frozen=True)
class Header:
    """std_msgs/Header."""

    stamp: Stamp
    frame_id: str


@dataclass(frozen=True)
class BorrowedImage:
    """A sensor_msgs/Image; `data` [N] is the middleware's, and good until whoever it was lent to returns."""

    header: Header
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: npt.NDArray[np.uint8]


class ImageTaker:
    """One C message that raw pictures are taken into, one after the other.

    Raises TakeUnavailableError where rclpy is built otherwise than is known here.
    """

    def __init__(self) -> None:
        try:
            functions = _Functions()
        except (AttributeError, OSError, TypeError, ValueError) as error:
            raise TakeUnavailableError(f'rclpy does not have what this needs: {error}') from error
        self._functions = functions
        for sample in _SAMPLES:
            _check_layout(functions, sample)
        self._message = functions.create()
        weakref.finalize(self, functions.destroy, self._message)
        self._info = (ctypes.c_int64 * _INFO_WORDS)()
        self._lock = threading.Lock()

    def take(self, subscription: Any, read: Callable[[BorrowedImage], T]) -> tuple[T, dict[str, int]] | None:
        """Take the next picture; return what `read` made of it, and the message's info; None where none is there.

        subscription: rclpy's handle of a subscription to sensor_msgs/Image (`Subscription.handle`), in use.
        Raises TakeFailedError.
        """
        with self._lock:
            code = self._functions.take(subscription.pointer, self._message, self._info, None)
            if code != _OK:
                self._functions.reset_error()
                if code == _NOTHING_TAKEN:
                    return None
                raise TakeFailedError(f'a raw picture was lost: rcl_take returned {code}')
            info = {'source_timestamp': self._info[0], 'received_timestamp': self._info[1]}
            return read(_borrowed(_Image.from_address(self._message))), info


def _check_layout(functions: _Functions, sample: dict[str, Any]) -> None:
    """Let rclpy write a message, and raise TakeUnavailableError where it is not read as it was written."""
    message = Image(**{name: value for name, value in sample.items() if hasattr(Image, name)})
    message.header.stamp.sec, message.header.stamp.nanosec = sample['sec'], sample['nanosec']
    message.header.frame_id = sample['frame_id']
    address = functions.create()
    if not address:
        raise TakeUnavailableError('rclpy made no message')
    try:
        if not functions.convert(message, address):
            raise TakeUnavailableError('rclpy could not convert a picture')
        found = _Image.from_address(address)
        for name, value in sample.items():  # all figures before any pointer is followed
            figure = getattr(found, name)
            got, expected = (figure, value) if isinstance(figure, int) else (figure.size, len(value))
            if got != expected:
                raise TakeUnavailableError(f'sensor_msgs/Image is laid out otherwise: {name} is {got}, not {expected}')
        read = _borrowed(found)
        content = {'frame_id': read.header.frame_id, 'encoding': read.encoding, 'data': read.data.tobytes()}
        wrong = [name for name, value in content.items() if value != sample[name]]
        if wrong:
            raise TakeUnavailableError(f'sensor_msgs/Image is laid out otherwise: {", ".join(wrong)} came out wrong')
    finally:
        functions.destroy(address)


def _borrowed(image: _Image) -> BorrowedImage:
    size = image.data.size
    pixels = ctypes.cast(image.data.data, ctypes.POINTER(ctypes.c_uint8)) if size else None
    return BorrowedImage(
        header=Header(Stamp(image.sec, image.nanosec), _text(image.frame_id)),
        height=image.height,
        width=image.width,
        encoding=_text(image.encoding),
        is_bigendian=image.is_bigendian,
        step=image.step,
        data=np.empty(0, np.uint8) if pixels is None else np.ctypeslib.as_array(pixels, (size,)),
    )


def _text(string: _Sequence) -> str:
    return ctypes.string_at(string.data, string.size).decode('utf-8', 'replace') if string.size else ''


class _Functions:
    """The C functions, each as its header declares it.  Raises AttributeError, OSError, ValueError or TypeError."""

    def __init__(self) -> None:
        library = ctypes.CDLL(rclpy_implementation.__file__)  # finds what rclpy's libraries have, and no others
        # CDLL lets other threads go on meanwhile; rclpy keeps the interpreter's lock as it takes.
        self.take = library.rcl_take
        self.take.restype = ctypes.c_int
        self.take.argtypes = [ctypes.c_void_p] * 4
        self.reset_error = library.rcutils_reset_error
        self.reset_error.restype, self.reset_error.argtypes = None, []
        kind: Any = type(Image)
        if kind._CREATE_ROS_MESSAGE is None:
            kind.__import_type_support__()
        self.create = ctypes.PYFUNCTYPE(ctypes.c_void_p)(_address(kind._CREATE_ROS_MESSAGE))
        self.destroy = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(_address(kind._DESTROY_ROS_MESSAGE))
        convert = ctypes.PYFUNCTYPE(ctypes.c_bool, ctypes.py_object, ctypes.c_void_p)
        self.convert = convert(_address(kind._CONVERT_FROM_PY))


def _address(capsule: Any) -> int:
    """Return where a capsule points to; raise ValueError or TypeError where it is none."""
    name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(('PyCapsule_GetName', ctypes.pythonapi))
    pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    found = pointer(('PyCapsule_GetPointer', ctypes.pythonapi))(capsule, name(capsule))
    return int(found)


def _sample(number: int, height: int, width: int) -> dict[str, Any]:
    """Return a picture no two fields of which are alike; its rows are padded by one byte."""
    step = 3 * width + 1
    return {
        'sec': 1_000 + number,
        'nanosec': 999_000_000 + number,
        'frame_id': f'frame_{number}',
        'height': height,
        'width': width,
        'encoding': f'an encoding, number {number}',
        'is_bigendian': 100 + number,
        'step': step,
        'data': bytes(value % 251 for value in range(height * step)),
    }


#: What rclpy is given to write.
_SAMPLES: Final = (_sample(1, 3, 5), _sample(2, 48, 64))
