# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What `serve egodriver --address` takes, and what it says to anything else."""

from __future__ import annotations

import pytest

from vla_driver.cli import main


@pytest.mark.parametrize('address', ['nonsense', '127.0.0.1', '127.0.0.1:99999', ':50051', '127.0.0.1:abc', ''])
def test_what_is_no_address_is_told_how_one_looks(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['serve', 'egodriver', '--policy', 'constant-velocity', '--address', address]) == 2
    assert f'--address {address!r}: expected HOST:PORT, such as 127.0.0.1:50051' in capsys.readouterr().err


@pytest.mark.parametrize('address', ['unix:', 'unix://', 'unix:///no/such/folder/driver.sock'])
def test_a_socket_needs_a_folder(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['serve', 'egodriver', '--policy', 'constant-velocity', '--address', address]) == 2
    assert f'--address {address!r}: expected a path in a folder that exists' in capsys.readouterr().err
