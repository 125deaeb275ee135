# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""From a language model's text to waypoints, strictly: an answer is read in full or refused by name.

The format is that of Impromptu-VLA (arXiv 2505.23757; x-y mode): between <PLANNING> and </PLANNING> a sentence, the
header `[x, y]:` and six points `[x1, y1], ..., [x6, y6]`, 0.5 s apart, in metres, x forward and y left.
Impromptu's own evaluation pads a short answer with its last point and takes six zeros for an unreadable one; a car must
not drive on either, so here both are errors and there is no plan.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Final

import numpy as np

from vla_driver.types import FloatArray, MalformedAnswer, MetaAction

OPENING: Final = '<PLANNING>'
CLOSING: Final = '</PLANNING>'
WAYPOINTS: Final = 6
WAYPOINT_DT_S: Final = 0.5
#: Two successive waypoints further apart than this mean more than 45 m/s, which no plan here may (planning/guard.py).
MAX_STEP_M: Final = 45.0 * WAYPOINT_DT_S

_HEADER: Final = re.compile(r'\[\s*x\s*,\s*y\s*\]\s*:')
_NUMBER: Final = r'[+-]?(?:\d+(?:\.\d*)?|\.\d+)'
_POINT: Final = re.compile(rf'\[\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\]')
_BRACKET: Final = re.compile(r'\[[^\[\]]*\]')
_NOT_FINITE: Final = re.compile(r'\b(?:nan|inf|infinity)\b', re.IGNORECASE)


class AnswerFault(str, enum.Enum):
    """What is wrong with an answer."""

    EMPTY = 'empty'
    NO_OPENING_TAG = 'no_opening_tag'
    NO_CLOSING_TAG = 'no_closing_tag'
    REPEATED_TAG = 'repeated_tag'
    NO_HEADER = 'no_header'
    REPEATED_HEADER = 'repeated_header'
    NOT_FINITE = 'not_finite'
    BAD_POINT = 'bad_point'
    STRAY_TEXT = 'stray_text'
    TOO_FEW_POINTS = 'too_few_points'
    TOO_MANY_POINTS = 'too_many_points'
    JUMP = 'jump'
    NOT_DRIVABLE = 'not_drivable'
    UNKNOWN_INTENT = 'unknown_intent'

    __str__ = str.__str__


def _shown(text: str) -> str:
    """Return text short enough for a message."""
    flat = ' '.join(text.split())
    return repr(flat if len(flat) <= 100 else f'{flat[:48]} ... {flat[-48:]}')


def between(text: str, opening: str, closing: str) -> str:
    """Return what stands between two tags that must occur once each, in order; raises `MalformedAnswer`."""
    if not text.strip():
        raise MalformedAnswer(AnswerFault.EMPTY, 'the model wrote nothing')
    for tag, fault in ((opening, AnswerFault.NO_OPENING_TAG), (closing, AnswerFault.NO_CLOSING_TAG)):
        if tag not in text:
            raise MalformedAnswer(fault, f'no {tag} in {_shown(text)}')
        if text.count(tag) > 1:
            raise MalformedAnswer(AnswerFault.REPEATED_TAG, f'{text.count(tag)} times {tag} in {_shown(text)}')
    begin, end = text.index(opening) + len(opening), text.index(closing)
    if end < begin:
        raise MalformedAnswer(AnswerFault.NO_OPENING_TAG, f'{closing} before {opening} in {_shown(text)}')
    return text[begin:end]


def parse_waypoints(text: str) -> FloatArray:
    """Return the waypoints [6, 2] in metres, x forward and y left, of an answer; raises `MalformedAnswer`."""
    body = between(text, OPENING, CLOSING)
    headers = list(_HEADER.finditer(body))
    if not headers:
        raise MalformedAnswer(AnswerFault.NO_HEADER, f"no header '[x, y]:' in {_shown(body)}")
    if len(headers) > 1:
        raise MalformedAnswer(AnswerFault.REPEATED_HEADER, f'{len(headers)} headers in {_shown(body)}')
    listing = body[headers[0].end() :]
    if _NOT_FINITE.search(listing):
        raise MalformedAnswer(AnswerFault.NOT_FINITE, f'a waypoint is no finite number in {_shown(listing)}')
    points = []
    for bracket in _BRACKET.findall(listing):
        match = _POINT.fullmatch(bracket)
        if match is None:
            raise MalformedAnswer(AnswerFault.BAD_POINT, f'{_shown(bracket)} is no [x, y] of two numbers')
        points.append([float(match[1]), float(match[2])])
    rest = _BRACKET.sub('', listing)
    if '[' in rest or ']' in rest:
        raise MalformedAnswer(AnswerFault.BAD_POINT, f'a bracket is not closed in {_shown(listing)}')
    if len(points) != WAYPOINTS:
        fault = AnswerFault.TOO_FEW_POINTS if len(points) < WAYPOINTS else AnswerFault.TOO_MANY_POINTS
        raise MalformedAnswer(fault, f'{len(points)} waypoints, expected {WAYPOINTS}, in {_shown(listing)}')
    if rest.strip(' \t\r\n,.;'):
        raise MalformedAnswer(AnswerFault.STRAY_TEXT, f'{_shown(rest)} among the waypoints')
    waypoints = np.array(points)
    if not np.isfinite(waypoints).all():  # digits enough to overflow
        raise MalformedAnswer(AnswerFault.NOT_FINITE, f'a waypoint is no finite number in {_shown(listing)}')
    steps = np.linalg.norm(np.diff(np.vstack([np.zeros(2), waypoints]), axis=0), axis=1)
    if steps.max() > MAX_STEP_M:
        number = int(steps.argmax())
        raise MalformedAnswer(
            AnswerFault.JUMP,
            f'waypoint {number + 1} is {steps[number]:.1f} m from the one before; allowed: {MAX_STEP_M:g} m in '
            f'{WAYPOINT_DT_S:g} s',
        )
    return waypoints


def parse_intent(text: str, meanings: Mapping[str, MetaAction]) -> MetaAction:
    """Return what the word between <INTENT> and </INTENT> means, one of `meanings`; raises `MalformedAnswer`."""
    word = between(text, '<INTENT>', '</INTENT>').strip()
    if word not in meanings:
        raise MalformedAnswer(AnswerFault.UNKNOWN_INTENT, f'{_shown(word)}; allowed: {", ".join(meanings)}')
    return meanings[word]
