"""bench schema: every design finds the same rows, and ours stays within its budgets."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from scripts.cli.workload import alone
from scripts.database import connect
from scripts.errors import ToolError
from scripts.server import LocalServer, bench_server
from scripts.settings import ROOT, project
from scripts.workload import bench as workload
from scripts.workload import loader as loading
from scripts.workload import seed
from scripts.workload.bench import SEARCHES, measure, page, tasks_of
from scripts.workload.designs import ON_TOP, Design, own_design, read_design
from scripts.workload.loader import SETTINGS, Loaded, Loader, check, sizes
from scripts.workload.report import budgets, chart, markdown, over_budget
from tests.support.commands import run_json

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
def bench(module_folder: Path) -> Iterator[LocalServer]:
    server = LocalServer(module_folder / "bench", settings=SETTINGS)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workload, "REPEATS", 2)  # the first run fills caches
        yield server
    server.remove()


def quiet(_name: str, _count: int, _total: int) -> None:
    pass


def test_every_design_finds_the_same_rows(bench: LocalServer) -> None:
    loader = Loader(bench, 6_000, quiet)
    with connect(loader.reference(), purpose="test") as reference:
        reference.execute("create index on tasks (user_id)")
        known = reference.execute("select user_id from tasks group by 1 order by count(*) desc, 1")
        users = {user: tasks_of(loader, user) for (user,) in known}
        for design in [own_design(), *map(read_design, BASELINES.glob("*/"))]:
            role = project().application_role if design.name == "ours" else project().local_owner
            address = loader.design(design).address.with_(user=role)
            with psycopg.connect(**address.parameters) as connection:
                compare(reference, connection, design, users)


def compare(
    reference: psycopg.Connection[Any],
    connection: psycopg.Connection[Any],
    design: Design,
    users: dict[str, list[tuple[int, int, bool]]],
) -> None:
    """Ask a design and the bare tables for the same pages of each user's lists."""
    draw = random.Random(2)
    for user, rows in users.items():
        limit, offset = draw.randint(1, 50), draw.randint(1, max(1, len(rows) - 1))
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
    result = measure(loader, own_design())
    known = budgets(own_design().parts)
    measured = {each.statement for each in [*result.reads, *result.writes]}
    assert set(known) <= measured
    assert list(over_budget([result], known)) == []
    assert "| newest | 26 |" in markdown([result], known)
    assert chart([result], "newest").count("<circle") == 1


def test_an_index_less_is_over_budget(bench: LocalServer, tmp_path: Path) -> None:
    """A folder on top of the migrations inherits what it does not change."""
    tmp_path = tmp_path / "less"
    tmp_path.mkdir()
    index = "tasks_user_id_completed_priority_rank_id_idx"
    (tmp_path / "schema.sql").write_text(f"{ON_TOP}\ndrop index {index};\n", "utf-8")
    design = read_design(tmp_path)
    assert design.parts == own_design().parts
    loader = Loader(bench, 6_000, quiet)
    loader.reference()
    result = measure(loader, design)
    assert index not in result.sizes
    told = [finding.message for finding in over_budget([result], budgets(design.parts))]
    assert [line for line in told if line.startswith("6,000 tasks, open by priority, heavy: ")]


def test_a_load_goes_on_where_it_stopped(
    bench: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "CHUNK", 500)
    monkeypatch.setattr(seed, "SLICE", 500)
    asked: list[tuple[str, int]] = []

    def interrupt(name: str, count: int, _total: int) -> None:
        asked.append((name, count))
        if len(asked) in (2, 6):
            raise KeyboardInterrupt

    loader = Loader(bench, 3_000, interrupt)

    def load() -> Loaded:
        loader.reference()
        return loader.design(own_design())

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            load()
    loaded = load()
    steps = [count for name, count in asked if name == "ours"]
    assert steps.index(max(steps)) > 0, "what was loaded before is told at once"
    with connect(loaded.address, purpose="test") as connection:
        for table in ("tasks", "task_search"):
            row = connection.execute(f"select count(*) from {table}".encode()).fetchone()
            assert row == (3_000,)


def test_another_design_of_the_same_name_is_loaded_anew(bench: LocalServer, tmp_path: Path) -> None:
    loader = Loader(bench, 1_000, quiet)
    loader.reference()
    tmp_path = tmp_path / "mine"
    tmp_path.mkdir()
    file = tmp_path / "schema.sql"
    for index, present in (("", False), ("create index mine on tasks (user_id);", True)):
        file.write_text(f"{ON_TOP}\n{index}\n", "utf-8")
        with connect(loader.design(read_design(tmp_path)).address, purpose="test") as connection:
            assert ("mine" in dict(sizes(connection))) == present


LOAD = "-- name: load users\nselect\n-- name: load tasks\nselect\n"


@pytest.mark.parametrize(
    ("folder", "files", "message"),
    [
        ("x", {}, "schema.sql: No such file"),
        ("ours", {"schema.sql": ON_TOP}, "ours: the folder's name becomes a database's"),
        ("A b", {"schema.sql": ON_TOP}, "A b: the folder's name becomes a database's"),
        ("x", {"schema.sql": "create table tasks ()"}, "bench.sql: No such file"),
        ("x", {"schema.sql": "", "bench.sql": "-- name: a\n"}, "no part `-- name: load users`"),
        ("x", {"schema.sql": b"\xff"}, "utf-8"),
        (
            "x",
            {"schema.sql": f"{ON_TOP} \ncreate indx"},
            'x/schema.sql: syntax error at or near "indx"',
        ),
        (
            "x",
            {"schema.sql": "", "bench.sql": f"{LOAD}-- name: newest\nselect %(nope)s"},
            "x/bench.sql, part newest: query parameter missing: nope",
        ),
    ],
)
def test_a_folder_that_is_no_design(
    bench: LocalServer,
    tmp_path: Path,
    folder: str,
    files: dict[str, str | bytes],
    message: str,
) -> None:
    (tmp_path / folder).mkdir()
    for name, content in files.items():
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / folder / name).write_bytes(data)
    with pytest.raises(ToolError) as error:
        check(bench, read_design(tmp_path / folder))
    assert error.value.findings[0].code == "bad-design"
    assert message in error.value.findings[0].message


def test_measuring_again_gives_the_same(bench: LocalServer) -> None:
    """What is written is rolled back, and what that leaves is vacuumed."""
    loader = Loader(bench, 6_000, quiet)
    loader.reference()
    first, second = (measure(loader, own_design()) for _ in range(2))
    for before, after in zip(first.reads, second.reads, strict=True):
        assert after.buffers == pytest.approx(before.buffers, rel=0.05, abs=2), after
    for old, new in zip(first.writes, second.writes, strict=True):
        assert new.wal == pytest.approx(old.wal, rel=0.05), new


def test_a_write_of_nothing_is_refused(bench: LocalServer, tmp_path: Path) -> None:
    (tmp_path / "idle").mkdir()
    (tmp_path / "idle" / "schema.sql").write_text(ON_TOP)
    (tmp_path / "idle" / "bench.sql").write_text("-- name: write toggle\nselect where false\n")
    loader = Loader(bench, 1_000, quiet)
    loader.reference()
    with pytest.raises(ToolError, match="part write toggle: it wrote 0 rows"):
        measure(loader, read_design(tmp_path / "idle"))


def test_two_runs_do_not_meet(bench: LocalServer) -> None:
    with alone(bench):
        with pytest.raises(ToolError) as error, alone(bench):
            pass
        assert error.value.findings[0].code == "locked"
    with alone(bench):
        pass


def test_a_disk_that_is_too_small_is_told_before_anything(bench: LocalServer) -> None:
    with pytest.raises(ToolError) as error:
        Loader(bench, 10**12, quiet).check_disk(1)
    assert error.value.findings[0].code == "disk"


def test_the_command_prints_and_writes_its_report(server: LocalServer, tmp_path: Path) -> None:
    assert server.is_running
    try:
        document = run_json(
            *("bench", "schema", "--tasks", "1000", "--report", str(tmp_path)),
            *("--against", "tests/baselines/source-a"),
        )
    finally:
        bench_server().remove()
    assert [result["design"] for result in document["results"]] == ["ours", "source-a"]
    assert {path.name for path in tmp_path.iterdir()} == {"schema.md", "schema.json", "schema.svg"}
    assert json.loads((tmp_path / "schema.json").read_text()) == document["results"]
