"""Settings and addresses: what is wrong is told in one line, and no password is ever printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import settings
from scripts.address import Address, parse_address
from scripts.database import connect
from scripts.errors import ToolError
from scripts.server import LocalServer
from scripts.settings import project
from tests.support.commands import run_here

SECRET = "hunter2secret"  # pragma: allowlist secret
PLACE = "db.example.com:5432/todo"
ELSEWHERE = f"postgresql://todo:{SECRET}@{PLACE}"
POOLED = f"postgresql://todo_app:{SECRET}@ep-x-pooler.eu-central-1.aws.neon.tech/todo"
OUT = {"MIGRATION_DATABASE_URL": ELSEWHERE}
NOBODY = f"postgresql://todo:{SECRET}@127.0.0.1:1/todo"
NAMELESS = {"MIGRATION_DATABASE_URL": "postgresql://u@:1/d", "PGHOST": "203.0.113.1"}
UNESCAPED = f"postgresql://todo:{SECRET}@x@localhost/todo"
MALFORMED = "malformed-url: MIGRATION_DATABASE_URL is not a PostgreSQL address"
UNENCRYPTED = "would allow an unencrypted connection to"
LOGIN = f"postgresql://u:{SECRET}@"
SERVER = "SERVER"


def told(url: str) -> str:
    """Return what `status` would print of an address that is refused; no password is in it."""
    with pytest.raises(ToolError) as error:
        connect(parse_address(url, "MIGRATION_DATABASE_URL"), purpose="test")
    (finding,) = error.value.findings
    assert finding.fix
    text = f"{error.value.status} {finding.code}: {finding.message}\n{finding.fix}"
    assert SECRET not in text
    return text


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"todo:{SECRET}@localhost/todo", MALFORMED),
        (f"mysql://todo:{SECRET}@localhost/todo", MALFORMED),  # pragma: allowlist secret
        (UNESCAPED, MALFORMED),
        (f"postgresql://todo:{SECRET}/x@localhost/todo", MALFORMED),
        (f"postgres://todo:{SECRET}@localhost:54x2/todo", MALFORMED),  # pragma: allowlist secret
        (f"postgresql://todo:{SECRET}@localhost:99999/todo", MALFORMED),
        (f"postgresql://todo:{SECRET}@localhost/todo?nonsense={SECRET}", MALFORMED),
        (f"postgresql://todo:%zz{SECRET}@localhost/todo", MALFORMED),  # pragma: allowlist secret
        (f"host=localhost password={SECRET}", MALFORMED),
        ("postgresql:///d?service=x", MALFORMED),
        ("postgresql:///d?host=127.0.0.1,203.0.113.1", MALFORMED),
        (f"{ELSEWHERE}?sslmode=disable", f"sslmode=disable {UNENCRYPTED}"),
        (f"{ELSEWHERE}?sslmode=allow", f"sslmode=allow {UNENCRYPTED}"),
        (f"{ELSEWHERE}?sslmode=prefer", f"sslmode=prefer {UNENCRYPTED}"),
        # Where libpq really connects decides.
        (f"{LOGIN}localhost/d?hostaddr=203.0.113.1&sslmode=disable", f"{UNENCRYPTED} 203.0.113.1"),
        (f"{LOGIN}/d?host=203.0.113.1&sslmode=disable", f"{UNENCRYPTED} 203.0.113.1"),
        (f"postgresql://postgres:{SECRET}@{SERVER}/postgres", "refuses the password"),
        (f"postgresql://postgres@{SERVER}/postgres", "wants a password"),
        (f"postgresql://nobody_here@{SERVER}/postgres", "does not let this role in"),
        (f"postgresql://todo_owner@{SERVER}/no_such_database", "there is no such database"),
    ],
)
def test_an_address_is_refused_without_its_password(
    server: LocalServer, url: str, words: str
) -> None:
    text = told(url.replace(SERVER, f"127.0.0.1:{server.address('x', 'x').port}"))
    assert words in text
    if words == MALFORMED:
        assert text.startswith(f"2 {MALFORMED}")
    if SERVER in url:
        assert text.startswith("1 ")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_the_usual_schemes_are_understood(scheme: str) -> None:
    address = parse_address(f"{scheme}://a%40b:{SECRET}@[::1]:5433/to%20do", "X")
    assert (address.host, address.port, address.database) == ("::1", 5433, "to do")
    assert address.parameters["user"] == "a@b"
    assert address.url == "postgresql://a%40b@[::1]:5433/to%20do"
    assert SECRET not in repr(address)


def test_the_usual_parameters_are_taken(migrated: Address) -> None:
    url = f"{migrated.url}?application_name=x&connect_timeout=3"
    assert run_here("status", MIGRATION_DATABASE_URL=url).returncode == 0


@pytest.mark.parametrize(
    ("command", "environment", "status", "words"),
    [
        ("nonsense", {}, 2, ""),
        ("migrate --nonsense", {}, 2, ""),
        ("rollback --to 0001 --steps 1", {}, 2, "exclude each other"),
        ("status", {"SCHEMA_LOCAL_DIR": "/nowhere"}, 2, "MIGRATION_DATABASE_URL is not set"),
        ("status", {"DATABASE_URL": POOLED}, 2, "pooled"),
        (
            "status",
            {"MIGRATION_DATABASE_URL": UNESCAPED},
            2,
            "error: MIGRATION_DATABASE_URL is not a PostgreSQL address\n  fix: write postgresql://",
        ),
        (
            "status",
            {"MIGRATION_DATABASE_URL": NOBODY},
            1,
            "error: no connection to postgresql://todo@127.0.0.1:1/todo "
            "(MIGRATION_DATABASE_URL): Connection refused",
        ),
        # The environment's host would get the password of another.
        ("status", NAMELESS, 1, "u@localhost:1/d (MIGRATION_DATABASE_URL): Connection refused"),
        ("reset", OUT, 1, f"{PLACE}: reset is for the local server only"),
        ("seed --users 1 --tasks 1", OUT, 1, f"{PLACE} (MIGRATION_DATABASE_URL) is not on"),
    ],
)
def test_wrong_use_and_wrong_databases_are_refused(
    server: LocalServer, command: str, environment: dict[str, str], status: int, words: str
) -> None:
    done = run_here(*command.split(), **environment)
    assert (done.returncode, done.stdout) == (status, "")
    assert words in done.stderr
    assert SECRET not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty folder in the place of the project's."""
    caches = (settings._dotenv, project)
    monkeypatch.setattr("scripts.settings.ROOT", tmp_path)
    for cached in caches:
        cached.cache_clear()
    yield tmp_path
    for cached in caches:
        cached.cache_clear()


@pytest.mark.parametrize("text", ['MIGRATION_DATABASE_URL="postgresql://u@h/d', "\xff"])
def test_a_broken_dotenv_is_refused(monkeypatch: pytest.MonkeyPatch, root: Path, text: str) -> None:
    (root / ".env").write_bytes(text.encode("latin-1"))
    monkeypatch.delenv("MIGRATION_DATABASE_URL", raising=False)
    with pytest.raises(ToolError, match=r"\.env"):
        settings.environment("MIGRATION_DATABASE_URL")


def test_a_key_that_is_missing_is_named(root: Path) -> None:
    (root / "pyproject.toml").write_text("[tool.schema]\nmigrations = 'm'\nroles = 'r'\n")
    with pytest.raises(ToolError, match="application_role is missing"):
        project()
