# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The report is one self-contained file whose data can be read back."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from vla_driver.show.report import Report, ReportTick
from vla_driver.types import InvalidInput, PlanSource


def report_of(count: int = 20) -> Report:
    ticks = [
        ReportTick(
            100.0 + 0.1 * k,
            5.0,
            5.5,
            PlanSource.STOP if k == 3 else PlanSource.POLICY,
            error_m=(0.1, 0.2, 0.3) if k < 10 else (None, None, None),
            latency_ms=30.0 + k,
        )
        for k in range(count)
    ]
    report = Report('A <title>', 'below', ticks, tiles=[('9.9 Hz', 'plans')], notes=['see `plan.mcap` & more'])
    picture = np.random.default_rng(0).integers(0, 255, (60, 200, 3), dtype=np.uint8)
    for k in range(0, count, 2):
        report.add_picture(100.0 + 0.1 * k, picture, 'policy </script>')
    return report


def test_the_page_holds_frames_charts_and_figures(tmp_path: Path) -> None:
    path = tmp_path / 'deep' / 'report.html'
    report_of().write(path)
    text = path.read_text(encoding='utf-8')
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    data = json.loads(found.group(1))
    assert len(data['frames']) == 10
    assert data['frames'][1]['t'] == pytest.approx(0.2)
    assert data['frames'][0]['caption'] == 'policy </script>'
    assert data['duration'] == pytest.approx(1.9)
    assert [mark['t'] for mark in data['fallbacks']] == [pytest.approx(0.3)]
    charts = {chart['title']: chart for chart in data['charts']}
    assert set(charts) == {'Speed', 'Distance from the driven path', 'Latency'}
    assert charts['Distance from the driven path']['series'][2]['y'][9:11] == [0.3, None]
    assert 'A &lt;title&gt;' in text
    assert '<code>plan.mcap</code> &amp; more' in text
    assert '9.9 Hz' in text


def test_the_page_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / 'report.html'
    report_of().write(path)
    text = path.read_text(encoding='utf-8')
    # The SVG name space is a name, not an address that is fetched.
    assert re.findall(r'https?://[^\s"\']+', text) == ['http://www.w3.org/2000/svg']
    assert not re.search(r'<link|@import|<script src|<img[^>]+src="http', text)


def test_a_chart_without_figures_is_left_out(tmp_path: Path) -> None:
    report = report_of()
    report.ticks = [ReportTick(t.stamp_s, t.speed_mps, t.planned_speed_mps, t.source) for t in report.ticks]
    report.write(tmp_path / 'report.html')
    assert '"title": "Speed"' in (tmp_path / 'report.html').read_text(encoding='utf-8')
    assert '"title": "Latency"' not in (tmp_path / 'report.html').read_text(encoding='utf-8')


def test_an_empty_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match='0 plans and 0 pictures'):
        Report('t', 's', []).write(tmp_path / 'report.html')
    assert not (tmp_path / 'report.html').exists()
