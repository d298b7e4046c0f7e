"""What `bench schema` tells: the figures beside their budgets, as Markdown and as a chart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from math import ceil, floor, log10

from scripts.errors import Finding
from scripts.workload.bench import Read, Result

BYTES = 950
"""The budget of all relations that hold tasks, in bytes per task."""

SMALLEST = 100_000
"""Tasks from which on writes are held against their budgets: in a smaller table they meet again on
the same pages, which then split."""

ROWS_SHARE = 1.02
"""The budget `rows`, relative to what reading all the user's rows takes."""


def budgets(parts: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Return the budgets that stand in an SQL file's parts: of a heavy user, of a typical one."""
    found = {}
    for name, text in parts.items():
        if match := re.search(r"^-- budget: (\w+)(?:, typical (\d+))?$", text, re.MULTILINE):
            found[name.removeprefix("write ")] = (match[1], match[2] or match[1])
    return found


def over_budget(results: Sequence[Result], known: dict[str, tuple[str, str]]) -> Iterator[Finding]:
    """Yield a finding for each figure of our own design that is over its budget.

    A list's cost does not depend on the table's size, so its budget is the same at every size; what
    reads all of a user's rows may touch each of them once, or each page where those are fewer.
    """
    for result in results:
        figures: list[tuple[str, float, float]] = [
            ("bytes per task", sum(result.sizes.values()), BYTES)
        ]
        for read in result.reads:
            if read.statement in known:
                heavy, typical = known[read.statement]
                budget = typical if read.user == "typical" else heavy
                most = most_rows(result) * ROWS_SHARE if budget == "rows" else float(budget)
                figures.append((f"{read.statement}, {read.user}", read.buffers, most))
        figures += [
            (write.statement, write.wal, float(known[write.statement][0]))
            for write in result.writes
            if write.statement in known and result.tasks >= SMALLEST
        ]
        for name, figure, most in figures:
            if figure > most:
                message = f"{name}: {figure:,.0f}, over its budget of {most:,.0f}"
                fix = "sql/README.md tells what was tried"
                yield Finding("over-budget", f"{result.tasks:,} tasks, {message}", fix=fix)


def most_rows(result: Result) -> float:
    """Return the pages that a heavy user's tasks can lie on, index included."""
    return min(10_100.0, result.sizes["tasks"] * result.tasks / 8192) + 100


def markdown(results: Sequence[Result], known: dict[str, tuple[str, str]]) -> str:
    """Return the report: for each size a table of reads, of writes, and of bytes per task."""
    lines = ["# bench schema", ""]
    for tasks in sorted({result.tasks for result in results}):
        group = [result for result in results if result.tasks == tasks]
        lines += [f"## {tasks:,} tasks", ""]
        for head, rows in tables(group, known):
            lines += [_line(head), _line(["---"] * len(head)), *map(_line, rows), ""]
    return "\n".join(lines)


def tables(
    group: Sequence[Result], known: dict[str, tuple[str, str]]
) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Yield the head and the rows of each table for designs measured at one size, ours first."""
    ours, names = group[0], [result.design for result in group]
    head = ["read, buffers", "budget", "heavy", "worst", "typical", "ms"]
    head += [f"{name}, {what}" for name in names[1:] for what in ("heavy", "ms")]
    rows = []
    for statement in dict.fromkeys(read.statement for read in ours.reads):
        reads = [_by_user(result, statement) for result in group]
        mine = reads[0]
        worst = max(read.buffers for user, read in mine.items() if user != "typical")
        row = [statement, " / ".join(dict.fromkeys(known.get(statement, ("",)))), _buffers(mine)]
        row += [f"{worst:,}", _buffers(mine, "typical"), _ms(mine)]
        rows.append(row + [text for each in reads[1:] for text in (_buffers(each), _ms(each))])
    yield head, rows

    head = ["write, WAL bytes", "budget", *names]
    writes = [{write.statement: write for write in result.writes} for result in group]
    yield (
        head,
        [
            [name, known.get(name, ("",))[0]]
            + [f"{each[name].wal:,}" if name in each else "" for each in writes]
            for name in writes[0]
        ],
    )

    yield (
        ["bytes per task", "budget", *names],
        [
            ["tables and indexes", str(BYTES), *(f"{sum(r.sizes.values()):,.0f}" for r in group)],
            ["as they grew", "", *(f"{result.grown:,.0f}" for result in group)],
            ["rows/s at the end of the load", ""]
            + [f"{result.load_rows_per_second:,}" for result in group],
            ["WAL bytes per task, there", "", *(f"{result.load_wal:,}" for result in group)],
        ],
    )


def chart(results: Sequence[Result], statement: str) -> str:
    """Return an SVG: a statement's buffers for the heavy user by tasks, both as powers of ten."""
    points = {
        design: sorted(
            (result.tasks, _by_user(result, statement)["heavy"].buffers)
            for result in results
            if result.design == design and "heavy" in _by_user(result, statement)
        )
        for design in dict.fromkeys(result.design for result in results)
    }
    colours = ["#0a6", "#c33", "#36c", "#c80", "#939", "#555"]
    powers = [log10(result.tasks) for result in results]
    first, last = floor(min(powers)), max(ceil(max(powers)), floor(min(powers)) + 1)

    def place(tasks: float, buffers: float) -> str:
        x = 60 + 420 * (log10(tasks) - first) / (last - first)
        return f"{x:.1f},{300 - 65 * log10(max(1, buffers)):.1f}"

    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 360" font-family="sans-serif" '
        'font-size="12">',
        f"<title>{statement}: buffers by tasks</title>",
        '<rect width="640" height="360" fill="#fff"/>',
        f'<text x="60" y="20">{statement}, heavy user: shared buffers by tasks in the table</text>',
    ]
    for power in range(first, last + 1):
        x = place(10**power, 1).split(",")[0]
        parts.append(f'<path d="M{x},40V300" stroke="#ddd"/>')
        parts.append(f'<text x="{x}" y="320" text-anchor="middle">{10**power:,}</text>')
    for power in range(5):
        y = place(10**first, 10**power).split(",")[1]
        parts.append(f'<path d="M60,{y}H480" stroke="#ddd"/>')
        parts.append(f'<text x="52" y="{y}" text-anchor="end">{10**power:,}</text>')
    for number, (design, known) in enumerate(points.items()):
        colour = colours[number % len(colours)]
        line = " ".join(place(*point) for point in known)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for point in known:
            x, y = place(*point).split(",")
            parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>')
        parts.append(f'<text x="500" y="{60 + 20 * number}" fill="{colour}">{design}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _by_user(result: Result, statement: str) -> dict[str, Read]:
    return {read.user: read for read in result.reads if read.statement == statement}


def _buffers(reads: dict[str, Read], user: str = "heavy") -> str:
    return f"{reads[user].buffers:,}" if user in reads else ""


def _ms(reads: dict[str, Read]) -> str:
    return f"{reads['heavy'].ms:.2f}" if "heavy" in reads else ""


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
