# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Make of a raw picture what the model needs, while its message still lies in the middleware's buffer."""

from __future__ import annotations

from typing import Any

import numpy as np

from vla_driver.observation.decode import decode_message, is_file
from vla_driver.observation.pictures.received import ReceivedImage
from vla_driver.types import InvalidInput


def receive_image(message: Any, at_least: tuple[int, int] | None = None) -> ReceivedImage:
    """Return what to keep of a sensor_msgs/Image whose `data` (uint8 [N]) is about to be overwritten.

    at_least: (width, height) that suffices, as for `decode_message`, which gives the same picture of the result as of
    the message, and the same InvalidInput: nothing raises here.  A JPEG in a raw message is small and slow to decode;
    its bytes are copied, for whoever decodes files.
    """
    fields = (message.header, message.height, message.width, message.encoding, message.is_bigendian, message.step)
    if is_file(message):
        return ReceivedImage(*fields, data=np.array(message.data))
    try:
        picture = decode_message(message, at_least)
    except InvalidInput as error:
        return ReceivedImage(*fields, problem=str(error))
    # A picture that is neither converted nor shrunk is still the message's own bytes.
    borrowed = np.may_share_memory(picture, message.data)
    return ReceivedImage(*fields, picture=picture.copy() if borrowed else picture)
