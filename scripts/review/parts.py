"""The parts of the review page: each migration, the schema, the plans."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from scripts.plans.survey import Outcome
from scripts.review.markdown import Part, code, fenced, folded, plain, section, shortened, words
from scripts.review.review import Review
from scripts.review.squawk import Note
from scripts.runner.files import Migration
from scripts.settings import project

SHOWN = 5
"""Names of statements that are planned alike, before the others are counted."""


def parts(review: Review) -> list[Part]:
    """Return what the page tells of a review, in order."""
    return [part(review) for part in (_migrations, _schema, _plans)]


def counts(review: Review) -> dict[str, str]:
    """Return what the parts add up to, as facts."""
    facts = {}
    if review.migrations:
        told = sum(len(notes) for _, notes in review.migrations)
        facts["squawk"] = count(told, "note") if told else "no notes"
    if review.migrations and review.schema_diff is not None:
        lines = [line[0] for line in review.schema_diff.split("\n")[2:] if line]
        more, less = lines.count("+"), lines.count("-")
        facts["schema"] = f"{more:,} lines more, {less:,} less" if lines else "stays as it is"
    if review.plans:
        changed = len({before.statement for before, _ in review.plans.changes})
        facts["plans"] = f"{changed:,} of {count(review.plans.statements, 'statement')} change"
        facts["statistics"] = review.plans.statistics
    return facts


def count(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _migrations(review: Review) -> Part:
    parts = []
    for migration, notes in review.migrations:
        summary = project().relative(migration.forward.path)
        summary += "" if migration.transactional else ", not in a transaction"
        summary += f", {count(len(notes), 'note')} of squawk" if notes else ""
        parts.append(folded(summary, fenced(_annotated(migration, notes), "sql")))
    return section("## Migrations\n\n", parts, of="migrations")


def _annotated(migration: Migration, notes: Sequence[Note]) -> str:
    """Return a migration's SQL with squawk's notes as comments below what they are about."""
    below: dict[int, list[str]] = {}
    for note in notes:
        text = f"squawk {note.rule}: {note.message}"
        comment = textwrap.fill(text, 100, initial_indent="-- ", subsequent_indent="--     ")
        below.setdefault(note.line, []).append(comment)
    lines = migration.forward.text.split("\n")
    return "\n".join(
        "\n".join([line, *below.get(number, [])]) for number, line in enumerate(lines, 1)
    )


def _schema(review: Review) -> Part:
    if review.schema_diff is None:
        return plain("## Schema\n\nNot compared: see above.\n\n")
    if not review.schema_diff:
        return plain("## Schema\n\nIt stays as it is.\n\n")
    diff = folded("the snapshot, before and after", fenced(review.schema_diff, "diff"))
    return section("## Schema\n\n", [diff], of="diffs")


def _plans(review: Review) -> Part:
    plans = review.plans
    if plans is None:
        why = "see above" if review.findings else "the project has no corpus, or no statistics"
        return plain(f"## Plans\n\nNot compared: {why}.\n\n")
    if not plans.changes:
        return plain("## Plans\n\nEvery statement is planned as before.\n\n")
    tenants: dict[tuple[str, str, str], list[str]] = {}
    for change in sorted(plans.changes, key=_worse, reverse=True):
        before, after = map(_told, change)
        after = "the same, by another plan" if after == before else after
        tenants.setdefault((change[0].statement, before, after), []).append(change[0].tenant)
    alike: dict[tuple[str, str, str], list[str]] = {}
    for (name, before, after), of in tenants.items():
        alike.setdefault((before, after, ", ".join(of)), []).append(name)
    rows = [
        plain(f"| {before} | {after} | {of} | {_names(names)} |\n")
        for (before, after, of), names in alike.items()
    ]
    head = "| before | after | tenant | statements |\n| --- | --- | --- | --- |\n"
    return section("## Plans\n\n", [shortened(head, rows, of="changes")], of="tables")


def _worse(change: tuple[Outcome, Outcome]) -> int:
    """Return how much worse a plan is than before; a fault is worst, then comes what is new."""
    before, after = change
    if after.fault:
        return 100
    return 50 if _is_refused(before) else after.reads - before.reads


def _told(outcome: Outcome) -> str:
    """Return what a plan comes to, as Markdown."""
    if _is_refused(outcome):
        return code(str(outcome.fault))
    by = ", ".join(map(code, outcome.indexes))
    reads = f"{outcome.reads} by {by}" if by else str(outcome.reads)
    return f"{reads}: **{words(outcome.fault)}**" if outcome.fault else reads


def _is_refused(outcome: Outcome) -> bool:
    return outcome.fault is not None and outcome.fault.startswith("is refused")


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(map(code, names[:SHOWN])) + more
