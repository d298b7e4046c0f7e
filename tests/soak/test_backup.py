"""Backup and restore for long: killed at any moment, many times, and with more rows than memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from scripts.address import Address
from scripts.backup.archive import backup
from scripts.database import connect
from scripts.scratch import scratch_database
from scripts.server import LocalServer
from tests.tools.test_backup_runs import (
    MB,
    killed_backups,
    killed_restores,
    make_big,
    memory,
)

pytestmark = [pytest.mark.soak, pytest.mark.row("R28")]

ROUNDS = int(os.environ.get("SOAK", "20"))


@pytest.fixture
def watcher(server: LocalServer) -> Iterator[psycopg.Connection[Any]]:
    with connect(server.superuser, purpose="watcher") as connection:
        yield connection


@pytest.fixture
def big(server: LocalServer) -> Iterator[Address]:
    with scratch_database(server) as address:
        make_big(address, MB)
        yield address


def test_killed_backups_are_absent_or_whole(big: Address, tmp_path: Path, watcher: Any) -> None:
    left = killed_backups(big, tmp_path, watcher, 5 * ROUNDS, longest=3)
    print(f"{left} of {5 * ROUNDS} left something for the next run to replace")


def test_killed_restores_leave_all_or_nothing(
    big: Address, scratch: Address, tmp_path: Path, watcher: Any
) -> None:
    backup(big, tmp_path / "big", progress=lambda *_: None)
    nothing = killed_restores(tmp_path / "big", scratch, watcher, 5 * ROUNDS)
    print(f"{nothing} of {5 * ROUNDS} left nothing, the others all")
    assert 0 < nothing < 5 * ROUNDS


def test_200_mb_need_no_more_memory_than_none(
    server: LocalServer, scratch: Address, tmp_path: Path
) -> None:
    make_big(scratch, 100)  # as text twice as many
    grown = memory(server, scratch, tmp_path)
    print(f"peak memory grew by {grown} MB")
    assert max(grown.values()) < 8
