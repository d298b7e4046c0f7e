"""The engine: where its address comes from, TLS, its defaults, and waiting for a server to wake."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine
from todo_schema import ConfigurationError, UnavailableError, aio, check_schema, create_engine
from todo_schema.settings import address

from scripts.address import Address
from scripts.server import LocalServer

pytestmark = pytest.mark.row("R15")

SECRET = "hunter2secret"  # pragma: allowlist secret
URL = f"postgresql://u:{SECRET}@localhost/d"  # pragma: allowlist secret
ELSEWHERE = f"postgresql://u:{SECRET}@db.example.com/d"  # pragma: allowlist secret

Make = Callable[..., sa.Engine]


def make_async(*arguments: Any, **options: Any) -> sa.Engine:
    return aio.create_engine(*arguments, **options).sync_engine


MODES: dict[str, Make] = {"sync": create_engine, "async": make_async}


@pytest.fixture(params=MODES)
def make(request: pytest.FixtureRequest) -> Make:
    """`create_engine` of either form; what it returns tells the same."""
    return MODES[request.param]


class NotNowError(Exception):
    """Raised in place of connecting."""


def connects_by(engine: sa.Engine) -> dict[str, Any]:
    """Return the parameters that the driver gets; nothing connects."""
    asked: dict[str, Any] = {}

    def connect(*_: Any, **parameters: Any) -> None:
        asked.update(parameters)
        raise NotNowError

    dialect: Any = engine.dialect
    dialect.connect = connect
    with pytest.raises(NotNowError):
        engine.raw_connection()
    del dialect.connect
    return asked


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
    (tmp_path / ".env").write_text(f'DATABASE_URL="postgresql://u:{SECRET}@localhost/dotenv"\n')
    monkeypatch.chdir(inner)
    monkeypatch.setenv("DATABASE_URL", f"postgresql://u:{SECRET}@localhost/environment")
    assert connects_by(make())["dbname"] == "environment"
    for unset in ("", None):
        if unset is None:
            monkeypatch.delenv("DATABASE_URL")
        else:
            monkeypatch.setenv("DATABASE_URL", unset)
        assert connects_by(make())["dbname"] == "dotenv"
    (inner / ".env").write_text(f"DATABASE_URL=postgresql://u:{SECRET}@localhost/nearest\n")
    assert connects_by(make())["dbname"] == "nearest"
    assert connects_by(make(URL))["dbname"] == "d"


def test_a_missing_address_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Make
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert refusal(None, make) == "DATABASE_URL is not set; set it, or write it into .env"
    assert refusal("", make).startswith("DATABASE_URL is not set")


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
    "several addresses": f"postgresql://u:{SECRET}@localhost/d?hostaddr=127.0.0.1,203.0.113.1",
    "an unknown parameter": f"postgresql://u:{SECRET}@localhost/d?nonsense={SECRET}",
    "a service, which leads elsewhere": f"postgresql://u:{SECRET}@localhost/d?service=x",
    "an unknown sslmode": f"{ELSEWHERE}?sslmode=verify_full",
    "an unknown sslmode here": f"{URL}?sslmode=on",
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_address_is_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    message = refusal(MALFORMED[case])
    assert message.startswith("DATABASE_URL is not a PostgreSQL address; write postgresql://")
    monkeypatch.setenv("DATABASE_URL", MALFORMED[case])
    assert refusal(None, make_async) == message


@pytest.mark.parametrize(
    "scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+asyncpg"]
)
def test_the_usual_schemes_are_understood(make: Make, scheme: str) -> None:
    asked = connects_by(make(f" {scheme}://a%40b:{SECRET}%2F@[::1]:5433/to%20do\n"))
    names = ("user", "password", "host", "port", "dbname")
    assert [asked[name] for name in names] == ["a@b", f"{SECRET}/", "::1", "5433", "to do"]


@pytest.mark.parametrize(
    ("options", "mode", "roots"),
    [
        ("", "verify-full", "system"),
        ("?sslmode=verify-full", "verify-full", "system"),
        ("?sslmode=verify-full&sslrootcert=/ca.crt", "verify-full", "/ca.crt"),
        ("?sslmode=verify-ca&sslrootcert=/ca.crt", "verify-ca", "/ca.crt"),
        ("?sslmode=require", "require", None),
        ("?hostaddr=203.0.113.1", "verify-full", "system"),
    ],
)
def test_a_host_elsewhere_is_reached_over_tls(
    monkeypatch: pytest.MonkeyPatch, make: Make, options: str, mode: str, roots: str | None
) -> None:
    monkeypatch.setenv("PGSSLMODE", "disable")
    asked = connects_by(make(ELSEWHERE + options))
    assert (asked["sslmode"], asked.get("sslrootcert")) == (mode, roots)


@pytest.mark.parametrize(
    "place",
    ["@db.example.com/d?", "@localhost/d?hostaddr=203.0.113.1&", "@/d?host=db.example.com&"],
)
@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
def test_a_host_elsewhere_is_never_reached_without_tls(make: Make, place: str, mode: str) -> None:
    message = refusal(f"postgresql://u:{SECRET}{place}sslmode={mode}", make)
    assert f"sslmode={mode} would allow an unencrypted connection" in message


@pytest.mark.parametrize(
    "place", ["@localhost/d", "@127.0.0.1/d", "@[::1]/d", "@/d", "@/d?host=/run", "@%2Frun/d"]
)
def test_this_machine_needs_no_tls_and_the_environment_does_not_move_it(
    monkeypatch: pytest.MonkeyPatch, make: Make, place: str
) -> None:
    monkeypatch.setenv("PGHOST", "203.0.113.1")
    asked = connects_by(make(f"postgresql://u:{SECRET}{place}"))
    assert "sslmode" not in asked
    assert asked["host"] in ("localhost", "127.0.0.1", "::1", "/run")


def pool(engine: sa.Engine) -> dict[str, Any]:
    made: Any = engine.pool
    return {
        "pool_size": made.size(),
        "max_overflow": made._max_overflow,
        "pool_timeout": made._timeout,
        "pool_recycle": made._recycle,
        "echo": engine.echo,
    }


def test_the_defaults(make: Make) -> None:
    engine = make(URL)
    assert pool(engine) == {
        "pool_size": 5,
        "max_overflow": 10,
        "pool_timeout": 10.0,
        "pool_recycle": 240,
        "echo": False,
    }
    asked = connects_by(engine)
    assert (asked["connect_timeout"], asked["application_name"]) == (10, "todo_schema")
    assert asked["prepare_threshold"] == 5
    # Neon suspends after 300 seconds: older connections are not kept.
    assert pool(engine)["pool_recycle"] < 300


def test_options_are_passed_on(make: Make) -> None:
    given = {
        "pool_size": 2,
        "max_overflow": 3,
        "pool_timeout": 0.5,
        "pool_recycle": 60,
        "echo": True,
    }
    assert pool(make(URL, **given)) == given
    url = f"{URL}?application_name=mine&connect_timeout=3"
    asked = connects_by(make(url))
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
    where = server.address("todo_owner", "postgres")
    url = f"postgresql://todo_owner@{host}:{where.port}/postgres?hostaddr=127.0.0.1"
    assert connects_by(make(url, prepared_statements=option))["prepare_threshold"] == threshold
    if make is create_engine:
        # The same on a real connection: the name leads to the test's server.
        engine = make(url, prepared_statements=option)
        with engine.connect() as connection:
            raw: Any = connection.connection.driver_connection
            assert raw.prepare_threshold == threshold
        engine.dispose()


def test_nothing_shows_the_password(caplog: pytest.LogCaptureFixture, make: Make) -> None:
    with caplog.at_level(logging.DEBUG):
        engine = make(ELSEWHERE)
        shown = [engine, engine.url, engine.pool, engine.dialect, engine.get_execution_options()]
        shown += [address(ELSEWHERE), engine.url.render_as_string(hide_password=False)]
    for each in [*shown, caplog.text]:
        assert SECRET not in repr(each)
        assert SECRET not in str(each)
    assert SECRET not in repr(aio.create_engine(ELSEWHERE))


# Connecting.


def connect(make: Make, url: str, **options: Any) -> None:
    """Connect once, as the form of the engine does, and close all."""
    if make is create_engine:
        engine = create_engine(url, **options)
        try:
            check_schema(engine)
        finally:
            engine.dispose()
        return

    async def run() -> None:
        made: AsyncEngine = aio.create_engine(url, **options)
        try:
            await aio.check_schema(made)
        finally:
            await made.dispose()

    asyncio.run(run())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def forwarder(port: int, to: int, *, after: float) -> Iterator[None]:
    """Pass one connection on to a server; until some time has gone, the port refuses."""

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def serve() -> None:
        time.sleep(after)
        with socket.create_server(("127.0.0.1", port)) as listener:
            listener.settimeout(10)
            try:
                client, _ = listener.accept()
            except TimeoutError:  # nobody waited for it
                return
        with client, socket.create_connection(("127.0.0.1", to)) as upstream:
            back = threading.Thread(target=pump, args=(upstream, client))
            back.start()
            pump(client, upstream)
            back.join()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield
    thread.join(10)
    assert not thread.is_alive()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name == "todo_schema"]


def test_a_server_that_starts_late_is_waited_for(
    caplog: pytest.LogCaptureFixture, make: Make, migrated: Address
) -> None:
    port = free_port()
    url = f"postgresql://todo_owner:{SECRET}@127.0.0.1:{port}/{migrated.database}"
    with forwarder(port, migrated.port, after=0.5):
        connect(make, url)
    waits = lines(caplog)
    assert len(waits) >= 2
    assert all(each.startswith("no connection to the database yet; trying again") for each in waits)
    assert SECRET not in caplog.text
    assert "127.0.0.1" not in caplog.text


@pytest.mark.parametrize("retry", [0.0, 0.8])
def test_the_wait_has_an_end(caplog: pytest.LogCaptureFixture, make: Make, retry: float) -> None:
    url = f"postgresql://u:{SECRET}@127.0.0.1:{free_port()}/d"
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
