"""`make rows`: the requirement table, each row with its tests and whether they passed."""

from __future__ import annotations

from collections import defaultdict

import pytest

TITLES = {
    "R1": "accounts as Better Auth wants them",
    "R2": "tasks",
    "R3": "conversations and messages",
    "R4": "every rule is in the database",
    "R5": "updated_at moves on real changes only",
    "R6": "an index for every statement, none unneeded",
    "R7": "isolation by row security and privileges",
    "R8": "house rules as catalog queries",
    "R9": "versioned plain-SQL migrations",
    "R10": "new, plan, apply, roll back, status, history, baseline, reset",
    "R11": "the snapshot is what the migrations make",
    "R12": "up, down, up: the same catalog, no kept row lost",
    "R13": "mirrors of every table, without a database",
    "R14": "request and response schemas",
    "R15": "engine from DATABASE_URL",
    "R16": "sessions bound to one user",
    "R17": "create, get, list, update, delete, toggle",
    "R18": "listing: filters, sorts, pages, cursors",
    "R19": "full-text search",
    "R20": "counts",
    "R21": "bulk update and delete",
    "R22": "no N+1",
    "R23": "errors",
    "R24": "start-up check",
    "R25": "fixture for applications' tests",
    "R26": "a local database in one command, demo data in one",
    "R27": "migrations on a Neon branch",
    "R28": "restore, backup, export",
    "R29": "monitoring",
    "R30": "plans, concurrency",
    "R31": "from symptom to fix",
    "R32": "guides",
}

# What a row with passing tests still lacks.
LACKING = {
    "R8": "the rules as files of SQL that print what mends",
    "R10": "baseline",
    "R31": "the guide",
    "R32": "the guides, but for connecting an application and Better Auth",
}

results: dict[str, list[bool]] = defaultdict(list)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rows", action="store_true", help="print the requirement table")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count a test once: when it ran, or when it could not begin."""
    if report.when == "call" or report.outcome != "passed":
        for row in getattr(report, "rows", ()):
            results[row].append(report.passed)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):  # type: ignore[no-untyped-def]
    report = yield
    report.rows = [row for mark in item.iter_markers("row") for row in mark.args]
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("row"):
            unknown = set(mark.args) - set(TITLES)
            assert not unknown, f"{item.nodeid}: there is no row {unknown}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not terminalreporter.config.getoption("--rows"):
        return
    terminalreporter.section("requirements")
    for row, title in TITLES.items():
        outcomes = results.get(row, [])
        verdict = "not built yet" if not outcomes else "passed" if all(outcomes) else "FAILED"
        lacking = f" (not built yet: {LACKING[row]})" if row in LACKING else ""
        terminalreporter.write_line(
            f"{row:4} {len(outcomes):5} tests  {verdict:14} {title}{lacking}"
        )
