"""The commands about plans, what they read and write: the corpus, statistics, queries.sql."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import psycopg
import pytest
from todo_schema import create_engine, user_session

from scripts.address import Address
from scripts.binaries import embedded_binaries
from scripts.database import connect
from scripts.errors import ToolError
from scripts.plans import corpus as corpora
from scripts.plans.choice import chosen
from scripts.plans.corpus import read_corpus
from scripts.plans.statistics import EXPORT, Statistics, export, read_statistics
from scripts.plans.survey import SESSIONS
from scripts.render.queries import queries_text
from scripts.server import LocalServer
from scripts.settings import ROOT, project
from scripts.workload.seed import seed
from tests.support.commands import run, run_here, run_json

pytestmark = [pytest.mark.row("R30"), pytest.mark.usefixtures("server")]

NAME = "tasks.list first created desc open"


def test_plans_prints_a_line_for_each_query_and_json_each_plan() -> None:
    done = run("plans", "--rows", "1000000", "--rows", "2000000")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    shown = [each.name for each in chosen(read_corpus())]
    assert [line.split("  ")[0] for line in lines[1 : len(shown) + 1]] == shown
    count = len(read_corpus())
    assert lines[-1] == f"{count} statements at 1,000,000, 2,000,000 rows of tasks"
    document = run_json("plans", "--rows", "1000000")
    assert len(document["plans"]) == 3 * count
    assert {
        "statement": NAME,
        "rows": 1_000_000,
        "tenant": "any",
        "reads": "limit",
        "indexes": ["tasks_user_id_completed_priority_rank_id_idx"],
        "fault": None,
    } in document["plans"]


def test_one_plan_is_shown_as_a_tree() -> None:
    done = run("plans", "show", NAME, "--rows", "1000000", "--tenant", "heavy")
    assert done.returncode == 0
    assert "\n  ->  Merge Append" in done.stdout
    assert "Index Scan Backward using tasks_user_id_completed_priority_rank_id_idx" in done.stdout
    assert done.stdout.endswith("\nas it is meant to: reads limit\n")
    document = run_json("plans", "show", "tasks.list page title desc open undated", "--json")
    assert (document["reads"], document["fault"]) == ("range", None)
    assert document["parameters"][0] == "user_id"
    assert document["plan"]["Node Type"]


def test_every_index_is_told_with_what_needs_it() -> None:
    done = run("plans", "indexes", "--rows", "10000000")
    assert done.returncode == 0
    row = next(line for line in done.stdout.splitlines() if line.startswith("tasks_in_progress"))
    assert row.endswith("tasks.list first created desc status=in_progress: filter")
    document = run_json("plans", "indexes", "--rows", "10000000")
    found = {each["index"]: each for each in document["indexes"]}
    assert found["session_token_key"]["kept"] == "its constraint"
    assert "better-auth delete session" in found["session_token_key"]["worse"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["show", "nothing"], 2, "the corpus has no statement 'nothing'"),
        (["show", NAME, "--tenant", "me"], 2, "--tenant is heavy, any, typical, not me"),
        (["--statistics", "{folder}/none.json"], 1, "No such file"),
        (["--statistics", "{folder}/bad.json"], 1, "describes no statistics"),
        (["indexes", "--statistics", "{folder}/empty.json"], 1, "tasks, which has no rows"),
        (["--statistics", "{folder}/few.json"], 1, "tell nothing of table account"),
        (["--statistics", "{folder}/wrong.json"], 1, "tables.tasks.columns.id.distinct: "),
        (["--rows", "1000000", "show", NAME], 2, "options come after show"),
        (["export", "--counted", "nothing"], 1, "there are no statistics of nothing"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(
    tmp_path: Path, arguments: list[str], status: int, message: str
) -> None:
    (tmp_path / "bad.json").write_text("[1]")
    table: dict[str, Any] = {"rows": 0, "pages": 0, "columns": {}}
    described = {"counted": "tasks", "tables": {"tasks": table}}
    (tmp_path / "empty.json").write_text(json.dumps(described))
    table["rows"] = 5
    (tmp_path / "few.json").write_text(json.dumps(described))
    table["columns"] = {"id": {"width": 8, "distinct": -2}}
    (tmp_path / "wrong.json").write_text(json.dumps(described))
    done = run_here("plans", *(each.format(folder=tmp_path) for each in arguments))
    assert done.returncode == status
    assert done.stdout == ""
    first, fix = done.stderr.splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert fix.startswith("  fix: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-- name: x\n-- reads: some\nselect 1\n", "x: reads is 'some'; it is one of nothing, key"),
        ("-- name: x\nselect 1\n", "x: reads is ''; it is"),
        (
            "-- name: x\n-- reads: key\n-- parameters: {\nselect 1\n",
            "x: its parameters are no JSON",
        ),
        ("-- name: x\n-- reads: key\n-- index: y\nselect 1\n", "x: no field is called index"),
        ("-- name: x\n-- reads: key\nselect %(a)s\n", "x: parameters are none; the SQL has a"),
        ("-- name: x\n-- reads: key\n-- parameters: [1]\nselect 1\n", "x: its parameters are"),
        ("-- name: x\n-- reads: key\nselect 1; drop table tasks\n", "x: is 2 statements, not one"),
        ("-- name: x\n-- reads: key\nselect from from\n", "x: syntax error"),
        ("-- name: x\n-- reads: key\nselect 1\n-- name: x\n-- reads: key\nselect 2\n", "twice"),
        (None, "No such file"),
    ],
)
def test_a_corpus_that_is_none_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, message: str
) -> None:
    path = tmp_path / "sent.sql"
    if text is not None:
        path.write_text(text)
    moved = replace(project(), corpus=[str(path)])
    monkeypatch.setattr(corpora, "project", lambda: moved)
    with pytest.raises(ToolError, match=message) as error:
        read_corpus()
    assert error.value.findings[0].code == "bad-corpus"


def test_an_interruption_ends_it_soon_and_leaves_nothing(server: LocalServer) -> None:
    command = [sys.executable, "-m", "scripts", "plans", "--all"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        query = "select count(*) from pg_stat_activity where application_name = 'schema-plans'"
        with connect(server.superuser, purpose="test") as connection:
            while connection.execute(query).fetchone() != (SESSIONS,):
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            began = time.monotonic()
            assert process.wait(60) == 130
            assert time.monotonic() - began < 20  # a batch takes less than a second
            left = f"select from pg_database where datname like 'scratch\\_{process.pid}\\_%'"
            assert not connection.execute(left.encode()).rowcount


def test_a_role_that_sees_no_statistics_exports_none(server: LocalServer, shared: Address) -> None:
    server.allow_logins()
    done = run_here("plans", "export", MIGRATION_DATABASE_URL=shared.with_(user="todo_app").url)
    assert done.returncode == 1
    assert "todo_app may see" in done.stderr


@pytest.fixture(scope="module")
def shared(module_database: Address) -> Iterator[Address]:
    """A database in which one user is called Secret and has a task that nobody shall read of."""
    seed(module_database, users=20, tasks=4_000, seed=7)
    with connect(module_database, purpose="test") as connection:
        connection.execute(
            """
            insert into "user" (id, name, email) values ('Private', 'Private', 'private@a.org');
            insert into tasks (user_id, title, tags, description)
            select 'Private', title, '{private}', 'Private, of ' || n
            from
                generate_series(1, 1000) as n,
                unnest('{Private,Private: 90k|,Private|title,"Private ("}'::text[]) as title;
            analyze
            """
        )
    return module_database


def test_an_export_holds_no_value_that_the_schema_does_not_name(shared: Address) -> None:
    with connect(shared, purpose="test") as connection:
        found = export(connection, "tasks")
        stored = json.dumps(
            connection.execute("select most_common_vals::text from pg_stats").fetchall()
        )
        names = [user for (user,) in connection.execute('select id from "user"')]
    text = json.dumps(found)
    assert "Private" in stored
    assert "rivate" not in text
    assert not [name for name in names if name in text]
    columns = found["tables"]["tasks"]["columns"]
    assert set(columns["status"]["common"]) == {"pending", "in_progress", "completed"}
    assert set(columns["completed"]["common"]) == {"t", "f"}
    assert set(columns["priority_rank"]["common"]) == {"1", "2", "3"}
    assert columns["user_id"]["heavy"][0] > 1
    assert not {"common", "heavy"} & set(columns["title"])
    assert not {"common", "heavy"} & set(columns["due_date"])


def test_a_table_without_an_index_is_exported_as_it_is_read(
    scratch: Address, tmp_path: Path
) -> None:
    with connect(scratch, purpose="test") as connection:
        connection.execute("create table bare as select generate_series(1, 10) as id; analyze")
        described = export(connection, "bare")
    (tmp_path / "found.json").write_text(json.dumps(described))
    assert read_statistics(tmp_path / "found.json").scaled(20).tables["bare"]["indexes"] == {}


def test_psql_exports_the_same_and_plans_reads_it(shared: Address, tmp_path: Path) -> None:
    values = ["-v", "tenant=user_id", "-v", "counted=tasks"]
    psql = [embedded_binaries() / "psql", "-XAtq", *values, "-f", EXPORT, shared.url]
    text = subprocess.run(psql, capture_output=True, text=True, check=True).stdout
    with connect(shared, purpose="test") as connection:
        assert json.loads(text) == export(connection, "tasks")
    (tmp_path / "found.json").write_text(text)
    done = run("plans", "--rows", "50000000", "--statistics", str(tmp_path / "found.json"))
    assert (done.returncode, done.stderr) == (0, "")


def test_with_more_rows_there_are_more_tenants_who_keep_their_rows() -> None:
    statistics = read_statistics(project().statistics)
    base = statistics.tables["tasks"]

    def rows_of_one(scaled: Statistics) -> float:
        table = scaled.tables["tasks"]
        return float(table["rows"] * table["columns"]["user_id"]["heavy"][1])

    for rows in (2_000_000, 10**9):
        scaled = statistics.scaled(rows)
        assert scaled.tables["tasks"]["rows"] == pytest.approx(rows, abs=1)
        assert rows_of_one(scaled) == pytest.approx(rows_of_one(statistics))
        assert scaled.tables["tasks"]["columns"]["status"] == base["columns"]["status"]
        assert scaled.tables["messages"]["rows"] == pytest.approx(rows * 0.4296, rel=0.01)
    few = statistics.scaled(10_000).tables["tasks"]["columns"]["user_id"]["heavy"]
    assert few == (1, pytest.approx(0.77))


def test_queries_sql_shows_each_statement_and_each_pair_once() -> None:
    corpus = read_corpus(everything=True)
    shown = chosen(corpus)
    assert len(shown) < 150
    assert {each.name for each in corpus if not each.features} <= {each.name for each in shown}

    def pairs(statements: Any) -> set[tuple[str, str]]:
        return {pair for each in statements for pair in combinations(sorted(each.features), 2)}

    assert pairs(shown) == pairs(corpus)
    assert len(pairs(corpus)) > 150
    assert project().queries.read_text("utf-8") == queries_text(corpus)


def test_a_statement_is_numbered_as_the_driver_sends_it(
    server: LocalServer, shared: Address
) -> None:
    server.allow_logins()
    known = {each.name: each.numbered[0] for each in read_corpus()}
    engine = create_engine(shared.with_(user="todo_app").url)
    with user_session(engine, "Private") as session:
        for _ in range(8):  # the driver prepares what it has sent five times
            session.tasks.list()
            session.tasks.get(session.tasks.list().items[0].id)
            session.tasks.page()
            session.tasks.search("private")
        query = "select statement from pg_prepared_statements"
        prepared = {row[0] for row in session.orm.connection().exec_driver_sql(query)}
    engine.dispose()
    names = ["tasks.list first created desc", "tasks.get", "tasks.list page created desc"]
    names.append("tasks.list first relevance desc search")
    assert {known[name] for name in names} <= prepared


def test_psycopg_numbers_alike(shared: Address) -> None:
    with psycopg.connect(shared.url) as connection:
        statement = replace(read_corpus()[0], sql="select %(b)s::int, %(a)s::int, %(b)s %% 2")
        text, names = statement.numbered
        assert (text, names) == ("select $1::int, $2::int, $1 % 2", ["b", "a"])
        values = {"a": 1, "b": 5}
        cursor = psycopg.RawCursor(connection)
        expected = connection.execute(statement.sql.encode(), values).fetchone()
        assert cursor.execute(text.encode(), [values[n] for n in names]).fetchone() == expected
