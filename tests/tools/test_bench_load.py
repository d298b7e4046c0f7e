"""bench load: a mix of reads and writes by many clients, on a copy that goes again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from sqlalchemy.pool import QueuePool

from scripts.database import connect
from scripts.errors import ToolError
from scripts.server import LocalServer, bench_server
from scripts.settings import ROOT, project
from scripts.workload import load
from scripts.workload.designs import Design, own_design, read_design
from scripts.workload.loader import SETTINGS, Loader
from tests.support.commands import run_here

pytestmark = pytest.mark.row("R30")

BASELINES = ROOT / "tests" / "baselines"
TASKS = 2_000
FIELDS = """design clients transactions per_second reads writes pool hot dead_rows lock_waits
deadlocks errors"""


@pytest.fixture(scope="module")
def bench(server: LocalServer) -> Iterator[LocalServer]:
    bench = bench_server(SETTINGS)  # in the folder of that one
    bench.start()
    yield bench
    bench.remove()


@pytest.fixture(autouse=True)
def nothing_is_left(bench: LocalServer) -> Iterator[None]:
    yield
    with connect(bench.superuser, purpose="test") as connection:
        assert not connection.execute("select from pg_database where datname = 'copy'").rowcount


def measure(bench: LocalServer, design: Design, clients: int) -> tuple[load.Result, list[str]]:
    """Put one design under load; return its figures and the codes of what is wrong."""
    loader = Loader(bench, TASKS, lambda *_: None)
    ((result, wrong),) = load.measure(loader, [design], clients=[clients], seconds=0.5)
    return result, [each.code for each in wrong]


def run(*options: str) -> tuple[int, dict[str, Any]]:
    """Return the exit status and the document."""
    done = run_here("bench", "load", "--tasks", str(TASKS), *options, "--json")
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def only_tags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, str], Path]:
    """Make `write tags` the whole mix; return a function that makes a design of that statement."""
    monkeypatch.setattr(load, "READS", {})
    monkeypatch.setattr(load, "WRITES", {"write tags": 10})

    def make(name: str, statement: str) -> Path:
        file = copytree(BASELINES / "source-a", tmp_path / name) / "bench.sql"
        file.write_text(f"{file.read_text()}\n-- name: write tags\n{statement}\n")
        return file.parent

    return make


def test_every_design_gets_ninety_reads_and_ten_writes(bench: LocalServer) -> None:
    known = {**load.READS, **load.WRITES}
    assert load.weights(own_design()) == pytest.approx(known), "it has all parts, and they sum up"
    for baseline in map(read_design, BASELINES.glob("*/")):
        weights = load.weights(baseline)
        assert weights.keys() == known.keys() & baseline.parts.keys() != known.keys()
        for kind, share in ((load.READS, 90), (load.WRITES, 10)):
            ratios = [weights[part] / kind[part] for part in kind if part in weights]
            assert max(ratios) == pytest.approx(min(ratios)), "what lacks is spread evenly"
            assert sum(weights[part] for part in kind if part in weights) == pytest.approx(share)
    with pytest.raises(ToolError, match="it has no part of the mix"):
        measure(bench, Design("idle", {}, False, ""), 1)


def test_ours_beside_a_design_without_a_session(bench: LocalServer) -> None:
    bench.create_database("copy", project().local_owner)  # as a killed run leaves it
    options = "--clients 20 --clients 2 --seconds 0.7 --against tests/baselines/source-a"
    status, document = run(*options.split())
    assert (status, document["ok"], document["findings"]) == (0, True, [])
    ran = [(result["design"], result["clients"]) for result in document["results"]]
    assert ran == [("ours", 2), ("source-a", 2), ("ours", 20), ("source-a", 20)]
    for result in document["results"]:
        assert [*result] == FIELDS.split()
        assert min(result["transactions"], result["per_second"], result["dead_rows"]) > 0
        for kind in ("reads", "writes"):
            assert 0 < result[kind]["p50_ms"] <= result[kind]["p99_ms"]
        assert result["pool"].pop("wait_p99_ms") > 0
        assert result["pool"] == {"most_in_use": min(result["clients"], 15)}
        assert (result["deadlocks"], result["errors"]) == (0, {})
    for name in ("ours", "source-a"):
        where = bench.address(project().local_owner, f"{name}_{TASKS}")
        with connect(where, purpose="test") as own:
            row = own.execute("select count(*), max(id) from tasks").fetchone()
        assert row == (TASKS, TASKS), "writes go to the copy"


def test_our_updates_are_hot(bench: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "READS", {})
    result, wrong = measure(bench, own_design(), 8)
    assert (result.reads, wrong) == ({"p50_ms": None, "p99_ms": None}, [])
    assert 0.3 < (result.hot or 0) < 0.8
    monkeypatch.setattr(load, "WRITES", {"write insert": 10})
    monkeypatch.setattr(load, "FIGURES", "select null, count(*), 0 from tasks")
    result, _ = measure(bench, own_design(), 2)
    assert result.dead_rows == TASKS + result.transactions, "all that is counted is committed"


def test_a_deadlock_is_found(bench: LocalServer, only_tags: Callable[[str, str], Path]) -> None:
    folder = only_tags("at-random", "select from tasks where id < 3 order by random() for update")
    result, wrong = measure(bench, read_design(folder), 8)
    assert result.deadlocks == result.errors["40P01"] > 0
    assert result.lock_waits > 0
    assert wrong == ["deadlock", "load-error"]


def test_an_error_is_told_in_one_line(only_tags: Callable[[str, str], Path]) -> None:
    folder = only_tags("bad", "select 1 / (count(*) * 0) from tasks")
    status, document = run("--clients", "2", "--against", str(folder), "--seconds", "0.3")
    (finding,), (ours, bad) = document["findings"], document["results"]
    assert (status, finding["code"], ours["errors"]) == (1, "load-error", {})
    assert (bad["transactions"], bad["hot"], bad["writes"]["p50_ms"]) == (0, None, None)
    told = f"{bad['errors']['22012']:,} times 22012, write tags: division by zero"
    assert finding["message"] == f"bad, 2 clients: {told}"


def test_a_leak_is_found(bench: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    monkeypatch.setattr(QueuePool, "_do_return_conn", lambda _self, record: kept.append(record))
    monkeypatch.setattr(load, "TIMEOUT", 0.1)
    result, wrong = measure(bench, own_design(), 1)
    for record in kept:
        record.close()
    assert (result.pool["most_in_use"], result.transactions) == (15, 15)
    assert (wrong, [*result.errors]) == (["pool-leak", "load-error"], ["TimeoutError"])


def test_an_interruption(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def interrupt(*_: object, **__: object) -> None:
        time.sleep(0.3)  # so that they are at it
        raise KeyboardInterrupt

    monkeypatch.setattr(load, "wait", interrupt)
    started = time.monotonic()
    status, document = run("--clients", "20", "--seconds", "600")
    assert (status, document["findings"][0]["code"], caplog.records) == (130, "interrupted", [])
    assert time.monotonic() - started < 60
