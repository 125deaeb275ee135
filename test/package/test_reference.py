# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""docs/reference is what the code says: `make docs` would change nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'scripts'))
try:
    import make_docs
finally:
    sys.path.pop(0)

#: Pages that are written with the nodes' help.
NEEDS_ROS = ('parameters.md', 'topics.md')


@pytest.mark.parametrize('name', make_docs.PAGES)
def test_a_page_is_what_make_docs_writes(name: str) -> None:
    if name in NEEDS_ROS:
        pytest.importorskip('rclpy', reason='needs ROS 2')
        pytest.importorskip('vla_driver.msg', reason='needs the built messages: make setup')
    written = (ROOT / 'docs' / 'reference' / name).read_text(encoding='utf-8')
    assert written == make_docs.PAGES[name](), f'docs/reference/{name} is not what the code says; run `make docs`'


def test_nothing_else_is_in_the_folder() -> None:
    assert {path.name for path in (ROOT / 'docs' / 'reference').iterdir()} == set(make_docs.PAGES)


def test_topics_without_words_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = {'planner': [make_docs.Topic('publishes', 'plan', 'vla_driver/msg/DrivingPlan', 'reliable, last 10')]}
    monkeypatch.setattr(make_docs, 'recorded_topics', lambda: nodes)
    with pytest.raises(SystemExit, match='differ by: /carla/hero/NAME/camera_info, '):
        make_docs.topics()
