"""Fixtures: production at an older version in the stand-in for Neon, and a pull request."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from scripts.catalog.model import BOOKKEEPING
from scripts.runner.build import build
from scripts.scratch import scratch_database
from scripts.server import LocalServer
from tests.conftest import enterable_folder
from tests.support.commands import run, run_here
from tests.support.neon.api import NeonApi, neon_api
from tests.support.shop import make_shop

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


@dataclass(frozen=True)
class PullRequest:
    """A checkout of another team's project with a change, and production in the stand-in.

    Parameters
    ----------
    folder : the checkout
    api : of the project whose `main` is at the version before the change
    """

    folder: Path
    api: NeonApi

    @property
    def page(self) -> Path:
        return self.folder / "page.md"

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "scripts", "neon", *arguments]

    def start(self, *arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """Start `neon …` in the checkout."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env={**os.environ, **self.api.environment},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `neon …` in the checkout; nothing secret is in what it prints or writes."""
        done = run("neon", *arguments, cwd=self.folder, **self.api.environment, **environment)
        files = [path.read_text() for path in self.folder.glob("page.*")]
        for text in (done.stdout, done.stderr, *files):
            assert self.api.key not in text
            assert self.api.project.password not in text
            assert "Traceback" not in text
        return done

    def check(self, number: int = 7, *arguments: str, **environment: str) -> dict[str, Any]:
        """Run `neon check`; return its last event."""
        done = self.run(
            *("check", "--pr", str(number), "--report", "page.md", "--json", *arguments),
            **environment,
        )
        event: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        assert done.returncode == (0 if event["ok"] else 1)
        return event

    def change(self, forward: str) -> None:
        """Write the pull request's migration, seal it, and render the snapshot where it runs."""
        migration = self.folder / "db" / "changes" / "0002.create-items.sql"
        migration.write_text(forward)
        migration.with_name("0002.create-items.rollback.sql").write_text("drop table items;\n")
        main = self.api.project.address("main").url
        done = run("seal", cwd=self.folder, MIGRATION_DATABASE_URL=main)
        assert done.returncode == 0, done.stderr
        run("render", cwd=self.folder)

    def tables(self, branch: str) -> set[str]:
        """Return the tables of a branch, aside from the tools' own."""
        with psycopg.connect(**self.api.project.address(branch).parameters) as connection:
            query = "select tablename from pg_tables where schemaname = 'public'"
            return {name for (name,) in connection.execute(query)} - BOOKKEEPING


ADD_ITEMS = """\
create table items (
    shop_id bigint not null,
    id bigint not null generated always as identity,
    constraint items_pkey primary key (shop_id, id)
);

grant select on items to shop_app;
"""

ITEMS = """
Table(
    "items", metadata,
    Column("shop_id", BigInteger, primary_key=True),
    Column("id", BigInteger, primary_key=True),
)
"""

SENT = """
-- name: newest orders
-- reads: limit
-- indexes: orders_pkey
select * from orders where shop_id = %(shop_id)s order by id desc limit 20;
"""


@pytest.fixture(scope="session")
def shop(server: LocalServer) -> Iterator[tuple[Path, str]]:
    """A shop's checkout as on its main branch, and the name of a database like its production's."""
    with enterable_folder() as folder, scratch_database(server) as address:
        make_shop(folder / "shop")
        assert run("seal", cwd=folder / "shop", MIGRATION_DATABASE_URL=address.url).returncode == 0
        done = run("migrate", cwd=folder / "shop", MIGRATION_DATABASE_URL=address.url)
        assert done.returncode == 0, done.stderr
        yield folder / "shop", address.database


@pytest.fixture
def pull_request(
    server: LocalServer, shop: tuple[Path, str], tmp_path: Path
) -> Iterator[PullRequest]:
    """A pull request that adds a table."""
    folder = tmp_path / "shop"
    shutil.copytree(shop[0], folder)
    statistics = folder / "db" / "statistics.json"
    known = json.loads(statistics.read_text())
    known["tables"]["items"] = known["tables"]["orders"]
    statistics.write_text(json.dumps(known))
    (folder / "db" / "sent.sql").write_text(SENT)
    models = folder / "shop_models.py"
    models.write_text(models.read_text() + ITEMS)
    with neon_api(server, shop[1], seconds=0) as api:
        made = PullRequest(folder, api)
        made.change(ADD_ITEMS)
        yield made
