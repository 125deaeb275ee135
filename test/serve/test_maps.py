# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Maps of a simulator's worlds: found by name, read beside the questions, and nothing outside their folder."""

from __future__ import annotations

import json
import logging
import shutil
import time
from pathlib import Path

import pytest

from vla_driver.cli import main
from vla_driver.geometry.opendrive import JunctionMap
from vla_driver.serve import maps as served_maps
from vla_driver.serve.maps import MANIFEST, Maps, write_map
from vla_driver.sim.world.towns import town_path
from vla_driver.types import InvalidInput

#: A junction from x = 30 m to 50 m.
OPENDRIVE = (
    '<OpenDRIVE><road id="1" junction="7"><planView><geometry x="30" y="0" hdg="0" length="20"><line/></geometry>'
    '</planView></road></OpenDRIVE>'
)
ALONG = [[float(x), 0.0] for x in range(100)]


def read(maps: Maps, name: str) -> JunctionMap | None:
    """Ask until the map is there, for five seconds at most."""
    for _ in range(100):
        if (found := maps.junctions(name)) is not None:
            return found
        time.sleep(0.05)
    return None


def test_a_map_is_found_by_name_and_read_once(tmp_path: Path) -> None:
    write_map(tmp_path, 'Town01', OPENDRIVE)
    maps = Maps(tmp_path)
    found = read(maps, 'Town01')
    assert found is not None
    assert [(c.first, c.last) for c in found.crossings(ALONG)] == [(30, 50)]
    (tmp_path / 'Town01' / 'map.xodr').unlink()
    assert maps.junctions('Town01') is found


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('../Town01', "map '../Town01': expected the name of a folder"),
        ('..', "map '..': expected the name of a folder"),
        ('Town99', 'Town99/manifest.json: cannot be read'),
        ('broken', 'broken/manifest.json: cannot be read'),
        ('elsewhere', "source is '../Town01/map.xodr', expected a file beside it"),
        ('nothing', r"map: the root element is 'osm', expected OpenDRIVE"),
    ],
)
def test_what_cannot_be_read_is_said_once(
    name: str, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_map(tmp_path, 'Town01', OPENDRIVE)
    write_map(tmp_path, 'nothing', '<osm/>')
    (write_map(tmp_path, 'broken', OPENDRIVE) / MANIFEST).write_text('{"source": 3')
    (write_map(tmp_path, 'elsewhere', OPENDRIVE) / MANIFEST).write_text(json.dumps({'source': '../Town01/map.xodr'}))
    maps = Maps(tmp_path)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert maps.junctions(name) is None
            time.sleep(0.2)
    assert len(caplog.messages) == 1
    assert words in caplog.messages[0]
    assert caplog.messages[0].startswith(f'map {name} of {tmp_path}: ')
    assert 'turns are made of the route alone' in caplog.messages[0]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidInput, match=r'--map-dir .*/none: expected a folder'):
        Maps(tmp_path / 'none')
    words = ['serve', 'egodriver', '--policy', 'constant-velocity', '--map-dir', str(tmp_path / 'none')]
    assert main(words) == 2
    assert 'expected a folder' in capsys.readouterr().err


def test_a_map_that_comes_later_is_found_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_maps, '_AGAIN_S', 0.2)
    maps = Maps(tmp_path)
    assert maps.junctions('Town02') is None
    time.sleep(0.3)
    write_map(tmp_path, 'Town02', OPENDRIVE)
    assert read(maps, 'Town02') is not None


def test_alpasim_names_no_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ['serve', 'egodriver', '--policy', 'constant-velocity', '--mode', 'alpasim', '--map-dir', str(tmp_path)]
    assert main(words) == 2
    assert 'AlpaSim does not say which map it is in' in capsys.readouterr().err


def test_networks_that_would_be_one_map_or_none_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = town_path('val_rand')
    (tmp_path / 'other').mkdir()
    for name in ('town.net.xml.gz', 'other/town.net.xml.gz', 'my town.net.xml.gz', 'town.v2.net.xml.gz'):
        shutil.copy(shipped, tmp_path / name)
    out = tmp_path / 'maps'
    assert main(['convert', 'towns', str(tmp_path / 'town.v2.net.xml.gz'), '--out', str(out)]) == 0
    assert [path.name for path in out.iterdir()] == ['town.v2']
    twice = [str(tmp_path / 'town.net.xml.gz'), str(tmp_path / 'other' / 'town.net.xml.gz')]
    assert main(['convert', 'towns', *twice, '--out', str(out)]) == 2
    assert 'a map town was written already' in capsys.readouterr().err
    assert main(['convert', 'towns', str(tmp_path / 'my town.net.xml.gz'), '--out', str(out)]) == 2
    assert "map 'my town': expected letters, digits" in capsys.readouterr().err


def test_the_command_writes_every_town_as_such_a_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['convert', 'towns', '--out', str(tmp_path)]) == 0
    towns = {path.name for path in tmp_path.iterdir()}
    assert {'train_grid', 'val_rand', 'test_web', 'test_ladder'} <= towns
    assert len(capsys.readouterr().out.splitlines()) == len(towns)
    assert read(Maps(tmp_path), 'test_web') is not None
