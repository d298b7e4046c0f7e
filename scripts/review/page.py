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
from scripts.review.markdown import Part, code, fenced, plain, section, shortened, words
from scripts.review.parts import count, counts, parts
from scripts.review.plans import Plans
from scripts.review.review import Review
from scripts.verify.checks import Check

VERSION = 1
"""Of the JSON form; raised when a field changes its meaning or goes away."""

LIMIT = 60_000
"""Characters of the page; a comment on a pull request may have 65,536."""


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
    sections = [
        plain(f"# {words(title)}\n\n**{_verdict(review, told)}**\n\n"),
        *([shortened("", [_finding(each) for each in told], of="findings")] if told else []),
        _facts({**facts, **(counts(review) if review else {})}),
        *([_checks(checks)] if checks else []),
        *(parts(review) if review and review.migrations else []),
    ]
    return section("", sections, of="parts")(LIMIT)


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
        "checks": [check.as_dict() for check in checks],
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
    elif any(
        each.is_symlink() or (each.exists() and not each.is_file())
        for each in (path, path.with_suffix(".json"))
    ):
        message, fix = "is no ordinary file, or its JSON is none", "name a file"
    else:
        return
    raise refuse("usage", f"--report: {path} {message}", fix=fix, status=2)


def remove_page(path: Path) -> None:
    """Remove a page of before, and its JSON, so that nobody takes it for the next one."""
    for each in (path, path.with_suffix(".json")):
        each.unlink(missing_ok=True)


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
    found = count(len(findings), "finding") if findings else "nothing wrong"
    if review is None:
        return f"Not reviewed, {found}."
    pending = len(review.migrations)
    return f"{count(pending, 'migration') if pending else 'Nothing'} pending, {found}."


def _finding(finding: Finding) -> Part:
    """Return an item of a list; what a message shows below its first line is a block."""
    first, _, rest = finding.text.partition("\n")
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


def _checks(checks: Sequence[Check]) -> Part:
    items = (f"- {words(each.name)}: {'failed' if each.findings else 'ok'}\n" for each in checks)
    return plain(f"Checks:\n\n{''.join(items)}\n")


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
