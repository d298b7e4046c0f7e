"""Settings and addresses: what is wrong is told in one line, and no password is ever printed."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from scripts import settings
from scripts.address import Address, parse_address
from scripts.database import connect
from scripts.errors import ToolError
from scripts.server import LocalServer
from scripts.settings import project
from tests.support.commands import run, run_here

SECRET = "hunter2secret"  # pragma: allowlist secret

MALFORMED = {
    "no scheme": f"todo:{SECRET}@localhost/todo",
    "another scheme": f"mysql://todo:{SECRET}@localhost/todo",  # pragma: allowlist secret
    "an unescaped @": f"postgresql://todo:{SECRET}@x@localhost/todo",
    "an unescaped /": f"postgresql://todo:{SECRET}/x@localhost/todo",
    "no port": f"postgres://todo:{SECRET}@localhost:54x2/todo",  # pragma: allowlist secret
    "a port too high": f"postgresql://todo:{SECRET}@localhost:99999/todo",
    "an unknown parameter": f"postgresql://todo:{SECRET}@localhost/todo?nonsense={SECRET}",
    "a bad escape": f"postgresql://todo:%zz{SECRET}@localhost/todo",  # pragma: allowlist secret
    "a dsn": f"host=localhost password={SECRET}",
}


def told(url: str) -> str:
    """Return what `status` would print of an address that is refused; no password is in it."""
    with pytest.raises(ToolError) as error:
        connect(parse_address(url, "MIGRATION_DATABASE_URL"), purpose="test")
    (finding,) = error.value.findings
    assert finding.fix
    text = f"{error.value.status} {finding.code}: {finding.message}\n{finding.fix}"
    assert SECRET not in text
    return text


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_address_is_refused_without_its_password(case: str) -> None:
    assert told(MALFORMED[case]).startswith(
        "2 malformed-url: MIGRATION_DATABASE_URL is not a PostgreSQL address"
    )


def test_a_refusal_is_two_lines_and_an_exit_status() -> None:
    done = run("status", MIGRATION_DATABASE_URL=MALFORMED["an unescaped @"])
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert lines[0] == "error: MIGRATION_DATABASE_URL is not a PostgreSQL address"
    assert lines[1].startswith("  fix: write postgresql://")
    assert len(lines) == 2
    assert SECRET not in done.stderr


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_the_usual_schemes_are_understood(scheme: str) -> None:
    address = parse_address(f"{scheme}://a%40b:{SECRET}@[::1]:5433/to%20do", "X")
    assert (address.host, address.port, address.database) == ("::1", 5433, "to do")
    assert address.parameters["user"] == "a@b"
    assert address.url == "postgresql://a%40b@[::1]:5433/to%20do"
    assert SECRET not in repr(address)


def test_a_dead_port_is_told(server: LocalServer) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        url = f"postgresql://todo:{SECRET}@127.0.0.1:{port}/todo"
        done = run_here("status", MIGRATION_DATABASE_URL=url)
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"error: no connection to postgresql://todo@127.0.0.1:{port}/todo "
        "(MIGRATION_DATABASE_URL): Connection refused"
    )
    assert SECRET not in done.stderr


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:{}@localhost/d?hostaddr=203.0.113.1&sslmode=disable",
        "postgresql://u:{}@/d?host=203.0.113.1&sslmode=disable",
    ],
)
def test_where_libpq_really_connects_decides_about_tls(url: str) -> None:
    assert "unencrypted connection to 203.0.113.1" in told(url.format(SECRET))


def test_the_environments_host_does_not_count(server: LocalServer) -> None:
    """PGHOST would send the password elsewhere than the address says."""
    port = server.address("x", "x").port
    done = run_here(
        "status", MIGRATION_DATABASE_URL=f"postgresql://u@:{port}/d", PGHOST="203.0.113.1"
    )
    assert "u@localhost" in done.stderr


@pytest.mark.parametrize("option", ["service=x", "host=127.0.0.1,203.0.113.1"])
def test_addresses_that_lead_elsewhere_are_refused(option: str) -> None:
    assert told(f"postgresql:///d?{option}").startswith("2 malformed-url")


def test_the_usual_parameters_are_taken(migrated: Address) -> None:
    url = f"{migrated.url}?application_name=x&connect_timeout=3"
    assert run_here("status", MIGRATION_DATABASE_URL=url).returncode == 0


@pytest.mark.parametrize("text", ['MIGRATION_DATABASE_URL="postgresql://u@h/d', "\xff"])
def test_a_broken_dotenv_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    (tmp_path / ".env").write_bytes(text.encode("latin-1"))
    monkeypatch.setattr("scripts.settings.ROOT", tmp_path)
    monkeypatch.delenv("MIGRATION_DATABASE_URL", raising=False)
    settings._dotenv.cache_clear()
    try:
        with pytest.raises(ToolError, match=r"\.env"):
            settings.environment("MIGRATION_DATABASE_URL")
    finally:
        settings._dotenv.cache_clear()


FAILURES = {
    "a wrong password": (f"postgres:{SECRET}", "postgres", "refuses the password"),
    "no password": ("postgres", "postgres", "wants a password"),
    "an unknown role": ("nobody_here", "postgres", "does not let this role in"),
    "an unknown database": ("todo_owner", "no_such_database", "there is no such database"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_refused_connection_says_what_to_check(server: LocalServer, case: str) -> None:
    user, database, words = FAILURES[case]
    port = server.address("x", "x").port
    text = told(f"postgresql://{user}@127.0.0.1:{port}/{database}")
    assert text.startswith("1 ")
    assert words in text


def test_a_missing_setting_is_told(tmp_path: Path) -> None:
    done = run_here(
        "status", SCHEMA_LOCAL_DIR=str(tmp_path), MIGRATION_DATABASE_URL="", DATABASE_URL=""
    )
    assert done.returncode == 2
    assert "MIGRATION_DATABASE_URL is not set" in done.stderr


def test_a_pooled_address_alone_is_refused() -> None:
    url = f"postgresql://todo_app:{SECRET}@ep-x-pooler.eu-central-1.aws.neon.tech/todo"
    done = run_here("status", MIGRATION_DATABASE_URL="", DATABASE_URL=url)
    assert done.returncode == 2
    assert "pooled" in done.stderr
    assert SECRET not in done.stderr


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
def test_a_host_elsewhere_is_only_reached_over_tls(mode: str) -> None:
    text = told(f"postgresql://todo:{SECRET}@db.example.com/todo?sslmode={mode}")
    assert f"sslmode={mode} would allow an unencrypted connection" in text


def test_the_projects_table_is_complete() -> None:
    assert project().migrations.is_dir()
    assert project().local_owner == "todo_owner"


def test_a_key_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.schema]\nmigrations = 'm'\nroles = 'r'\n")
    monkeypatch.setattr("scripts.settings.ROOT", tmp_path)
    project.cache_clear()
    try:
        with pytest.raises(ToolError, match="application_role is missing"):
            project()
    finally:
        project.cache_clear()


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["migrate", "--nonsense"], ["rollback", "--to", "0001", "--steps", "1"]],
)
def test_wrong_use_has_its_own_exit_status(server: LocalServer, arguments: list[str]) -> None:
    done = run_here(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_reset_and_seed_are_refused_elsewhere(server: LocalServer) -> None:
    elsewhere = f"postgresql://todo:{SECRET}@db.example.com/todo"
    for command, words in {
        "reset": "db.example.com:5432/todo: reset is for the local server only",
        "seed --users 1 --tasks 1": "db.example.com:5432/todo (MIGRATION_DATABASE_URL) is not on",
    }.items():
        done = run_here(*command.split(), MIGRATION_DATABASE_URL=elsewhere)
        assert done.returncode == 1
        assert words in done.stderr
        assert SECRET not in done.stderr
