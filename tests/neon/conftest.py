"""The stand-in for Neon's API, with a main branch at an older version of this schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scripts.runner.build import build
from scripts.scratch import scratch_database
from scripts.server import LocalServer
from tests.support.commands import run_here
from tests.support.neon_api import NeonApi, neon_api

APPLIED = "0015"
"""The newest migration that is applied on `main`: the two after it make indexes."""


@pytest.fixture(scope="session")
def production(server: LocalServer) -> Iterator[str]:
    """The name of a database like production's: migrated some time ago."""
    with scratch_database(server) as address:
        build(address, APPLIED)
        yield address.database


@pytest.fixture
def api(server: LocalServer, production: str) -> Iterator[NeonApi]:
    with neon_api(server, production, seconds=0) as api:
        yield api


@pytest.fixture
def ask(api: NeonApi) -> Callable[..., Any]:
    """Return a function that runs `neon …` with `--json`, and returns the last document."""

    def ask(*arguments: str) -> Any:
        done = run_here("neon", *arguments, "--json", **api.environment)
        assert api.key not in done.stdout + done.stderr
        assert api.project.password not in done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return ask
