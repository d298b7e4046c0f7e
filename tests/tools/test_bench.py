"""bench schema: every design finds the same rows, and ours stays within its budgets."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from scripts.database import connect
from scripts.server import LocalServer
from scripts.settings import ROOT, project
from scripts.workload.bench import SEARCHES, measure, page, tasks_of
from scripts.workload.designs import SETTINGS, Design, Loader, own_design, read_design
from scripts.workload.report import budgets, chart, markdown, over_budget

pytestmark = pytest.mark.row("R6")

BASELINES = ROOT / "tests" / "baselines"

RANK = "array_position('{low,medium,high}', priority)"

# What each list is, asked of bare tables: the filter and the order.
PLAIN = {
    "newest": ("true", "id desc"),
    "open by priority": ("status <> 'completed'", f"{RANK} desc, id desc"),
    "open newest": ("status <> 'completed'", "id desc"),
    "pending newest": ("status = 'pending'", "id desc"),
    "in progress newest": ("status = 'in_progress'", "id desc"),
    "completed newest": ("status = 'completed'", "id desc"),
    "all by priority": ("true", f"{RANK} desc, id desc"),
    "by due date": ("true", "due_date nulls last, id"),
    "open by due date": ("status <> 'completed' and due_date is not null", "due_date, id"),
    "by title": ("true", 'lower(title) collate "C", id'),
    "by tag": ("tags @> '{home}'", "id desc"),
}
VECTOR = """
    setweight(to_tsvector('english', title), 'A')
    || setweight(to_tsvector('english', coalesce(description, '')), 'B')
"""
QUERY = "websearch_to_tsquery('english', %(typed)s)"
PLAIN["search"] = (f"({VECTOR}) @@ {QUERY}", f"ts_rank({VECTOR}, {QUERY}) desc, id desc")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    server = LocalServer(tmp_path_factory.mktemp("bench"), settings=SETTINGS)
    server.start()
    yield server
    server.remove()


def quiet(_name: str, _count: int, _total: int) -> None:
    pass


def test_every_design_finds_the_same_rows(bench: LocalServer) -> None:
    loader = Loader(bench, 20_000, quiet)
    with connect(loader.reference(), purpose="test") as reference:
        reference.execute("create index on tasks (user_id)")
        known = reference.execute(
            "select user_id, count(*) from tasks group by 1 order by 2 desc, 1"
        )
        users = known.fetchall()[:80]
        for design in [own_design(), *map(read_design, BASELINES.glob("*/"))]:
            role = project().application_role if design.name == "ours" else project().local_owner
            address = loader.design(design).address.with_(user=role)
            with psycopg.connect(**address.parameters) as connection:
                compare(loader, reference, connection, design, users)


def compare(
    loader: Loader,
    reference: psycopg.Connection[Any],
    connection: psycopg.Connection[Any],
    design: Design,
    users: list[tuple[str, int]],
) -> None:
    """Ask a design and the bare tables for the same pages of each user's lists."""
    draw = random.Random(2)
    for user, count in users:
        limit, offset = draw.randint(1, 50), draw.randint(1, max(1, count - 1))
        rows = tasks_of(loader, user)
        dated = sum(is_dated for _, _, is_dated in rows)
        for name, statement in design.parts.items():
            plain = PLAIN.get(name.removesuffix(", page 400"))
            if plain is None:
                continue
            is_page = name.endswith("page 400")
            skip = max(offset, dated) if name == "by due date, page 400" else offset
            values = {"user": user, **page(rows, skip, limit)}
            values["typed"] = draw.choice(list(SEARCHES.values()))
            if not is_page:
                skip = 0
            expected = reference.execute(
                f"select title, created_at from tasks where user_id = %(user)s and {plain[0]} "
                f"order by {plain[1]} limit %(limit)s offset {skip}".encode(),
                values,
            ).fetchall()
            if session := design.parts.get("session"):
                connection.execute(session.encode(), values)
            cursor = connection.execute(statement.encode(), values)
            names = [column.name for column in cursor.description or ()]
            title, created = names.index("title"), names.index("created_at")
            listed = [(row[title], row[created]) for row in cursor]
            assert listed == expected, (design.name, name, values)


def test_our_design_stays_within_its_budgets(bench: LocalServer) -> None:
    """The quick form: what bounds a list does not depend on the table's size."""
    loader = Loader(bench, 100_000, quiet)
    loader.reference()
    design = own_design()
    result = measure(loader, design)
    known = budgets(design.parts)
    assert len(known) > 20
    assert list(over_budget([result], known)) == []
    text = markdown([result], known)
    assert "| newest | 26 |" in text
    assert chart([result], "newest").count("<circle") == 1
    for part in ("tasks_pkey", "task_search_pkey"):
        with connect(loader.design(design).address, purpose="test") as connection:
            connection.execute(f"alter table {part.removesuffix('_pkey')} disable trigger user")
