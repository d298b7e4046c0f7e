"""neon deploy: a restore point, a question, migrations, proof; and a way back that works."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from scripts.runner.lock import KEY
from tests.support.neon.fixtures import ADD_ITEMS, PullRequest

pytestmark = pytest.mark.row("R27", "R28")

QUESTION = "apply 1 to main, the first 0002.create-items?"


def history(pull_request: PullRequest, branch: str = "main") -> list[dict[str, Any]]:
    """Return what the history says of a branch, oldest first."""
    address = pull_request.api.project.address(branch)
    with psycopg.connect(**address.parameters, row_factory=dict_row) as connection:
        query = "select operation, migration_id, lsn, started_at from migration_history order by id"
        return connection.execute(query).fetchall()


def add_broken(pull_request: PullRequest) -> None:
    """Add a migration that fails after the one that works."""
    path = pull_request.folder / "db/changes/0003.break-things.sql"
    path.write_text("create table half_done (id bigint);\nselect 1/0;\n")
    pull_request.change(ADD_ITEMS)


def test_a_restore_point_stands_before_the_first_change(pull_request: PullRequest) -> None:
    before = history(pull_request)
    done = pull_request.run("deploy", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["applied"] == ["0002.create-items"]
    assert [check["ok"] for check in document["checks"]] == [True] * 5
    assert pull_request.tables("main") == {"orders", "items"}
    point, applied = history(pull_request)[len(before) :]
    assert (point["operation"], point["migration_id"]) == ("restore-point", "0001.create-orders")
    assert (applied["operation"], applied["migration_id"]) == ("apply", "0002.create-items")
    assert document["restore_point"]["lsn"] == point["lsn"]
    assert document["restore_point"]["at"] == point["started_at"].isoformat()
    assert number(point["lsn"]) < number(applied["lsn"])
    # The point is no mark of a migration: what is applied stays known, and nothing is pending.
    again = json.loads(pull_request.run("deploy", "--yes", "--json").stdout)
    assert (again["ok"], again["applied"], again["restore_point"]) == (True, [], None)
    assert len(history(pull_request)) == len(before) + 2


def number(lsn: str) -> int:
    high, low = lsn.split("/")
    return int(high, 16) << 32 | int(low, 16)


def test_the_printed_way_back_leads_back(pull_request: PullRequest) -> None:
    add_broken(pull_request)
    pull_request.api.project.checkpoint("main")
    done = pull_request.run("deploy", "--yes")
    assert done.returncode == 1
    assert "db/changes/0003.break-things.sql:2: column 1: division by zero" in done.stderr
    assert pull_request.tables("main") == {"orders", "items"}
    (command,) = re.findall(r"go back: python -m scripts neon (.*)", done.stderr)
    assert f"the way back: python -m scripts neon {command}" in done.stdout  # before the first file
    assert done.stdout.index("the way back") < done.stdout.index("applied 0002")
    back = pull_request.run(*shlex.split(command), "--yes", "--keep-as", "mistake")
    assert back.returncode == 0, back.stderr
    assert pull_request.tables("main") == {"orders"}
    assert pull_request.tables("mistake") == {"orders", "items"}
    assert history(pull_request)[-1]["migration_id"] == "0001.create-orders"


def test_a_database_that_is_not_as_it_should_be_afterwards_is_told(
    pull_request: PullRequest,
) -> None:
    with psycopg.connect(**pull_request.api.project.address("main").parameters) as connection:
        connection.execute("grant delete on orders to shop_app")
    document = json.loads(pull_request.run("deploy", "--yes", "--json").stdout)
    codes = [finding["code"] for finding in document["findings"]]
    assert codes == ["drift", "deploy-failed"]
    assert f"--lsn {history(pull_request)[1]['lsn']}" in document["findings"][1]["fix"]


def test_what_is_refused_before_the_restore_point_changes_nothing(
    pull_request: PullRequest,
) -> None:
    path = pull_request.folder / "db/changes/0001.create-orders.sql"
    path.write_text(path.read_text() + "-- edited\n")
    before = history(pull_request)
    document = json.loads(pull_request.run("deploy", "--yes", "--json").stdout)
    assert {finding["code"] for finding in document["findings"]} == {"edited", "seal"}
    assert history(pull_request) == before
    assert pull_request.tables("main") == {"orders"}


def test_a_run_that_holds_the_lock_is_waited_for_as_long_as_said(pull_request: PullRequest) -> None:
    before = history(pull_request)
    with psycopg.connect(**pull_request.api.project.address("main").parameters) as other:
        other.execute("select pg_advisory_lock(%s)", [KEY])
        done = pull_request.run("deploy", "--yes", "--lock-wait", "0.2", "--json")
    (finding,) = json.loads(done.stdout)["findings"]
    assert finding["code"] == "locked"
    assert history(pull_request) == before


def test_ctrl_c_after_the_restore_point_tells_the_way_back(pull_request: PullRequest) -> None:
    pull_request.change(f"{ADD_ITEMS}select pg_sleep(60);\n")
    with pull_request.start("deploy", "--yes") as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith("the way back"):
                break
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert re.search(r"interrupted[\s\S]*go back: python -m scripts neon branch restore", errors)
    assert pull_request.tables("main") == {"orders"}


def test_a_reader_that_goes_away_stops_nothing(pull_request: PullRequest) -> None:
    command = shlex.join(pull_request.command("deploy", "--yes"))
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{command} | head -1"],
        cwd=pull_request.folder,
        env={**os.environ, **pull_request.api.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert pull_request.tables("main") == {"orders", "items"}


def test_up_to_one_migration_only_that_is_applied(pull_request: PullRequest) -> None:
    add_broken(pull_request)
    document = json.loads(pull_request.run("deploy", "--to", "0002", "--yes", "--json").stdout)
    assert (document["ok"], document["applied"]) == (True, ["0002.create-items"])
    assert document["checks"] == []


def test_without_anybody_to_ask_nothing_happens(pull_request: PullRequest) -> None:
    before = history(pull_request)
    done = pull_request.run("deploy")
    assert done.returncode == 2
    assert f"nobody is there to ask: {QUESTION}" in done.stderr
    assert "create table items" in done.stdout
    assert history(pull_request) == before


@pytest.mark.parametrize(("answer", "status"), [("n", 1), ("y", 0)])
def test_a_person_is_asked(pull_request: PullRequest, answer: str, status: int) -> None:
    ours, theirs = pty.openpty()
    with pull_request.start("deploy", stdin=theirs) as process:
        os.close(theirs)
        os.write(ours, f"{answer}\n".encode())
        output, errors = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == status, errors
    assert QUESTION in errors
    assert "create table items" in output
    assert ("items" in pull_request.tables("main")) is (answer == "y")
    if answer == "y":
        assert re.search(r"the way back: python -m scripts neon branch restore main --lsn", output)
