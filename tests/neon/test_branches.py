"""neon branch: made once, reused, always with an end, listed, restored, compared, pruned."""

from __future__ import annotations

import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg
import pytest

from scripts.address import parse_address
from tests.support.commands import run, run_here
from tests.support.neon.api import NeonApi
from tests.support.neon.requests import create_branch

pytestmark = pytest.mark.row("R27")

Ask = Callable[..., Any]
SECRET = "hunter2secret"  # pragma: allowlist secret


def hours_left(text: str) -> float:
    return (datetime.fromisoformat(text) - datetime.now(UTC)) / timedelta(hours=1)


def test_a_branch_is_made_once_and_its_end_moves(api: NeonApi, ask: Ask) -> None:
    first = ask("branch", "create", "pr-7")
    again = ask("branch", "create", "pr-7", "--hours", "48")
    assert (first["reused"], again["reused"]) == (False, True)
    assert first["branch"]["id"] == again["branch"]["id"]
    assert 23.9 < hours_left(first["branch"]["expires_at"]) <= 24
    assert 47.9 < hours_left(again["branch"]["expires_at"]) <= 48
    assert [each["name"] for each in ask("branch", "list")["branches"]] == ["pr-7", "main"]


def test_a_branch_of_another_parent_has_its_data(api: NeonApi, ask: Ask) -> None:
    ask("branch", "create", "staging")
    with psycopg.connect(**api.project.address("staging").parameters) as connection:
        connection.execute("create table only_there ()")
    api.project.branch("staging").expires_at = None  # a parent must not expire
    ask("branch", "create", "pr-8", "--parent", "staging")
    with psycopg.connect(**api.project.address("pr-8").parameters) as connection:
        connection.execute("table only_there")


def test_urls_lead_to_the_branch_and_the_file_alone_has_the_password(
    api: NeonApi, ask: Ask, tmp_path: Path
) -> None:
    ask("branch", "create", "pr-7")
    file = tmp_path / "branch.env"
    direct = ask("branch", "url", "pr-7", "--env", str(file))
    pooled = ask("branch", "url", "pr-7", "--pooled")["url"]
    assert api.project.address("pr-7").database in direct["url"]
    assert parse_address(pooled, "x").is_pooled
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    variable, _, url = file.read_text().strip().partition("=")
    assert variable == "MIGRATION_DATABASE_URL"
    assert api.project.password in url
    status = run("status", MIGRATION_DATABASE_URL=url)
    assert "2 pending" in status.stdout
    again = run("neon", "branch", "url", "pr-7", "--env", str(file), **api.environment)
    assert (again.returncode, "is there already" in again.stderr) == (1, True)
    assert file.read_text().strip() == f"{variable}={url}"


def test_a_branch_goes_and_is_gone(api: NeonApi, ask: Ask) -> None:
    ask("branch", "create", "pr-7")
    database = api.project.address("pr-7").database
    assert [ask("branch", "delete", "pr-7")["done"] for _ in range(2)] == [True, False]
    with psycopg.connect(**api.project.address("main").parameters) as connection:
        query = "select from pg_database where datname = %s"
        assert connection.execute(query, [database]).fetchall() == []


@pytest.mark.parametrize("what", ["default", "protected", "without an end"])
def test_branches_that_somebody_keeps_stay(api: NeonApi, ask: Ask, what: str) -> None:
    name = "main"
    if what != "default":
        name = ask("branch", "create", "kept")["branch"]["name"]
        branch = api.project.branch(name)
        branch.protected = what == "protected"
        branch.expires_at = None
    commands = ("create",) if what == "without an end" else ("create", "delete")
    for command in commands:
        (finding,) = ask("branch", command, name)["findings"]
        assert finding["code"] == "branch-protected"
    assert api.project.branch(name).expires_at is None


def test_prune_deletes_what_expired_and_what_is_closed_and_nothing_else(
    api: NeonApi, ask: Ask
) -> None:
    for name in ("pr-1", "pr-2", "pr-3", "pr-4", "pr-5", "pr-30", "pr-x", "not-pr-9", "staging"):
        ask("branch", "create", name)
    project = api.project
    project.branch("pr-1").expires_at = project.now() - timedelta(minutes=1)  # Neon is late
    project.branch("staging").expires_at = project.now() - timedelta(minutes=1)
    project.branch("pr-3").expires_at = None
    project.branch("pr-5").protected = True
    first = ask("branch", "prune")
    assert (first["deleted"], first["expiring"]) == (["pr-1"], ["pr-3"])
    ends = project.branch("pr-3").expires_at
    assert ends
    assert 23 < hours_left(ends.isoformat()) <= 24
    second = ask("branch", "prune", "--open", "3", "--open", "30")
    assert sorted(second["deleted"]) == ["pr-2", "pr-4"]
    third = ask("branch", "prune", "--open", "0")  # none is open
    assert sorted(third["deleted"]) == ["pr-3", "pr-30"]
    left = {each.name for each in project.branches.values()}
    assert left == {"main", "pr-5", "pr-x", "not-pr-9", "staging"}


def test_prune_goes_on_after_a_branch_that_cannot_go(api: NeonApi, ask: Ask) -> None:
    for name in ("pr-1", "pr-2"):
        ask("branch", "create", name)
    api.fail(500, "DELETE")
    document = ask("branch", "prune", "--open", "9")
    assert [finding["code"] for finding in document["findings"]] == ["neon-api"]
    assert len(document["deleted"]) == 1
    assert len(api.project.branches) == 2


def rows(api: NeonApi, branch: str) -> int:
    with psycopg.connect(**api.project.address(branch).parameters) as connection:
        found = connection.execute("select count(*) from jwks").fetchone()
        assert found
        return int(found[0])


def add(api: NeonApi, branch: str) -> None:
    with psycopg.connect(**api.project.address(branch).parameters) as connection:
        connection.execute(
            'insert into jwks (id, "publicKey", "privateKey", "createdAt") '
            "values (gen_random_uuid()::text, 'x', 'x', now())"
        )


@pytest.mark.row("R28")
@pytest.mark.parametrize("how", ["--lsn", "--at", "--at elsewhere"])
def test_a_branch_goes_back_and_what_it_was_stays(api: NeonApi, ask: Ask, how: str) -> None:
    ask("branch", "create", "pr-7")
    add(api, "pr-7")
    lsn = api.project.checkpoint("pr-7")
    api.project.advance(seconds=2)
    now = api.project.now()
    add(api, "pr-7")
    elsewhere = now.astimezone(timezone(timedelta(hours=9)))
    when = {"--lsn": lsn, "--at": now.isoformat(), "--at elsewhere": elsewhere.isoformat()}[how]
    option = how.partition(" ")[0]
    done = ask("branch", "restore", "pr-7", option, when, "--keep-as", "mistake", "--yes")
    assert done["ok"], done
    assert (rows(api, "pr-7"), rows(api, "mistake")) == (1, 2)
    assert done["kept_as"] == "mistake"


@pytest.mark.row("R28")
def test_a_branch_becomes_what_another_is(api: NeonApi, ask: Ask) -> None:
    for name in ("one", "other"):
        ask("branch", "create", name)
    add(api, "other")
    api.project.branch("other").expires_at = None  # a parent, which it becomes, must not expire
    done = ask("branch", "restore", "one", "--source", "other", "--yes")
    assert done["ok"], done
    assert rows(api, "one") == 1
    assert done["kept_as"].startswith("one-before-20")
    assert rows(api, done["kept_as"]) == 0


def test_a_schema_is_compared_with_its_parents(api: NeonApi, ask: Ask) -> None:
    ask("branch", "create", "pr-7")
    with psycopg.connect(**api.project.address("pr-7").parameters) as connection:
        connection.execute("create table added (id bigint)")
    document = ask("branch", "diff", "pr-7")
    assert "+CREATE TABLE public.added (" in document["diff"]
    assert ask("branch", "diff", "pr-7", "--base", "pr-7")["diff"] == ""


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ("branch url nowhere", 1, "the project has no branch nowhere"),
        ("branch restore nowhere --source main --yes", 1, "the project has no branch nowhere"),
        ("branch create pr-1 --parent nowhere", 1, "the project has no branch nowhere"),
        ("branch create pr-1 --hours 720", 2, "--hours"),
        ("branch diff main", 2, "main has no parent"),
        ("branch restore main --yes", 2, "one of --lsn, --at and --source"),
        ("branch restore main --lsn 0/1 --source main --yes", 2, "one of --lsn, --at and --source"),
        ("branch restore main --lsn nonsense --yes", 2, "--lsn is like 0/16B3748"),
        ("branch restore main --at yesterday --yes", 2, "--at is like 2026-"),
        ("branch restore main --at 2026-01-01T00:00:00 --yes", 2, "has no time zone"),
        ("branch restore main --lsn 0/1", 2, "nobody is there to ask"),
        ("branch prune --open x", 2, "--open"),
        ("branch prune --open -1", 2, "--open"),
        ("branch list --timeout nan", 2, "is no number"),
        ("branch restore main --at 0001-01-01T00:00:00+14:00 --yes", 2, "--at is like 2026-"),
        ("deploy --lock-wait nan", 2, "is no number"),
        ("check", 2, "--pr"),
        ("check --pr 0", 2, "--pr"),
        ("deploy --branch nowhere", 1, "the project has no branch nowhere"),
    ],
)
def test_wrong_use_is_told_in_one_line(
    api: NeonApi, arguments: str, status: int, words: str
) -> None:
    done = run_here("neon", *arguments.split(), **api.environment)
    assert done.returncode == status, done.stdout + done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert [each for each in api.requests if each.method != "GET"] == []


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[31m", "\udcff", "x" * 257])
def test_what_can_be_no_name_is_refused(api: NeonApi, name: str) -> None:
    for arguments in (
        *(("branch", "create", name), ("branch", "create", "x", "--parent", name)),
        *(("deploy", "--branch", name), ("branch", "restore", "x", "--source", name)),
    ):
        done = run_here("neon", *arguments, **api.environment)
        assert (done.returncode, done.stdout) == (2, "")
        assert "a branch's name has 1 to 256 characters" in done.stderr
    assert api.requests == []


def test_a_name_from_elsewhere_forges_no_line(api: NeonApi) -> None:
    create_branch(api.project, {}, {"branch": {"name": "evil\x1b[31m\nmain"}})
    done = run_here("neon", "branch", "list", **api.environment)
    assert "\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"NEON_API_KEY": ""}, "NEON_API_KEY is not set"),
        ({"NEON_API_KEY": f"{SECRET}\n"}, "NEON_API_KEY holds what no key has"),
        ({"NEON_PROJECT_ID": ""}, "NEON_PROJECT_ID is not set"),
        ({"NEON_PROJECT_ID": "../x"}, "NEON_PROJECT_ID is no project's id"),
        ({"NEON_API_URL": "http://example.com"}, "NEON_API_URL is not https://"),
        ({"NEON_API_URL": "http://localhost.example.com"}, "NEON_API_URL is not https://"),
        ({"NEON_API_URL": "http://[::1"}, "NEON_API_URL is not https://"),
        ({"NEON_API_URL": "http://localhost:99999"}, "NEON_API_URL is not https://"),
        ({"NEON_API_URL": f"https://u:{SECRET}@example.com"}, "NEON_API_URL is not https://"),
    ],
)
def test_settings_that_are_missing_or_wrong_are_named(
    api: NeonApi, settings: dict[str, str], words: str
) -> None:
    done = run_here("neon", "branch", "list", **{**api.environment, **settings})
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert SECRET not in done.stderr
    assert api.requests == []
