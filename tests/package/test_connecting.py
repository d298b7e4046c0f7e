"""Connecting as to Neon: TLS that is checked, a server that sleeps, idle connections, a pooler.

The tools connect as the owner, applications as theirs.
"""

from __future__ import annotations

import asyncio
import logging
import pwd
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import sqlalchemy as sa
from todo_schema import ConfigurationError, TaskCreate, UnavailableError, settings

from scripts import database
from scripts.address import parse_address
from scripts.database import connect
from scripts.errors import ToolError
from scripts.server import LocalServer
from tests.conftest import load_migrations
from tests.package.probes import done, opened
from tests.schema.acting import Connection, value
from tests.support.commands import run_here
from tests.support.pgbouncer import pgbouncer
from tests.support.proxy import proxy
from tests.support.tls import HOST, PASSWORD, Authority, impostor, login, tls_server

pytestmark = [pytest.mark.anyio, pytest.mark.row("R15", "R27")]

POOLER, DIRECT = "ep-quiet-lake-pooler.example.com", "ep-quiet-lake.example.neon.tech"
USES_TLS = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
ROLES = {"tools": "todo_owner", "sync": "todo_app", "async": "todo_app"}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=list(ROLES))
def kind(request: pytest.FixtureRequest) -> str:
    """Who connects."""
    return str(request.param)


@pytest.fixture(scope="module")
def authority(module_folder: Path) -> Authority:
    """Whom the clients trust."""
    return Authority(module_folder / "authority")


@pytest.fixture(scope="module")
def remote(module_folder: Path, authority: Authority) -> Iterator[LocalServer]:
    """A migrated server with TLS, and two users."""
    with tls_server(module_folder, authority) as remote:
        remote.prepare("todo_owner", "todo")
        owner = login(remote, "todo_owner", "todo").with_(sslrootcert=str(authority.roots))
        load_migrations(**owner.parameters)
        login(remote, "todo_app", "todo")
        with connect(owner, purpose="test") as connection:
            connection.execute(
                "insert into \"user\" values ('alice', '', 'a@b'), ('bob', '', 'b@b')"
            )
        yield remote


Url = Callable[..., str]


@pytest.fixture(scope="module")
def url(remote: LocalServer, authority: Authority) -> Url:
    """A function that gives a client's address, with parameters beside those that it needs."""
    port = remote.superuser.port

    def url(kind: str, **changes: Any) -> str:
        given = {"host": HOST, "port": port, "sslrootcert": str(authority.roots), **changes}
        place = f"{given.pop('host')}:{given.pop('port')}/todo"
        word = quote(given.pop("password", PASSWORD))
        return f"postgresql://{ROLES[kind]}:{word}@{place}?{urlencode(given)}"

    return url


async def ask(kind: str, url: str, patience: float = 30) -> bool:
    """Connect once, and return whether the server says that it is over TLS."""
    if kind == "tools":
        address = parse_address(url, "MIGRATION_DATABASE_URL")
        with connect(address, purpose="test", wake=patience) as connection:
            return bool(value(connection, USES_TLS))
    async with opened(kind, url, connect_retry=patience) as door, door.plain() as session:
        return bool((await done(session.exec(sa.text(USES_TLS)))).scalar_one())


GOOD: dict[str, dict[str, str]] = {
    "nothing": {},
    "what Neon gives": {"sslmode": "require", "channel_binding": "require"},
    "all": {"sslmode": "verify-full", "channel_binding": "require"},
}


@pytest.mark.parametrize("asked", GOOD.values(), ids=GOOD)
async def test_the_server_is_reached_over_tls(kind: str, url: Url, asked: dict[str, str]) -> None:
    assert await ask(kind, url(kind, **asked))


async def test_an_address_without_parameters_means_the_systems_roots(
    kind: str, url: Url, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where the libraries' own OpenSSL would look for them there is nothing.
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    plain = url(kind).partition("?")[0]
    for each in (plain, f"{plain}?sslmode=verify-full", f"{plain}?sslrootcert=system"):
        with pytest.raises((ToolError, ConfigurationError)):
            await ask(kind, each)
        with monkeypatch.context() as system:
            told = SimpleNamespace(cafile=str(authority.roots))
            system.setattr("ssl.get_default_verify_paths", lambda told=told: told)
            assert await ask(kind, each)


@pytest.mark.parametrize("module", [database, settings], ids=["tools", "package"])
def test_the_systems_roots_are_found(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    if (file := module._system_roots()) == "system":
        pytest.skip("no root certificates (Debian: apt-get install ca-certificates)")
    assert len(ssl.create_default_context(cafile=file).get_ca_certs()) > 20


# What is wrong, and the tools' code for it.
WRONG = {
    "another authority": "tls-failed",
    "no roots": "tls-failed",
    "another name": "tls-failed",
    "expired": "tls-failed",
    "passed on": "tls-failed",
    "asked in clear text": "tls-failed",
    "no TLS": "tls-required",
    "prefer": "tls-required",
    "disable": "tls-required",
    "not let in": "authentication-failed",
}


@pytest.fixture(scope="module")
def wrong(
    remote: LocalServer, server: LocalServer, authority: Authority, module_folder: Path
) -> Iterator[dict[str, dict[str, Any]]]:
    """How an address differs where something is wrong."""
    expired = authority.identity(HOST, lasts=timedelta(days=-1))
    stolen = authority.identity(HOST, lasts=timedelta(days=2))
    strict = {"channel_binding": "require"}
    where = login(remote, "todo_app", "todo")
    with ExitStack() as stack:

        def at(context: Any) -> dict[str, Any]:
            return {"port": stack.enter_context(context).port}

        yield {
            "another authority": {"sslrootcert": str(Authority(module_folder / "other").roots)},
            "no roots": {"sslrootcert": "/nowhere/roots.crt"},
            "another name": {"host": "127.0.0.3"},
            "expired": at(impostor(expired)),
            "passed on": {**at(impostor(stolen, where)), **strict},
            "asked in clear text": {**at(impostor(stolen)), **strict},
            "no TLS": at(proxy(server.superuser, HOST)),
            "prefer": {"sslmode": "prefer"},
            "disable": {"sslmode": "disable"},
            "not let in": {"password": f"not {PASSWORD}"},
        }


@pytest.mark.parametrize("what", WRONG)
async def test_what_may_not_be_the_server_is_refused_at_once(
    kind: str, url: Url, wrong: dict[str, Any], what: str, caplog: pytest.LogCaptureFixture
) -> None:
    begun = time.monotonic()
    with pytest.raises((ToolError, ConfigurationError)) as caught:
        await ask(kind, url(kind, **wrong[what]))
    assert time.monotonic() - begun < 5
    if isinstance(caught.value, ToolError):
        (finding,) = caught.value.findings
        assert finding.code == WRONG[what]
        assert finding.fix
    shown = f"{caught.value!r} {caught.value.__cause__} {caplog.text}"
    assert PASSWORD not in shown
    assert quote(PASSWORD) not in shown


def test_a_command_tells_it_in_two_lines(url: Url, wrong: dict[str, Any]) -> None:
    done = run_here("status", MIGRATION_DATABASE_URL=url("tools"))
    assert (done.returncode, done.stderr) == (0, "")
    done = run_here("status", MIGRATION_DATABASE_URL=url("tools", **wrong["another name"]))
    assert (done.returncode, done.stdout) == (1, "")
    first, second = done.stderr.splitlines()
    assert first.startswith(
        "error: the server's certificate is not accepted: postgresql://todo_owner@"
    )
    assert second == "  fix: check host name and sslrootcert"


async def test_only_channel_binding_tells_who_stands_between(
    kind: str, url: Url, remote: LocalServer, authority: Authority
) -> None:
    stolen = authority.identity(HOST, lasts=timedelta(days=2))
    refused = pytest.raises((ToolError, ConfigurationError))
    with impostor(stolen, login(remote, "todo_app", "todo")) as between:
        assert await ask(kind, url(kind, port=between.port, channel_binding="disable"))
        assert b"pg_stat_ssl" in between.heard
        between.heard.clear()
        with refused:
            await ask(kind, url(kind, port=between.port, channel_binding="require"))
        assert b"pg_stat_ssl" not in between.heard
    with impostor(stolen) as instead:
        with pytest.raises((ToolError, UnavailableError)):
            await ask(kind, url(kind, port=instead.port), patience=0)
        assert PASSWORD.encode() in instead.heard
        instead.heard.clear()
        with refused:
            await ask(kind, url(kind, port=instead.port, channel_binding="require"))
        assert not instead.heard


@pytest.mark.parametrize("answers", range(5))
async def test_a_server_that_hangs_up_while_it_wakes_is_asked_again(
    kind: str, url: Url, remote: LocalServer, answers: int
) -> None:
    where = login(remote, "todo_app", "todo")
    with proxy(where, HOST, cuts=[answers]) as sleeper:
        assert await ask(kind, url(kind, port=sleeper.port))
        assert sleeper.accepted == 2
    with proxy(where, HOST, cuts=[answers] * 9) as sleeper:
        with pytest.raises((ToolError, UnavailableError)) as caught:
            await ask(kind, url(kind, port=sleeper.port), patience=0)
        assert sleeper.accepted == 1
    if isinstance(caught.value, ToolError):
        assert caught.value.findings[0].code == "unreachable"


@pytest.fixture(scope="module")
def admin(remote: LocalServer) -> Iterator[Connection]:
    with connect(remote.superuser.with_(dbname="todo"), purpose="test") as connection:
        yield connection


CONNECTED = "select count(*) from pg_stat_activity where usename = 'todo_app'"


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_connections_that_were_cut_for_idleness_are_replaced_unnoticed(
    kind: str, url: Url, remote: LocalServer, admin: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "todo_schema")
    where = login(remote, "todo_app", "todo")
    with proxy(where, HOST, idle=1.0) as impatient:
        async with opened(kind, url(kind, port=impatient.port)) as door:
            async with door.session("alice") as first, door.session("bob") as second:
                for session in first, second:
                    await done(session.tasks.counts())
            assert impatient.accepted == 2
            end = time.monotonic() + 10
            while value(admin, CONNECTED) and time.monotonic() < end:
                await asyncio.sleep(0.02)
            async with door.session("alice") as first, door.session("bob") as second:
                for session in first, second:
                    await done(session.tasks.counts())
            assert impatient.accepted == 4
    assert "closed by the server" in caplog.text


# Its name leads nowhere; the address beside it does.
NAMED = {"host": POOLER, "hostaddr": HOST}


@pytest.fixture(scope="module")
def pooled(remote: LocalServer, authority: Authority) -> Iterator[int]:
    """The port of PgBouncer, with TLS on both sides and one connection to the server."""
    shown = authority.identity(POOLER, DIRECT, HOST, account=pwd.getpwnam("nobody"))
    settings = {
        "default_pool_size": 1,
        "client_tls_sslmode": "require",
        "client_tls_cert_file": str(shown.certificate),
        "client_tls_key_file": str(shown.key),
        "server_tls_sslmode": "verify-full",
        "server_tls_ca_file": str(authority.roots),
    }
    with pgbouncer(login(remote, "todo_app", "todo"), HOST, **settings) as address:
        yield address.port


@pytest.mark.row("R7")
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_users_are_kept_apart_through_the_pooled_address(
    kind: str, url: Url, pooled: int
) -> None:
    async with opened(kind, url(kind, port=pooled, **NAMED)) as door:
        pids = set()
        for turn in range(3):
            for user in ("alice", "bob"):
                async with door.session(user) as session:
                    await done(session.tasks.create(TaskCreate(title=f"{user} {turn}")))
                    found = (await done(session.tasks.list())).items
                    assert {each.user_id for each in found} == {user}
                    query = sa.text("select pg_backend_pid()")
                    pids.add((await done(session.orm.exec(query))).scalar_one())
        assert len(pids) == 1, "they shared a connection"
        async with door.plain() as session:
            assert (
                await done(session.exec(sa.text("select count(*) from tasks")))
            ).scalar_one() == 0


@pytest.mark.parametrize("known_by", ["its name", "what it does"])
def test_the_tools_refuse_the_pooled_address_and_take_the_direct_one(
    url: Url, pooled: int, known_by: str
) -> None:
    # By its name it is known before anything is sent: nobody listens there.
    by_pool = url("tools", **{**NAMED, "port": 1} if known_by == "its name" else {"port": pooled})
    done = run_here("migrate", MIGRATION_DATABASE_URL=by_pool)
    assert done.returncode == 1
    assert "is a connection pooler" in done.stderr
    done = run_here("migrate", MIGRATION_DATABASE_URL=url("tools"), DATABASE_URL=by_pool)
    assert (done.returncode, done.stderr) == (0, "")


def test_neons_proxy_is_no_pooler_though_it_answers_as_one(url: Url, pooled: int) -> None:
    direct = url("tools", host=DIRECT, hostaddr=HOST, port=pooled)
    with connect(parse_address(direct, "MIGRATION_DATABASE_URL"), purpose="test") as connection:
        assert value(connection, "select pg_backend_pid()") != connection.info.backend_pid
