"""neon check: a pull request's migrations on a branch of production, and a page about them."""

from __future__ import annotations

import json
import signal
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from scripts.settings import ROOT
from tests.support.commands import run
from tests.support.neon.api import NeonApi
from tests.support.neon.fixtures import ADD_ITEMS, PullRequest

pytestmark = pytest.mark.row("R27")

CLEAN = "**1 migration pending, nothing wrong.**"


def test_a_pull_request_is_migrated_on_its_own_branch_and_told(
    pull_request: PullRequest, tmp_path: Path
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    event = pull_request.check(GITHUB_STEP_SUMMARY=str(summary))
    assert event["findings"] == []
    assert event["applied"] == ["0002.create-items"]
    assert pull_request.tables("pr-7") == {"orders", "items"}
    assert pull_request.tables("main") == {"orders"}
    branch = pull_request.api.project.branch("pr-7")
    assert branch.expires_at
    page = pull_request.page.read_text()
    assert CLEAN in page
    assert "create table items (" in page
    assert "+CREATE TABLE public.items (" in page
    assert summary.read_text() == f"before\n{page}"
    document = json.loads(pull_request.page.with_suffix(".json").read_text())
    assert (document["ok"], document["findings"]) == (True, [])
    checks = {each["check"]: each["ok"] for each in document["checks"]}
    names = ("files", "indexes", "constraints", "catalog", "mirrors")
    assert checks == dict.fromkeys(names, True)


def test_events_tell_what_goes_on(pull_request: PullRequest) -> None:
    pull_request.api.project.seconds = 0.3
    done = pull_request.run("check", "--pr", "7", "--report", "page.md", "--json", "--delete")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    order = list(dict.fromkeys(event["event"] for event in events))
    assert order == [
        *("operation", "branch", "reviewed", "applying", "applied", "verified", "reported"),
        *("deleted", "done"),
    ]
    told = [(event["action"], event["status"]) for event in events if event["event"] == "operation"]
    assert ("create_branch", "finished") in told
    assert [each.name for each in pull_request.api.project.branches.values()] == ["main"]


@pytest.mark.parametrize("forward", ["create tabel items ();", "alter table nowhere add x int;"])
def test_a_migration_that_fails_is_told_with_its_place(
    pull_request: PullRequest, forward: str
) -> None:
    pull_request.change(forward)
    event = pull_request.check()
    assert event["ok"] is False
    finding = event["findings"][0]
    assert finding["file"] == "db/changes/0002.create-items.sql"
    assert finding["line"] == 1
    assert event["applied"] == []
    page = pull_request.page.read_text()
    assert "0002.create-items.sql:1" in page
    assert "nothing wrong" not in page
    assert pull_request.tables("pr-7") == {"orders"}
    assert pull_request.api.project.branch("pr-7").expires_at


def test_what_was_done_to_production_by_hand_is_found(pull_request: PullRequest) -> None:
    with psycopg.connect(**pull_request.api.project.address("main").parameters) as connection:
        connection.execute("create table by_hand (id bigint primary key)")
    event = pull_request.check()
    assert [finding["code"] for finding in event["findings"]] == ["drift", "mirror"]
    assert "by_hand" in event["findings"][0]["message"]
    assert event["applied"] == ["0002.create-items"]
    with psycopg.connect(**pull_request.api.project.address("main").parameters) as connection:
        connection.execute("drop table by_hand")


def test_an_edited_version_is_checked_as_if_it_were_the_first(pull_request: PullRequest) -> None:
    assert pull_request.check()["findings"] == []
    with psycopg.connect(**pull_request.api.project.address("pr-7").parameters) as connection:
        connection.execute("insert into orders (shop_id) values (1)")
    pull_request.change(f"{ADD_ITEMS}create index items_id_idx on items (id);\n")
    event = pull_request.check()
    assert event["findings"] == []
    assert event["applied"] == ["0002.create-items"]
    assert "+CREATE INDEX items_id_idx" in pull_request.page.read_text()
    with psycopg.connect(**pull_request.api.project.address("pr-7").parameters) as connection:
        assert connection.execute("select count(*) from orders").fetchone() == (0,)


def test_a_branch_without_an_end_gets_one(pull_request: PullRequest) -> None:
    pull_request.run("branch", "create", "pr-7")
    pull_request.api.project.branch("pr-7").expires_at = None
    assert pull_request.check(7, "--hours", "2")["findings"] == []
    project = pull_request.api.project
    ends = project.branch("pr-7").expires_at
    assert ends
    assert ends - project.now() < timedelta(hours=2, seconds=1)


def test_a_compute_that_sleeps_wakes_up(pull_request: PullRequest) -> None:
    pull_request.api.project.suspended = True
    assert pull_request.check()["findings"] == []


def test_a_branch_whose_making_failed_is_made_anew(pull_request: PullRequest) -> None:
    pull_request.api.project.outcomes = ["failed"]
    (finding,) = pull_request.check()["findings"]
    assert finding["code"] == "neon-operation"
    stuck = pull_request.api.project.branch("pr-7")
    assert stuck.state == "init"
    assert pull_request.check()["findings"] == []
    assert pull_request.api.project.branch("pr-7").id != stuck.id


def test_a_pull_request_into_another_branch_gets_its_data(pull_request: PullRequest) -> None:
    pull_request.run("branch", "create", "staging")
    pull_request.api.project.branch("staging").expires_at = None
    with psycopg.connect(**pull_request.api.project.address("staging").parameters) as connection:
        connection.execute("create table only_there (id bigint primary key)")
    for _ in ("made", "reused"):
        event = pull_request.check(7, "--parent", "staging")
        assert "only_there" in str(event["findings"])


def test_rows_of_production_are_on_no_page(pull_request: PullRequest) -> None:
    with psycopg.connect(**pull_request.api.project.address("main").parameters) as connection:
        connection.execute("insert into orders (shop_id, note) values (1, 'alice'), (2, 'alice')")
    pull_request.change("create unique index orders_note_idx on orders (note);\n")
    done = pull_request.run("check", "--pr", "7", "--report", "page.md")
    assert done.returncode == 1
    assert "could not create unique index" in done.stderr
    assert "detail: left out here, for it may quote a row" in done.stderr
    page, document = pull_request.page, pull_request.page.with_suffix(".json")
    assert "could not create unique index" in page.read_text()
    for text in (done.stdout, done.stderr, page.read_text(), document.read_text()):
        assert "alice" not in text


def test_a_statement_that_reads_too_much_afterwards_is_a_finding(pull_request: PullRequest) -> None:
    sent = pull_request.folder / "db" / "sent.sql"
    sent.write_text(sent.read_text().replace("order by id desc", "order by note"))
    (finding,) = pull_request.check()["findings"]
    assert (finding["code"], finding["object"]) == ("plan", "newest orders")


def test_what_fails_after_the_check_does_not_hide_what_it_found(
    pull_request: PullRequest, tmp_path: Path
) -> None:
    pull_request.change("select 1/0;\n")
    pull_request.api.fail(500, "DELETE")
    folder = str(tmp_path)
    event = pull_request.check(7, "--delete", GITHUB_STEP_SUMMARY=folder)
    assert [finding["code"] for finding in event["findings"]] == ["sql", "file"]
    assert pull_request.api.project.branch("pr-7").expires_at
    event = pull_request.check(7, "--delete")
    assert [finding["code"] for finding in event["findings"]] == ["sql", "neon-api"]


def test_an_unsealed_file_is_refused_before_anything_runs(pull_request: PullRequest) -> None:
    path = pull_request.folder / "db/changes/0002.create-items.sql"
    path.write_text(f"{ADD_ITEMS}-- later\n")
    (finding,) = pull_request.check()["findings"]
    assert finding["code"] == "seal"
    assert pull_request.tables("pr-7") == {"orders"}


def test_a_check_that_fails_early_leaves_no_page_of_before(pull_request: PullRequest) -> None:
    pull_request.page.write_text("nothing wrong")
    pull_request.page.with_suffix(".json").write_text("{}")
    pull_request.api.fail(403, "POST", "/branches")
    event = pull_request.check()
    assert [finding["code"] for finding in event["findings"]] == ["neon-api"]
    assert event["branch"] is None
    page = pull_request.page.read_text()
    assert "Not reviewed, 1 finding" in page
    assert "pr-7, which is not there" in page
    document = json.loads(pull_request.page.with_suffix(".json").read_text())
    assert document["findings"] == event["findings"]


def test_the_default_branch_is_never_checked(pull_request: PullRequest) -> None:
    pull_request.api.project.main.name = "pr-7"
    (finding,) = pull_request.check()["findings"]
    assert finding["code"] == "branch-protected"
    assert pull_request.tables("pr-7") == {"orders"}


def test_ctrl_c_ends_it_and_the_next_run_goes_on(pull_request: PullRequest) -> None:
    pull_request.api.project.seconds = 30
    with pull_request.start("check", "--pr", "7", "--report", "page.md") as process:
        assert process.stderr
        assert "create_branch" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert pull_request.api.project.branch("pr-7").expires_at
    pull_request.api.project.advance(seconds=60)
    pull_request.api.project.seconds = 0
    assert pull_request.check()["findings"] == []


def test_this_project_is_checked_with_all_its_plans(api: NeonApi, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    done = run("neon", "check", "--pr", "7", "--report", str(page), **api.environment)
    assert done.returncode == 0, done.stderr
    document = json.loads(page.with_suffix(".json").read_text())
    assert [each["id"] for each in document["migrations"]] == [
        path.name.removesuffix(".sql")
        for path in sorted((ROOT / "migrations").glob("*.sql"))
        if path.name > "0016" and not path.name.endswith(".rollback.sql")
    ]
    changed = {
        change["statement"]
        for change in document["plans"]["changes"]
        if "tasks_in_progress_idx" in change["after"]["indexes"]
    }
    assert "tasks.list first created desc status=in_progress" in changed
    assert all(change["after"]["fault"] is None for change in document["plans"]["changes"])
