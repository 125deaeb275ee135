# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The maps of a simulator's worlds, of which a driver takes where junctions are.

A runtime that speaks carla-driver-interface writes them into its `driver.map_dir`, a folder for each: `manifest.json`,
whose `source` names the OpenDRIVE file; with every question it says which one it is in.  Its frame is that of the
contract's poses and routes (`local`).  They are read in a thread of their own: no question waits for that.  One that is
not there, or cannot be read, is looked for again after a while: the simulator may be about to write it.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from pathlib import Path
from typing import Final

from vla_driver.geometry.opendrive import JunctionMap
from vla_driver.types import InvalidInput

_LOG = logging.getLogger(__name__)
MANIFEST: Final = 'manifest.json'
#: What was not there is looked for again after this time.
_AGAIN_S: Final = 10.0
#: So many names are remembered: they come from outside.
_MOST: Final = 100
#: A map's name is a folder's: nothing that leads elsewhere.
_NAME: Final = re.compile(r'\w[\w.-]*', re.ASCII)


class Maps:
    """The maps of a folder by name; may be asked from several threads.  Raises InvalidInput without the folder."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InvalidInput(f"--map-dir {folder}: expected a folder, the copy of the simulator's driver.map_dir")
        self._folder = folder
        self._found: dict[str, JunctionMap] = {}
        self._looked_s: dict[str, float] = {}  # name -> when, by this machine's steady clock
        self._lock = threading.Lock()

    def junctions(self, name: str) -> JunctionMap | None:
        """Return a map; None while it is being read, and for one that cannot be, which the log says once."""
        with self._lock:
            found, before_s, now_s = self._found.get(name), self._looked_s.get(name), time.monotonic()
            due = before_s is None or now_s - before_s > _AGAIN_S
            if found is None and due and (before_s is not None or len(self._looked_s) < _MOST):
                self._looked_s[name] = now_s
                told = before_s is not None
                threading.Thread(target=self._read, args=(name, told), name=f'map {name}', daemon=True).start()
            return found

    def _read(self, name: str, told: bool) -> None:
        try:
            junctions = JunctionMap(self._text(name))
        except InvalidInput as error:
            if not told:
                _LOG.warning('map %s of %s: %s; turns are made of the route alone', name, self._folder, error)
            return
        with self._lock:
            self._found[name] = junctions
        _LOG.info('map %s: junctions are known', name)

    def _text(self, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise InvalidInput(f'map {name!r}: expected the name of a folder in {self._folder}')
        manifest = self._folder / name / MANIFEST
        try:
            source = json.loads(manifest.read_text(encoding='utf-8'))['source']
            if Path(source).name != source:
                raise InvalidInput(f'{manifest}: source is {source!r}, expected a file beside it')
            return (manifest.parent / source).read_text(encoding='utf-8')
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f'{manifest}: cannot be read ({type(error).__name__}: {error})') from error


def write_map(folder: Path, name: str, opendrive: str) -> Path:
    """Write an OpenDRIVE map as `Maps` reads it; return its folder.  Raises InvalidInput for a name that is none."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(f'map {name!r}: expected letters, digits, "_", "-" and "."; give the network such a name')
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    (place / 'map.xodr').write_text(opendrive, encoding='utf-8')
    manifest = {'map_id': name, 'map_name': name, 'source': 'map.xodr', 'formats': {}}
    (place / MANIFEST).write_text(json.dumps(manifest, indent=2) + '\n', encoding='utf-8')
    return place
