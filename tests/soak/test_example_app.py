"""The example application for long: fifty users at once, who do everything."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor

import pytest

from scripts.address import Address
from scripts.server import LocalServer
from tests.support.example_app import (
    CREATE_APP,
    add_users,
    check_afterwards,
    key_server,
    serving,
    visits,
    watching,
)

pytestmark = [pytest.mark.soak, pytest.mark.row("R16", "R30", "R32")]

REQUESTS = 10_000
POOL = {"pool_size": 15, "max_overflow": 0}  # as the application's README.md advises


@pytest.mark.parametrize("kind", CREATE_APP)
def test_fifty_users_at_once(server: LocalServer, module_database: Address, kind: str) -> None:
    server.allow_logins()
    users = [f"{kind}-{number}" for number in range(50)]
    add_users(module_database, users)
    with (
        key_server() as keys,
        serving(kind, module_database, keys.url, **POOL) as app,
        # In a process of their own: two that share an interpreter would wait for each other.
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other,
    ):
        tokens = {user: keys.token(user) for user in users}
        started = time.monotonic()
        with watching(app) as most:
            sent = other.submit(visits, app.url, tokens, REQUESTS // len(users)).result()
        print(f"{kind}: {sent} requests in {time.monotonic() - started:.1f} s, at most {most}")
        assert sent >= REQUESTS
        assert max(most.values()) <= 15
        check_afterwards(app, users)
