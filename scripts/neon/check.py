"""`neon check`: what CI does with a pull request, on a branch of real data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from scripts.database import WAKE, connect
from scripts.errors import Finding
from scripts.neon.branches import describe, ensure
from scripts.neon.client import Branch, Client
from scripts.review.page import check_page, write_page
from scripts.review.plans import Progress
from scripts.review.review import Review, review
from scripts.runner.run import Emit, migrate
from scripts.runner.state import read_state, refuse_findings
from scripts.runner.statements import check_statements
from scripts.settings import project
from scripts.unforeseen import findings_of
from scripts.verify.checks import Check
from scripts.verify.prove import prove


@dataclass
class Checked:
    """What came of a check.

    Parameters
    ----------
    branch, reused : on which branch, and whether it was there before
    review : of what was pending; None where the check did not come so far
    applied : the ids that were applied
    checks : of `verify`
    findings : all that is wrong
    """

    branch: Branch
    reused: bool
    review: Review | None = None
    applied: list[str] = field(default_factory=list)
    checks: Sequence[Check] = ()
    findings: list[Finding] = field(default_factory=list)


def check(
    client: Client,
    *,
    number: int,
    parent: str | None,
    hours: int,
    path: Path,
    emit: Emit,
    progress: Progress,
) -> Checked:
    """Review, migrate and verify the branch of a pull request, and write the page.

    Parameters
    ----------
    client : of the project
    number : of the pull request
    parent, hours : of the branch, as for `ensure`
    path : of the page, beside which its JSON goes; GITHUB_STEP_SUMMARY names another place for it
    emit : told `branch`, `reviewed`, `applying`, `applied`, `verified`, `reported`
    progress : as for `review`

    Raises
    ------
    ToolError : there is no branch, or the page cannot be written
    """
    check_page(path)
    started = monotonic()
    branch, reused = ensure(client, f"pr-{number}", parent=parent, hours=hours, renew=True)
    emit("branch", branch=describe(branch), reused=reused)
    done = Checked(branch, reused)
    try:
        _work(client, done, emit, progress)
    except Exception as error:
        done.findings += findings_of(error)
    facts = {
        "branch": f"{branch.name} ({branch.id}), expires {branch.expires_at:%Y-%m-%d %H:%M} UTC",
        "applied": ", ".join(done.applied) or "nothing",
        "took": f"{monotonic() - started:.0f} s",
    }
    write_page(
        path,
        done.review,
        title=f"Pull request {number}",
        facts=facts,
        checks=done.checks,
        findings=done.findings,
    )
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(path.read_text("utf-8"))
    emit("reported", file=str(path))
    return done


def _work(client: Client, done: Checked, emit: Emit, progress: Progress) -> None:
    address = client.address(done.branch)
    with connect(address, purpose="check", read_only=True, wake=WAKE) as connection:
        state = read_state(connection, project().migrations)
        refuse_findings([*state.findings(), *state.seal_findings()])
        for migration in state.pending:
            check_statements(migration, migration.forward)
        done.review = review(connection, state, state.pending, progress=progress)
    done.findings += done.review.findings
    emit("reviewed", pending=[migration.id for migration in state.pending])

    def note(event: str, **fields: object) -> None:
        if event == "applied":
            done.applied.append(str(fields["id"]))
        emit(event, **fields)

    with connect(address, purpose="check", wake=WAKE) as connection:
        migrate(connection, project().migrations, roles=project().roles, emit=note)
    done.checks = prove(address)
    done.findings += [finding for each in done.checks for finding in each.findings]
    emit("verified", checks=[{"check": c.name, "ok": not c.findings} for c in done.checks])
