"""The engine: where its address comes from, TLS, its defaults, and waiting for a server to wake."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine
from todo_schema import ConfigurationError, UnavailableError, aio, check_schema, create_engine
from todo_schema.settings import address

from scripts.address import Address
from scripts.server import LocalServer
from tests.support.proxy import Proxy

pytestmark = pytest.mark.row("R15")

SECRET = "hunter2secret"  # pragma: allowlist secret
URL = f"postgresql://u:{SECRET}@localhost/d"  # pragma: allowlist secret
ELSEWHERE = f"postgresql://u:{SECRET}@db.example.com/d"  # pragma: allowlist secret

Make = Callable[..., sa.Engine]


def make_async(*arguments: Any, **options: Any) -> sa.Engine:
    return aio.create_engine(*arguments, **options).sync_engine


@pytest.fixture(params=[create_engine, make_async], ids=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Any:
    """`create_engine` of either form; what it returns tells the same."""
    return request.param


def connects_by(engine: sa.Engine) -> dict[str, Any]:
    """Return the parameters that the driver gets; nothing connects."""
    stopped = patch.object(engine.dialect, "connect", side_effect=InterruptedError)
    with stopped as connect, pytest.raises(InterruptedError):
        engine.raw_connection()
    return dict(connect.call_args.kwargs)


def refusal(url: str | None = None, make: Make = create_engine) -> str:
    """Return the one message of a refusal; nothing of it tells the password."""
    with pytest.raises(ConfigurationError) as caught:
        make(url)
    error = caught.value
    assert "\n" not in error.message
    # A cause would be printed with the traceback.
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    assert SECRET not in repr(error) + error.message
    return error.message


def test_the_environment_comes_first_and_the_nearest_dotenv_second(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Make
) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    told = "DATABASE_URL is not set; set it, or write it into .env"
    assert refusal(None, make) == refusal("", make) == told
    (tmp_path / ".env").write_text(f'DATABASE_URL="{URL}-above"\n')
    assert connects_by(make())["dbname"] == "d-above"
    monkeypatch.setenv("DATABASE_URL", "")
    assert connects_by(make())["dbname"] == "d-above"
    monkeypatch.setenv("DATABASE_URL", f"{URL}-environment")
    assert connects_by(make())["dbname"] == "d-environment"
    monkeypatch.delenv("DATABASE_URL")
    (inner / ".env").write_text(f"DATABASE_URL={URL}-nearest\n")
    assert connects_by(make())["dbname"] == "d-nearest"
    assert connects_by(make(URL))["dbname"] == "d"


MALFORMED = {
    "no scheme": f"u:{SECRET}@localhost/d",
    "another scheme": f"mysql://u:{SECRET}@localhost/d",  # pragma: allowlist secret
    "nothing but a scheme's beginning": f"postgresqlx://u:{SECRET}@localhost/d",
    "blank": "   ",
    "a dsn": f"host=localhost password={SECRET}",
    "an unescaped @": f"postgresql://u:{SECRET}@x@localhost/d",
    "an unescaped /": f"postgresql://u:{SECRET}/x@localhost/d",
    "an unescaped / after digits": f"postgresql://u:54/{SECRET}@localhost/d",
    "a bad escape": f"postgresql://u:%zz{SECRET}@localhost/d",  # pragma: allowlist secret
    "an open bracket": f"postgresql://u:{SECRET}@[::1/d",
    "a port of letters": f"postgresql://u:{SECRET}@localhost:54x2/d",
    "port 0": f"postgresql://u:{SECRET}@localhost:0/d",
    "a port too high": f"postgresql://u:{SECRET}@localhost:65536/d",
    "several hosts": f"postgresql://u:{SECRET}@localhost,db.example.com/d",
    "several addresses": f"{URL}?hostaddr=127.0.0.1,203.0.113.1",
    "an unknown parameter": f"{URL}?nonsense={SECRET}",
    "a service, which leads elsewhere": f"{URL}?service=x",
    "an unknown sslmode": f"{ELSEWHERE}?sslmode=verify_full",
    "an unknown sslmode here": f"{URL}?sslmode=on",
}


@pytest.mark.parametrize("url", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_address_is_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    message = refusal(url)
    assert message.startswith("DATABASE_URL is not a PostgreSQL address; write postgresql://")
    monkeypatch.setenv("DATABASE_URL", url)
    assert refusal(None, make_async) == message


@pytest.mark.parametrize(
    "scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+asyncpg"]
)
def test_the_usual_schemes_are_understood(make: Make, scheme: str) -> None:
    asked = connects_by(make(f" {scheme}://a%40b:{SECRET}%2F@[::1]:5433/to%20do\n"))
    names = ("user", "password", "host", "port", "dbname")
    assert [asked[name] for name in names] == ["a@b", f"{SECRET}/", "::1", "5433", "to do"]


# Over TLS where the host is elsewhere, by this mode and these roots; not on this machine.
TLS: dict[str, tuple[str | None, str | None]] = {
    "db.example.com/d": ("verify-full", "system"),
    "db.example.com/d?hostaddr=203.0.113.1": ("verify-full", "system"),
    "db.example.com/d?sslmode=verify-full": ("verify-full", "system"),
    "db.example.com/d?sslrootcert=system": ("verify-full", "system"),
    "db.example.com/d?sslrootcert=/ca.crt": ("verify-full", "/ca.crt"),
    "db.example.com/d?sslmode=verify-full&sslrootcert=/ca.crt": ("verify-full", "/ca.crt"),
    "db.example.com/d?sslmode=verify-ca&sslrootcert=/ca.crt": ("verify-ca", "/ca.crt"),
    "db.example.com/d?sslmode=require": ("require", None),
    **dict.fromkeys(("localhost/d", "127.0.0.1/d", "[::1]/d"), (None, None)),
    **dict.fromkeys(("/d", "/d?host=/run", "%2Frun/d"), (None, None)),
}


@pytest.mark.parametrize("place", TLS)
def test_only_this_machine_needs_no_tls_and_the_environment_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Make, place: str
) -> None:
    system = tmp_path / "roots.crt"
    system.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(system))
    monkeypatch.setenv("PGSSLMODE", "disable")
    monkeypatch.setenv("PGHOST", "203.0.113.1")
    asked = connects_by(make(f"postgresql://u:{SECRET}@{place}"))
    mode, roots = TLS[place]
    roots = str(system) if roots == "system" else roots
    assert (asked.get("sslmode"), asked.get("sslrootcert")) == (mode, roots)
    here = asked["host"] in ("localhost", "127.0.0.1", "::1", "/run")
    assert here == ("sslmode" not in asked)


@pytest.mark.parametrize(
    "place", ["db.example.com/d?", "localhost/d?hostaddr=203.0.113.1&", "/d?host=db.example.com&"]
)
@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
def test_a_host_elsewhere_is_never_reached_without_tls(make: Make, place: str, mode: str) -> None:
    message = refusal(f"postgresql://u:{SECRET}@{place}sslmode={mode}", make)
    assert f"sslmode={mode} would allow an unencrypted connection" in message


def pool(engine: sa.Engine) -> tuple[Any, ...]:
    made: Any = engine.pool
    return made.size(), made._max_overflow, made._timeout, made._recycle, engine.echo


def test_options_are_passed_on_and_have_defaults(make: Make) -> None:
    # Neon suspends after 300 seconds: older connections are not kept.
    assert pool(make(URL)) == (5, 10, 10.0, 240, False)
    sizes, times = {"pool_size": 2, "max_overflow": 3}, {"pool_timeout": 0.5, "pool_recycle": 60}
    assert pool(make(URL, **sizes, **times, echo=True)) == (2, 3, 0.5, 60, True)
    asked = connects_by(make(URL))
    assert (asked["application_name"], asked["connect_timeout"]) == ("todo_schema", 10)
    assert asked["prepare_threshold"] == 5
    asked = connects_by(make(f"{URL}?application_name=mine&connect_timeout=3"))
    assert (asked["application_name"], asked["connect_timeout"]) == ("mine", "3")


@pytest.mark.parametrize(
    ("host", "option", "threshold"),
    [
        ("ep-x-pooler.example.com", None, None),
        ("ep-x-pooler.example.com", True, 5),
        ("ep-x.example.com", None, 5),
        ("ep-x.example-pooler.com", None, 5),
        ("ep-x.example.com", False, None),
    ],
)
def test_statements_are_not_prepared_through_a_pooler(
    server: LocalServer, make: Make, host: str, option: bool | None, threshold: int | None
) -> None:
    port = server.address("todo_owner", "postgres").port
    url = f"postgresql://todo_owner@{host}:{port}/postgres?hostaddr=127.0.0.1"
    assert connects_by(make(url, prepared_statements=option))["prepare_threshold"] == threshold
    if make is create_engine:
        # The same on a real connection: the name leads to the test's server.
        engine = make(url, prepared_statements=option)
        with engine.connect() as connection:
            assert connection.connection.driver_connection.prepare_threshold == threshold
        engine.dispose()


def test_nothing_shows_the_password(caplog: pytest.LogCaptureFixture, make: Make) -> None:
    with caplog.at_level(logging.DEBUG):
        engine = make(ELSEWHERE)
        shown = [engine, engine.url, engine.pool, engine.dialect, engine.get_execution_options()]
        shown += [address(ELSEWHERE), engine.url.render_as_string(hide_password=False)]
    for each in [*shown, aio.create_engine(ELSEWHERE), caplog.text]:
        assert SECRET not in repr(each) + str(each)


# Connecting.


def connect(make: Make, url: str, **options: Any) -> None:
    """Connect once, as the form of the engine does, and close all."""
    engine = make(url, **options)
    if make is create_engine:
        check_schema(engine)
        engine.dispose()
        return

    async def run() -> None:
        made = AsyncEngine(engine)
        await aio.check_schema(made)
        await made.dispose()

    asyncio.run(run())


@pytest.fixture
def closed() -> Iterator[socket.socket]:
    """A socket whose port refuses until it listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name == "todo_schema"]


def test_a_server_that_starts_late_is_waited_for(
    caplog: pytest.LogCaptureFixture, make: Make, migrated: Address, closed: socket.socket
) -> None:
    late = Proxy(migrated, closed.getsockname()[1])

    def wake() -> None:
        closed.listen()
        late.serve(closed)

    threading.Timer(0.5, wake).start()
    connect(make, f"postgresql://todo_owner:{SECRET}@127.0.0.1:{late.port}/{migrated.database}")
    closed.shutdown(socket.SHUT_RDWR)
    waits = lines(caplog)
    assert len(waits) >= 2
    assert all(each.startswith("no connection to the database yet; trying again") for each in waits)
    assert SECRET not in caplog.text
    assert "127.0.0.1" not in caplog.text


@pytest.mark.parametrize("retry", [0.0, 0.8])
def test_the_wait_has_an_end(
    caplog: pytest.LogCaptureFixture, make: Make, retry: float, closed: socket.socket
) -> None:
    url = f"postgresql://u:{SECRET}@127.0.0.1:{closed.getsockname()[1]}/d"
    begun = time.monotonic()
    with pytest.raises(UnavailableError) as caught:
        connect(make, url, connect_retry=retry)
    assert time.monotonic() - begun < retry + 1
    assert isinstance(caught.value.__cause__, psycopg.OperationalError)
    *waits, last = lines(caplog)
    assert last.startswith("UnavailableError: ")
    assert bool(waits) == bool(retry)
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "place",
    [
        "todo_owner@127.0.0.1:{}/no_such_database",
        "no_such_role@127.0.0.1:{}/postgres",
        "postgres@127.0.0.1:{}/postgres",
        f"postgres:{SECRET}@127.0.0.1:{{}}/postgres",
        "todo_owner@127.0.0.1:{}/postgres?sslmode=require",
    ],
)
def test_what_cannot_get_better_fails_at_once(
    caplog: pytest.LogCaptureFixture, server: LocalServer, make: Make, place: str
) -> None:
    port = server.address("x", "x").port
    begun = time.monotonic()
    with pytest.raises(ConfigurationError) as caught:
        connect(make, f"postgresql://{place.format(port)}", connect_retry=30.0)
    assert time.monotonic() - begun < 5
    assert isinstance(caught.value.__cause__, psycopg.OperationalError)
    assert not [each for each in lines(caplog) if "trying again" in each]
    assert SECRET not in caught.value.message + caplog.text + str(caught.value.__cause__)
