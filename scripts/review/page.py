"""The review page: Markdown that a comment on a pull request holds, and JSON that holds all."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scripts.errors import Finding, refuse
from scripts.plans.survey import Outcome
from scripts.review.markdown import Part, code, fenced, folded, plain, section, shortened, words
from scripts.review.plans import Plans
from scripts.review.review import Review
from scripts.review.squawk import Note
from scripts.runner.files import Migration
from scripts.settings import project
from scripts.verify.checks import Check

VERSION = 1
"""Of the JSON form; raised when a field changes its meaning or goes away."""

LIMIT = 60_000
"""Characters of the page; a comment on a pull request may have 65,536."""


SHOWN = 5
"""Names of statements that are planned alike, before the others are counted."""


def markdown(
    review: Review | None,
    *,
    title: str,
    facts: Mapping[str, str],
    checks: Sequence[Check] = (),
    findings: Sequence[Finding] = (),
) -> str:
    """Return the page: what was found, then the facts, then what it is about.

    Parameters
    ----------
    review : None where there is none, for what `findings` say
    title : the first line
    facts : what is reviewed, by name
    checks : of `verify`, where the migrations were applied; their findings are told, too
    findings : beside those of the review and the checks
    """
    told = _findings(review, checks, findings)
    parts = [
        plain(f"# {words(title)}\n\n**{_verdict(review, told)}**\n\n"),
        *([shortened("", [_finding(each) for each in told], of="findings")] if told else []),
        _facts({**facts, **(_counts(review) if review else {})}),
        *([_checks(checks)] if checks else []),
        *(part(review) for part in PARTS if review and review.migrations),
    ]
    return section("", parts, of="parts")(LIMIT)


def document(
    review: Review | None,
    *,
    title: str,
    facts: Mapping[str, str],
    checks: Sequence[Check] = (),
    findings: Sequence[Finding] = (),
) -> dict[str, Any]:
    """Return the same as JSON, of which nothing is left out; scripts/README.md has its fields."""
    told = _findings(review, checks, findings)
    return {
        "v": VERSION,
        "title": title,
        "ok": not told,
        "findings": [finding.as_dict() for finding in told],
        "facts": dict(facts),
        "checks": [{"check": check.name, "ok": not check.findings} for check in checks],
        "migrations": [
            {**migration.as_dict(), "notes": [asdict(note) for note in notes]}
            for migration, notes in (review.migrations if review else ())
        ],
        "schema_diff": review.schema_diff if review else None,
        "plans": _plans_document(review.plans) if review and review.plans else None,
    }


def check_page(path: Path) -> None:
    """Refuse a file that cannot be the page, before there is anything to write.

    Raises
    ------
    ToolError : it is none, its folder is missing, or it would be its own JSON (status 2)
    """
    if path.suffix == ".json":
        message, fix = "is the page's JSON's own name", "name the page: its JSON goes beside it"
    elif not path.parent.is_dir():
        message, fix = "is in no folder that is there", "make the folder"
    elif path.is_dir() or path.with_suffix(".json").is_dir():
        message, fix = "cannot be written: a folder has its name", "name a file"
    elif path.exists() and not path.is_file():
        message, fix = "is no ordinary file", "name a file"
    else:
        return
    raise refuse("usage", f"--report: {path} {message}", fix=fix, status=2)


def write_page(path: Path, review: Review | None, **about: Any) -> None:
    """Write the page, and its JSON beside it; each appears when it is whole.

    Parameters
    ----------
    path : of the page; the JSON has its name with `.json`
    review, about : as for `markdown`

    Raises
    ------
    OSError : one of them cannot be written
    """
    text = json.dumps(document(review, **about), ensure_ascii=False, indent=1)
    for place, content in (
        (path.with_suffix(".json"), f"{text}\n"),
        (path, markdown(review, **about)),
    ):
        partial = place.with_name(f"{place.name}.partial")
        try:
            partial.write_text(content, "utf-8")
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)


def _findings(
    review: Review | None, checks: Sequence[Check], findings: Sequence[Finding]
) -> list[Finding]:
    """Return all findings, each once, the given ones first."""
    of_review = review.findings if review else ()
    of_checks = [finding for check in checks for finding in check.findings]
    return list(dict.fromkeys([*findings, *of_review, *of_checks]))


def _verdict(review: Review | None, findings: Sequence[Finding]) -> str:
    found = _count(len(findings), "finding") if findings else "nothing wrong"
    if review is None:
        return f"Not reviewed, {found}."
    pending = len(review.migrations)
    return f"{_count(pending, 'migration') if pending else 'Nothing'} pending, {found}."


def _finding(finding: Finding) -> Part:
    """Return an item of a list; what a message shows below its first line is a block."""
    place = f"{finding.file}:{finding.line}: " if finding.file else ""
    first, _, rest = f"{place}{finding.message}".partition("\n")
    item = f"- **{words(finding.code)}** {code(first)}\n"
    if rest:
        block = fenced(textwrap.dedent(rest), "text")(1_000)
        item += f"\n{textwrap.indent(block.rstrip(), '  ')}\n\n"
    if finding.fix:
        item += f"  <br>fix: {code(finding.fix)}\n"
    return plain(item)


def _facts(facts: Mapping[str, str]) -> Part:
    rows = [plain(f"| {words(name)} | {words(text)} |\n") for name, text in facts.items()]
    return section("| | |\n| --- | --- |\n", rows, of="facts", tail="\n")


def _counts(review: Review) -> dict[str, str]:
    """Return what the parts add up to."""
    facts = {}
    if review.migrations:
        count = sum(len(notes) for _, notes in review.migrations)
        facts["squawk"] = _count(count, "note") if count else "no notes"
    if review.migrations and review.schema_diff is not None:
        lines = [line[0] for line in review.schema_diff.split("\n")[2:] if line]
        more, less = lines.count("+"), lines.count("-")
        facts["schema"] = f"{more:,} lines more, {less:,} less" if lines else "stays as it is"
    if review.plans:
        changed = len({before.statement for before, _ in review.plans.changes})
        facts["plans"] = f"{changed:,} of {_count(review.plans.statements, 'statement')} change"
        facts["statistics"] = review.plans.statistics
    return facts


def _checks(checks: Sequence[Check]) -> Part:
    items = (f"- {words(each.name)}: {'failed' if each.findings else 'ok'}\n" for each in checks)
    return plain(f"Checks:\n\n{''.join(items)}\n")


def _migrations(review: Review) -> Part:
    parts = []
    for migration, notes in review.migrations:
        summary = project().relative(migration.forward.path)
        summary += "" if migration.transactional else ", not in a transaction"
        summary += f", {_count(len(notes), 'note')} of squawk" if notes else ""
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
    summary = "the snapshot, with the pending migrations"
    return section(
        "## Schema\n\n", [folded(summary, fenced(review.schema_diff, "diff"))], of="diffs"
    )


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


def _plans_document(plans: Plans) -> dict[str, Any]:
    def told(outcome: Outcome) -> dict[str, Any]:
        reads, indexes = str(outcome.reads), outcome.indexes
        return {"reads": reads, "indexes": indexes, "fault": outcome.fault}

    changes = [
        {
            "statement": before.statement,
            "tenant": before.tenant,
            "before": told(before),
            "after": told(after),
        }
        for before, after in plans.changes
    ]
    return {"rows": plans.rows, "statistics": plans.statistics, "changes": changes}


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


PARTS = (_migrations, _schema, _plans)
"""What the page tells of a review, in this order."""
