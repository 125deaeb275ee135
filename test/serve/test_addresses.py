# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What `serve egodriver --address` takes, and what it says to anything else."""

from __future__ import annotations

import socket
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from vla_driver.cli import main
from vla_driver.serve.server import require_free
from vla_driver.types import InvalidInput


@pytest.mark.parametrize('address', ['nonsense', '127.0.0.1', '127.0.0.1:99999', ':50051', '127.0.0.1:abc', ''])
def test_what_is_no_address_is_told_how_one_looks(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['serve', 'egodriver', '--policy', 'constant-velocity', '--address', address]) == 2
    assert f'--address {address!r}: expected HOST:PORT, such as 127.0.0.1:50051' in capsys.readouterr().err


@pytest.mark.parametrize('address', ['unix:', 'unix://', 'unix:///no/such/folder/driver.sock'])
def test_a_socket_needs_a_folder(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['serve', 'egodriver', '--policy', 'constant-velocity', '--address', address]) == 2
    assert f'--address {address!r}: expected a path in a folder that exists' in capsys.readouterr().err


@pytest.mark.parametrize('where', ['127.0.0.1', '0.0.0.0', 'localhost', 'unix'])
def test_where_another_server_listens_nobody_else_does(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By itself gRPC shares a port, and calls would go to either."""
    server = grpc.server(futures.ThreadPoolExecutor(1))
    host = f'unix://{tmp_path}/driver.sock' if where == 'unix' else where
    port = server.add_insecure_port(host if where == 'unix' else f'{host}:0')
    server.start()
    try:
        address = host if where == 'unix' else f'{host}:{port}'
        assert main(['serve', 'egodriver', '--policy', 'constant-velocity', '--address', address]) == 2
        assert f'cannot listen at {address}: somebody does already; end that one' in capsys.readouterr().err
    finally:
        server.stop(None).wait()
    require_free(host, port)


def test_what_nobody_listens_at_is_free(tmp_path: Path) -> None:
    left = tmp_path / 'left.sock'
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(left))
    assert left.exists()  # the file of a server that was killed
    for host, port in ((f'unix://{left}', 0), (f'unix:{tmp_path}/new.sock', 0), ('127.0.0.1', 0), ('no.such.host', 9)):
        require_free(host, port)
    with socket.create_server(('127.0.0.1', 0)) as other, pytest.raises(InvalidInput, match='somebody does already'):
        require_free('127.0.0.1', other.getsockname()[1])


@pytest.mark.parametrize(
    ('entries', 'words'),
    [
        (['front=a', 'front=b'], "--camera 'front=b': front was given a already"),
        (['front=a', 'back=a'], "--camera 'back=a': a was given to another camera already"),
    ],
)
def test_a_camera_has_one_picture_and_a_picture_one_camera(
    entries: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word for entry in entries for word in ('--camera', entry)]
    assert main(['serve', 'egodriver', '--policy', 'constant-velocity', *given]) == 2
    assert words in capsys.readouterr().err
