"""The tools know nothing of this project: another team's schema has all of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from scripts.runner.files import read_migrations
from scripts.settings import ROOT, project
from tests.support.commands import run, run_json
from tests.support.shop import SHOP, make_shop


@pytest.fixture(scope="module")
def shop(module_folder: Path) -> Iterator[Path]:
    """Another team's checkout, with a local server of its own, up."""
    folder = make_shop(module_folder / "shop")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SCHEMA_LOCAL_DIR", str(folder / ".local"))
        environment.setenv("MIGRATION_DATABASE_URL", "")
        environment.setenv("DATABASE_URL", "")
        try:
            assert run("up", cwd=folder).returncode == 1  # no snapshot yet
            assert run("render", cwd=folder).returncode == 0
            yield folder
        finally:
            assert run("clean", cwd=folder).returncode == 0
    assert not (folder / ".local").exists()


@pytest.mark.row("R26")
def test_up_makes_proves_and_prints_what_is_there(shop: Path) -> None:
    document = run_json("up", cwd=shop)
    assert document["ok"] is True
    assert [table["table"] for table in document["tables"]] == ["orders"]
    addresses = document["addresses"]
    with psycopg.connect(addresses["owner"]) as connection:
        connection.execute("insert into orders (shop_id) values (1)")
    with psycopg.connect(addresses["application"]) as connection:
        assert connection.execute("select count(*) from orders").fetchone() == (1,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("delete from orders")


@pytest.mark.row("R26")
def test_url_ends_with_the_address_alone(shop: Path) -> None:
    done = run("url", "--role", "shop_app", cwd=shop)
    address = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"postgresql://shop_app@127\.0\.0\.1:\d+/shop", address)
    unknown = run("url", "--role", "nobody_here", cwd=shop)
    assert unknown.returncode == 1
    assert "does not let this role in" in unknown.stderr


@pytest.mark.row("R9", "R11")
def test_a_migration_from_its_name_to_the_proof(shop: Path) -> None:
    run("new", "add-orders-total", cwd=shop)
    (shop / "db/changes/0002.add-orders-total.sql").write_text(
        "alter table orders add column total numeric;\n"
    )
    (shop / "db/changes/0002.add-orders-total.rollback.sql").write_text(
        "-- data-loss: every total\nalter table orders drop column total;\n"
    )
    assert run("migrate", cwd=shop).returncode == 0
    findings = run_json("verify", cwd=shop)["findings"]
    assert [finding["code"] for finding in findings] == ["stale-snapshot"]
    assert run("render", "--check", cwd=shop).returncode == 1
    assert run("render", cwd=shop).returncode == 0
    findings = run_json("verify", cwd=shop)["findings"]
    assert [(finding["code"], finding["object"]) for finding in findings] == [
        ("mirror", "orders.total")
    ]
    lossy = run("rollback", "--steps", "1", cwd=shop)  # on the local server it says what went
    assert lossy.returncode == 0
    assert "cannot bring back every total" in lossy.stdout
    for path in (shop / "db/changes").glob("0002*"):
        path.unlink()
    assert run("seal", cwd=shop).returncode == 0
    assert run("render", cwd=shop).returncode == 0
    assert run("verify", cwd=shop).returncode == 0


@pytest.mark.row("R30")
def test_its_statements_are_planned_at_its_size(shop: Path) -> None:
    document = run_json("plans", "--rows", "2000000", cwd=shop)
    (finding,) = document["findings"]
    assert (finding["code"], finding["object"]) == ("plan", "orders with a note")
    assert {each["statement"] for each in document["plans"]} == {
        "newest orders",
        "orders with a note",
    }
    assert "-- name: newest orders" in (shop / "db/queries.sql").read_text()
    assert run("plans", "show", "newest orders", cwd=shop).returncode == 0
    (index,) = run_json("plans", "indexes", cwd=shop)["indexes"]
    assert set(index["worse"].values()) == {"table"}


@pytest.mark.row("R9", "R27")
def test_a_review_tells_what_becomes_of_its_statements(shop: Path) -> None:
    sent, changes = shop / "db/sent.sql", shop / "db/changes"
    sent.write_text(
        f"""{SHOP["db/sent.sql"]};
-- name: dearest orders
-- reads: limit
-- indexes: orders_total
select * from orders where shop_id = %(shop_id)s order by total desc limit 20
"""
    )
    (changes / "0002.add-orders-total.sql").write_text(
        "alter table orders add column total numeric default 0 not null;\n"
        "create index orders_total on orders (shop_id, total, id);\n"
    )
    done = run("plan", "--report", "review.md", cwd=shop)
    assert done.returncode == 1  # a statement was at fault before, and still is
    assert "error: orders with a note: reads " in done.stderr
    assert done.stderr.count("error: ") == 1
    told = json.loads((shop / "review.json").read_text())
    assert told["plans"]["changes"] == [
        {
            "statement": "dearest orders",
            "tenant": tenant,
            "before": {
                "reads": "nothing",
                "indexes": [],
                "fault": 'is refused: column "total" does not exist',
            },
            "after": {"reads": "limit", "indexes": ["orders_total"], "fault": None},
        }
        for tenant in ("heavy", "any", "typical")
    ]
    assert "+    total numeric DEFAULT 0 NOT NULL" in told["schema_diff"]
    (migration,) = told["migrations"]
    assert [note["line"] for note in migration["notes"]] == [2]
    page = (shop / "review.md").read_text()
    assert (
        '| `is refused: column "total" does not exist` | limit by `orders_total` '
        "| heavy, any, typical | `dearest orders` |" in page
    )
    # A table that nobody has described: the rest of the page is there all the same.
    (changes / "0003.create-notes.sql").write_text("create table notes (id bigint primary key);\n")
    document = run_json("plan", "--report", "review.md", cwd=shop)
    (finding,) = document["findings"]
    assert (finding["code"], document["report"]) == ("bad-statistics", "review.md")
    told = json.loads((shop / "review.json").read_text())
    assert told["plans"] is None
    assert "+CREATE TABLE public.notes (" in told["schema_diff"]
    (shop / "db/statistics.json").rename(shop / "db/described.json")
    assert run("plan", "--report", "review.md", cwd=shop).returncode == 0
    assert "the project has no corpus, or no statistics" in (shop / "review.md").read_text()
    (shop / "db/described.json").rename(shop / "db/statistics.json")
    sent.write_text(SHOP["db/sent.sql"])
    for path in changes.glob("000[23]*"):
        path.unlink()


@pytest.mark.row("R11")
def test_verify_finds_what_was_done_by_hand(shop: Path) -> None:
    address = run("url", cwd=shop).stdout.splitlines()[-1]
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("alter table orders add constraint a check (id > 0) not valid")
        connection.execute("grant delete on orders to shop_app")
        document = run_json("verify", cwd=shop)
        connection.execute("alter table orders drop constraint a")
        connection.execute("revoke delete on orders from shop_app")
    assert document["ok"] is False
    failed = [check["check"] for check in document["checks"] if not check["ok"]]
    assert failed == ["constraints", "catalog"]
    codes = [finding["code"] for finding in document["findings"]]
    assert codes == ["unvalidated-constraint", "drift", "drift"]
    assert run("verify", cwd=shop).returncode == 0


@pytest.mark.row("R10", "R26")
def test_down_keeps_the_data_and_reset_empties_it(shop: Path) -> None:
    address = run_json("up", cwd=shop)["addresses"]["owner"]

    def count() -> int:
        with psycopg.connect(address) as connection:
            row = connection.execute("select count(*) from orders").fetchone()
            assert row
            return int(row[0])

    with psycopg.connect(address) as connection:
        connection.execute("insert into orders (shop_id) values (2)")
    before = count()
    assert run("down", cwd=shop).stdout.startswith("stopped")
    assert run("down", cwd=shop).stdout.startswith("it was not running")
    assert run("status", cwd=shop).returncode == 2
    assert run("up", cwd=shop).returncode == 0
    assert count() == before > 0
    assert run("reset", cwd=shop).returncode == 0
    assert count() == 0


def test_the_tools_name_no_table_of_this_project() -> None:
    tables = {
        match
        for migration in read_migrations(project().migrations)
        for match in re.findall(r'create table "?(\w+)"?', migration.forward.text)
    } - {"user", "session", "account", "verification", "messages"}  # words of their own, too
    assert {"tasks", "conversations"} <= tables
    pattern = re.compile(rf"\b({'|'.join(tables)}|todo)\b")
    guilty = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted((ROOT / "scripts").rglob("*.py"))
        if "workload" not in path.parts[len(ROOT.parts) :] and path.name != "workload.py"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]
    assert guilty == []
